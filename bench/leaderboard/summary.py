"""What a board shows, in plain words that never say more than its tests do."""

from collections.abc import Sequence

import numpy as np

from bench.comparison.analysis import Findings, accuracy, minority_classes, small_classes
from bench.comparison.speeds import ratio, reference_runtime, shown
from bench.comparison.tables import Entry
from bench.leaderboard.cells import figure
from bench.stats.intervals import percentile, wilson_interval
from bench.stats.power import Power


def paragraph(found: Findings) -> str:
    """Say who is ahead, who cannot be told apart, what that costs in time, and what the comparison mixes up."""
    sentences = [*_who_is_ahead(found), *_left_out(found), *_speed(found), *_minority(found), *_caveats(found)]
    return " ".join(sentence for sentence in sentences if sentence)


def power_line(found: Findings) -> str:
    """Say how small a true difference this test split finds four times in five."""
    return power_text(found.power) if found.power else "One model alone: there is no pair to test."


def power_text(power: Power | None) -> str:
    """Say what a test of one of some pairs finds, for models that disagree as much as these do."""
    assert power is not None
    images = f"With {power.images:,} test image{'s' if power.images > 1 else ''},"
    how = f"(Holm over {power.pairs} pairs)" if power.pairs > 1 else "(one pair)"
    two = "two models" if power.about_models else "two checkpoints"
    if power.difference is None:
        return f"{images} no difference between {two}, however large, would be found four times in five {how}."
    return (
        f"{images} a true difference of {100 * power.difference:.1f} points between {two} that disagree as often as "
        f"these (on {100 * power.disagreement:.0f} % of images) would be found four times in five; a smaller one is "
        f"missed more often {how}."
    )


def scope(found: Findings) -> str:
    """Name what is compared: these checkpoints, or, from five seeds on, these models."""
    return "these models" if found.about_models else "these checkpoints"


