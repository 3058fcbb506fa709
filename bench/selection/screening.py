"""Latency before any training: each network is exported once, untrained, and measured by a short protocol."""

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench.comparison.latencies.figures import P90, percentile_of
from bench.comparison.measures import Estimate
from bench.latency import session
from bench.latency.protocol import PROTOCOL_VERSION, SCREENING
from bench.latency.round_worker import Subject
from bench.records import locks
from bench.records.ids import hash_of
from bench.records.measurements import Measurement
from bench.records.schema import network_id
from bench.records.store import read_versioned, write_with_digest
from bench.runs.plan import Task
from bench.selection.exporting import Exported, ExportTask
from bench.selection.records import Departure, Entrant
from imgcls.config import RuntimeConfig
from imgcls.errors import ConfigError
from imgcls.inference.runtimes import ONNX, RUNTIMES
from imgcls.messages import Setting
from imgcls.models.weights import sha256_of

LOGGER = logging.getLogger(__name__)

SCREENING_VERSION: Final = 1

WORKING: Final = ".screening"
"""Folder of exported networks, beside the artifacts, until they are measured."""

Export = Callable[[ExportTask], Exported]
"""Exports an untrained network, in a process of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Screened:
    """What an untrained network costs, kept for later races; ``row`` is None if it was not exported."""

    screening_version: int
    network: str
    device: str
    threads: int
    exported: Exported
    row: Measurement | None


def require_screenable(runtime: str) -> None:
    """Raise ConfigError for a runtime whose files are made of trained weights."""
    known = [name for name, entry in RUNTIMES.items() if entry.precision == "fp32"]
    if runtime not in known:
        raise ConfigError(
            Setting("runtime", runtime), f": untrained networks are measured in float32; use one of {', '.join(known)}"
        )


def screen(
    entrants: Sequence[Entrant], tasks: Sequence[Task], *, runtime: str, threads: int, export: Export
) -> list[Entrant]:
    """Return the candidates with the costs of their networks; one that cannot be exported or measured has failed.

    Networks that an earlier race has screened on this machine are not measured again.
    """
    config = RuntimeConfig(runtimes=(runtime,), threads=threads)
    networks = {_network(task): task for task in tasks}
    kept = {network: _read(task, config) for network, task in networks.items()}
    waiting = {network: task for network, task in networks.items() if kept[network] is None}
    screened = {network: found for network, found in kept.items() if found is not None}
    if waiting:
        LOGGER.info("measuring %d untrained networks on %s", len(waiting), runtime)
        screened |= _measured(waiting, config, export)
    return [_with_costs(entrant, screened[_network(task)]) for entrant, task in zip(entrants, tasks, strict=True)]


def leave_by_latency(entrants: Sequence[Entrant], limit_ms: float) -> list[Entrant]:
    """Return the candidates, of which those have left whose interval of p90 lies above the limit.

    Raises ConfigError if none remains.
    """
    decided = [
        replace(entrant, left=Departure(reason="latency", text=f"p90 above {limit_ms:g} ms"))
        if entrant.left is None and entrant.latency is not None and _least(entrant.latency) > limit_ms
        else entrant
        for entrant in entrants
    ]
    if not any(entrant.left is None for entrant in decided):
        measured = [entrant for entrant in entrants if entrant.latency is not None]
        fastest = min(measured, key=lambda entrant: entrant.latency.value if entrant.latency else 0.0, default=None)
        figure = "" if fastest is None or fastest.latency is None else f" ({fastest.latency.value:.3g} ms)"
        reason = f": no candidate is as fast; the fastest is {fastest.name if fastest else 'not known'}{figure}"
        raise ConfigError(Setting("max_latency_ms", limit_ms), reason)
    return decided


def _least(latency: Estimate) -> float:
    return latency.value if latency.low is None else latency.low


def _network(task: Task) -> str:
    return network_id(task.spec.timm_name, image_size=task.spec.resize.size, classes=len(task.dataset.class_names))


def _file(task: Task, config: RuntimeConfig) -> Path:
    train = task.config.train
    # With the versions of the exporter and the runtime, whose graphs and kernels differ.
    versions = task.environment.packages
    key = [PROTOCOL_VERSION, SCREENING, _network(task), config, train.device, train.train_threads, versions]
    return task.paths.screened(task.environment.machine, hash_of(key))


def _read(task: Task, config: RuntimeConfig) -> Screened | None:
    try:
        return read_versioned(
            _file(task, config), Screened, key="screening_version", version=SCREENING_VERSION, upgrade=_unchanged
        )
    except (OSError, ValueError):
        return None


def _unchanged(fields: dict[str, object]) -> dict[str, object]:
    return fields


def _measured(waiting: dict[str, Task], config: RuntimeConfig, export: Export) -> dict[str, Screened]:
    """Export networks beside other work, and measure them alone on this machine."""
    first = next(iter(waiting.values()))
    home = first.paths.measuring.parent / WORKING
    exported = {network: export(_export_task(task, home / hash_of(network))) for network, task in waiting.items()}
    usable = {network: task for network, task in waiting.items() if exported[network].error is None}
    rows: dict[str, Measurement] = {}
    if usable:
        models = [_model(network, home / hash_of(network), task) for network, task in usable.items()]
        job = session.make_job(
            models,
            config,
            SCREENING,
            folder=first.paths.measuring,
            commit=first.environment.git_commit,
            earlier_anchors_ms=(),
        )
        with locks.machine_alone():
            timed = session.carry_out(job)
        rows = {network: timed.rows[hash_of(network)][0] for network in usable}
    shutil.rmtree(home, ignore_errors=True)
    screened = {}
    for network, task in waiting.items():
        train = task.config.train
        screened[network] = Screened(
            screening_version=SCREENING_VERSION,
            network=network,
            device=train.device,
            threads=train.train_threads,
            exported=exported[network],
            row=rows.get(network),
        )
        # A failure may have been of this moment only.
        if network in rows and rows[network].has_figures:
            write_with_digest(screened[network], _file(task, config))
    return screened


def _export_task(task: Task, folder: Path) -> ExportTask:
    train = task.config.train
    return ExportTask(
        spec=task.spec,
        class_names=task.dataset.class_names,
        folder=folder,
        device=train.device,
        threads=train.train_threads,
    )


def _model(network: str, folder: Path, task: Task) -> session.Model:
    subject = Subject(train_id=hash_of(network), folder=str(folder), image_size=task.spec.resize.size)
    return session.Model(
        subject=subject, name=network, onnx_sha256=sha256_of(folder / ONNX), pictures=None, inputs="synthetic"
    )


def _with_costs(entrant: Entrant, screened: Screened) -> Entrant:
    exported, row = screened.exported, screened.row
    costs = {name: getattr(exported, name) for name in ("forward_s", "num_params", "gmacs")}
    if exported.error is not None:
        return replace(entrant, left=Departure(reason="failed", text=exported.error))
    assert row is not None
    if row.status != "ok":
        return replace(entrant, **costs, left=Departure(reason="failed", text=row.reason or row.status))
    if not row.has_figures:
        # Other processes disturbed it: nothing is known of its latency, and it stays.
        LOGGER.warning("%s: latency not measured: %s", entrant.name, row.reason)
        return replace(entrant, **costs)
    return replace(entrant, **costs, latency=percentile_of(row, P90))
