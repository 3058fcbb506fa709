"""What a board's test images can show, worked out once for the leaderboard, the report and comparisons."""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.boards import Board, Checkpoint, Entry
from bench.macro import MacroIntervals, macro_intervals, macro_scores
from bench.pairs import SEEDS_FOR_MODELS, Comparison, Paired, Right, compare, compare_all, tie_groups
from bench.power import Power, power_of
from bench.resampling import calibrated_ece
from bench.stats import Interval, mean_interval, wilson_interval
from imgcls.data.parallel import usable_cores

SMALL_CLASS: Final = 30
"""With fewer test images of a class, the bootstrap's intervals are too short."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A figure of an entry: of one checkpoint with its interval over images, or the mean of several over seeds."""

    value: float
    interval: Interval
    over_seeds: bool
    least: float
    most: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Findings:
    """A board, who can be told apart from whom on it, and how small a difference it could have shown.

    ``compared`` are the entries whose answers are at hand, best first, in the order of ``comparison``; ``groups`` are
    their tie groups.
    """

    board: Board
    compared: tuple[Entry, ...]
    comparison: Comparison
    groups: tuple[int, ...]
    power: Power | None

    def group_of(self, entry: Entry) -> int | None:
        """Give an entry's tie group; None where it was not compared."""
        return next((found for other, found in zip(self.compared, self.groups, strict=True) if other is entry), None)

    def pair(self, first: Entry, second: Entry) -> Paired:
        """Compare two entries, second against first."""
        assert first.right is not None
        assert second.right is not None
        return compare(first.right, second.right)

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
    known = [entry for entry in board.entries if entry.right is not None and _same_images(entry, board)]
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


def _same_images(entry: Entry, board: Board) -> bool:
    """Say whether an entry's answers are about the same images as the first entry's that has any."""
    every = [checkpoint.answers for other in board.entries for checkpoint in other.checkpoints if checkpoint.answers]
    ours = [checkpoint.answers.image_ids for checkpoint in entry.checkpoints if checkpoint.answers]
    return all(ids == every[0].image_ids for ids in ours)


def accuracy(entry: Entry) -> Score:
    """Give top-1 accuracy: Wilson's interval of one checkpoint, or a t interval over seeds."""
    first = entry.checkpoints[0]
    total = int(first.confusion.sum())
    return _score([one.accuracy for one in entry.checkpoints], wilson_interval(round(first.accuracy * total), total))


def macro_f1(entry: Entry) -> Score:
    """Give macro-F1: a bootstrap over images of one checkpoint, or a t interval over seeds."""
    values = [macro_scores(checkpoint.confusion)[0] for checkpoint in entry.checkpoints]
    return _score(values, bootstrapped(entry.checkpoints[0]).macro_f1)


def _score(values: Sequence[float], of_one: Interval) -> Score:
    several = len(values) > 1
    return Score(
        value=float(np.mean(values)),
        interval=mean_interval(values) if several and max(values) > min(values) else of_one,
        over_seeds=several,
        least=min(values),
        most=max(values),
    )


def bootstrapped(checkpoint: Checkpoint) -> MacroIntervals:
    """Give the intervals of macro-F1 and balanced accuracy of one checkpoint."""
    return _bootstrapped(checkpoint.confusion.tobytes(), len(checkpoint.confusion))


def bootstrap_all(board: Board) -> None:
    """Work out the intervals of all checkpoints of a board, on all cores, so that asking for them is quick."""
    checkpoints = [checkpoint for entry in board.entries for checkpoint in entry.checkpoints]
    with ThreadPoolExecutor(usable_cores()) as pool:
        list(pool.map(bootstrapped, checkpoints))


@functools.lru_cache(maxsize=4096)
def _bootstrapped(confusion: bytes, classes: int) -> MacroIntervals:
    return macro_intervals(np.frombuffer(confusion, dtype=np.int64).reshape(classes, classes))


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


def minority_comparison(found: Findings) -> tuple[Comparison, int] | None:
    """Compare the same entries on the images of minority classes alone, and count these; None without any."""
    minority = minority_classes(found.board)
    if len(found.compared) < 2 or not minority:  # noqa: PLR2004 - a pair
        return None
    answers = found.compared[0].checkpoints[0].answers
    assert answers is not None
    rows = np.flatnonzero(np.isin(answers.labels, minority))
    if len(rows) == 0:
        return None
    right: list[Right] = [entry.right[:, rows] for entry in found.compared if entry.right is not None]
    return compare_all(right), len(rows)


def expected_ece(checkpoint: Checkpoint) -> tuple[float, float] | None:
    """Give mean and 95th percentile of the ECE that a perfectly calibrated model as sure as this one would show."""
    if checkpoint.answers is None:
        return None
    return calibrated_ece(checkpoint.answers.p_predicted)


def count_scorings(board: Board) -> tuple[int, int]:
    """Count the trainings scored on this test split, and how often they were in all, repetitions included."""
    times: dict[str, int] = {}
    for record in board.records:
        if record.outcome is not None:
            times[record.train_id] = max(times.get(record.train_id, 0), record.test_scorings)
    return len(times), sum(times.values())
