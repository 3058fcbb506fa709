"""What a comparison shows, in sentences that never say more than its tests do: for Markdown, terminal and page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.comparison.analysis import Comparison, accuracy, minority_classes, small_classes
from bench.comparison.speeds import ratio, reference_runtime, shown
from bench.comparison.tables import Row
from bench.leaderboard.cells import figure
from bench.stats.intervals import percentile, wilson_interval
from bench.stats.pairs import ALPHA
from bench.stats.power import Power

NAMES_SHOWN: Final = 5
"""A sentence that lists more is not read."""
PAIR: Final = 2

Style = Callable[[str], str]
"""Makes a name recognisable as one: a code span in Markdown, nothing on a terminal."""


def summary(comparison: Comparison, style: Style) -> list[str]:
    """Return the sentences above a table: accuracy, what could have been detected, speed, and caveats."""
    return _Summary(comparison, style).sentences()


def power_text(power: Power) -> str:
    """Return the smallest difference that the deciding test detects, for models that disagree as much as these do."""
    pairs = f"Holm, {power.pairs} pairs" if power.pairs > 1 else "one pair"
    images = f"{power.images:,} test image{'s' if power.images > 1 else ''}"
    if power.difference is None:
        return f"No difference, however large, is detected at 80 % power ({pairs}, {images})."
    what = "models" if power.about_models else "checkpoints"
    disagreeing = f"{what} that disagree on {100 * power.disagreement:.0f} % of them"
    smallest = f"{100 * power.difference:.1f} pp"
    return f"Minimum detectable difference at 80 % power: {smallest} ({pairs}, {images}, {disagreeing})."


def listed(names: Sequence[str], *, most: int | None = None) -> str:
    """Join names as a sentence does; of more than ``most``, the first ones and the number of the others."""
    if most is not None and len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def difference_text(difference: float, low: float, high: float) -> str:
    """Return a difference of shares in percentage points, with its 95 % confidence interval."""
    return f"{100 * difference:+.1f} pp (95 % CI {100 * low:+.1f} to {100 * high:+.1f})"


def p_text(p_value: float) -> str:
    """Return a p value for a sentence."""
    return f"p = {p_value:.2g}" if p_value >= 1e-4 else "p < 0.0001"  # noqa: PLR2004 - as everywhere


@dataclass(frozen=True)
class _Summary:
    comparison: Comparison
    style: Style

    def sentences(self) -> list[str]:
        power = [power_text(self.comparison.power)] if self.comparison.power else []
        found = [*self._accuracy(), *power, *self._not_compared(), *self._speed(), *self._minority(), *self._caveats()]
        return [sentence for sentence in found if sentence]

    def _names(self, rows: Sequence[Row]) -> str:
        return listed([self.style(row.name) for row in rows], most=NAMES_SHOWN)

    def _accuracy(self) -> list[str]:
        rows, images = self.comparison.compared, f"{self.comparison.number:,} test images"
        if not rows:
            return ["No predictions are at hand, so nothing can be compared."]
        if len(rows) == 1:
            which = "the only row with predictions" if self.comparison.not_compared else "the only row"
            return [f"{self.style(rows[0].name)} is {which} ({images}): nothing to compare with."]
        top = rows[0]
        among = " of the rows compared" if self.comparison.not_compared else ""
        lead = f"{self.style(top.name)} has the highest accuracy{among}, {100 * accuracy(top).value:.1f} % of {images}."
        level = [row for row in rows[1:] if self.comparison.adjusted(top, row) > ALPHA]
        below = [row for row in rows[1:] if self.comparison.adjusted(top, row) <= ALPHA]
        return [lead, self._level(top, level), self._below(top, below)]

    def _level(self, top: Row, level: Sequence[Row]) -> str:
        if not level:
            return ""
        p_values = f" ({p_text(self.comparison.adjusted(top, level[0]))})" if len(level) == 1 else ""
        return f"No significant difference to it: {self._names(level)}{p_values}."

    def _below(self, top: Row, below: Sequence[Row]) -> str:
        if not below:
            return ""
        paired = self.comparison.pair(below[0], top)  # as the table of pairs has it, so that it is worked out once
        gap = difference_text(-paired.difference, -paired.interval.high, -paired.interval.low)
        nearest = f" (the first: {gap}, unadjusted)" if len(below) > 1 else f" ({gap}, unadjusted)"
        return f"Significantly less accurate: {self._names(below)}{nearest}."

    def _not_compared(self) -> list[str]:
        rows = self.comparison.not_compared
        return [f"Not compared, as predictions are not at hand: {self._names(rows)}."] if rows else []

    def _speed(self) -> list[str]:
        """Compare the most accurate row with the fastest of those without a significant difference, or of all."""
        runtime = reference_runtime(self.comparison.table)
        if runtime is None or len(self.comparison.compared) < PAIR:
            return []
        top, *others = self.comparison.compared
        level = [row for row in others if self.comparison.adjusted(top, row) > ALPHA] or others
        if shown(top, runtime) is None or not (timed := [row for row in level if shown(row, runtime)]):
            return []
        other = min(timed, key=lambda row: _median(row, runtime))
        fast, slow = (top, other) if _median(top, runtime) <= _median(other, runtime) else (other, top)
        return [self._faster(fast, slow, runtime)]

    def _faster(self, fast: Row, slow: Row, runtime: str) -> str:
        measured = [found[1] for row in (fast, slow) if (found := shown(row, runtime))]
        if measured[0].num_threads != measured[1].num_threads:
            return ""
        names = [self.style(row.name) for row in (fast, slow)]
        within = ratio(measured[1], measured[0])
        if within is not None and within.interval.high < 1:  # within rounds the order is that of the medians reversed
            return self._faster(slow, fast, runtime)
        if within is not None and within.interval.low > 1:
            low, high = within.interval.low, within.interval.high
            interval = f"95 % CI {low:.1f} to {high:.1f}"
            return f"On {runtime}, {names[0]} is {within.value:.1f} x as fast as {names[1]} ({interval})."
        if within is not None:
            return f"On {runtime}, no significant difference in latency between {names[0]} and {names[1]}."
        times = [figure(percentile(row.samples_ms, 50)) for row in measured]
        quick = any(row.protocol == "quick" for row in measured)
        how = "quick run, not validated" if quick else "measured in different sessions"
        return f"Batch-1 p50 latency on {runtime}: {names[0]} {times[0]} ms, {names[1]} {times[1]} ms ({how})."

    def _minority(self) -> list[str]:
        """Return which rows differ on the classes that are under half of the median class."""
        if self.comparison.minority is None:
            return []
        tests, number = self.comparison.minority
        names = self.comparison.table.first.dataset.class_names
        classes = listed([self.style(names[label]) for label in minority_classes(self.comparison.table)])
        where = f"On the {number} test image{'s' if number > 1 else ''} of minority classes ({classes})"
        firsts, seconds = np.nonzero(np.triu(tests.apart, 1))
        if len(firsts) == 0:
            return [f"{where} there is no significant difference."]
        said = []
        for first, second in zip(firsts.tolist(), seconds.tolist(), strict=True):
            ahead, behind = (second, first) if tests.differences[first, second] > 0 else (first, second)
            better, worse = (self.style(self.comparison.compared[place].name) for place in (ahead, behind))
            said.append(f"{better} is significantly better than {worse}")
        return [f"{where} {listed(said, most=NAMES_SHOWN)}."]

    def _caveats(self) -> list[str]:
        if not self.comparison.compared:
            return []
        return [self._initialisation(), self._tuned(), self._no_better_than_majority(), self._small(), self._seeds()]

    def _initialisation(self) -> str:
        kinds = sorted({row.init for row in self.comparison.compared})
        if len(kinds) == 1:
            return ""
        return (
            f"Initialisation differs ({', '.join(kinds)}), so the comparison confounds pre-training with architecture."
        )

    def _tuned(self) -> str:
        tuned = [row for row in self.comparison.compared if row.first.tuning is not None]
        return f"The cost of a study comes on top for {self._names(tuned)}." if tuned else ""

    def _no_better_than_majority(self) -> str:
        majority, total = self.comparison.table.majority, self.comparison.number
        weak = [
            row
            for row in self.comparison.compared
            if wilson_interval(round(accuracy(row).least * total), total).low <= majority.top1_accuracy
        ]
        if not weak:
            return ""
        return (
            f"Not shown to beat the majority-class baseline ({self.style(majority.class_name)}): {self._names(weak)}."
        )

    def _small(self) -> str:
        small = small_classes(self.comparison.table)
        if not small:
            return ""
        if len(small) == sum(count > 0 for count in self.comparison.table.test_counts):
            return "Every class has fewer than 30 test images, so intervals of single classes are wide."
        named = listed([f"{self.style(name)} ({count})" for name, count in small], most=NAMES_SHOWN)
        return f"Fewer than 30 test images, so wide intervals: {named}."

    def _seeds(self) -> str:
        counts = sorted({len(row.checkpoints) for row in self.comparison.compared})
        if self.comparison.about_models:
            return f"Conclusions hold for the models, over {counts[0]} seeds or more."
        seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        folds = self.comparison.table.first.config.split.folds
        pooled = f", pooled over {folds} folds" if folds else ""
        return (
            f"Conclusions hold for these checkpoints ({seeds} seed{'s' if counts[-1] > 1 else ''} each{pooled}); other "
            "seeds may give another order."
        )


def _median(row: Row, runtime: str) -> float:
    found = shown(row, runtime)
    assert found is not None
    return percentile(found[1].samples_ms, 50)
