"""Commands at once, and photos that change under them: every run trained once, and nothing mixed."""

import json
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bench.records.store import read_record
from tests.faults.subjects import (
    RUN,
    SHORT_PROTOCOL,
    TINY,
    Home,
    leftovers,
    new_home,
    orphans,
    records,
    traceback_in,
    undisturbed,
    until_line,
    unverified,
    weights,
)
from tests.helpers.images import smooth_image

AT_ONCE_LIMIT_S: Final = 900.0


def at_once(folder: Path, rng: random.Random) -> Iterator[str]:
    """Ten commands on one results folder: overlapping grids, one study twice, measurements, tables in a loop."""
    home, expected = new_home(folder / "home"), undisturbed(folder.parent / "undisturbed")
    status, output = home.run(*home.run_all)  # so that there is something to measure and to show
    if status != 0:
        yield f"run-all: status {status}: {output[-300:]}"
    grids = [rng.sample(("1", "2", "3", "4"), 2) for _ in range(4)]
    tasks = [
        *(home.start(*_grid(home, seeds)) for seeds in grids),
        *(home.start(*home.sweep) for _ in range(2)),
        *(home.start(*home.measure, module=SHORT_PROTOCOL) for _ in range(2)),
    ]
    ended, half_written = threading.Event(), list[str]()
    loops = [
        threading.Thread(target=_loop, args=(home, command, ended, half_written))
        for command in ("leaderboard", "report")
    ]
    for thread in loops:
        thread.start()
    outputs = [_output(process) for process in tasks]
    ended.set()
    for thread in loops:
        thread.join()
    yield from half_written
    for process, text in zip(tasks, outputs, strict=True):
        if process.returncode != 0:
            yield f"{' '.join(process.args[3:5])}: status {process.returncode}: {text.strip()[-300:]}"  # type: ignore[index]
        yield from traceback_in(text)
    trained = sum(line.startswith("  epoch 8/8") for text in outputs[:4] for line in text.splitlines())
    wanted = len({seed for seeds in grids for seed in seeds} - {"1"})  # trained before
    if trained != wanted:
        yield f"{trained} trainings of {wanted} seeds"
    yield from _left(home)
    if any(expected.get(run_id, sha256) != sha256 for run_id, sha256 in weights(home).items()):
        yield "the weights of a run have changed"


def _left(home: Home) -> Iterator[str]:
    """Yield what all commands together left behind."""
    kept = [path.name for path in (home.results / "artifacts").rglob("trial-*.safetensors")]
    if len(kept) != 1:
        yield f"weights of {len(kept)} trials of one study are kept"
    if left := leftovers(home):
        yield f"left behind: {', '.join(sorted(set(left)))}"
    if alive := orphans(home):
        yield f"still running: {'; '.join(alive)}"


def _grid(home: Home, seeds: list[str]) -> tuple[str, ...]:
    models = ("--models", "test_efficientnet", "--seeds", *seeds)
    return ("run-all", *models, *TINY, *RUN, "--data", str(home.photos))


def _output(process: "subprocess.Popen[str]") -> str:
    try:
        return process.communicate(timeout=AT_ONCE_LIMIT_S)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0] + f"\nnot ended within {AT_ONCE_LIMIT_S:g} s"


def _loop(home: Home, command: str, ended: threading.Event, faults: list[str]) -> None:
    """Write a table or a page again and again, and read all records as a reader would."""
    while not ended.is_set():
        status, output = home.run(command, *(("--no-images",) if command == "report" else ()))
        if status != 0:
            faults.append(f"{command} beside other commands: status {status}: {output.strip()[-300:]}")
        for path in (home.results / "records").glob("*/*.json"):
            try:
                read_record(path)
            except (json.JSONDecodeError, ValueError) as error:
                faults.append(f"{path.name} was half-written: {error}")


def _replaced(home: Home, rng: random.Random) -> None:
    photo = rng.choice(sorted(home.photos.glob("*/*.png")))
    smooth_image(rng.randrange(10**6), size=56).save(photo)


def _gone(home: Home, rng: random.Random) -> None:
    rng.choice(sorted(home.photos.glob("*/*.png"))).unlink()


def _truncated(home: Home, rng: random.Random) -> None:
    photo = rng.choice(sorted(home.photos.glob("*/*.png")))
    photo.write_bytes(photo.read_bytes()[: rng.randrange(1, 200)])


def _renamed(home: Home, rng: random.Random) -> None:
    del rng
    (home.photos / "cat").rename(home.photos / "lion")


CHANGES: Final[dict[str, Callable[[Home, random.Random], None]]] = {
    "a photo is replaced": _replaced,
    "a photo is removed": _gone,
    "a photo is cut short": _truncated,
    "the folder of a class is renamed": _renamed,
}


def changed_meanwhile(folder: Path, rng: random.Random) -> Iterator[str]:
    """Replace, remove or truncate a photo, or rename a class, after the audit of ``run-all``; then repeat it."""
    for number, (title, change) in enumerate(CHANGES.items()):
        home = new_home(folder / str(number))
        process = home.start(*home.run_all)
        lines = until_line(process, rng.choice(("usable images", "[1/2]")))
        change(home, rng)
        output = "".join(lines) + process.communicate()[0]
        yield from (f"{title}: {fault}" for fault in _never_mixed(home, process.returncode, output))


def changed_later(folder: Path, rng: random.Random) -> Iterator[str]:
    """Replace, remove or truncate photos, or rename a class, between ``run-all`` and ``report`` and ``predict``."""
    for number, (title, change) in enumerate(CHANGES.items()):
        home = new_home(folder / str(number))
        status, output = home.run(*home.run_all)
        change(home, rng)
        for command in (("report",), ("leaderboard",)):
            status, output = home.run(*command)
            if status != 0:
                yield f"{title}: {command[0]} ended with {status}: {output.strip()[-300:]}"
            yield from (f"{title}: {command[0]}: {fault}" for fault in traceback_in(output))
        yield from (f"{title}: {fault}" for fault in _never_mixed(home, 0, ""))


def _never_mixed(home: Home, status: int, output: str) -> Iterator[str]:
    """Yield what is wrong after a change of the photos, and after the command has been repeated."""
    if status not in {0, 1, 2}:
        yield f"status {status}"
    yield from traceback_in(output)
    if disagreement := unverified(home) if (home.results / "records").exists() else "":
        yield f"verify: {disagreement}"
    again, text = home.run(*home.run_all)
    if again != 0:
        yield f"the repeated command ended with {again}: {text.strip()[-300:]}"
    yield from traceback_in(text)
    digests = {record.dataset.split_digest for record in records(home) if record.status == "ok"}
    tables = (home.results / "leaderboard.md").read_text(encoding="utf-8").count("\n| Rank |")
    if tables < len(digests):
        yield f"{len(digests)} data sets in {tables} tables"
