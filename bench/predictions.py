"""What a run answered to each test image, read back from beside its record or from its artifacts."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.records import RunRecord, record_path


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """Test images in order of id: labels and predicted classes ``[N]``, and the softmax of both classes ``[N]``."""

    image_ids: tuple[str, ...]
    labels: NDArray[np.int32]
    predicted: NDArray[np.int32]
    p_true: NDArray[np.float32]
    p_predicted: NDArray[np.float32]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each answer is right ``[N]``."""
        return np.asarray(self.labels == self.predicted)


def read_answers(record: RunRecord, results: Path) -> Answers | None:
    """Read a run's answers; None where they are not at hand or damaged."""
    beside = record_path(results, record).with_suffix(".npz")
    stored_with_artifacts = results / "artifacts" / record.train_id / f"{record.run_id}.npz"
    for path in (beside, stored_with_artifacts):
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                found = pool([_answers(stored)])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
            continue
        if len(found.labels) == sum(record.dataset.counts["test"]):
            return found
    return None


def _answers(stored: "np.lib.npyio.NpzFile") -> Answers:
    return Answers(
        image_ids=tuple(stored["image_ids"].tolist()),
        labels=stored["labels"],
        predicted=stored["predicted"],
        p_true=stored["p_true"],
        p_predicted=stored["p_predicted"],
    )


def pool(parts: Sequence[Answers]) -> Answers:
    """Put the answers of disjoint folds together, in order of image id."""
    ids = np.array([image_id for part in parts for image_id in part.image_ids])
    order = np.argsort(ids, kind="stable")
    labels, predicted, p_true, p_predicted = (
        np.concatenate([getattr(part, name) for part in parts])[order]
        for name in ("labels", "predicted", "p_true", "p_predicted")
    )
    return Answers(
        image_ids=tuple(ids[order].tolist()), labels=labels, predicted=predicted, p_true=p_true, p_predicted=p_predicted
    )
