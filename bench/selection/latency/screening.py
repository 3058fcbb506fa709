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
from bench.latency.protocol import DECIDING, PROTOCOL_VERSION, SCREENING, Protocol
from bench.latency.round_worker import Subject
from bench.records import locks
from bench.records.ids import hash_of
from bench.records.measurements import Measurement
from bench.records.schema import network_id
from bench.records.store import read_versioned, write_with_digest
from bench.runs.plan import Task
from bench.selection.latency.exporting import Exported, ExportTask
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
    entrants: Sequence[Entrant], tasks: Sequence[Task], config: RuntimeConfig, *, export: Export, limit_ms: float | None
) -> list[Entrant]:
    """Return the candidates with the costs of their networks, of which those that are above a limit have left.

    One leaves if the 95 % interval of its p90 lies above the limit. Those whose interval contains it are measured for
    longer, and leave if that p90 is above it. One that cannot be exported or measured has failed. Networks that an
    earlier race has measured on this machine are not measured again. Raises ConfigError if all are above the limit.
    """
    measured = _screened(entrants, tasks, config, SCREENING, export)
    if limit_ms is None:
        return measured
    near = [index for index, entrant in enumerate(measured) if _contains(entrant.latency, limit_ms)]
    again = _screened([measured[i] for i in near], [tasks[i] for i in near], config, DECIDING, export)
    decided = {entrant.number: entrant for entrant in again}
    found = [
        _within(decided.get(entrant.number, entrant), limit_ms, sure=entrant.number in decided) for entrant in measured
    ]
    if all(entrant.left is not None and entrant.left.reason == "latency" for entrant in found):
        fastest = min(found, key=lambda entrant: _p90(entrant.latency))
        figure = f"the fastest is {fastest.name} ({_p90(fastest.latency):.3g} ms)"
        raise ConfigError(Setting("max_latency_ms", limit_ms), f": no candidate is as fast; {figure}")
    return found


def _within(entrant: Entrant, limit_ms: float, *, sure: bool) -> Entrant:
    """Return a candidate, which has left if it is above the limit; ``sure``: by its p90, not by the interval."""
    latency = entrant.latency
    if entrant.left is not None or latency is None:
        return entrant
    least = latency.value if sure or latency.low is None else latency.low
    if least <= limit_ms:
        return entrant
    return replace(entrant, left=Departure(reason="latency", text=f"p90 above {limit_ms:g} ms"))


def _contains(latency: Estimate | None, limit_ms: float) -> bool:
    return latency is not None and latency.low is not None and latency.low <= limit_ms <= (latency.high or limit_ms)


def _p90(latency: Estimate | None) -> float:
    assert latency is not None, "what has left by latency was measured"
    return latency.value


def _screened(
    entrants: Sequence[Entrant], tasks: Sequence[Task], config: RuntimeConfig, protocol: Protocol, export: Export
) -> list[Entrant]:
    networks = {_network(task): task for task in tasks}
    kept = {network: _read(task, config, protocol) for network, task in networks.items()}
    waiting = {network: task for network, task in networks.items() if kept[network] is None}
    screened = {network: stored for network, stored in kept.items() if stored is not None}
    if waiting:
        LOGGER.info("measuring %d untrained networks on %s", len(waiting), config.runtimes[0])
        screened |= _measured(waiting, config, protocol, export)
    return [_with_costs(entrant, screened[_network(task)]) for entrant, task in zip(entrants, tasks, strict=True)]


def _network(task: Task) -> str:
    return network_id(task.spec.timm_name, image_size=task.spec.resize.size, classes=len(task.dataset.class_names))


def _file(task: Task, config: RuntimeConfig, protocol: Protocol) -> Path:
    train = task.config.train
    # With the versions of the exporter and the runtime, whose graphs and kernels differ.
    versions = task.environment.packages
    key = [PROTOCOL_VERSION, protocol, _network(task), config, train.device, train.train_threads, versions]
    return task.paths.screened(task.environment.machine, hash_of(key))


def _read(task: Task, config: RuntimeConfig, protocol: Protocol) -> Screened | None:
    path = _file(task, config, protocol)
    try:
        return read_versioned(
            path, Screened, key="screening_version", version=SCREENING_VERSION, upgrade=lambda fields: fields
        )
    except (OSError, ValueError):
        return None


def _measured(
    waiting: dict[str, Task], config: RuntimeConfig, protocol: Protocol, export: Export
) -> dict[str, Screened]:
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
            protocol,
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
            write_with_digest(screened[network], _file(task, config, protocol))
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
