"""Names of variables say what they hold."""

import ast
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
VAGUE: Final = frozenset({"found", "one", "each", "place", "places", "known", "shown", "wanted"})


def test_few_variables_have_vague_names() -> None:
    files = [file for package in ("bench", "imgcls") for file in (ROOT / package).rglob("*.py")]
    names = [
        node.id
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    assert len(names) > 1000
    assert sum(name in VAGUE for name in names) < 0.02 * len(names)
