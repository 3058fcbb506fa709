"""What a run answered to each test image, read back from beside its record or from its artifacts."""

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.records import RunRecord, record_path

HEADER: Final = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(?P<type>[^']+)', 'fortran_order': False, 'shape': \((?P<length>\d+),\), ",
    re.DOTALL,
)
"""Of an array of one axis."""


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
            with zipfile.ZipFile(path) as stored:
                found = pool([_answers(stored)])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
            continue
        if len(found.labels) == sum(record.dataset.counts["test"]):
            return found
    return None


def _answers(stored: zipfile.ZipFile) -> Answers:
    return Answers(
        image_ids=tuple(_array(stored.read("image_ids.npy")).tolist()),
        labels=_array(stored.read("labels.npy")),
        predicted=_array(stored.read("predicted.npy")),
        p_true=_array(stored.read("p_true.npy")),
        p_predicted=_array(stored.read("p_predicted.npy")),
    )


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
    """Put the answers of disjoint folds together, in order of image id."""
    every = [image_id for part in parts for image_id in part.image_ids]
    if len(parts) == 1 and every == sorted(every):
        return parts[0]
    ids = np.array(every)
    order = np.argsort(ids, kind="stable")
    labels, predicted, p_true, p_predicted = (
        np.concatenate([getattr(part, name) for part in parts])[order]
        for name in ("labels", "predicted", "p_true", "p_predicted")
    )
    return Answers(
        image_ids=tuple(ids[order].tolist()), labels=labels, predicted=predicted, p_true=p_true, p_predicted=p_predicted
    )
