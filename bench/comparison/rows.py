"""A row of a table: one setting of one model, with its checkpoints and their predictions."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.comparison.latencies.speeds import Network
from bench.records.predictions import StoredPredictions
from bench.records.schema import Outcome, RunRecord
from bench.stats.macro import macro_scores
from bench.stats.pairs import Floats, Right


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One seed of a row: a successful run, or one per fold; ``predictions`` is None if not available."""

    # No slots, as cached_property needs ``__dict__``; so in ``Row``.
    seed: int
    records: tuple[RunRecord, ...]
    predictions: StoredPredictions | None

    @cached_property
    def outcomes(self) -> tuple[Outcome, ...]:
        """The outcomes of the run, or of each fold."""
        return tuple(record.outcome for record in self.records if record.outcome is not None)

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """Numbers of test images by true class (rows) and predicted class (columns), ``[C, C]``."""
        matrices = [outcome.metrics.test_confusion_matrix for outcome in self.outcomes]
        return np.asarray(np.sum(matrices, axis=0, dtype=np.int64))

    @cached_property
    def accuracy(self) -> float:
        """Top-1 accuracy on test."""
        return self.mean("test", "top1_accuracy")

    @cached_property
    def macro_scores(self) -> tuple[float, float]:
        """Macro-F1 and balanced accuracy on test."""
        # From the pooled matrix: the mean of the folds' macro-F1 is biased where a fold has few images of a class.
        return macro_scores(self.confusion)

    def mean(self, split: str, metric: str) -> float:
        """Return the mean of a metric over folds, weighted by images; raises KeyError if it was not recorded."""
        values = [getattr(outcome.metrics, f"{split}_metrics")[metric] for outcome in self.outcomes]
        if len(values) == 1:
            return float(values[0])
        # Folds differ in size by an image or more, so that an unweighted mean would not be that over images.
        return float(np.average(values, weights=[sum(record.dataset.counts[split]) for record in self.records]))


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table: one setting of one model with its complete seeds.

    ``row_id`` identifies it; ``name`` is for display: the model, and what distinguishes it from the model's other rows.
    ``incomplete`` describes the seeds with missing folds. ``measured_on`` is the machine whose latency is shown.
    ``networks`` is the network of its runs, with all runs of the table that have it; of an ensemble, one for each seed.
    """

    row_id: str
    name: str
    setting: tuple[str, ...]
    init: str
    records: tuple[RunRecord, ...]
    checkpoints: tuple[Checkpoint, ...]
    incomplete: tuple[str, ...]
    measured_on: str
    networks: tuple[Network, ...]

    @property
    def first(self) -> RunRecord:
        """A record of this row, for what all of them have in common; a successful one if there is one."""
        return self.checkpoints[0].records[0] if self.checkpoints else self.records[0]

    @property
    def outcome(self) -> Outcome:
        """The outcome of the first successful run, for what all have in common, such as the number of parameters."""
        assert self.first.outcome is not None
        return self.first.outcome

    @property
    def accuracy(self) -> float:
        """The mean top-1 accuracy of its checkpoints on test; it has at least one."""
        return float(np.mean([checkpoint.accuracy for checkpoint in self.checkpoints]))

    @cached_property
    def right(self) -> Right | None:
        """Whether each checkpoint is correct on each image ``[S, N]``; None if any predictions are missing."""
        predictions = [checkpoint.predictions for checkpoint in self.checkpoints]
        # All seeds or none: a test on fewer seeds than the table shows would not be a test of this row.
        if not predictions or None in predictions:
            return None
        return np.stack([part.right for part in predictions if part is not None])

    @property
    def losses(self) -> Floats | None:
        """The calibrated log loss of each checkpoint on each image ``[S, N]``, in nats; None if any is not stored."""
        by_checkpoint = [
            None if checkpoint.predictions is None else checkpoint.predictions.log_p_true_calibrated
            for checkpoint in self.checkpoints
        ]
        log_probabilities = [values for values in by_checkpoint if values is not None]
        return (
            -np.stack(log_probabilities).astype(np.float64)
            if log_probabilities and len(log_probabilities) == len(by_checkpoint)
            else None
        )


AnyRow = TypeVar("AnyRow", bound=Row)


@dataclass(frozen=True, kw_only=True)
class ComparedRow(Row):
    """A row that has predictions on the test images of its table; ``predictions`` are those of its checkpoints."""

    predictions: tuple[StoredPredictions, ...]

    @cached_property
    def right(self) -> Right:
        """Whether each checkpoint is correct on each image ``[S, N]``."""
        return np.stack([part.right for part in self.predictions])


def compared_row(row: Row, image_ids: Sequence[str]) -> ComparedRow | None:
    """Return a row with its predictions on some images; None if any are missing, or of other images."""
    predictions = tuple(
        checkpoint.predictions
        for checkpoint in row.checkpoints
        # The paired tests match images by position: the same images in the same order.
        if checkpoint.predictions is not None and checkpoint.predictions.image_ids == image_ids
    )
    # All seeds or none: a test on fewer seeds than the table shows would not be a test of this row.
    if not predictions or len(predictions) < len(row.checkpoints):
        return None
    return ComparedRow(**{field.name: getattr(row, field.name) for field in fields(row)}, predictions=predictions)
