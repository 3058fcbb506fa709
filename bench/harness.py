"""Carry out a plan: one process a run, then latency alone on the machine, then the leaderboard."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Console

from bench.comparison.analysis import Comparison
from bench.latency.measure import measure_all
from bench.latency.protocol import QUICK
from bench.leaderboard import page
from bench.leaderboard.terminal import print_measured
from bench.records.schema import RunRecord
from bench.runs.images import remember_place
from bench.runs.local import Train, train_here
from bench.runs.plan import Task
from imgcls.config import RuntimeConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """What came of a plan: whether all went well, and what the leaderboard that was written shows."""

    ok: bool
    found: list[Comparison]


def run_all(tasks: Sequence[Task], console: Console, train: Train = train_here) -> Finished:
    """Carry out every task that is not done, measure, write the leaderboard; return what it shows."""
    records = train(tasks, console)
    done = [record for record in records if record.status == "ok"]
    results = tasks[0].paths.results
    for task in tasks:
        remember_place(task)
    ok = len(done) == len(records)
    for runtime, waiting in _waiting(done, tasks[0].environment.machine):
        measured = measure_all(waiting, tasks[0].paths, console, protocol=QUICK, runtime=runtime)
        print_measured(measured, console)
        ok = ok and measured.ok
    return Finished(ok=ok, found=page.write(results, warn=console.print))


def _waiting(records: Sequence[RunRecord], machine: str) -> list[tuple[RuntimeConfig, list[RunRecord]]]:
    """Sort the records that lack figures by what they lack: one that failed is tried again."""
    waiting: dict[RuntimeConfig, list[RunRecord]] = {}
    for record in records:
        rows = record.latency[machine].measurements if machine in record.latency else ()
        measured = {(row.runtime, row.num_threads) for row in rows if row.samples_ms}
        config = record.config.runtime
        lacking = tuple(name for name in config.runtimes if (name, config.threads) not in measured)
        if lacking:
            waiting.setdefault(replace(config, runtimes=lacking), []).append(record)
    return list(waiting.items())
