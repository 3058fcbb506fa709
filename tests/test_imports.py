"""What a module loads when it is imported; import-linter holds the order of packages, and cannot see this."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = [path.parent for root in ("imgcls", "bench") for path in sorted(ROOT.glob(f"{root}/**/__init__.py"))]
MOST_MODULES = 10


@pytest.mark.parametrize(
    "module",
    [
        "bench.cli.main",
        "bench.cli.reading",
        "bench.cli.judging",
        "bench.leaderboard.page",
        "bench.leaderboard.terminal",
        "bench.report.page",
        "bench.latency.cold_start",
        "bench.latency.measuring",
        "bench.latency.worker",
        "bench.runs.worker",
        "bench.tuning.worker",
        "imgcls.inference.predict",
        "imgcls",
    ],
)
def test_a_module_that_must_start_fast_leaves_torch_out(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def test_tables_of_records_load_neither_matplotlib_nor_scikit_learn() -> None:
    heavy = "{'matplotlib', 'sklearn', 'torch'}"
    code = f"import sys, bench.cli.judging, bench.leaderboard.page; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_package_has_at_most_ten_modules_and_says_what_it_is_for(package: Path) -> None:
    modules = [path for path in package.glob("*.py") if path.name not in {"__init__.py", "__main__.py"}]
    assert len(modules) <= MOST_MODULES
    assert "Start with" in (text := (package / "__init__.py").read_text()) or "starts" in text
