"""Documents and their renderers: names are quoted there and nowhere else, numbers keep their values."""

import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench.render.documents import (
    NO_VALUE,
    Bullets,
    Command,
    Link,
    Name,
    Number,
    Paragraph,
    Picture,
    Section,
    Table,
    bullets,
    joined,
    listed,
    table,
    text,
)
from bench.render.html import html
from bench.render.markdown import inline, markdown
from bench.render.svg import Bar, chart
from bench.render.terminal import terminal
from tests.helpers.markdown import rendered_tables

ANY_NAME = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=12)


class Cells(HTMLParser):
    """Collects the text and the value of each cell of a table."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.cells: list[tuple[str, str | None]] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag in {"td", "th"}:
            self.cells.append(("", dict(attrs).get("data-value")))

    def handle_data(self, data: str) -> None:
        if self.cells:
            content, value = self.cells[-1]
            self.cells[-1] = content + data, value


@given(name=ANY_NAME)
def test_a_name_is_a_name_in_every_renderer(name: str) -> None:
    (block,) = table(["Row", "Value"], [[Name(name), Number(1.0)]])
    rendered = rendered_tables(markdown([block]))[0][1][0]
    # Markdown has no way to write leading and trailing spaces of other kinds in code.
    assert rendered.strip() == re.sub(r"\s", " ", name).strip()
    page = Cells(html([block]))
    assert page.cells[2][0] == name
    assert page.tags <= {"div", "table", "thead", "tbody", "tr", "th", "td", "code"}
    console = Console(file=io.StringIO(), width=200)
    for part in terminal([block]):
        console.print(part, markup=False)


def test_square_brackets_are_no_markup_on_a_terminal() -> None:
    out = io.StringIO()
    blocks = [*table(["[bold]Row"], [[Name("[red]x[/red]")]]), Paragraph(text("see [link]", Name("[b]")))]
    for part in terminal(blocks):
        Console(file=out, width=80).print(part, markup=False)
    assert all(name in out.getvalue() for name in ("[bold]Row", "[red]x[/red]", "see [link][b]"))


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (Number(90.46, 85.04, 95.0, ".1f"), "90.5 (85.0 to 95.0)"),
        (Number(1.5, -0.25, 3, "+.1f"), "+1.5 (-0.2 to +3.0)"),
        (Number(0.1234), "0.12"),
        (Number(12.34), "12.3"),
        (Number(1234.5), "1234"),
        (Number(7, spec="d"), "7"),
    ],
)
def test_number_as_text(number: Number, shown: str) -> None:
    assert str(number) == shown


def test_cells_carry_the_values_by_which_they_are_sorted() -> None:
    blocks = table(["Row", "Share"], [["a", text(Number(9.5, spec=".1f"), " %")], ["b", NO_VALUE]])
    assert [value for _, value in Cells(html(blocks)).cells] == [None, None, None, "9.5", None, None]


def test_columns_without_a_value_are_omitted_except_the_first() -> None:
    blocks = table(["Row", "Kept", "Empty", "Full"], [["a", NO_VALUE, NO_VALUE, "1"]], left=2, keep=2)
    assert isinstance(blocks[0], Table)
    assert [str(column.title) for column in blocks[0].columns] == ["Row", "Kept", "Full"]
    assert [column.left for column in blocks[0].columns] == [True, True, False]
    assert table(["Row"], []) == []


def test_sentences_list_names() -> None:
    names = [Name(letter) for letter in "abcdefg"]
    assert inline(listed(names[:1])) == "`a`"
    assert inline(listed(names[:3])) == "`a`, `b` and `c`"
    assert inline(listed(names)) == "`a`, `b`, `c`, `d`, `e` and 2 more"
    assert not listed([])
    assert str(joined(names[:3], "; ")) == "a; b; c"


def test_a_document_is_the_same_in_all_parts() -> None:
    parts = (Bullets((text("one"), text("two"))), Command("python -m x"), Picture("a plot", "x.png"))
    document = [Section(text("Title ", Name("n")), (Section(text("Folded"), parts, folded=True),), level=1)]
    assert markdown(document) == (
        "# Title `n`\n\n<details><summary>Folded</summary>\n\n- one\n- two\n\n    python -m x\n\n![a plot](x.png)\n\n"
        "</details>\n"
    )
    assert html(document) == (
        "<h1>Title <code>n</code></h1><details><summary>Folded</summary><ul><li>one</li><li>two</li></ul>\n"
        '<pre>python -m x</pre>\n<img src="x.png" alt="a plot"></details>'
    )
    assert list(terminal(document)) == ["Title n", "Folded", "one", "two", "python -m x"]
    assert bullets(["", text()]) == []


def test_a_link_is_quoted_in_both() -> None:
    words = text("see ", Link(Name("a|b"), "x/y.md"))
    assert inline(words) == "see [`a\\|b`](x/y.md)"
    assert html([Paragraph(words)]) == '<p>see <a href="x/y.md"><code>a|b</code></a></p>'


def test_picture_is_valid_and_keeps_names_as_text() -> None:
    bars = [
        Bar(rank="1", name="<b>&", score=Number(90.0, 80.0, 95.0, ".1f"), colour="#000", mark="tuned"),
        Bar(rank="2", name="b", score=Number(41.0, spec=".1f"), colour="#111", mark="default"),
    ]
    root = ET.fromstring(chart("a < b", bars))  # noqa: S314 - made here
    names = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "<b>&" in names
    assert "90.0 (80.0 to 95.0)" in names
    assert "40" in names
    assert "30" not in names
