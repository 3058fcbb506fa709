"""A training state that is none, or that is a pickle with code, is refused in one line and not run."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from imgcls.errors import RunError
from tests.helpers.trainings import run, setting

Write = Callable[[Path, Path], object]


class Trap:
    """A pickle that makes a folder when it is read."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return _Maker, (str(self.sign),)


class _Maker:
    def __init__(self, sign: str) -> None:
        Path(sign).mkdir()


STATES: dict[str, tuple[Write, str]] = {
    "code in a file of torch": (lambda file, sign: torch.save({"model": Trap(sign)}, file), "UnpicklingError"),
    "code in a pickle": (lambda file, sign: file.write_bytes(pickle.dumps(Trap(sign), protocol=2)), "UnpicklingError"),
    "state of another network": (lambda file, _sign: torch.save({"model": {"w": torch.ones(1)}}, file), "RuntimeError"),
    "state without a network": (lambda file, _sign: torch.save({}, file), "KeyError"),
    "tensor": (lambda file, _sign: torch.save(torch.ones(1), file), "IndexError"),
    "text": (lambda file, _sign: file.write_text("state"), "IndexError"),
    "empty file": (lambda file, _sign: file.write_bytes(b""), "EOFError"),
}


@pytest.mark.parametrize(("write", "kind"), STATES.values(), ids=STATES)
def test_hostile_states_are_refused(write: Write, kind: str, tmp_path: Path) -> None:
    plan = setting(tmp_path / "run")
    write(tmp_path / "run" / "state.pt", tmp_path / "ran")
    with pytest.raises(RunError) as caught:
        run(plan)
    assert str(caught.value) == (
        f"state.pt is not the state of this training ({kind}); delete it to train from the start"
    )
    assert not (tmp_path / "ran").exists()
