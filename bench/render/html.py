"""Documents as HTML, for the page; the cells of tables carry the numbers by which the page sorts them."""

from collections.abc import Sequence
from html import escape

from bench.render.documents import Block, Bullets, Command, Link, Name, Paragraph, Part, Picture, Section, Table, Text
from bench.render.escaping import visible


def html(blocks: Sequence[Block]) -> str:
    """Return blocks as elements."""
    return visible("\n".join(map(_block, blocks)))


def _block(block: Block) -> str:
    match block:
        case Table():
            return _table(block)
        case Paragraph():
            return f"<p>{inline(block.text)}</p>"
        case Bullets():
            return f"<ul>{''.join(f'<li>{inline(item)}</li>' for item in block.items)}</ul>"
        case Command():
            return f"<pre>{escape(block.line)}</pre>"
        case Picture():
            return f'<img src="{escape(block.path)}" alt="{escape(block.title)}">'
        case Section():
            start = f"<details><summary>{inline(block.title)}</summary>"
            return f"{start}{html(block.blocks)}</details>" if block.folded else _unfolded(block)


def _unfolded(section: Section) -> str:
    return f"<h{section.level}>{inline(section.title)}</h{section.level}>{html(section.blocks)}"


def _table(table: Table) -> str:
    sides = ["" if column.left else ' class="number"' for column in table.columns]
    head = "".join(f"<th{side}>{inline(column.title)}</th>" for side, column in zip(sides, table.columns, strict=True))
    body = "".join(
        f"<tr>{''.join(_cell(cell, side) for cell, side in zip(row, sides, strict=True))}</tr>" for row in table.rows
    )
    # Wide tables scroll by themselves, so that a narrow screen does not scroll the whole page.
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(cell: Text, side: str) -> str:
    value = "" if cell.value is None else f' data-value="{cell.value!r}"'
    return f"<td{side}{value}>{inline(cell)}</td>"


def inline(words: Text) -> str:
    """Return a text with its names as code; no name becomes markup."""
    return "".join(map(_part, words.parts))


def _part(part: Part) -> str:
    match part:
        case Name():
            return f"<code>{escape(part.text)}</code>"
        case Link():
            label = f"<code>{escape(part.label.text)}</code>" if isinstance(part.label, Name) else escape(part.label)
            return f'<a href="{escape(part.target)}">{label}</a>'
        case _:
            return escape(str(part))
