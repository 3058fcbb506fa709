"""The results of a table in sentences: a summary of at most four, and notes."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from bench.comparison.results.values import RowResult, TableResult
from bench.comparison.scores import SMALL_CLASS
from bench.leaderboard.cells import nats, p_words, points
from bench.render.documents import Name, Number, Text, listed, text, three_digits

if TYPE_CHECKING:
    from bench.stats.power import Power

SENTENCES_SHOWN: Final = 4


def summary(table: TableResult) -> list[Text]:
    """Return the first four statements: leaks, if any, accuracy, significant differences, what is detectable."""
    return _ordered(table)[:SENTENCES_SHOWN]


def notes(table: TableResult) -> list[Text]:
    """Return the statements for which the summary has no room, the most important first."""
    return _ordered(table)[SENTENCES_SHOWN:]


def _ordered(table: TableResult) -> list[Text]:
    """Return all statements, the most important first."""
    if not table.compared:
        nothing = text("No predictions are available, so nothing can be compared.")
        return [sentence for sentence in (nothing, _initialisation(table)) if sentence]
    return [sentence for statement in STATEMENTS if (sentence := statement(table))]


def power_text(power: "Power") -> str:
    """Return the minimum detectable difference of the test that decides."""
    pairs = f"Holm, {power.pairs} pairs" if power.pairs > 1 else "one pair"
    if power.difference is None:
        images = images_text(power.images, power.groups)
        return f"No difference, however large, is detectable at 80 % power ({pairs}, {images})."
    return f"Minimum detectable difference at 80 % power: {100 * power.difference:.1f} pp ({pairs})."


def power_basis(power: "Power") -> str:
    """Return what the minimum detectable difference was computed for."""
    what = "models" if power.about_models else "checkpoints"
    disagreement = f"{what} that disagree on {100 * power.disagreement:.0f} % of them"
    return f"The minimum detectable difference is for {images_text(power.images, power.groups)} and {disagreement}."


def images_text(number: int, independent: int) -> str:
    """Return a number of test images, and that of independent groups if they differ."""
    groups = "" if independent == number else f" ({independent:,} independent)"
    return f"{number:,} test image{'' if number == 1 else 's'}{groups}"


def names(rows: Iterable[RowResult]) -> Text:
    """Return the names of rows for a sentence."""
    return listed([Name(row.name) for row in rows])


def _leaks(table: TableResult) -> Text:
    leaks = table.leaks
    if leaks is None:
        return text()
    what = text(f"have a duplicate{'' if table.near_duplicates_kept else ' or near-duplicate'} in train or val")
    if table.grouped_by is not None:
        what = text("have a duplicate or an image of their group (by ", Name(table.grouped_by), ") in train or val")
    where = text(f"{leaks.number:,} of {images_text(table.images, table.groups)} ", what)
    others = leaks.accuracy_of_others
    rest = "" if others is None else f", and for {100 * others:.1f} % of the others"
    return text(
        where, ": ", Name(table.compared[0].name), f" is correct for {100 * leaks.accuracy:.1f} % of them{rest}."
    )


def _undecided(table: TableResult) -> list[RowResult]:
    """Return the rows whose accuracy does not differ significantly from that of the most accurate row."""
    top, *others = table.compared
    return [row for row in others if not table.pair(top, row).significant]


def _accuracy(table: TableResult) -> Text:
    top, *others = table.compared
    score = text(
        Number(100 * top.measures["top1"].value, spec=".1f"), f" % of {images_text(table.images, table.groups)}"
    )
    if not others:
        alone = len(table.scored) == 1
        return text(Name(top.name), f" is the only row{'' if alone else ' with predictions'}: ", score, " correct.")
    lead, undecided = text(Name(top.name), " has the highest accuracy, ", score), _undecided(table)
    if not undecided:
        return text(lead, ".")
    # With several rows a single p value would be taken for that of all.
    single = f" ({p_words(table.pair(top, undecided[0]).holm)})" if len(undecided) == 1 else ""
    return text(lead, "; no significant difference to ", names(undecided), single, ".")


def _significantly_worse(table: TableResult) -> Text:
    top, *others = table.compared
    worse = [row for row in others if table.pair(top, row).significant]
    if not worse:
        return text()
    gap = points(table.pair(top, worse[0]).difference)
    words = f" ({gap.value:+.1f} pp, simultaneous 95 % CI {gap.low:+.1f} to {gap.high:+.1f})"
    rows = listed([text(Name(row.name), words if row is worse[0] else "") for row in worse])
    return text(Name(top.name), " is significantly more accurate than ", rows, ".")


def _by_loss(table: TableResult) -> Text:
    """Return what log loss decides between the most accurate row and those whose accuracy does not differ."""
    top = table.compared[0]
    decided = [row for row in _undecided(table) if table.pair(top, row).loss_significant]
    if not decided:
        return text()
    loss = table.pair(top, decided[0]).loss
    assert loss is not None
    gap = nats(loss)
    # As for accuracy, with the interval of the first only: the table of pairs has all.
    words = f" ({gap.value:+.3f} nats, simultaneous 95 % CI {gap.low:+.3f} to {gap.high:+.3f})"
    rows = listed([text(Name(row.name), words if row is decided[0] else "") for row in decided])
    return text("By log loss, a finer measure, ", Name(top.name), " differs significantly from ", rows, ".")


def _power(table: TableResult) -> Text:
    return text(power_text(table.power)) if table.power else text()


def _power_basis(table: TableResult) -> Text:
    return text(power_basis(table.power)) if table.power else text()


def _sources(table: TableResult) -> Text:
    """Return where the uncertainty between the two most accurate rows comes from, if both have several seeds."""
    sources = table.sources
    if sources is None:
        return text()
    half, images, seeds = (100 * value for value in (sources.half_width, sources.with_images, sources.with_seeds))
    first, second = table.compared[:2]
    shares = [f"{100 * share:.0f} %" for share in (sources.images, sources.seeds, sources.both)]
    return text(
        *("Of the variance of the difference between ", Name(first.name), " and ", Name(second.name)),
        f" over images and seeds, {shares[0]} comes from the test images, {shares[1]} from the seeds and {shares[2]} "
        "from both together; ten times as many images would "
        f"narrow its 95 % CI from ±{half:.1f} to ±{images:.1f} pp, ten times as many seeds to ±{seeds:.1f} pp.",
    )


def _not_compared(table: TableResult) -> Text:
    rows = [row for row in table.scored if row.rank is None]
    # In the order of their names, as they have no place among the ranks.
    rows.sort(key=lambda row: row.name)
    return text("Not compared, because predictions are missing: ", names(rows), ".") if rows else text()


def _speed(table: TableResult) -> Text:
    speed = table.speed
    if speed is None:
        return text()
    fast, slow, runtime = (
        *(Name(table.by_id[row].name) for row in (speed.fast, speed.slow)),
        table.runtime_name(speed.runtime),
    )
    ratio = speed.ratio
    if ratio is not None and ratio.low is not None and ratio.low > 1:
        # A ratio near 1 would read "1.0 x as fast".
        spec = ".1f" if ratio.low >= 1.05 else ".2f"  # noqa: PLR2004 - what rounds to 1.1
        value, low, high = (format(number, spec) for number in (ratio.value, ratio.low, ratio.high or ratio.value))
        return text(f"On {runtime}, ", fast, f" is {value} x as fast as ", slow, f" (95 % CI {low} to {high}).")
    if ratio is not None:
        return text(f"On {runtime}, no significant difference in latency between ", fast, " and ", slow, ".")
    times = [three_digits(median) for median in speed.medians_ms]
    how = "quick run, not validated" if speed.quick else "measured in different sessions"
    return text(f"Batch-1 p50 latency on {runtime}: ", fast, f" {times[0]} ms, ", slow, f" {times[1]} ms ({how}).")


def _minority(table: TableResult) -> Text:
    """Return which rows differ significantly on the test images of minority classes."""
    if table.minority_images is None:
        return text()
    classes = listed([Name(name) for name in table.minority_classes])
    where = text(f"On the {images_text(*table.minority_images)} of minority classes (", classes, ")")
    said = []
    for pair in table.pairs:
        if pair.minority is not None and pair.minority_significant:
            ahead, behind = (pair.first, pair.second) if pair.minority > 0 else (pair.second, pair.first)
            better, worse = (Name(table.by_id[row].name) for row in (ahead, behind))
            said.append(text(better, " is significantly better than ", worse))
    return text(where, ", ", listed(said) if said else "no difference is significant", ".")


def _initialisation(table: TableResult) -> Text:
    kinds = sorted({row.init for row in table.rows})
    if len(kinds) == 1:
        return text()
    return text(
        f"Initialisation differs ({', '.join(kinds)}), so the comparison confounds pre-training with architecture."
    )


def _tuned(table: TableResult) -> Text:
    tuned = [row for row in table.compared if row.kind == "tuned"]
    return text("The training cost of ", names(tuned), " does not include the study.") if tuned else text()


def _no_better_than_majority(table: TableResult) -> Text:
    weak = [row for row in table.compared if row.weak]
    if not weak:
        return text()
    baseline = text("majority-class baseline (", Name(table.majority.class_name), ")")
    return text("Not significantly better than the ", baseline, ": ", names(weak), ".")


def _small(table: TableResult) -> Text:
    small = table.small_classes
    if not small:
        return text()
    if len(small) == sum(count > 0 for count in table.test_counts):
        return text(f"Every class has fewer than {SMALL_CLASS} test images, so intervals of single classes are wide.")
    named = listed([text(Name(name), f" ({count})") for name, count in small])
    return text(f"Classes with fewer than {SMALL_CLASS} test images have wide intervals: ", named, ".")


def _intervals(table: TableResult) -> Text:
    spread = table.seed_spread
    if spread is None:
        return text("Intervals of accuracy are of these checkpoints over test images: no row has several seeds.")
    # At an accuracy that readers can relate to; the component is of logits.
    deviation = 100 * math.sqrt(spread.variance) * 0.9 * 0.1
    prior = f", and a prior in place of {spread.missing} more" if spread.missing else ""
    return text(
        "Intervals of accuracy are of the expected accuracy over test images and seeds. The standard deviation "
        f"between seeds is estimated as {deviation:.1f} pp at 90 %, pooled over the rows ({spread.freedom} degrees of "
        f"freedom{prior})."
    )


def _seeds(table: TableResult) -> Text:
    # The row with the fewest seeds limits what can be concluded on any pair with it.
    counts = sorted({len(row.seeds) for row in table.compared})
    if table.about_models:
        return text(f"Conclusions hold for the models, over {counts[0]} seeds or more.")
    seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    pooled = f", pooled over {table.folds}" if table.folds else ""
    return text(
        f"Conclusions hold for these checkpoints ({seeds} seed{'s' if counts[-1] > 1 else ''} each{pooled}); other "
        "seeds may give another order."
    )


STATEMENTS: Final[Sequence[Callable[[TableResult], Text]]] = (
    _leaks,
    _accuracy,
    _significantly_worse,
    _by_loss,
    _power,
    _not_compared,
    _no_better_than_majority,
    _initialisation,
    _speed,
    _minority,
    _seeds,
    _intervals,
    _sources,
    _tuned,
    _small,
    _power_basis,
)
"""Functions that return a statement about a table with compared rows, or an empty text; the most important first."""
