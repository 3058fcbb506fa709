"""Advice in words: the model to ship, what faster rows would lose, the cost of limits, the gain of more photos."""

from collections.abc import Sequence

from bench.comparison.decisions.doubling import LearningCurve
from bench.comparison.decisions.limits import Limit, LimitResult
from bench.comparison.decisions.members import AgainstMember
from bench.comparison.decisions.recommend import Candidate, MetLimit, Recommendation
from bench.comparison.measures import MEASURES
from bench.leaderboard.cells import difference_words, measured, p_value, p_words, per_cent
from bench.leaderboard.summary import power_basis, power_text
from bench.render.documents import Text, listed, text, three_digits


def advice(recommendation: Recommendation) -> list[Text]:
    """Return the recommendation in sentences."""
    if recommendation.row is None:
        lines = _nothing(recommendation)
    elif recommendation.weak:
        lines = [_useless(recommendation.row, recommendation)]
    else:
        lines = _answer(recommendation.row, recommendation)
    return [*lines, *_machines(recommendation)]


def _machines(recommendation: Recommendation) -> list[Text]:
    """Return the machine of the latencies, if it is not the only one or not that of the heading."""
    if not recommendation.names_machine:
        return []
    others = ", ".join(recommendation.machines)
    choice = f"; --machine NAME chooses another: {others}" if others else ""
    return [text(f"Latencies are of {recommendation.measured_on}{choice}.")]


def _useless(best: Candidate, recommendation: Recommendation) -> Text:
    """Return why nothing is recommended although rows meet the limits."""
    name, accuracy = recommendation.majority
    baseline = f"the majority-class baseline ({name}, {100 * accuracy:.1f} %)"
    row = text(f"{best.name} would be chosen (top-1 ", per_cent(best.top1), " %)")
    return text("No recommendation: ", row, f", but it is not significantly better than {baseline}.")


def _nothing(recommendation: Recommendation) -> list[Text]:
    lines = [text("No row meets all limits.")]
    for limit, rows in recommendation.excluded:
        excluded = listed([f"{name} ({_limit_words(limit, result)})" for name, result in rows])
        lines.append(text(f"{limit.label} excludes ", excluded, "."))
    return lines + _not_compared(recommendation)


def _not_compared(recommendation: Recommendation) -> list[Text]:
    names = recommendation.not_compared
    return [text("Not considered, because predictions are missing: ", listed(names), ".")] if names else []


def _answer(best: Candidate, recommendation: Recommendation) -> list[Text]:
    lines = [text(f"Ship {best.name}: top-1 ", per_cent(best.top1), f" %, {_timing(best)}.")]
    margin = recommendation.limits.margin
    if margin is None:
        lines.append(text(f"It is the most accurate of {recommendation.fitting} rows within the limits."))
        lines += [
            text(f"Faster: {row.name}, {_timing(row)}: {_gap(row)}, simultaneous.") for row in recommendation.faster
        ]
    else:
        lines += _within(best, recommendation, margin)
    # For each limit: whether the whole interval meets it, and what it costs, as a limit may be stricter than needed.
    for met in recommendation.met:
        if not met.result.sure:
            words = _limit_words(met.limit, met.result)
            lines.append(text(f"{met.limit.label} is met by the estimate, but not by its whole interval: {words}."))
        lines.append(_cost(met))
    lines += [_artifact(recommendation), *_not_compared(recommendation)]
    if recommendation.power is not None:
        lines.append(text(f"{power_text(recommendation.power)} {power_basis(recommendation.power)}"))
    return [line for line in lines if line]


def _gap(row: Candidate) -> str:
    assert row.gap is not None, "only the recommended row has none"
    return difference_words(row.gap)


def _within(best: Candidate, recommendation: Recommendation, margin: float) -> list[Text]:
    """Return why the row is chosen under a margin, or which images it would take to choose a faster one."""
    points, runtime = f"{100 * margin:g} pp", recommendation.limits.runtime
    assert best.bound is not None
    how = f"simultaneous one-sided 95 % bound of the difference {100 * best.bound.low:+.1f} pp (Hsu)"
    near = f"less than {points} below the best row within the limits"
    lines = (
        [text(f"It is the fastest row that is shown to be {near}: {how}.")]
        if recommendation.within
        else [text(f"No row with a p90 on {runtime} is shown to be {near}; this is the most accurate one, {how}.")]
    )
    if recommendation.same and recommendation.within:
        lines.append(text("As fast, because they have the same network: ", listed(recommendation.same), "."))
    return lines + [text(_not_within(row, points)) for row in recommendation.faster]


