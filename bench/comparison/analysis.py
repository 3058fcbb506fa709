"""What a board's test images can show, worked out once for the leaderboard, the report and comparisons."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.comparison.pareto import Front, fronts
from bench.comparison.speeds import reference_runtime, shown
from bench.comparison.tables import Board, Checkpoint, Entry, group
from bench.records.predictions import Answers
from bench.records.schema import RunRecord
from bench.records.store import read_records
from bench.stats.intervals import Interval, Score, mean_interval, percentile, wilson_interval
from bench.stats.macro import Draws, MacroIntervals, macro_intervals
from bench.stats.pairs import SEEDS_FOR_MODELS, Comparison, Paired, Right, compare, compare_all, tie_groups
from bench.stats.power import Power, power_of
from bench.stats.resampling import calibrated_ece, uniforms_for
from imgcls.data.parallel import usable_cores

Item = TypeVar("Item")

Result = TypeVar("Result")

SMALL_CLASS: Final = 30
"""With fewer test images of a class, the bootstrap's intervals are too short."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """A board, who can be told apart from whom on it, and how small a difference it could have shown.

    What a table shows is worked out when the first asks for it, and kept here: nowhere twice, nothing for nobody.
    ``compared`` are the entries whose answers are at hand, best first, in the order of ``comparison``; ``groups`` are
    their tie groups.
    """

    board: Board
    compared: tuple[Entry, ...]
    comparison: Comparison
    groups: tuple[int, ...]
    power: Power | None
    _pairs: dict[tuple[int, int], Paired] = field(default_factory=dict, repr=False)

    @cached_property
    def ordered(self) -> tuple[Entry, ...]:
        """Entries by tie group, then by the latency of one picture at a time; failed ones last."""
        runtime = reference_runtime(self.board)

        def order(entry: Entry) -> tuple[bool, float, float, float]:
            row = shown(entry, runtime) if runtime else None
            score = accuracy(entry).value if entry.checkpoints else -1.0
            time = percentile(row[1].samples_ms, 50) if row else float("inf")
            return not entry.checkpoints, self.group_of(entry) or float("inf"), time, -score

        return tuple(sorted(self.board.entries, key=order))

    @cached_property
    def fronts(self) -> list[Front]:
        """What the compared entries cost, and who is on each front."""
        return fronts(self.compared, self.board)

    @cached_property
    def minority(self) -> tuple[Comparison, int] | None:
        """The same entries compared on the images of minority classes alone, and their number; None without any."""
        minority = minority_classes(self.board)
        if len(self.compared) < 2 or not minority:  # noqa: PLR2004 - a pair
            return None
        answers = self.compared[0].checkpoints[0].answers
        assert answers is not None
        rows = np.flatnonzero(np.isin(answers.labels, minority))
        if len(rows) == 0:
            return None
        right: list[Right] = [entry.right[:, rows] for entry in self.compared if entry.right is not None]
        return compare_all(right), len(rows)

    def macro(self, checkpoint: Checkpoint) -> MacroIntervals:
        """Return the intervals of macro-F1 and balanced accuracy of one of the board's checkpoints."""
        return self._macros[id(checkpoint)]

    @cached_property
    def _macros(self) -> dict[int, MacroIntervals]:
        every = _checkpoints(self.board)
        return dict(zip(map(id, every), bootstrapped(every), strict=True))

    def macro_f1(self, entry: Entry) -> Score:
        """Return macro-F1: a bootstrap over images of one checkpoint, or a t interval over seeds."""
        return macro_f1(entry, self.macro)

    def expected_ece(self, checkpoint: Checkpoint) -> tuple[float, float] | None:
        """Return mean and 95th percentile of the ECE that a perfectly calibrated model as sure as this would show."""
        return self._expected_eces.get(id(checkpoint))

    @cached_property
    def _expected_eces(self) -> dict[int, tuple[float, float]]:
        known = [(id(one), one.answers) for one in _checkpoints(self.board) if one.answers is not None]
        found = expected_eces([answers for _, answers in known])
        return {place: expected for (place, _), expected in zip(known, found, strict=True)}

    def group_of(self, entry: Entry) -> int | None:
        """Give an entry's tie group; None where it was not compared."""
        return next((found for other, found in zip(self.compared, self.groups, strict=True) if other is entry), None)

    def pair(self, first: Entry, second: Entry) -> Paired:
        """Compare two entries, second against first."""
        assert first.right is not None
        assert second.right is not None
        key = id(first), id(second)
        if key not in self._pairs:
            self._pairs[key] = compare(first.right, second.right)
        return self._pairs[key]

    def adjusted(self, first: Entry, second: Entry) -> float:
        """Give Holm's p value of a pair."""
        places = [next(i for i, other in enumerate(self.compared) if other is entry) for entry in (first, second)]
        return float(self.comparison.holm[places[0], places[1]])

    @property
    def not_compared(self) -> list[Entry]:
        """Entries that were scored, but whose answers are not at hand."""
        return [entry for entry in self.board.entries if entry.checkpoints and self.group_of(entry) is None]

    @property
    def about_models(self) -> bool:
        """Say whether there are seeds enough to speak of models instead of these checkpoints."""
        return bool(self.compared) and all(len(entry.checkpoints) >= SEEDS_FOR_MODELS for entry in self.compared)

    @property
    def number(self) -> int:
        """Test images."""
        return sum(self.board.test_counts)


