"""Tables as CSV, unrounded, for spreadsheets and scripts."""

import csv
import io
from collections.abc import Mapping, Sequence

from bench.render.escaping import cell


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as CSV, the same text that pandas writes; importing pandas takes most of a second.

    A column of numbers with a fraction or a gap is written as floats, so that all its values have one type. Text that a
    spreadsheet would compute begins with an apostrophe.
    """
    columns = {
        name: _column([row.get(name) for row in rows]) for name in dict.fromkeys(key for row in rows for key in row)
    }
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(cell, columns))
    writer.writerows(zip(*columns.values(), strict=True))
    return out.getvalue()


def _column(values: list[object]) -> list[object]:
    # As pandas does: an integer column with a gap has no integer type.
    present = [value for value in values if value is not None]
    if all(isinstance(value, int) for value in present) and len(present) == len(values):
        return values
    if any(not isinstance(value, int | float) for value in present):
        return list(map(cell, values))
    return [float(value) if isinstance(value, int | float) else value for value in values]
