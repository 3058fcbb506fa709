"""Whether the hub of models and data sets can be reached."""

import threading
from typing import Final

# Without a hub, the libraries that download retry for up to a minute, so the hub is probed once instead.
PROBE_TIMEOUT_S: Final = 4.0


def hub_answers() -> bool:
    """Return whether the hub answers within five seconds, name look-up included; False in offline mode."""
    from huggingface_hub.constants import HF_HUB_OFFLINE  # noqa: PLC0415 - takes a second to import

    if HF_HUB_OFFLINE:
        return False
    answers: list[bool] = []
    # In a thread, because the timeout of the request does not cover the name look-up; a daemon, because a look-up that
    # hangs must not keep the process alive.
    asker = threading.Thread(target=_ask_hub, args=(answers,), daemon=True)
    asker.start()
    asker.join(PROBE_TIMEOUT_S + 1)
    return bool(answers)


def _ask_hub(answers: list[bool]) -> None:
    from huggingface_hub import get_session  # noqa: PLC0415
    from huggingface_hub.constants import ENDPOINT  # noqa: PLC0415

    try:
        get_session().head(ENDPOINT, timeout=PROBE_TIMEOUT_S)
    except Exception:  # noqa: BLE001 - whatever the HTTP library raises, the hub did not answer
        return
    answers.append(True)
