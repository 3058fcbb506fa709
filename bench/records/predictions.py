"""Predictions of a run on its test images, read from the npz file beside its record or among its artifacts."""

import hashlib
import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.records.paths import Paths
from bench.records.reading.validation import TOLERANCE
from bench.records.schema import RunRecord
from imgcls.files import read_regular

HEADER: Final = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(?P<type>[^']+)', 'fortran_order': False, 'shape': \((?P<length>\d+),\), ",
    re.DOTALL,
)
"""Header of a one-dimensional array in version 1.0 of the npy format."""

NOT_READ: Final = "log_p_predicted_calibrated"
"""An array of the first files of version 5."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredPredictions:
    """Predictions on N test images in order of image id, each array ``[N]``.

    ``log_p_true`` and ``log_p_predicted`` are log-probabilities (nats) of the true and the predicted class. The
    calibrated one, at the temperature fitted on val, is None in records before version 5. ``leaked`` marks images
    with a duplicate or near-duplicate in train or val; None in records that did not store it.
    """

    # Two log-probabilities per image instead of all logits, so that the file is small enough to be kept with a record.

    image_ids: tuple[str, ...]
    labels: NDArray[np.int32]
    predicted: NDArray[np.int32]
    group: NDArray[np.int32]
    log_p_true: NDArray[np.float32]
    log_p_predicted: NDArray[np.float32]
    log_p_true_calibrated: NDArray[np.float32] | None = None
    leaked: NDArray[np.bool_] | None = None

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each prediction is correct ``[N]``."""
        return np.asarray(self.labels == self.predicted)

    @property
    def p_predicted(self) -> NDArray[np.float64]:
        """The probability of each predicted class ``[N]``, which is the model's confidence."""
        return np.exp(self.log_p_predicted.astype(np.float64))


def prediction_files(paths: Paths, machine: str, run_id: str, train_id: str) -> tuple[Path, Path]:
    """Return where the predictions of a run may be: beside its record, or among its artifacts."""
    # A summary over 1 MB stays among the artifacts, to keep the folder of records small enough for a repository.
    return paths.record(machine, run_id).with_suffix(".npz"), paths.artifacts(train_id) / f"{run_id}.npz"


def read_predictions(record: RunRecord, paths: Paths) -> StoredPredictions | None:
    """Return the predictions of a run, or None if they are elsewhere.

    Raises ValueError if they are damaged, or are not those of the record: of another digest or with another accuracy.
    """
    for path in prediction_files(paths, record.environment.machine, record.run_id, record.train_id):
        try:
            data = read_regular(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            message = f"its predictions cannot be read ({error.strerror})"
            raise ValueError(message) from error
        # Before anything of the file is used.
        if record.predictions_sha256 not in {None, hashlib.sha256(data).hexdigest()}:
            message = "its predictions were changed after they were written: they have another digest"
            raise ValueError(message)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as stored:
                predictions = pool([_from_npz(stored)])
        except Exception as error:  # zlib, zipfile and numpy raise many kinds for damaged files
            message = f"its predictions are damaged ({type(error).__name__})"
            raise ValueError(message) from error
        # A file of another split, or of one fold, is no substitute.
        if len(predictions.labels) == sum(record.dataset.counts["test"]):
            _require_own(record, predictions)
            return predictions
    return None


def _require_own(record: RunRecord, predictions: StoredPredictions) -> None:
    stated = None if record.outcome is None else record.outcome.metrics.test_metrics.get("top1_accuracy")
    right = float(predictions.right.mean())
    if stated is not None and abs(stated - right) > TOLERANCE:
        message = f"its accuracy is {100 * stated:.1f} %, but {100 * right:.1f} % by its predictions"
        raise ValueError(message)


def _from_npz(stored: zipfile.ZipFile) -> StoredPredictions:
    """Return the content of an npz file; before version 5 it has probabilities instead of logarithms, and no groups."""
    names = {name.removesuffix(".npy") for name in stored.namelist()} - {NOT_READ}
    arrays = {name: _array(stored.read(f"{name}.npy")) for name in names}
    for name in ("p_true", "p_predicted"):
        if name in arrays:
            with np.errstate(divide="ignore"):  # float32 rounds a probability below 1e-45 to 0
                arrays[f"log_{name}"] = np.log(arrays.pop(name))
    # Without groups every image is a group of its own.
    arrays.setdefault("group", np.arange(len(arrays["labels"]), dtype=np.int32))
    image_ids = tuple(arrays.pop("image_ids").tolist())
    return StoredPredictions(image_ids=image_ids, **arrays)


def _array(data: bytes) -> NDArray[Any]:
    """Return a one-dimensional array from the bytes that ``np.save`` writes; raises ValueError for any other.

    ``np.load`` parses the header as Python source, which took most of the time of reading a thousand runs.
    """
    header = HEADER.match(data)
    if header is None:
        message = "not a one-dimensional array in version 1.0 of the npy format"
        raise ValueError(message)
    # 6 bytes of magic string, 2 of version and 2 of header length precede the header.
    start = 10 + int.from_bytes(data[8:10], "little")
    return np.frombuffer(data, dtype=header["type"].decode(), count=int(header["length"]), offset=start)


def pool(parts: Sequence[StoredPredictions]) -> StoredPredictions:
    """Return the predictions of disjoint folds as one, in order of image id.

    A field that is None in one part is None in the result. Group numbers are those of the data set, equal in all folds.
    """
    every = [image_id for part in parts for image_id in part.image_ids]
    # Nearly all files are sorted already; an array of strings and its order take longer than the comparison.
    if len(parts) == 1 and every == sorted(every):
        return parts[0]
    ids = np.array(every)
    order = np.argsort(ids, kind="stable")
    pooled: dict[str, Any] = {}
    for field in fields(StoredPredictions):
        columns = [getattr(part, field.name) for part in parts]
        if field.name != "image_ids" and all(column is not None for column in columns):
            pooled[field.name] = np.concatenate(columns)[order]
    return StoredPredictions(image_ids=tuple(ids[order].tolist()), **pooled)
