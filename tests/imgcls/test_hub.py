"""The probe of the hub of models and data sets."""

import threading
import time
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants

from imgcls.hub import hub_answers


def test_silent_hub_is_abandoned_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    session = SimpleNamespace(head=lambda *_args, **_kwargs: end.wait(30))  # a look-up of the name has no timeout
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: session)
    began = time.perf_counter()
    assert not hub_answers()
    assert 3 < time.perf_counter() - began < 6
    end.set()


def test_hub_that_answers_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        huggingface_hub, "get_session", lambda: SimpleNamespace(head=lambda *_args, **_kwargs: "answer")
    )
    assert hub_answers()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert not hub_answers()
