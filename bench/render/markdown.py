"""Documents as GitHub Flavored Markdown."""

import re
from collections.abc import Sequence

from bench.render.documents import Block, Bullets, Command, Link, Name, Paragraph, Part, Picture, Section, Table, Text
from bench.render.escaping import visible


def markdown(blocks: Sequence[Block]) -> str:
    """Return a whole document, which ends with a line break."""
    return visible("\n\n".join(map(_block, blocks))) + "\n"


def _block(block: Block) -> str:
    match block:
        case Table():
            return _table(block)
        case Paragraph():
            return inline(block.text)
        case Bullets():
            return "\n".join(f"- {inline(item)}" for item in block.items)
        case Command():
            return f"    {block.line}"
        case Picture():
            return f"![{block.title}]({block.path})"
        case Section():
            return "\n\n".join([*_opened(block), *map(_block, block.blocks), *(["</details>"] if block.folded else [])])


def _opened(section: Section) -> list[str]:
    title = inline(section.title)
    # Without the empty line after it, GitHub would show a table as text.
    return [f"<details><summary>{title}</summary>" if section.folded else f"{'#' * section.level} {title}"]


def _table(table: Table) -> str:
    marks = ["---" if column.left else "--:" for column in table.columns]
    lines = [[inline(column.title) for column in table.columns], marks, *(map(inline, row) for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def inline(words: Text) -> str:
    """Return a text with its names as code spans."""
    return "".join(map(_part, words.parts))


def _part(part: Part) -> str:
    match part:
        case Name():
            return _code(part.text)
        case Link():
            label = _code(part.label.text) if isinstance(part.label, Name) else part.label
            return f"[{label}]({part.target})"
        case _:
            return str(part)


def _code(name: str) -> str:
    """Return a name as a code span, in which nothing is markup.

    Only a pipe needs a backslash: it ends the cell of a table even within a code span (GitHub Flavored Markdown, 4.10).
    """
    # A line break would end the table, and an empty span is shown as two backticks.
    plain = re.sub(r"\s", " ", name) or " "
    fence = "`" * (max(map(len, re.findall("`+", plain)), default=0) + 1)
    space = " " if plain[0] in "` " or plain[-1] in "` " else ""
    return f"{fence}{space}{plain.replace('|', chr(92) + '|')}{space}{fence}"
