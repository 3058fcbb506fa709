"""What a run answered to each test image, read back from beside its record or from its artifacts."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.records import RunRecord, record_path


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """Test images in order of id: labels, predicted classes, groups and log-probabilities, each ``[N]``.

    ``log_p_true`` and ``log_p_predicted`` are those of the two classes in nats; the calibrated ones, at the temperature
    fitted on val, are None in records before version 5.
    """

    image_ids: tuple[str, ...]
    labels: NDArray[np.int32]
    predicted: NDArray[np.int32]
    group: NDArray[np.int32]
    log_p_true: NDArray[np.float32]
    log_p_predicted: NDArray[np.float32]
    log_p_true_calibrated: NDArray[np.float32] | None = None
    log_p_predicted_calibrated: NDArray[np.float32] | None = None

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each answer is right ``[N]``."""
        return np.asarray(self.labels == self.predicted)

    @property
    def p_predicted(self) -> NDArray[np.float64]:
        """The softmax of each predicted class ``[N]``: the model's confidence."""
        return np.exp(self.log_p_predicted.astype(np.float64))


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
    """Return the content of an npz; those of records before version 5 have probabilities and no groups."""
    names = stored.files
    if "log_p_true" in names:
        logs = {name: stored[name] for name in names if name.startswith("log_p")}
        group = stored["group"]
    else:
        with np.errstate(divide="ignore"):  # a probability under 1e-45 was stored as 0
            logs = {f"log_{name}": np.log(stored[name]) for name in ("p_true", "p_predicted")}
        group = np.arange(len(stored["labels"]), dtype=np.int32)
    return Answers(
        image_ids=tuple(stored["image_ids"].tolist()),
        labels=stored["labels"],
        predicted=stored["predicted"],
        group=group,
        **logs,
    )


def pool(parts: Sequence[Answers]) -> Answers:
    """Return the answers of disjoint folds as one, in order of image id.

    What a part lacks, the whole lacks. Groups are of the data set, so that their numbers agree between folds.
    """
    ids = np.array([image_id for part in parts for image_id in part.image_ids])
    order = np.argsort(ids, kind="stable")
    pooled: dict[str, Any] = {}
    for field in fields(Answers):
        columns = [getattr(part, field.name) for part in parts]
        if field.name != "image_ids" and all(column is not None for column in columns):
            pooled[field.name] = np.concatenate(columns)[order]
    return Answers(image_ids=tuple(ids[order].tolist()), **pooled)
