"""Names that a stranger may have given to files, classes and models, made harmless for terminals and spreadsheets."""

from typing import Final

_CONTROLS: Final = {code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}

_BIDIRECTIONAL: Final = {0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
"""Marks that reorder the text after them (Unicode Standard Annex 9)."""

_UNDECODED: Final = range(0xDC80, 0xDD00)
"""What Python reads for bytes of a file's name that are not UTF-8 (PEP 383); no encoding can write it."""

_VISIBLE: Final = {code: f"\\x{code:02x}" for code in _CONTROLS} | {
    code: f"\\u{code:04x}" for code in (*_BIDIRECTIONAL, *_UNDECODED)
}

FORMULA: Final = ("=", "+", "-", "@")
"""Beginnings of cells that spreadsheets compute instead of showing (OWASP, "CSV Injection")."""


def visible(text: str) -> str:
    r"""Return text in which control characters, such as those of escape sequences, are written as ``\x1b``.

    So are bytes of names that are not UTF-8, as ``\udcfc``.
    """
    return text.translate(_VISIBLE)


def cell(value: object) -> object:
    """Return a value for a spreadsheet; text that would be a formula begins with an apostrophe."""
    # Nearly all cells; a CSV of a hundred runs has ten thousand.
    if not isinstance(value, str) or (value.isprintable() and not value.startswith(FORMULA)):
        return value
    text = visible(value)
    return f"'{text}" if text.startswith((*FORMULA, "\t")) else text
