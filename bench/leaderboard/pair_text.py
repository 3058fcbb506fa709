"""The comparison of two rows or runs as tables and lines."""

from bench.comparison.decisions.compare import Difference, PairComparison, Test
from bench.leaderboard.cells import difference_words, nats, p_value, p_words, per_cent
from bench.leaderboard.summary import images_text, power_basis, power_text
from bench.recipes import budget_text
from bench.render.documents import NO_VALUE, Block, Number, Paragraph, Words, bullets, table, text


def pair_document(pair: PairComparison) -> list[Block]:
    """Return the comparison as a document."""
    images = images_text(pair.images, pair.groups)
    title = f"{pair.row.name} against {pair.against.name}: {pair.dataset}, {images}"
    lines = [*_tests(pair), *_times(pair), _minority(pair)]
    return [Paragraph(text(title)), *_scores(pair), *_fourfold(pair), *_classes(pair), *bullets(lines)]


def _scores(pair: PairComparison) -> list[Block]:
    sides = (pair.against, pair.row)
    rows: list[list[Words]] = [
        ["Top-1 % (95 % CI)", *(per_cent(side.top1) for side in sides)],
        ["Macro-F1 % (95 % CI)", *(per_cent(side.macro_f1) for side in sides)],
        ["Init", *(side.init for side in sides)],
        ["Recipe", *(side.recipe for side in sides)],
        ["Budget", *(budget_text(side.budget) for side in sides)],
    ]
    return table(["", *(side.name for side in sides)], rows, left=3)


def _fourfold(pair: PairComparison) -> list[Block]:
    if pair.fourfold is None:
        return []
    both, only_against, only_row, none = (Number(count, spec="d") for count in pair.fourfold)
    titles = ["Images", f"{pair.row.name} right", f"{pair.row.name} wrong"]
    rows: list[list[Words]] = [
        [f"{pair.against.name} right", both, only_against],
        [f"{pair.against.name} wrong", only_row, none],
    ]
    return table(titles, rows)


def _classes(pair: PairComparison) -> list[Block]:
    sides = (pair.against, pair.row)
    rows: list[list[Words]] = [
        [
            class_name,
            Number(pair.test_counts[label], spec="d"),
            *(NO_VALUE if (recall := side.recalls[label]) is None else per_cent(recall) for side in sides),
        ]
        for label, class_name in enumerate(pair.class_names)
    ]
    return table(["Recall % (95 % CI)", "Images", *(side.name for side in sides)], rows, keep=4)


def _tests(pair: PairComparison) -> list[Words]:
    kind = "a significant difference" if pair.accuracy.significant else "no significant difference"
    what = "models" if pair.test == "over seeds" else "checkpoints"
    lines: list[Words] = [
        text("Accuracy: ", _difference(pair.accuracy, pair.test), f": {kind} between these {what}."),
        "The test is not adjusted for other pairs; the leaderboard adjusts for all pairs of its table (Holm).",
    ]
    if pair.loss is not None:
        gap, p = nats(pair.loss[0]), pair.loss[1]
        interval = f"95 % CI {gap.low:+.3f} to {gap.high:+.3f}"
        decided = "a significant difference" if pair.loss_significant else "no significant difference"
        lines.append(f"Log loss: {gap.value:+.3f} nats ({interval}); {p_words(p)}: {decided}.")
    if pair.power is not None:
        lines += [power_text(pair.power), power_basis(pair.power)]
    if pair.row.init != pair.against.init:
        lines.append("Initialisation differs, so the comparison confounds pre-training with architecture.")
    if not pair.same_table:
        lines.append("The rows are from two tables, so the comparison confounds budget, image size or machine, too.")
    return lines


def _difference(difference: Difference, test: Test) -> Words:
    """Return a difference and its p value with the name of the test."""
    p, gap = p_value(difference.p_value), difference_words(difference.estimate)
    if test == "over seeds":
        return text(gap, "; p ", p, " (Welch's t over seeds and images)")
    kind = "exact p" if test == "exact" else "p (numbers of seeds differ)"
    return text(gap, f"; {kind} ", p, ", mid-p ", p_value(difference.mid_p))


def _times(pair: PairComparison) -> list[Words]:
    if pair.same_network:
        return ["Both have the same network, whose latency does not depend on the weights."]
    return [
        f"{runtime}: not measured in one session; python -m bench measure measures them together"
        if ratio is None
        else f"{runtime}: {pair.row.name} takes {ratio.value:.3f} x the time of {pair.against.name} "
        f"(95 % CI {ratio.low:.3f} to {ratio.high:.3f}, within rounds)"
        for runtime, ratio in pair.times
    ]


def _minority(pair: PairComparison) -> Words:
    if not pair.minority_classes:
        return "No minority class: every class has at least half of the median class's train images."
    classes = ", ".join(pair.minority_classes)
    if pair.minority is None:
        return f"Minority classes ({classes}): no test images."
    images = f"Minority classes ({classes}; {pair.minority_images} images): "
    return text(images, _difference(pair.minority, pair.test))
