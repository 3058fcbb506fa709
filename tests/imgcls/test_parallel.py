"""Parallel processing of files, and processes that are killed."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from joblib.externals.loky import BrokenProcessPool
from PIL import Image

from imgcls.data.audit import audit_dataset
from imgcls.data.sources.registry import load_dataset
from imgcls.parallel import IN_PROCESS_LIMIT, map_chunks
from tests.helpers.images import MakeFolder

LARGE = IN_PROCESS_LIMIT + 1


def test_results_are_in_order() -> None:
    def double(chunk: Sequence[int]) -> list[int]:
        return [2 * item for item in chunk]

    seen: list[tuple[int, int]] = []
    for cost in (0, LARGE):
        results = map_chunks(double, range(100), cost_bytes=cost, progress=lambda *both: seen.append(both))
        assert [item for result in results for item in result] == list(range(0, 200, 2))
        assert seen[-1] == (100, 100)


def test_workers_have_one_thread() -> None:
    def threads(chunk: Sequence[int]) -> list[str]:
        return [os.environ["OMP_NUM_THREADS"] for _ in chunk]

    assert {item for result in map_chunks(threads, range(4), cost_bytes=LARGE) for item in result} == {"1"}


@pytest.mark.parametrize("killers", [{0}, {99}, {13, 14, 70}])
@pytest.mark.parametrize("cost", [0, LARGE])
def test_only_the_killing_items_are_lost(killers: set[int], cost: int) -> None:
    def fragile(chunk: Sequence[int]) -> list[int]:
        if killers & {*chunk}:
            os.kill(os.getpid(), signal.SIGKILL)
        return list(chunk)

    seen: list[int] = []
    results = map_chunks(
        fragile, range(100), cost_bytes=cost, progress=lambda done, _: seen.append(done), crashed=lambda item: [-item]
    )
    found = [item for result in results for item in result]
    assert found == [-item if item in killers else item for item in range(100)]
    assert seen == sorted(seen)
    assert seen[-1] == 100


def test_crash_without_a_handler_is_an_error() -> None:
    def deadly(_chunk: Sequence[int]) -> list[int]:
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    with pytest.raises(BrokenProcessPool):
        map_chunks(deadly, range(4), cost_bytes=LARGE)


def test_error_of_the_function_is_raised() -> None:
    def wrong(_chunk: Sequence[int]) -> list[int]:
        message = "no"
        raise OSError(message)

    with pytest.raises(OSError, match="no"):
        map_chunks(wrong, range(4), cost_bytes=LARGE, crashed=lambda _item: [])


DEADLY = """
import os
from PIL import Image
original = Image.open
def open(file, *arguments, **options):
    if file.getvalue().endswith(b"DEADLY"):
        os.abort()
    return original(file, *arguments, **options)
Image.open = open
"""


def test_decoder_that_kills_its_process_costs_one_file(
    make_folder: MakeFolder, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder({"cat": 12, "dog": 12})
    file = root / "cat" / "003.png"
    file.write_bytes(file.read_bytes() + b"DEADLY")
    with Image.open(file) as image:
        image.load()
    # Read by every Python process that starts from here on, so that the fault is in the decoder of the workers.
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(DEADLY, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    map_chunks(_killed, [0], cost_bytes=0, crashed=lambda _item: [])  # ends the workers that started before
    audit = audit_dataset(load_dataset(str(root), cache=cache), cache=cache)
    assert [(one.image_id, one.reason) for one in audit.removed] == [
        ("cat/003.png", "unreadable: the decoder killed its process")
    ]
    assert len(audit.images) == 23


def _killed(_chunk: Sequence[int]) -> list[int]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []
