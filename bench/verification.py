"""Whether the files of a results folder agree: records, predictions, artifacts, latency, studies, races, tables."""

import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from bench.leaderboard.page import contents
from bench.records.paths import OUTCOME, Paths
from bench.records.predictions import StoredPredictions, read_predictions
from bench.records.schema import Outcome, RunRecord
from bench.records.store import has_digest, read_latency_file, read_own_record, read_record
from bench.runs.artifacts import FORMER
from bench.selection.records import read_race
from bench.tuning.records import read_study
from imgcls.errors import RunError, UserError
from imgcls.evaluation.predictions import load_predictions, predictions_file
from imgcls.inference.runtimes import ONNX
from imgcls.inference.torch_sessions import WEIGHTS
from imgcls.models.weights import sha256_of

Content = TypeVar("Content")


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A file whose content does not agree, by its path in the results folder, and why."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What was verified: numbers of files, those that could not be, and the problems.

    ``without_digest`` are files of earlier versions; ``without_predictions`` and ``without_artifacts`` are finished
    runs whose files are elsewhere.
    """

    records: int
    others: int
    without_digest: int
    without_predictions: int
    without_artifacts: int
    problems: tuple[Problem, ...]


def verify(paths: Paths) -> Verification:
    """Verify a results folder; nothing is changed."""
    problems: list[Problem] = []

    def read(path: Path, reader: Callable[[], Content]) -> Content | None:
        """Return what is read of a file; None after a problem, or if there is nothing to read."""
        try:
            return reader()
        except (ValueError, OSError, UserError, RunError) as error:
            problems.append(Problem(path=path.relative_to(paths.results).as_posix(), reason=str(error)))
            return None

    files, measured = list(paths.all_records()), list(paths.all_latency_files())
    studies, races = (sorted(folder.glob("*.json")) for folder in (paths.sweeps, paths.selections))
    records = [(path, read(path, partial(read_own_record, path))) for path in files]
    for path in measured:
        read(path, partial(read_latency_file, path))
    for path in studies:
        read(path, partial(read_study, path))
    for path in races:
        read(path, partial(_require_finalists, path, [record for _, record in records if record is not None]))
    finished = [(path, record) for path, record in records if record is not None and record.outcome is not None]
    before = len(problems)
    predictions = [read(path, partial(read_predictions, record, paths)) for path, record in finished]
    missing = predictions.count(None) - (len(problems) - before)
    folders = [paths.artifacts(record.train_id) for _, record in finished]
    for (_, record), summary, folder in zip(finished, predictions, folders, strict=True):
        if folder.exists():
            read(folder, partial(_require_artifacts, record, summary, folder))
    return Verification(
        records=len(files),
        others=len(measured) + len(studies) + len(races),
        without_digest=sum(not has_digest(path) for path in (*files, *measured, *studies, *races)),
        without_predictions=missing,
        without_artifacts=sum(not folder.exists() for folder in folders),
        problems=(*problems, *_interrupted(paths), *_leaderboard_problems(paths)),
    )


def _require_finalists(path: Path, records: Sequence[RunRecord]) -> None:
    """Raise ValueError if the record of a race is damaged, or has a finalist whose run is not here."""
    selection = read_race(path).selection
    runs = {(record.config.model, record.config.loader.image_size) for record in records if record.selection}
    if missing := [one for one in selection.finalists if (one.model, one.image_size) not in runs]:
        message = f"no run of the finalist {missing[0].model}, {missing[0].image_size} px"
        raise ValueError(message)


def _require_artifacts(record: RunRecord, summary: StoredPredictions | None, folder: Path) -> None:
    """Raise ValueError or OSError if the artifacts of a training are not whole, or are not those of the record."""
    artifact, model = record.finished.artifact, record.config.model
    for name, expected in ((ONNX, artifact.sha256), (WEIGHTS, artifact.checkpoint_sha256)):
        if expected is not None and (digest := sha256_of(folder / name)) != expected:
            message = f"{name} has the sha256 {digest[:16]}, but {expected[:16]} in the record of {model}"
            raise ValueError(message)
    if (size := (folder / WEIGHTS).stat().st_size) != artifact.checkpoint_size_bytes:
        message = f"{WEIGHTS} has {size:,} of {artifact.checkpoint_size_bytes:,} bytes"
        raise ValueError(message)
    msgspec.json.decode((folder / OUTCOME).read_bytes(), type=Outcome)
    # The copy that travels with the artifacts; earlier versions made none.
    if (copy := folder / f"{record.run_id}.json").exists():
        read_record(copy)
    for file in sorted(folder.glob("*.npz")):
        _require_whole(file)
    _require_same_predictions(summary, predictions_file(folder, "test"), model)


def _require_whole(file: Path) -> None:
    try:
        with zipfile.ZipFile(file) as stored:
            damaged = stored.testzip()
    except (zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        message = f"{file.name} is damaged ({error})"
        raise ValueError(message) from error
    if damaged is not None:
        message = f"{file.name} is damaged ({damaged} does not have its checksum)"
        raise ValueError(message)


def _require_same_predictions(summary: StoredPredictions | None, file: Path, model: str) -> None:
    """Raise ValueError if the stored logits of test give other classes than the predictions of the record."""
    # Not by computing logits of the synthetic inputs: those of a barely trained network, which are far from its photos,
    # differ between two kernels of one runtime by more than the limit of parity.
    if summary is None or not file.exists():
        return
    stored = load_predictions(file)
    predicted = dict(zip(stored.image_ids, stored.logits.argmax(axis=1).tolist(), strict=True))
    if [predicted.get(image_id) for image_id in summary.image_ids] != summary.predicted.tolist():
        message = f"the logits in {file.name} give other classes than the predictions of {model}"
        raise ValueError(message)


def _interrupted(paths: Paths) -> Iterator[Problem]:
    """Yield the results from before repetitions that were interrupted, which the next command of the run restores."""
    for folder in sorted((paths.results / "artifacts").glob(f"*{FORMER}")):
        reason = "the result from before a repetition that was interrupted; repeat the command of the run"
        yield Problem(path=folder.relative_to(paths.results).as_posix(), reason=reason)


def _leaderboard_problems(paths: Paths) -> Iterator[Problem]:
    """Yield the files of the leaderboard that are not those of the records; without a leaderboard there are none."""
    made = contents(paths, use_index=False).files
    if not any(path.exists() for path in made):
        return
    for path, text in made.items():
        try:
            same = path.read_bytes() == text.encode()
        except OSError:
            same = False
        if not same:
            yield Problem(
                path=path.name, reason="not what this checkout makes of the records (python -m bench leaderboard)"
            )
