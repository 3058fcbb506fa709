"""Documents: text with names and numbers, tables, lists and sections. Plain values, which the renderers read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

NAMES_LISTED: Final = 5
"""Names that a sentence lists; of the others it states the number."""


@dataclass(frozen=True, slots=True)
class Name:
    """A name of a model, class, file or column, or the message of an error: it may contain any character."""

    text: str

    def __str__(self) -> str:
        """Return the name without quotes."""
        return self.text


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a file, relative to the document."""

    label: Name | str
    target: str

    def __str__(self) -> str:
        """Return what is linked, for renderers without links."""
        return str(self.label)


@dataclass(frozen=True, slots=True)
class Number:
    """A number in the unit that is shown, with its 95 % interval if it has one.

    ``spec`` is a format specification, such as ``.1f``; empty: as ``three_digits`` writes it. Tables are sorted by
    the numbers of their cells, so that a number is never read back from text.
    """

    value: float
    low: float | None = None
    high: float | None = None
    spec: str = ""

    def __str__(self) -> str:
        """Return the number, followed by its interval in brackets."""
        interval = "" if self.low is None else f" ({self._text(self.low)} to {self._text(self.high)})"
        return self._text(self.value) + interval

    def _text(self, value: float | None) -> str:
        assert value is not None, "both ends of an interval, or none"
        return format(value, self.spec) if self.spec else three_digits(value)


def three_digits(value: float) -> str:
    """Return a number of at least 0 with three significant digits; with two below 1, and whole above 100."""
    return f"{value:.{max(0, 2 - int(math.log10(max(value, 0.01)) + 1e-9))}f}"


Part = str | Name | Link | Number


@dataclass(frozen=True, slots=True)
class Text:
    """A sentence or the content of a cell; made by ``text``."""

    parts: tuple[Part, ...] = ()

    def __str__(self) -> str:
        """Return the text with names unquoted, as a terminal shows it."""
        return "".join(map(str, self.parts))

    def __bool__(self) -> bool:
        """Return whether there is any text."""
        return bool(self.parts)

    @property
    def value(self) -> float | None:
        """The first number, by which a table is sorted; None without one."""
        return next((part.value for part in self.parts if isinstance(part, Number)), None)


Words = Part | Text
"""What may be put together to a text."""


def text(*words: Words) -> Text:
    """Join words, names, numbers and other texts; empty strings are omitted."""
    parts: list[Part] = []
    # A loop, as a table of a hundred rows calls this ten thousand times; the parts of a text are not empty.
    for word in words:
        if isinstance(word, Text):
            parts += word.parts
        elif word != "":
            parts.append(word)
    return Text(tuple(parts))


def joined(words: Sequence[Words], separator: str = ", ") -> Text:
    """Join texts with a separator."""
    return text(*(part for index, word in enumerate(words) for part in ((separator, word) if index else (word,))))


def listed(words: Sequence[Words]) -> Text:
    """Join names for a sentence; of more than five, the first five and the number of the others."""
    if len(words) > NAMES_LISTED:
        return text(joined(words[:NAMES_LISTED]), f" and {len(words) - NAMES_LISTED} more")
    if len(words) < 2:  # noqa: PLR2004 - "and" joins two
        return text(*words)
    return text(joined(words[:-1]), " and ", words[-1])


NO_VALUE: Final = Text(("-",))
"""The content of a cell without a value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """The title of a column, and whether it is aligned left, as words are, or right, as numbers are."""

    title: Text
    left: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows of cells, one for each column; made by ``table``."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Text, ...], ...]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A text of its own."""

    text: Text


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of sentences."""

    items: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A command line, to be copied."""

    line: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture in a file beside the document."""

    title: str
    path: str


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a document with a title; ``folded`` sections are opened by the reader."""

    title: Text
    blocks: "tuple[Block, ...]"
    level: int = 2
    folded: bool = False


Block = Table | Paragraph | Bullets | Command | Picture | Section


def table(titles: Sequence[Words], rows: Sequence[Sequence[Words]], *, left: int = 1, keep: int = 1) -> list[Block]:
    """Return a table as the only block, or no block without rows.

    The first ``left`` columns are aligned left, the others right. Columns without a value in any row are omitted,
    except the first ``keep``.
    """
    if not rows:
        return []
    cells = [[text(cell) for cell in row] for row in rows]
    indices = [i for i in range(len(titles)) if i < keep or any(row[i] != NO_VALUE for row in cells)]
    columns = tuple(Column(title=text(titles[index]), left=index < left) for index in indices)
    return [Table(columns=columns, rows=tuple(tuple(row[index] for index in indices) for row in cells))]


def bullets(items: Sequence[Words]) -> list[Block]:
    """Return a list of sentences as the only block, or no block without any; empty sentences are omitted."""
    sentences = tuple(sentence for sentence in map(text, items) if sentence)
    return [Bullets(sentences)] if sentences else []
