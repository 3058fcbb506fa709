"""The commands that read results folders, as they are started by a user; each is measured in a process of its own."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.comparison.tables import table_key
from bench.records.paths import Paths
from bench.records.schema import RunRecord
from bench.records.store import read_record, write_with_digest

ADDED: Final = "f" * 16
"""Id of the record that is added."""


def _seconds(home: Path, *command: str) -> float:
    began = time.perf_counter()
    arguments = [sys.executable, "-m", "bench", *command, "--results", str(home / "results")]
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _first(home: Path) -> tuple[Path, RunRecord]:
    path = next(Paths(results=home / "results").all_records())
    return path, read_record(path)


def leaderboard(home: Path, _count: int) -> float:
    """`leaderboard`, the first time"""
    Paths(results=home / "results").index.unlink(missing_ok=True)
    return _seconds(home, "leaderboard")


def leaderboard_of_one_more(home: Path, _count: int) -> float:
    """`leaderboard` after one record was added"""
    path, record = _first(home)
    added = path.with_name(f"{ADDED}.json")
    config = replace(record.config, seed=record.config.seed + 100)
    try:
        write_with_digest(replace(record, run_id=ADDED, config=config), added)
        shutil.copy(path.with_suffix(".npz"), added.with_suffix(".npz"))
        return _seconds(home, "leaderboard")
    finally:
        for file in (added, added.with_suffix(".npz")):
            file.unlink(missing_ok=True)
        _seconds(home, "leaderboard")


def compare(home: Path, _count: int) -> float:
    """`compare` of two rows of one table"""
    return _seconds(home, "compare", "model-00", "model-01", "--table", table_key(_first(home)[1]).id)


def recommend(home: Path, _count: int) -> float:
    """`recommend` for one table"""
    return _seconds(home, "recommend", "--table", table_key(_first(home)[1]).id)


def report(home: Path, _count: int) -> float:
    """`report` of one table"""
    return _seconds(home, "report", "--no-images", "--table", table_key(_first(home)[1]).id)


def whole_report(home: Path, _count: int) -> float:
    """`report` of all tables"""
    return _seconds(home, "report", "--no-images")


OF_RECORDS: Final[dict[str, Callable[[Path, int], float]]] = {
    "leaderboard": leaderboard,
    "leaderboard of one more": leaderboard_of_one_more,
    "compare": compare,
    "recommend": recommend,
    "report of a table": report,
    "report": whole_report,
}
"""Commands on many records by name, in their order."""

OF_PREDICTIONS: Final[dict[str, Callable[[Path, int], float]]] = {
    "leaderboard of images": leaderboard,
    "compare of images": compare,
    "recommend of images": recommend,
    "report of images": report,
}
"""Commands on one table with a large test split."""
