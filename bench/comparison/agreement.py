"""Whether the predictions of runs are those of their records; a run whose parts do not agree is in no table."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.records.paths import Paths
from bench.records.predictions import StoredPredictions, read_predictions
from bench.records.schema import RunRecord

LOGGER = logging.getLogger(__name__)

PredictionsByRun = Mapping[str, StoredPredictions]
"""Predictions on test by run_id, of the runs that have them."""


def predictions_of(records: Sequence[RunRecord], results: Path) -> tuple[PredictionsByRun, dict[str, str]]:
    """Read the predictions of records; also return why a run's own are not its record's, by run_id."""
    predictions, disagreeing, paths = dict[str, StoredPredictions](), dict[str, str](), Paths(results=results)
    for record in records:
        try:
            stored = read_predictions(record, paths)
        except ValueError as error:
            disagreeing[record.run_id] = str(error)
            continue
        if stored is not None:
            predictions[record.run_id] = stored
    return predictions, disagreeing


@dataclass(frozen=True, kw_only=True, slots=True)
class ExcludedRun:
    """A run whose parts do not agree, so that it is in no row, and why."""

    model: str
    seed: int
    reason: str


def excluded_run(record: RunRecord, reason: str) -> ExcludedRun:
    """Return a run that is excluded for this reason."""
    return ExcludedRun(model=record.config.model, seed=record.config.seed, reason=reason)


def warn_of_excluded(runs: Iterable[ExcludedRun]) -> None:
    """Log why runs are excluded."""
    for run in runs:
        LOGGER.warning("excluded %s, seed %d: %s", run.model, run.seed, run.reason)