def find(board: Board) -> Findings:
    """Compare all entries of a board whose answers are at hand."""
    images = next((one.answers.image_ids for one in _checkpoints(board) if one.answers), ())
    known = [entry for entry in board.entries if entry.right is not None and _same_images(entry, images)]
    compared = sorted(known, key=lambda entry: -accuracy(entry).value)
    right = [entry.right for entry in compared if entry.right is not None]
    comparison = compare_all(right)
    return Findings(
        board=board,
        compared=tuple(compared),
        comparison=comparison,
        groups=tuple(tie_groups([accuracy(entry).value for entry in compared], comparison.apart)),
        power=power_of(right),
    )


def _same_images(entry: Entry, image_ids: Sequence[str]) -> bool:
    """Say whether all answers of an entry are about the given images."""
    ours = [checkpoint.answers.image_ids for checkpoint in entry.checkpoints if checkpoint.answers]
    return all(ids == image_ids for ids in ours)


def _checkpoints(board: Board) -> list[Checkpoint]:
    return [checkpoint for entry in board.entries for checkpoint in entry.checkpoints]


def accuracy(entry: Entry) -> Score:
    """Give top-1 accuracy: Wilson's interval of one checkpoint, or a t interval over seeds."""
    first = entry.checkpoints[0]
    total = int(first.confusion.sum())
    values = [one.accuracy for one in entry.checkpoints]
    return _score(values, lambda: wilson_interval(round(first.accuracy * total), total))


def macro_f1(entry: Entry, intervals: Callable[[Checkpoint], MacroIntervals]) -> Score:
    """Return macro-F1: an interval over images of one checkpoint, or a t interval over seeds."""
    values = [checkpoint.macro_scores[0] for checkpoint in entry.checkpoints]
    return _score(values, lambda: intervals(entry.checkpoints[0]).macro_f1)


def _score(values: Sequence[float], of_one: Callable[[], Interval]) -> Score:
    several = len(values) > 1
    return Score(
        value=float(np.mean(values)),
        interval=mean_interval(values) if several and max(values) > min(values) else of_one(),
        over_seeds=several,
        least=min(values),
        most=max(values),
    )


def bootstrapped(checkpoints: Sequence[Checkpoint]) -> list[MacroIntervals]:
    """Work out the intervals of macro-F1 and balanced accuracy of checkpoints, on all cores."""
    draws = Draws()
    return _on_all_cores(lambda checkpoint: macro_intervals(checkpoint.confusion, draws=draws), checkpoints)


