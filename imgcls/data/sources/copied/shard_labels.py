"""Labels of the images in shards, from the texts beside them, and the table that they are written into."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_from_bytes

from imgcls.data.sources.file_names import ESCAPED, escape
from imgcls.data.sources.table import REQUIRED, SPLIT
from imgcls.errors import DataError
from imgcls.files import write_aside

LABEL_ENDINGS: Final = ("cls", "json", "txt")
"""Endings of labels; the first that an image has is used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """The label of an image, and its other values by name."""

    text: str
    values: Mapping[str, str]


def label_of(texts: Mapping[str, str], key: str, shard: str) -> Label | None:
    """Return the label in the texts of a key, by their ending, or None; raises DataError if JSON cannot be used."""
    described = _described(texts["json"], key, shard) if "json" in texts else {}
    values: dict[str, str] = {}
    for name, value in described.items():
        if isinstance(value, str | int | float) and name.strip():
            values.setdefault(name.strip().lower(), str(value))  # as the columns of a table
    if "label" in described and type(described["label"]) not in {str, int}:
        message = f'{shard}: the "label" of {escape(key)}.json is {described["label"]!r:.60}; use a text or a number'
        raise DataError(message)
    for text in (texts.get("cls"), values.get("label"), texts.get("txt")):
        if text is not None:
            return Label(text=text, values={name: value for name, value in values.items() if name not in REQUIRED})
    return None


def _described(text: str, key: str, shard: str) -> dict[str, Any]:
    try:
        described = json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"{shard}: {escape(key)}.json cannot be read ({error})"
        raise DataError(message) from error
    return described if isinstance(described, dict) else {"label": described}


def write_table(path: Path, rows: Sequence[tuple[str, Label, str | None]]) -> None:
    """Write a table of labels from the path, the label and the split of each image."""
    given = any(split is not None for _, _, split in rows)
    names = dict.fromkeys(name for _, label, _ in rows for name in label.values)
    # The split of a shard's name goes before one in its files.
    others = [name for name in names if not (given and name == SPLIT)]

    def write(aside: Path) -> None:
        with aside.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow([*REQUIRED, *([SPLIT] if given else []), *others])
            for image, label, split in rows:
                values = [label.values.get(name, "") for name in others]
                table.writerow([_cell(image), label.text, *([split] if given else []), *values])

    write_aside(path, write)


def _cell(name: str) -> str:
    """Return a path as a table can hold it: cells lose the spaces at their ends."""
    text = escape(name)
    return text if text == text.strip() else ESCAPED + quote_from_bytes(os.fsencode(name))
