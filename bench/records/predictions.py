"""What a run answered to each test image, read back from beside its record or from its artifacts."""

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.records.paths import Paths
from bench.records.schema import RunRecord
from bench.records.store import record_path

HEADER: Final = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(?P<type>[^']+)', 'fortran_order': False, 'shape': \((?P<length>\d+),\), ",
    re.DOTALL,
)
"""Of an array of one axis."""


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
    stored_with_artifacts = Paths(results=results).artifacts(record.train_id) / f"{record.run_id}.npz"
    for path in (beside, stored_with_artifacts):
        try:
            with zipfile.ZipFile(path) as stored:
                found = pool([_answers(stored)])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
            continue
        if len(found.labels) == sum(record.dataset.counts["test"]):
            return found
    return None


def _answers(stored: zipfile.ZipFile) -> Answers:
    """Return the content of an npz; those of records before version 5 have probabilities and no groups."""
    found = {name.removesuffix(".npy"): _array(stored.read(name)) for name in stored.namelist()}
    for name in ("p_true", "p_predicted"):
        if name in found:
            with np.errstate(divide="ignore"):  # a probability under 1e-45 was stored as 0
                found[f"log_{name}"] = np.log(found.pop(name))
    found.setdefault("group", np.arange(len(found["labels"]), dtype=np.int32))
    image_ids = tuple(found.pop("image_ids").tolist())
    return Answers(image_ids=image_ids, **found)


def _array(data: bytes) -> NDArray[Any]:
    """Read an array of one axis as ``np.save`` writes it; raises ValueError.

    ``np.load`` has Python parse the header: that took most of the time of reading a thousand runs.
    """
    header = HEADER.match(data)
    if header is None:
        message = "not an array of one axis in version 1.0 of numpy's format"
        raise ValueError(message)
    start = 10 + int.from_bytes(data[8:10], "little")
    return np.frombuffer(data, dtype=header["type"].decode(), count=int(header["length"]), offset=start)


def pool(parts: Sequence[Answers]) -> Answers:
    """Return the answers of disjoint folds as one, in order of image id.

    What a part lacks, the whole lacks. Groups are of the data set, so that their numbers agree between folds.
    """
    every = [image_id for part in parts for image_id in part.image_ids]
    if len(parts) == 1 and every == sorted(every):
        return parts[0]
    ids = np.array(every)
    order = np.argsort(ids, kind="stable")
    pooled: dict[str, Any] = {}
    for field in fields(Answers):
        columns = [getattr(part, field.name) for part in parts]
        if field.name != "image_ids" and all(column is not None for column in columns):
            pooled[field.name] = np.concatenate(columns)[order]
    return Answers(image_ids=tuple(ids[order].tolist()), **pooled)
