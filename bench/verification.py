"""Whether the files of a results folder agree: records, predictions, artifacts, latency files, studies, leaderboard."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from bench.leaderboard.page import contents
from bench.records.paths import Paths
from bench.records.predictions import StoredPredictions, read_predictions
from bench.records.schema import RunRecord
from bench.records.store import has_digest, read_latency_file, read_record
from bench.tuning.records import read_study
from imgcls.errors import RunError, UserError
from imgcls.evaluation.predictions import load_predictions, predictions_file
from imgcls.inference.runtimes import ONNX
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
    studies = sorted(paths.sweeps.glob("*.json"))
    records = [(path, read(path, partial(read_record, path))) for path in files]
    for path in measured:
        read(path, partial(read_latency_file, path))
    for path in studies:
        read(path, partial(read_study, path))
    finished = [(path, record) for path, record in records if record is not None and record.outcome is not None]
    before = len(problems)
    predictions = [read(path, partial(read_predictions, record, paths)) for path, record in finished]
    missing = predictions.count(None) - (len(problems) - before)
    artifacts = [paths.artifacts(record.train_id) / ONNX for _, record in finished]
    for (_, record), summary, artifact in zip(finished, predictions, artifacts, strict=True):
        if artifact.exists():
            read(artifact, partial(_require_artifacts, record, summary, artifact.parent))
    return Verification(
        records=len(files),
        others=len(measured) + len(studies),
        without_digest=sum(not has_digest(path) for path in (*files, *measured, *studies)),
        without_predictions=missing,
        without_artifacts=sum(not artifact.exists() for artifact in artifacts),
        problems=(*problems, *_leaderboard_problems(paths)),
    )


def _require_artifacts(record: RunRecord, summary: StoredPredictions | None, folder: Path) -> None:
    """Raise ValueError if the exported file or the stored logits of test are not those of the record."""
    expected = record.finished.artifact.sha256
    if (digest := sha256_of(folder / ONNX)) != expected:
        message = f"sha256 {digest[:16]}, but {expected[:16]} in the record of {record.config.model}"
        raise ValueError(message)
    # Not by computing logits of the synthetic inputs: those of a barely trained network, which are far from its photos,
    # differ between two kernels of one runtime by more than the limit of parity.
    file = predictions_file(folder, "test")
    if summary is None or not file.exists():
        return
    stored = load_predictions(file)
    predicted = dict(zip(stored.image_ids, stored.logits.argmax(axis=1).tolist(), strict=True))
    if [predicted.get(image_id) for image_id in summary.image_ids] != summary.predicted.tolist():
        message = f"the logits in {file.name} give other classes than the predictions of {record.config.model}"
        raise ValueError(message)


def _leaderboard_problems(paths: Paths) -> Iterator[Problem]:
    """Yield the files of the leaderboard that are not those of the records; without a leaderboard there are none."""
    if not paths.leaderboard.exists():
        return
    for path, text in contents(paths)[1].items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            yield Problem(
                path=path.name, reason="not what this checkout makes of the records (python -m bench leaderboard)"
            )