def expected_eces(answers: Sequence[Answers]) -> list[tuple[float, float]]:
    """Work out the ECE that perfectly calibrated models as sure as these would show, on all cores."""
    uniforms = uniforms_for([len(one.labels) for one in answers])

    def simulated(one: Answers) -> tuple[float, float]:
        return calibrated_ece(one.p_predicted.astype(np.float64), uniforms=uniforms(len(one.labels)))

    return _on_all_cores(simulated, answers)


def _on_all_cores(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Do short pieces of work in a thread a core, each a run of them: handing over takes as long as a piece."""
    cores = usable_cores()
    with ThreadPoolExecutor(cores) as pool:
        parts = list(pool.map(lambda core: [work(item) for item in items[core::cores]], range(cores)))
    return [parts[place % cores][place // cores] for place in range(len(items))]


def recalls(entry: Entry, *, confidence: float = 0.95) -> list[Score | None]:
    """Give each class's recall, the mean over seeds; Wilson's interval over its test images (None without any).

    The interval of a mean of several checkpoints is that of one with this recall: too long rather than too short, and
    it leaves out what another seed would give.
    """
    each = np.stack([np.diag(checkpoint.confusion) for checkpoint in entry.checkpoints])
    totals = entry.checkpoints[0].confusion.sum(axis=1)
    return [_recall(right, int(total), confidence) for right, total in zip(each.T, totals, strict=True)]


def _recall(right: NDArray[np.int64], total: int, confidence: float) -> Score | None:
    if total == 0:
        return None
    mean = float(right.mean()) / total
    interval = wilson_interval(round(mean * total), total, confidence=confidence)
    interval = Interval(low=min(interval.low, mean), high=max(interval.high, mean))
    return Score(value=mean, interval=interval, over_seeds=False, least=right.min() / total, most=right.max() / total)


def worst_class(entry: Entry) -> tuple[str, Score] | None:
    """Give the class with the least recall; as it was chosen for that, its interval is one for all classes at once.

    (Bonferroni: 1 - 0.05 over the number of classes.)
    """
    classes = np.count_nonzero(entry.checkpoints[0].confusion.sum(axis=1))
    scores = recalls(entry, confidence=1 - 0.05 / max(int(classes), 1))
    found = zip(entry.first.dataset.class_names, scores, strict=True)
    known = [(name, score) for name, score in found if score is not None]
    return min(known, key=lambda pair: pair[1].value, default=None)


def small_classes(board: Board) -> list[tuple[str, int]]:
    """Name the classes with 1 to 29 test images."""
    counts = zip(board.first.dataset.class_names, board.test_counts, strict=True)
    return [(name, count) for name, count in counts if 0 < count < SMALL_CLASS]


def minority_classes(board: Board) -> list[int]:
    """Give the classes with under half of the median class's images, before undersampling."""
    counts = board.first.dataset.counts
    natural = ("val", "test") if board.first.dataset.undersampled else ("train", "val", "test")
    sizes = np.sum([counts[split] for split in natural], axis=0)
    return [int(label) for label in np.flatnonzero(sizes < np.median(sizes) / 2)]


def count_scorings(board: Board) -> tuple[int, int]:
    """Count the trainings scored on this test split, and how often they were in all, repetitions included."""
    times: dict[str, int] = {}
    for record in board.records:
        if record.outcome is not None:
            times[record.train_id] = max(times.get(record.train_id, 0), record.test_scorings)
    return len(times), sum(times.values())


def read(results: Path, *, warn: Callable[[str], None]) -> list[Findings]:
    """Read all records of a results folder and work out what each board of them shows."""
    return findings(read_records(results, warn=warn), results)


def findings(records: Sequence[RunRecord], results: Path) -> list[Findings]:
    """Work out what each board of some records shows."""
    return [find(board) for board in group(records, results)]
