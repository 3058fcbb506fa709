"""Documents on a terminal: tables by rich, and everything else as lines of text."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table as Grid
from rich.text import Text as Styled

from bench.render.documents import Block, Bullets, Command, Paragraph, Picture, Section, Table
from bench.render.escaping import visible


def terminal(blocks: Sequence[Block], *, folding: Sequence[int] | None = None) -> Iterator[RenderableType]:
    """Return what to print, in order; names may contain square brackets, so it must be printed without markup.

    ``folding`` are the columns of tables that are broken where the width does not suffice; None: those that are
    aligned left.
    """
    for block in blocks:
        match block:
            case Table():
                yield _grid(block, folding)
            case Paragraph():
                yield str(block.text)
            case Bullets():
                yield from map(str, block.items)
            case Command():
                yield block.line
            case Section():
                yield str(block.title)
                yield from terminal(block.blocks, folding=folding)
            case Picture():
                pass


def _grid(table: Table, folding: Sequence[int] | None) -> Grid:
    # Without vertical lines, the names of the default models and of most settings fit into 80 columns unbroken.
    grid = Grid(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, column in enumerate(table.columns):
        folds = column.left if folding is None else index in folding
        # As text and not as a string, in which square brackets would be markup.
        title = Styled(str(column.title))
        grid.add_column(title, justify="left" if column.left else "right", overflow="fold", no_wrap=not folds)
    for row in table.rows:
        grid.add_row(*(Styled(visible(str(cell))) for cell in row))
    return grid
