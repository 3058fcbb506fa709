"""A comparison as text: a summary of at most four sentences, and notes; for Markdown, terminal and HTML page."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.comparison.analysis import Comparison
from bench.comparison.scores import SMALL_CLASS, minority_classes, small_classes
from bench.comparison.speeds import ratio, reference_runtime, runtime_text, same_network, shown
from bench.comparison.tables import Row
from bench.leaderboard.cells import figure
from bench.records.schema import UNGROUPED
from bench.stats.groups import LEAST_FREEDOM
from bench.stats.intervals import percentile
from bench.stats.pairs import ALPHA
from bench.stats.power import Power, sources_of

SENTENCES_SHOWN: Final = 4
NAMES_SHOWN: Final = 5
"""Names that a sentence lists; of the others it states the number."""
PAIR: Final = 2

Style = Callable[[str], str]
"""Marks a name as one: a code span in Markdown, nothing on a terminal."""


def summary(comparison: Comparison, style: Style) -> list[str]:
    """Return at most four sentences: accuracy, significant differences, what could have been detected, a caveat."""
    return _Statements(comparison, style).ordered()[:SENTENCES_SHOWN]


def notes(comparison: Comparison, style: Style) -> list[str]:
    """Return the statements for which the summary has no room, the most important first."""
    return _Statements(comparison, style).ordered()[SENTENCES_SHOWN:]


def power_text(power: Power) -> str:
    """Return the minimum detectable difference of the test that decides."""
    pairs = f"Holm, {power.pairs} pairs" if power.pairs > 1 else "one pair"
    if power.difference is None:
        images = images_text(power.images, power.groups)
        return f"No difference, however large, is detectable at 80 % power ({pairs}, {images})."
    return f"Minimum detectable difference at 80 % power: {100 * power.difference:.1f} pp ({pairs})."


def power_basis(power: Power) -> str:
    """Return what the minimum detectable difference was computed for."""
    what = "models" if power.about_models else "checkpoints"
    disagreement = f"{what} that disagree on {100 * power.disagreement:.0f} % of them"
    return f"The minimum detectable difference is for {images_text(power.images, power.groups)} and {disagreement}."


def images_text(number: int, independent: int) -> str:
    """Return a number of test images, and that of independent groups if they differ."""
    groups = "" if independent == number else f" ({independent:,} independent)"
    return f"{number:,} test image{'' if number == 1 else 's'}{groups}"


def listed(names: Sequence[str]) -> str:
    """Join names for a sentence; of more than five, the first five and the number of the others."""
    if len(names) > NAMES_SHOWN:
        return f"{', '.join(names[:NAMES_SHOWN])} and {len(names) - NAMES_SHOWN} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def difference_text(difference: float, low: float, high: float) -> str:
    """Return a difference of fractions in percentage points, with its 95 % confidence interval."""
    return f"{100 * difference:+.1f} pp (95 % CI {100 * low:+.1f} to {100 * high:+.1f})"


def p_text(p_value: float) -> str:
    """Return a p value for a sentence."""
    return f"p = {p_value:.2g}" if p_value >= 1e-4 else "p < 0.0001"  # noqa: PLR2004 - as everywhere


@dataclass(frozen=True)
class _Statements:
    comparison: Comparison
    style: Style

    def ordered(self) -> list[str]:
        """Return all statements, the most important first."""
        if not self.comparison.compared:
            return [
                "No predictions are available, so nothing can be compared.",
                *filter(None, [self._initialisation()]),
            ]
        power = self.comparison.power
        statements = [
            self._leaks(),
            self._accuracy(),
            self._significantly_worse(),
            self._by_loss(),
            power_text(power) if power else "",
            self._not_compared(),
            self._no_better_than_majority(),
            self._initialisation(),
            *self._speed(),
            *self._minority(),
            self._seeds(),
            self._intervals(),
            self._sources(),
            self._tuned(),
            self._small(),
            power_basis(power) if power else "",
        ]
        return [sentence for sentence in statements if sentence]

    def _names(self, rows: Sequence[Row]) -> str:
        return listed([self.style(row.name) for row in rows])

    def _images(self) -> str:
        return images_text(self.comparison.number, self.comparison.independent)

    def _leaks(self) -> str:
        leaks = self.comparison.leaks
        if leaks is None:
            return ""
        grouped_by = self.comparison.table.first.dataset.grouped_by
        kept = self.comparison.table.first.config.split.near_duplicates == "keep"
        what = f"have a duplicate{'' if kept else ' or near-duplicate'} in train or val"
        if grouped_by != UNGROUPED:
            what = f"have a duplicate or an image of their group (by {self.style(grouped_by)}) in train or val"
        where = f"{leaks.number:,} of {self._images()} {what}"
        name = self.style(self.comparison.compared[0].name)
        others = leaks.accuracy_of_others
        rest = "" if others is None else f", and for {100 * others:.1f} % of the others"
        return f"{where}: {name} is correct for {100 * leaks.accuracy:.1f} % of them{rest}."

    def _accuracy(self) -> str:
        top, *others = self.comparison.compared
        name, images = self.style(top.name), self._images()
        score = f"{100 * top.accuracy:.1f} % of {images}"
        if not others:
            which = "the only row with predictions" if self.comparison.not_compared else "the only row"
            return f"{name} is {which}: {score} correct."
        lead = f"{name} has the highest accuracy, {score}"
        undecided = [row for row in others if self.comparison.adjusted(top, row) > ALPHA]
        if not undecided:
            return f"{lead}."
        # With several rows a single p value would be taken for that of all.
        p_value = f" ({p_text(self.comparison.adjusted(top, undecided[0]))})" if len(undecided) == 1 else ""
        return f"{lead}; no significant difference to {self._names(undecided)}{p_value}."

    def _significantly_worse(self) -> str:
        top, *others = self.comparison.compared
        worse = [row for row in others if self.comparison.adjusted(top, row) <= ALPHA]
        if not worse:
            return ""
        # In the order in which the table of pairs compares them, so that the pair is not computed twice.
        paired = self.comparison.pair(worse[0], top)
        low, high = -100 * paired.interval.high, -100 * paired.interval.low
        gap = f"({-100 * paired.difference:+.1f} pp, simultaneous 95 % CI {low:+.1f} to {high:+.1f})"
        first, *rest = [self.style(row.name) for row in worse]
        return f"Significantly less accurate than {self.style(top.name)}: {listed([f'{first} {gap}', *rest])}."

    def _by_loss(self) -> str:
        """Return what log loss decides between the most accurate row and those whose accuracy does not differ."""
        top, *others = self.comparison.compared
        losses = self.comparison.losses
        if losses is None:
            return ""
        phrases = list[str]()
        for column, row in enumerate(others, start=1):
            if self.comparison.adjusted(top, row) > ALPHA >= losses.holm[0, column]:
                gap, low, high = losses.differences[0, column], losses.low[0, column], losses.high[0, column]
                # As for accuracy, with the interval of the first only: the table of pairs has all.
                words = f" ({gap:+.3f} nats, simultaneous 95 % CI {low:+.3f} to {high:+.3f})" if not phrases else ""
                phrases.append(f"{self.style(row.name)}{words}")
        if not phrases:
            return ""
        return f"By log loss, a finer measure, significantly different from {self.style(top.name)}: {listed(phrases)}."

    def _sources(self) -> str:
        """Return where the uncertainty between the two most accurate rows comes from, if both have several seeds."""
        if len(self.comparison.compared) < PAIR:
            return ""
        first, second = self.comparison.compared[:PAIR]
        assert first.right is not None
        assert second.right is not None
        sources = sources_of(first.right, second.right, self.comparison.groups)
        if sources is None:
            return ""
        half, images, seeds = (100 * value for value in (sources.half_width, sources.with_images, sources.with_seeds))
        names = f"{self.style(first.name)} and {self.style(second.name)}"
        shares = [f"{100 * share:.0f} %" for share in (sources.images, sources.seeds, sources.both)]
        return (
            f"Of the variance of the difference between {names} over images and seeds, {shares[0]} comes from the test "
            f"images, {shares[1]} from the seeds and {shares[2]} from both together; ten times as many images would "
            f"narrow its 95 % CI from ±{half:.1f} to ±{images:.1f} pp, ten times as many seeds to ±{seeds:.1f} pp."
        )

    def _not_compared(self) -> str:
        rows = self.comparison.not_compared
        return f"Not compared, because predictions are missing: {self._names(rows)}." if rows else ""

    def _speed(self) -> list[str]:
        """Compare the most accurate row with the fastest of those without a significant difference, or of all.

        Rows with its network have its latency, and are omitted.
        """
        runtime = reference_runtime(self.comparison.table.rows)
        if runtime is None or len(self.comparison.compared) < PAIR:
            return []
        # Readers choose between the best row and cheaper ones that may be as good: the fastest of these is compared.
        top, *others = self.comparison.compared
        others = [row for row in others if not same_network(top, row)]
        level = [row for row in others if self.comparison.adjusted(top, row) > ALPHA] or others
        if shown(top, runtime) is None or not (timed := [row for row in level if shown(row, runtime)]):
            return []
        other = min(timed, key=lambda row: _median(row, runtime))
        fast, slow = (top, other) if _median(top, runtime) <= _median(other, runtime) else (other, top)
        return [self._faster(fast, slow, runtime)]

    def _faster(self, fast: Row, slow: Row, runtime: str) -> str:
        measured = [timed[1] for row in (fast, slow) if (timed := shown(row, runtime))]
        # Latencies with different numbers of threads do not compare the models.
        if measured[0].num_threads != measured[1].num_threads:
            return ""
        names = [self.style(row.name) for row in (fast, slow)]
        within = ratio(measured[1], measured[0])
        if within is not None and within.interval.high < 1:  # ratios within rounds take precedence over the medians
            return self._faster(slow, fast, runtime)
        runtime_name = runtime_text(runtime, self.comparison.table)
        if within is not None and within.interval.low > 1:
            low, high = within.interval.low, within.interval.high
            interval = f"95 % CI {low:.1f} to {high:.1f}"
            return f"On {runtime_name}, {names[0]} is {within.value:.1f} x as fast as {names[1]} ({interval})."
        if within is not None:
            return f"On {runtime_name}, no significant difference in latency between {names[0]} and {names[1]}."
        times = [figure(percentile(row.samples_ms, 50)) for row in measured]
        quick = any(row.protocol == "quick" for row in measured)
        how = "quick run, not validated" if quick else "measured in different sessions"
        return f"Batch-1 p50 latency on {runtime_name}: {names[0]} {times[0]} ms, {names[1]} {times[1]} ms ({how})."

    def _minority(self) -> list[str]:
        """Return which rows differ significantly on the test images of minority classes."""
        if self.comparison.minority is None:
            return []
        tests, number, independent = self.comparison.minority
        names = self.comparison.table.first.dataset.class_names
        classes = listed([self.style(names[label]) for label in minority_classes(self.comparison.table)])
        where = f"On the {images_text(number, independent)} of minority classes ({classes})"
        # The matrices are symmetric, so that the upper triangle has each pair once.
        firsts, seconds = np.nonzero(np.triu(tests.apart, 1))
        if len(firsts) == 0:
            return [f"{where}, no difference is significant."]
        said = []
        for first, second in zip(firsts.tolist(), seconds.tolist(), strict=True):
            ahead, behind = (second, first) if tests.differences[first, second] > 0 else (first, second)
            better, worse = (self.style(self.comparison.compared[index].name) for index in (ahead, behind))
            said.append(f"{better} is significantly better than {worse}")
        return [f"{where}, {listed(said)}."]

    def _initialisation(self) -> str:
        kinds = sorted({row.init for row in self.comparison.table.rows})
        if len(kinds) == 1:
            return ""
        return (
            f"Initialisation differs ({', '.join(kinds)}), so the comparison confounds pre-training with architecture."
        )

    def _tuned(self) -> str:
        tuned = [row for row in self.comparison.compared if row.first.tuning is not None]
        return f"The training cost of {self._names(tuned)} does not include the study." if tuned else ""

    def _no_better_than_majority(self) -> str:
        weak = self.comparison.no_better_than_majority
        if not weak:
            return ""
        baseline = f"majority-class baseline ({self.style(self.comparison.table.majority.class_name)})"
        return f"Not significantly better than the {baseline}: {self._names(weak)}."

    def _small(self) -> str:
        small = small_classes(self.comparison.table)
        if not small:
            return ""
        if len(small) == sum(count > 0 for count in self.comparison.table.test_counts):
            return f"Every class has fewer than {SMALL_CLASS} test images, so intervals of single classes are wide."
        named = listed([f"{self.style(name)} ({count})" for name, count in small])
        return f"Classes with fewer than {SMALL_CLASS} test images have wide intervals: {named}."

    def _intervals(self) -> str:
        component = self.comparison.seeds
        if component is None:
            return "Intervals of accuracy are of these checkpoints over test images: no row has several seeds."
        # At an accuracy that readers can relate to; the component is of logits.
        points = 100 * math.sqrt(component.variance) * 0.9 * 0.1
        freedom, missing = component.observed, LEAST_FREEDOM - component.observed
        prior = f", and a prior in place of {missing} more" if missing > 0 else ""
        return (
            "Intervals of accuracy are of the expected accuracy over test images and seeds. The standard deviation "
            f"between seeds is estimated as {points:.1f} pp at 90 %, pooled over the rows ({freedom} degrees of "
            f"freedom{prior})."
        )

    def _seeds(self) -> str:
        # The row with the fewest seeds limits what can be concluded on any pair with it.
        counts = sorted({len(row.checkpoints) for row in self.comparison.compared})
        if self.comparison.about_models:
            return f"Conclusions hold for the models, over {counts[0]} seeds or more."
        seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        folds = self.comparison.table.folds
        pooled = f", pooled over {folds}" if folds else ""
        return (
            f"Conclusions hold for these checkpoints ({seeds} seed{'s' if counts[-1] > 1 else ''} each{pooled}); other "
            "seeds may give another order."
        )


def _median(row: Row, runtime: str) -> float:
    timed = shown(row, runtime)
    assert timed is not None
    return percentile(timed[1].samples_ms, 50)