def _not_within(row: Candidate, points: str) -> str:
    assert row.bound is not None
    more = (
        "its accuracy is lower by more than the margin"
        if row.needed is None
        else f"at the observed difference, about {row.needed:,} test images would be needed to show it"
    )
    bound = f"{100 * row.bound.difference:+.1f} pp (bound {100 * row.bound.low:+.1f})"
    return f"Faster, but not shown to be within {points}: {row.name}, {_timing(row)}, {bound}; {more}."


def _timing(row: Candidate) -> str:
    latency = row.latency
    if latency.p50 is None:
        return "not timed"
    return f"p50 {three_digits(latency.p50.value)} ms on {latency.runtime} ({latency.state})"


def _cost(met: MetLimit) -> Text:
    """Return the recommendation without one limit."""
    if met.without is None:
        return text("" if met.limit.kind == "runtime" else f"{met.limit.label} does not change the recommendation.")
    kind = "significant" if met.without.significant else "no significant difference"
    gap = f"{_gap(met.without)}, simultaneous; {kind} ({p_words(met.without.holm)}, Holm)"
    return text(f"Without {met.limit.label}: {met.without.name}, {gap}.")


def _artifact(recommendation: Recommendation) -> Text:
    file = recommendation.artifact
    assert file is not None
    checked = f" checked on {recommendation.limits.runtime}" if file.usable < file.seeds else ""
    why = f" (seed {file.seed}, the best on val of {file.usable}{checked})" if file.seeds > 1 else ""
    fold = " (the first of several folds; to ship a model, train on all images)" if file.folds > 1 else ""
    return text(f"Artifact: {file.path}{why}{fold}{'' if file.path.exists() else ', not on this machine'}")


def _limit_words(limit: Limit, result: LimitResult) -> str:
    """Return the value of a row that a limit is about, or why it has none."""
    value = result.value
    match limit.kind:
        case "runtime":
            return (
                f"accuracy check: {result.state}"
                if result.fits
                else _WITHHELD.get(result.state, f"{result.state} on this runtime")
            )
        case "latency" if value is not None:
            spread = (
                "quick run, not validated" if value.low is None else f"95 % CI {value.low:.3g} to {value.high:.3g} ms"
            )
            return f"p90 {value.value:.3g} ms ({spread})"
        case "recall" if value is not None:
            score = per_cent(value)
            return f"recall of {limit.subject} {score.value:.1f} % (95 % CI {score.low:.1f} to {score.high:.1f})"
        case "size" if value is not None:
            return f"{value.value / 1e6:.1f} MB"
        case "measure" if value is not None:
            measure = MEASURES[limit.subject]
            return f"{measure.title} {measured(measure, value)} {measure.unit}"
        case _:
            return {
                "latency": "no p90 on this runtime",
                "recall": f"no test image of {limit.subject}",
                "size": "size on this runtime unknown",
            }.get(limit.kind, "no such value")


_WITHHELD = {
    "refused": "refused for its accuracy on this runtime",
    "not checked": "its accuracy on this runtime was not checked",
    "not measured": "no measurement on this runtime",
}


def photos_advice(curve: LearningCurve) -> list[Text]:
    """Return a line for each share of train, and whether the last doubling of train has raised the accuracy."""
    lines = [text(f"{100 * share:.0f} % of train: top-1 ", per_cent(top1), " %") for share, top1 in curve.scores]
    if curve.doubling is None:
        return [*lines, text("Not every share has a score, so nothing can be said about more photos.")]
    gap, p = curve.doubling.estimate, curve.doubling.p_value
    doubling = f"From half of train to all of it: {difference_words(gap)}, {p_words(p)}"
    if not curve.doubling.significant:
        least = f" {power_text(curve.power)}" if curve.power else ""
        return [*lines, text(f"{doubling}: no evidence that more photos would help.{least}")]
    verdict = "more photos are likely to help" if gap.value > 0 else "more photos have not helped"
    return [*lines, text(f"{doubling}: {verdict}.")]


def members_advice(ensembles: Sequence[AgainstMember]) -> list[Text]:
    """Return a sentence for each ensemble: its accuracy against that of its best member."""
    lines = []
    for ensemble in ensembles:
        kind = "significant" if ensemble.difference.significant else "no significant difference"
        words = difference_words(ensemble.difference.estimate)
        start = f"{ensemble.name} against its best member, {ensemble.member}: {words}; p "
        why = f": {kind}. The member was chosen by its accuracy on test."
        lines.append(text(start, p_value(ensemble.difference.p_value), why))
    return lines
