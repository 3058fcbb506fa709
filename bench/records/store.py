"""Reading and writing of records; writing is atomic, and records of older versions can be read."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from bench.records.paths import Paths
from bench.records.reading.history import upgrade_record
from bench.records.reading.validation import require_valid
from bench.records.schema import LATENCY_FILE_VERSION, SCHEMA_VERSION, Latency, LatencyFile, RunRecord
from imgcls.files import read_regular, write_text
from imgcls.models.operators import COUNTING

if TYPE_CHECKING:
    from imgcls.models.complexity import Complexity

LOGGER = logging.getLogger(__name__)

DIGEST: Final = "digest"
"""Field with the digest of all other fields, in files that ``write_with_digest`` has written."""

WITH_DIGEST: Final = "predictions_sha256"
"""Field of records that no version without digests has written."""

NONE_KNOWN: Final = MappingProxyType[Path, RunRecord]({})

Network = tuple[str, int, int]
"""The timm name, image size in px and number of classes of a network."""


def to_json(content: object) -> str:
    """Return JSON text; raises ValueError for NaN and infinity, which JSON cannot represent."""
    # Not msgspec's encoder, which writes NaN as null. Indented, so that git shows changes of records by line.
    return json.dumps(msgspec.to_builtins(content), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def write_json(content: object, path: Path) -> None:
    """Write content as JSON, atomically."""
    write_text(to_json(content), path)


def write_with_digest(content: object, path: Path) -> None:
    """Write content as JSON with a digest of it, atomically; ``read_versioned`` refuses it if it was changed since."""
    fields = msgspec.to_builtins(content)
    write_text(to_json(fields | {DIGEST: digest_of(to_json(fields))}), path)


def digest_of(data: str | bytes) -> str:
    """Return the SHA-256 of a JSON object without its own digest, whatever the order of fields and the white space."""
    fields = msgspec.json.decode(data, type=dict[str, Any])
    fields.pop(DIGEST, None)
    return hashlib.sha256(msgspec.json.encode(fields, order="sorted")).hexdigest()


def record_path(results: Path, record: RunRecord) -> Path:
    """Return the path of a record: ``records/<machine>/<run_id>.json``."""
    return Paths(results=results).record(record.environment.machine, record.run_id)


Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
"""Maps the content of a file of an older version to that of the present version."""

Versioned = TypeVar("Versioned")


def read_versioned(path: Path, kind: type[Versioned], *, key: str, version: int, upgrade: Upgrade) -> Versioned:
    """Read a file of ``write_json``, of ``version`` or, after ``upgrade``, of an older one.

    Raises ValueError if the file is damaged, was changed after it was written, contradicts itself, or is of a version
    that this code does not know.
    """
    data = read_regular(path)
    try:
        content = _decoded(data, kind, key=key, version=version, upgrade=upgrade)
    except (msgspec.MsgspecError, TypeError, AttributeError, KeyError) as error:
        message = f"not a complete record ({error})"
        raise ValueError(message) from error
    except RecursionError as error:
        message = "nested too deeply"
        raise ValueError(message) from error
    require_valid(content)
    return content


def _decoded(data: bytes, kind: type[Versioned], *, key: str, version: int, upgrade: Upgrade) -> Versioned:
    # Raw leaves the other fields undecoded, so that a file of this version is decoded once, directly to its type.
    raw = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    stored_version = msgspec.json.decode(raw.get(key, b"null"))
    if not isinstance(stored_version, int) or not 1 <= stored_version <= version:
        message = f"{key.replace('_', ' ')} {stored_version}; this code reads versions 1 to {version}"
        raise ValueError(message)
    if DIGEST not in raw and bytes(raw.get(WITH_DIGEST, b"null")) != b"null":
        message = "changed after it was written: it has a digest of its predictions, but none of its own"
        raise ValueError(message)
    if DIGEST in raw and msgspec.json.decode(raw[DIGEST]) != digest_of(data):
        message = "changed after it was written: it does not have the digest that was written with it"
        raise ValueError(message)
    if stored_version == version:
        return msgspec.json.decode(data, type=kind)
    return msgspec.convert(upgrade(msgspec.json.decode(data)), type=kind)


def has_digest(path: Path) -> bool:
    """Return whether a file carries a digest; False if it cannot be read."""
    try:
        return DIGEST in msgspec.json.decode(read_regular(path), type=dict[str, msgspec.Raw])
    except (OSError, msgspec.MsgspecError, RecursionError):
        return False


def read_record(path: Path) -> RunRecord:
    """Read one record of this schema or of an older one; raises ValueError if it cannot be read."""
    record = read_versioned(path, RunRecord, key="schema_version", version=SCHEMA_VERSION, upgrade=upgrade_record)
    if record.config.train.device != "cuda" or "precision" in json.loads(path.read_bytes())["config"]["train"]:
        return record
    # Before there was a choice, trainings on CUDA were in bf16.
    train = replace(record.config.train, precision="bf16")
    return replace(record, config=replace(record.config, train=train))


def read_own_record(path: Path) -> RunRecord:
    """Read a record of a results folder; raises ValueError if it cannot be read, or belongs in another place there."""
    record = read_record(path)
    own = f"{record.environment.machine}/{record.run_id}.json"
    if own != f"{path.parent.name}/{path.name}":
        message = f"it is the record of another run, which belongs in records/{own}"
        raise ValueError(message)
    return record


def read_latency_file(path: Path) -> LatencyFile:
    """Read the latency file of a run and a machine; raises ValueError if it cannot be read."""
    # There is no older version to upgrade.
    return read_versioned(path, LatencyFile, key="schema_version", version=LATENCY_FILE_VERSION, upgrade=dict)


def read_if_whole(path: Path) -> RunRecord | None:
    """Read one record; return None if it does not exist or cannot be read."""
    try:
        return read_record(path)
    except (OSError, ValueError):
        return None


def read_records(results: Path) -> list[RunRecord]:
    """Read all records of a results folder, in order of path, with the latency files of other machines in them.

    An unreadable file is skipped with a warning; so is a latency file without a record, or of another exported file.
    """
    paths = Paths(results=results)
    return read_files(results, paths.all_records(), paths.all_latency_files())


def read_files(
    results: Path, files: Iterable[Path], measured: Iterable[Path], known: Mapping[Path, RunRecord] = NONE_KNOWN
) -> list[RunRecord]:
    """Read some records of a results folder and some latency files, as ``read_records`` reads all.

    Records that are ``known`` have been read already.
    """
    records = [record for _, record in _readable(files, lambda path: known.get(path) or read_own_record(path), results)]
    indices = {record.run_id: index for index, record in enumerate(records) if record.outcome is not None}
    finished = {run_id: records[index].finished.artifact.sha256 for run_id, index in indices.items()}
    for path, latency in _readable(measured, read_latency_file, results):
        reason = unmatched(latency.run_id, latency.onnx_sha256, finished)
        if reason is not None:
            warn_of_skipped(path, results, reason)
        else:
            index = indices[latency.run_id]
            records[index] = _with_file(records[index], latency.latency)
    return records


def unmatched(run_id: str, onnx_sha256: str, finished: Mapping[str, str]) -> str | None:
    """Return why a latency file is of none of the finished runs, whose exported files have these digests, by run_id."""
    if run_id not in finished:
        return f"no finished run {run_id} here"
    if finished[run_id] != onnx_sha256:
        return f"it is of another ONNX file than that of run {run_id}; measure it again"
    return None


Counted = dict[Network, "Complexity | None"]
"""What was counted of each network; None if it cannot be built."""


def recounted(records: Iterable[RunRecord], counted: Counted | None = None) -> list[RunRecord]:
    """Return records in which GMACs that an older method counted without matrix products are counted anew.

    A record whose network cannot be built again keeps its figure, a lower bound. Nothing is written. ``counted``
    keeps what was counted for the next call.
    """
    # Runs of several seeds and settings share a network, which takes a second or more to build and count.
    counted = {} if counted is None else counted
    return [_recounted(record, counted) for record in records]


def _recounted(record: RunRecord, counted: Counted) -> RunRecord:
    outcome = record.outcome
    # An ensemble is not the network of its name.
    if outcome is None or record.ensemble is not None or outcome.model.counting == COUNTING:
        return record
    model = outcome.model
    if not model.uncounted_products:
        return record
    network = (model.timm_name, model.image_size, len(record.dataset.class_names))
    if network not in counted:
        from imgcls.models.complexity import count_named  # noqa: PLC0415 - loads torch, for few records

        counted[network] = count_named(*network)
    now = counted[network]
    # With another number of parameters it is another network, for example that of another version of timm.
    if now is None or now.num_params != model.num_params:
        return record
    model = replace(model, gmacs=now.gmacs, uncounted_operators=now.uncounted_operators, counting=COUNTING)
    return replace(record, outcome=replace(outcome, model=model))


def read_latency_files(results: Path) -> Iterator[tuple[Path, LatencyFile]]:
    """Read the latency files of a results folder with their paths; an unreadable one is skipped with a warning."""
    return _readable(Paths(results=results).all_latency_files(), read_latency_file, results)


Content = TypeVar("Content")


def _readable(paths: Iterable[Path], read: Callable[[Path], Content], results: Path) -> Iterator[tuple[Path, Content]]:
    for path in paths:
        try:
            yield path, read(path)
        except (ValueError, OSError) as error:
            warn_of_skipped(path, results, error)


def warn_of_skipped(path: Path, results: Path, reason: object) -> None:
    """Log why a file of a results folder is skipped."""
    LOGGER.warning("skipped %s: %s", path.relative_to(results).as_posix(), reason)


def _with_file(record: RunRecord, theirs: Latency) -> RunRecord:
    """Add the latency from a latency file; with figures of an equally named machine, the later ones are kept.

    Later is decided for each runtime and number of threads. Checks on test images are kept: they alone judge accuracy.
    """
    ours = record.latency.get(theirs.environment.machine)
    if ours is None:
        return record.with_latency(theirs)
    measured, since = _last_measured(ours), _last_measured(theirs)
    renewed = {key for key, when in since.items() if key not in measured or when > measured[key]}
    rows = [row for row in ours.measurements if (row.runtime, row.num_threads) not in renewed]
    rows += [row for row in theirs.measurements if (row.runtime, row.num_threads) in renewed]
    judging = {check.runtime for check in ours.checks if check.inputs == "test" and check.parity is not None}
    added = {check.runtime for check in theirs.checks} - judging
    checks = [check for check in ours.checks if check.runtime not in added]
    checks += [check for check in theirs.checks if check.runtime in added]
    return record.with_latency(replace(ours, measurements=tuple(rows), checks=tuple(checks)))


def _last_measured(latency: Latency) -> dict[tuple[str, int | None], str]:
    """Return when each runtime and number of threads was last measured (UTC, ISO 8601), or "" without any figure."""
    times: dict[tuple[str, int | None], str] = {}
    for row in latency.measurements:
        key, when = (row.runtime, row.num_threads), (row.measured_at or "") if row.has_figures else ""
        times[key] = max(times.get(key, ""), when)
    return times
