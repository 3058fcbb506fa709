"""The page of a race: what was tried, why candidates left, the charts, and the table of the finalists."""

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Final

from bench.comparison.results.values import TableResult
from bench.leaderboard.page import main_table
from bench.leaderboard.selection import selections
from bench.records.paths import Paths
from bench.render.documents import (
    NO_VALUE,
    Block,
    Command,
    Name,
    Number,
    Paragraph,
    Picture,
    Section,
    Text,
    Words,
    bullets,
    table,
    text,
)
from bench.render.html import html
from bench.render.markdown import markdown
from bench.selection.pages.charts import pareto_chart, race_chart
from bench.selection.records import Entrant, RaceRecord
from imgcls.files import write_text

WORSE: Final = """A candidate that is significantly worse than another one after a round of training leaves: exact tests
  on the same val images, Holm over all pairs of the round, at a level of 0.05 divided over these rounds. It is a
  statement about that round's form of the model, not about its full training."""

BUDGET: Final = """Others leave by budget, from the least accurate on, where there is no time for them in the next
  round; nothing is claimed about them but the probability above."""

FEATURES: Final = "Rounds of frozen features order candidates, and exclude none by a test."

TEST: Final = (
    "The test split was first read for the finalists. Scores on val are those of the epoch that is best so far."
)

RULES: Final = (WORSE, BUDGET, FEATURES, TEST)

STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--line:#d5dae1;--soft:#5a6470}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ee;--paper:#14181d;--line:#39414b;--soft:#a3adb8}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:76rem;margin:0 auto;
padding:1rem}
h1{font-size:1.5rem;overflow-wrap:anywhere}h2{font-size:1.15rem;margin-top:1.8rem}
.wide,.chart{overflow-x:auto}.chart svg{max-width:100%;height:auto;min-width:34rem}
table{border-collapse:collapse;font-size:.9rem}th,td{padding:.25rem .6rem;border-bottom:1px solid var(--line);
text-align:left;white-space:nowrap}.number{text-align:right}th{color:var(--soft);font-weight:600}
pre{overflow-x:auto;border:1px solid var(--line);padding:.6rem}code{font-size:.92em}
"""


def write(record: RaceRecord, result: TableResult, results: Path) -> Path:
    """Write the page of a race as Markdown and HTML, and its charts; return the HTML file."""
    folder, name = Paths(results=results).selections, record.selection.name
    charts = charts_of(record)
    for kind, drawn in charts.items():
        write_text(drawn, folder / f"{name}-{kind}.svg")
    write_text(markdown(document(record, result)), folder / f"{name}.md")
    page = folder / f"{name}.html"
    write_text(_page(record, result, charts), page)
    return page


def charts_of(record: RaceRecord) -> dict[str, str]:
    """Return the charts of a race by kind."""
    pareto = pareto_chart(record)
    return {"race": race_chart(record)} | ({} if pareto is None else {"latency": pareto})


def document(record: RaceRecord, result: TableResult) -> list[Block]:
    """Return the whole document, with its charts as pictures in files beside it."""
    name = record.selection.name
    pictures = {kind: Picture(CHARTS[kind], f"{name}-{kind}.svg") for kind in charts_of(record)}
    return list(_parts(record, result, pictures))


CHARTS: Final = {"race": "Accuracy over minutes", "latency": "Accuracy over latency"}
"""Titles of the charts."""


def _parts(record: RaceRecord, result: TableResult, pictures: dict[str, Picture]) -> Iterator[Block]:
    yield Section(text("Selection ", Name(record.selection.name)), (), level=1)
    yield from bullets([*_facts(record), *_sentences(record, result)])
    yield Section(text("Finalists"), tuple(main_table(result)))
    for kind, picture in pictures.items():
        yield Section(text(CHARTS[kind]), (picture, *NOTES[kind]))
    yield Section(text("Candidates"), tuple(_candidates(record)))
    yield Section(text("Rounds"), tuple(_rounds(record)))
    yield Section(text("Rules"), tuple(bullets(RULES)))
    yield Section(text("Command"), (Command(record.command),))


NOTES: Final[dict[str, tuple[Block, ...]]] = {
    "race": (Paragraph(text("A line ends where its candidate left. Minutes are on a logarithmic scale.")),),
    "latency": (
        Paragraph(
            text(
                "Hollow marks are of candidates that left before the last round: their accuracy is of an earlier form, "
                "and not comparable. The dashed front is of those that finished it."
            )
        ),
    ),
}


def _facts(record: RaceRecord) -> list[Text]:
    code = (record.git_commit or "unknown")[:8]
    return [
        text("Data: ", Name(record.dataset), f"; recipe {record.recipe}; machine {record.machine}; code {code}."),
        text(
            f"{record.selection.minutes:g} minutes were given. From the last round to the table, further seeds, "
            f"evaluation, export and measuring took {record.finals_s / 60:.1f} min."
        ),
    ]


def _sentences(record: RaceRecord, result: TableResult) -> list[Text]:
    # The table may have rows of other races.
    own = [race for race in result.selections if race.name == record.selection.name]
    return selections(result, own)


def _candidates(record: RaceRecord) -> list[Block]:
    rounds = record.selection.rounds
    titles = ["Candidate", "px", "Params (M)", "GMACs", "p90 ms"]
    titles += [f"Val %, round {number}" for number in range(1, len(rounds) + 1)] + ["Minutes", "Left"]
    ordered = sorted(record.entrants, key=lambda entrant: (-len(entrant.scores), *_by_accuracy(entrant)))
    return table(titles, [_candidate(entrant, len(rounds)) for entrant in ordered], keep=2)


def _by_accuracy(entrant: Entrant) -> tuple[float, str]:
    return (-entrant.last.val_top1_accuracy if entrant.last else 0.0), entrant.name


def _candidate(entrant: Entrant, rounds: int) -> list[Words]:
    latency = entrant.latency
    scores = [entrant.scored(index) for index in range(rounds)]
    return [
        Name(entrant.model),
        Number(entrant.image_size, spec=".0f"),
        Number(entrant.num_params / 1e6, spec=".2f") if entrant.num_params else NO_VALUE,
        Number(entrant.gmacs, spec=".3f") if entrant.gmacs else NO_VALUE,
        Number(latency.value, latency.low, latency.high) if latency else NO_VALUE,
        *(Number(100 * score.val_top1_accuracy, spec=".1f") if score else NO_VALUE for score in scores),
        Number(sum(score.seconds for score in entrant.scores) / 60, spec=".1f") if entrant.scores else NO_VALUE,
        _left(entrant),
    ]


def _left(entrant: Entrant) -> Text:
    if entrant.left is None:
        return text("finalist")
    reason = (
        entrant.left.reason if entrant.left.reason in {"failed", "significantly worse"} else f"by {entrant.left.reason}"
    )
    after = "" if entrant.left.round is None else f", round {entrant.left.round + 1}"
    return text(f"{reason}{after}", *((": ", Name(entrant.left.text)) if entrant.left.reason == "failed" else ()))


def _rounds(record: RaceRecord) -> list[Block]:
    titles = ("Round", "Candidates", "Significantly worse", "By budget", "Failed", "Level of the tests", "Minutes")
    rows: list[list[Words]] = [
        [
            f"{number}: {part.name}",
            Number(part.candidates, spec=".0f"),
            Number(part.worse, spec=".0f"),
            Number(part.by_budget, spec=".0f"),
            Number(part.failed, spec=".0f"),
            Number(part.level, spec=".4f") if part.level else text("no test"),
            Number(part.seconds / 60, spec=".1f"),
        ]
        for number, part in enumerate(record.selection.rounds, start=1)
    ]
    return table(titles, rows, keep=len(titles))


def _page(record: RaceRecord, result: TableResult, charts: dict[str, str]) -> str:
    """Return the document as one HTML file that loads nothing, with its charts in it."""
    # The charts replace the elements of their files, so that they follow the page's light or dark scheme.
    body = html(document(record, result))
    for kind, drawn in charts.items():
        shown = html([Picture(CHARTS[kind], f"{record.selection.name}-{kind}.svg")])
        assert shown in body
        body = body.replace(shown, f'<div class="chart">{drawn}</div>')
    title = escape(f"Selection {record.selection.name}")
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'