def listed(names: Sequence[str]) -> str:
    """Join names as a sentence does."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def points(difference: float, low: float, high: float) -> str:
    """Write a difference of shares with its interval, in points."""
    return f"{100 * difference:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"


def lead_text(found: Findings, behind: Entry, ahead: Entry) -> str:
    """Return by how many points one entry is ahead of another; the interval is not adjusted for the other pairs."""
    paired = found.pair(behind, ahead)
    low, high = 100 * paired.interval.low, 100 * paired.interval.high
    return f"{100 * paired.difference:.1f} points (unadjusted 95 % CI {low:.1f} to {high:.1f})"


def _who_is_ahead(found: Findings) -> list[str]:
    entries = found.compared
    if not entries:
        return ["No predictions are at hand, so nothing can be compared."]
    top, images = entries[0], f"{found.number:,} test image{'s' if found.number > 1 else ''}"
    if len(entries) == 1:
        return [f"{top.name} alone can be judged, on {images}; there is nothing to compare it with."]
    tied = [entry.name for entry in entries[1:] if found.group_of(entry) == 1]
    below = [entry for entry in entries if found.group_of(entry) != 1]
    sentences = [_lead(found, top, tied, images)]
    if below:
        nearest = f" {below[0].name}" if len(below) > 1 else ""
        sentences.append(
            f"Told apart from {top.name} and lower: {listed([entry.name for entry in below])};{nearest} by "
            f"{lead_text(found, below[0], top)}."
        )
    return sentences


def _left_out(found: Findings) -> list[str]:
    scored = [f"{entry.name} ({100 * accuracy(entry).value:.1f} %)" for entry in found.not_compared]
    return [f"Not compared, as predictions are not at hand: {listed(scored)}."] if scored else []


def _lead(found: Findings, top: Entry, tied: list[str], images: str) -> str:
    if not tied:
        compared = "the compared " + scope(found).removeprefix("these ") if found.not_compared else scope(found)
        return f"Of {compared}, {top.name} has the top score, and {images} tell it apart from every other."
    if len(tied) == 1:
        return f"{top.name} and {tied[0]} cannot be told apart by {images}."
    return f"{top.name} has the top score; {listed(tied)} cannot be told apart from it by {images}."


def _speed(found: Findings) -> list[str]:
    """Compare the times of the top score with the fastest that is tied with it, or else with the fastest of all."""
    runtime = reference_runtime(found.board)
    if runtime is None or len(found.compared) < 2:  # noqa: PLR2004 - a pair
        return []
    top = found.compared[0]
    tied = [entry for entry in found.compared[1:] if found.group_of(entry) == 1] or list(found.compared[1:])
    timed = {entry.name: (entry, row[1]) for entry in [top, *tied] if (row := shown(entry, runtime))}
    if top.name not in timed or len(timed) < 2:  # noqa: PLR2004
        return []
    fastest = min(timed, key=lambda name: percentile(timed[name][1].samples_ms, 50))
    other = min((name for name in timed if name != top.name), key=lambda n: percentile(timed[n][1].samples_ms, 50))
    slow, fast = (other, top.name) if fastest == top.name else (top.name, fastest)
    return [_faster(found, timed[fast][0], timed[slow][0], runtime)]


def _faster(found: Findings, fast: Entry, slow: Entry, runtime: str) -> str:
    rows = [row[1] for entry in (fast, slow) if (row := shown(entry, runtime))]
    if rows[0].num_threads != rows[1].num_threads:
        return ""
    threads = rows[0].num_threads or 1
    where = f"in {runtime} on {threads if threads > 1 else 'one'} thread{'s' if threads > 1 else ''}"
    lower = found.group_of(fast) != 1
    price = f"; {fast.name} is lower by {lead_text(found, fast, found.compared[0])}" if lower else ""
    within = ratio(rows[1], rows[0])
    if within is None:
        times = [figure(percentile(row.samples_ms, 50)) for row in rows]
        quick = any(row.protocol == "quick" for row in rows)
        kind = "quick run, not validated" if quick else "measured at different times"
        return f"One picture took {fast.name} {times[0]} ms and {slow.name} {times[1]} ms {where} ({kind}){price}."
    low, high = within.interval.low, within.interval.high
    if low <= 1:
        return f"Which of {fast.name} and {slow.name} is faster {where} was not shown."
    noisy = "; a noisy measurement" if any(row.validity == "noisy" for row in rows) else ""
    sure = f"{within.value:.1f} x ({low:.1f} to {high:.1f}{noisy})"
    return f"{fast.name} is {sure} faster than {slow.name} {where}{price}."


def _minority(found: Findings) -> list[str]:
    """Say whether anybody is ahead on the classes that are under half of the median class."""
    if found.minority is None:
        return []
    comparison, number = found.minority
    classes = listed([found.board.first.dataset.class_names[label] for label in minority_classes(found.board)])
    where = f"On the {number} test image{'s' if number > 1 else ''} of {classes}, under half of the median class,"
    rows, columns = np.nonzero(np.triu(comparison.apart, 1))
    if len(rows) == 0:
        return [f"{where} no two of them can be told apart."]
    said = []
    for first, second in zip(rows.tolist(), columns.tolist(), strict=True):
        ahead, behind = (second, first) if comparison.differences[first, second] > 0 else (first, second)
        said.append(f"{found.compared[ahead].name} ahead of {found.compared[behind].name}")
    return [f"{where} the test finds {listed(said)}."]


def _caveats(found: Findings) -> list[str]:
    if not found.compared:
        return []
    return [_starts(found), _tuned(found), _no_better_than_majority(found), _small(found), _seeds(found)]


def _starts(found: Findings) -> str:
    starts: dict[str, list[str]] = {}
    for entry in found.compared:
        starts.setdefault(entry.init, []).append(entry.name)
    if len(starts) < 2:  # noqa: PLR2004
        return ""
    said = "; ".join(f"{init}: {listed(names)}" for init, names in sorted(starts.items()))
    return f"Their weights start unlike ({said}), so this compares starts as much as architectures."


def _tuned(found: Findings) -> str:
    tuned = [entry.name for entry in found.compared if entry.first.tuning is not None]
    return f"A study's budget besides went into {listed(tuned)}." if tuned else ""


def _no_better_than_majority(found: Findings) -> str:
    always = found.board.majority
    total = found.number
    weak = [
        entry.name
        for entry in found.compared
        if wilson_interval(round(accuracy(entry).least * total), total).low <= always.top1_accuracy
    ]
    return f"{listed(weak)} may be no better than always answering {always.class_name}." if weak else ""


def _small(found: Findings) -> str:
    small = small_classes(found.board)
    if not small:
        return ""
    if len(small) == sum(count > 0 for count in found.board.test_counts):
        return "Every class has under 30 test images, so nothing is shown of single classes but wide intervals."
    named = listed([f"{name} ({count})" for name, count in small])
    return f"Under 30 test images, and so wide intervals, have: {named}."


def _seeds(found: Findings) -> str:
    counts = sorted({len(entry.checkpoints) for entry in found.compared})
    if found.about_models:
        return f"This speaks of these models over {counts[0]} seeds or more."
    several = (
        f"{' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seed{'s' if counts[-1] > 1 else ''} each"
    )
    folds = found.board.first.config.split.folds
    several += f", pooled over {folds} trainings, one a fold" if folds else ""
    return f"This speaks of these checkpoints ({several}): training again with other seeds may order them otherwise."
