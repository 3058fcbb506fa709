"""Names with control characters and formulas, in every form of output."""

import csv
import io
import logging
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from bench.cli.display import Display, SafeConsole
from bench.render.documents import Bullets, Name, Paragraph, Table, bullets, text
from bench.render.documents import table as table_of
from bench.render.escaping import cell, visible
from bench.render.html import html
from bench.render.markdown import markdown
from bench.render.spreadsheet import csv_text
from bench.render.svg import chart
from bench.render.terminal import terminal

HOSTILE = "\x1b[2J\x07cat\u202egod\x9b1m\udcfc"
ESCAPED = "\\x1b[2J\\x07cat\\u202egod\\x9b1m\\udcfc"


def controls(shown: str) -> list[str]:
    return [letter for letter in shown if unicodedata.category(letter) == "Cc" and letter not in "\n\t"]


@given(st.text())
def test_visible_text_has_no_controls_and_stays(words: str) -> None:
    shown = visible(words)
    assert controls(shown) == []
    assert visible(shown) == shown
    if controls(words) == [] and not {*words} & {*"\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}:
        assert shown == words


@given(st.text() | st.integers() | st.floats())
def test_no_cell_is_a_formula(value: object) -> None:
    made = cell(value)
    if isinstance(value, str):
        assert isinstance(made, str)
        assert not made.startswith(("=", "+", "-", "@", "\t"))
        assert made.removeprefix("'") == visible(value) or made == visible(value)
    else:
        assert made is value


def test_csv_of_strange_names() -> None:
    written = csv_text([{"model": "=HYPERLINK(1)", "top1": -0.5, "@column": HOSTILE}])
    header, row = csv.reader(io.StringIO(written))
    assert header == ["model", "top1", "'@column"]
    assert row == ["'=HYPERLINK(1)", "-0.5", ESCAPED]


def test_documents_show_controls() -> None:
    blocks = [
        Paragraph(text("The class ", Name(HOSTILE))),
        *bullets([Name(HOSTILE)]),
        *table_of(["A"], [[Name(HOSTILE)]]),
    ]
    for render in (markdown, html):
        shown = render(blocks)
        assert controls(shown) == []
        assert shown.count(ESCAPED) == 3
    assert {type(block) for block in blocks} == {Paragraph, Bullets, Table}


def test_terminal_shows_controls() -> None:
    file = io.StringIO()
    console = SafeConsole(file=file, force_terminal=True, width=80, color_system=None)
    for part in terminal([Paragraph(text(Name(HOSTILE))), *table_of(["A"], [[Name(HOSTILE)]])]):
        console.print(part, markup=False)
    # Outside tables rich itself drops the bell.
    assert file.getvalue().count("\\x1b[2J") == 2
    assert file.getvalue().count(ESCAPED) == 1
    assert controls(file.getvalue()) == []


def test_log_lines_show_controls() -> None:
    file = io.StringIO()
    handler = Display(SafeConsole(file=file))
    handler.emit(logging.LogRecord("bench", logging.WARNING, "", 0, "skipped %s", (HOSTILE,), None))
    assert file.getvalue() == f"WARNING: skipped {ESCAPED}\n"


def test_charts_show_controls() -> None:
    shown = chart(HOSTILE, [])
    assert controls(shown) == []
    assert ESCAPED in shown
