"""The short form of ``nox -s faults``: some faults once, and the script that injects them all."""

import functools
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import __main__ as script
from tests.faults import kills, surroundings
from tests.faults.disks import NotPossibleError
from tests.faults.subjects import new_home, traceback_in

INJECTED = {
    "kills": functools.partial(kills.of_run_all, times=1),
    "no locks": surroundings.no_locks,
}


@pytest.mark.parametrize("fault", INJECTED)
def test_nothing_is_lost(fault: str, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"drawn with seed {seed}")  # noqa: T201 - pytest shows it if the test fails
    try:
        lost = list(INJECTED[fault](tmp_path / "trial", random.Random(seed)))  # noqa: S311 - not for secrets
    except NotPossibleError as error:
        pytest.skip(str(error))
    assert lost == []


def test_c_locale_and_path_that_is_not_ascii(tmp_path: Path) -> None:
    home = new_home(tmp_path / "Fotos für später").but(variables=surroundings.VARIABLES["C locale"])
    status, output = home.run(*home.run_all)
    assert status == 0, output
    assert traceback_in(output) == []


def test_what_was_lost_is_in_the_table_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    injected: list[str] = []

    def harmless(folder: Path, rng: random.Random) -> Iterator[str]:
        del rng
        injected.append(folder.name)
        yield from ()

    def harmful(folder: Path, rng: random.Random) -> Iterator[str]:
        yield from harmless(folder, rng)
        folder.mkdir()
        yield "a record"

    def impossible(folder: Path, rng: random.Random) -> Iterator[str]:
        del folder, rng
        yield from ()
        message = "no tool"
        raise NotPossibleError(message)

    faults = {
        "quiet": script.Fault("a quiet fault", harmless, 2, 5),
        "loud": script.Fault("a loud fault", harmful, 1),
        "never": script.Fault("a fault of another system", impossible, 1),
    }
    monkeypatch.setattr(script, "FAULTS", faults)
    document = tmp_path / "document.md"
    document.write_text(f"before\n{script.START}old\n{script.END}after\n")
    for _ in range(2):
        script.main([str(tmp_path / "out"), "--document", str(document)])
    assert injected == ["quiet-0", "quiet-1", "loud-0"]
    assert "loud 0: a record" in capsys.readouterr().out
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| a quiet fault | 10 | nothing |" in text
    assert "| a loud fault | 1 | 1 of 1 trials, see below |" in text
    assert "| a fault of another system | 0 | no tool |" in text
    assert "- a loud fault: a record" in text
    shutil.rmtree(tmp_path / "out" / "loud-0")  # kept to be looked at
    script.main([str(tmp_path / "out"), "--again"])
    assert injected[3:] == ["loud-0"]
