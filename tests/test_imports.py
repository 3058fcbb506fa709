"""What importing a module loads, and the size of packages; import-linter checks the order of packages."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = [path.parent for root in ("imgcls", "bench") for path in sorted(ROOT.glob(f"{root}/**/__init__.py"))]
MOST_MODULES = 10


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("bench.cli.main", {"torch"}),
        ("bench.cli.predict", {"torch", "scipy", "pandas", "onnx"}),
        ("bench.cli.data", {"torch"}),
        ("bench.cli.results", {"torch", "matplotlib", "sklearn"}),
        ("bench.leaderboard.page", {"torch", "matplotlib", "sklearn"}),
        ("bench.leaderboard.terminal", {"torch"}),
        ("bench.report.page", {"torch"}),
        ("bench.latency.cold_start", {"torch"}),
        ("bench.latency.round_worker", {"torch"}),
        ("bench.latency.worker", {"torch"}),
        ("bench.runs.worker", {"torch"}),
        ("bench.tuning.worker", {"torch"}),
        ("imgcls.inference.predict", {"torch"}),
        ("imgcls", {"torch"}),
    ],
)
def test_modules_import_no_heavy_library(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_only_the_command_line_prints() -> None:
    printing = []
    for path in [*ROOT.glob("imgcls/**/*.py"), *ROOT.glob("bench/**/*.py")]:
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        printing += [path for call in calls if ast.unparse(call.func) in {"print", "Console", "sys.stdout.write"}]
    assert {path.parent.relative_to(ROOT).as_posix() for path in printing} == {"bench/cli"}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_packages_are_small_and_described(package: Path) -> None:
    modules = [path for path in package.glob("*.py") if path.name not in {"__init__.py", "__main__.py"}]
    assert len(modules) <= MOST_MODULES
    description = ast.get_docstring(ast.parse((package / "__init__.py").read_text()))
    assert re.search(r"\bstart (with|in) ``", description or "", re.IGNORECASE)
