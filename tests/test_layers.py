"""The order of the rooms: a module imports only from modules above it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = [
    "imgcls",
    "imgcls.data",
    "imgcls.errors",
    "imgcls.config",
    "imgcls.results",
    "imgcls.data.parallel",
    "imgcls.data.decode",
    "imgcls.data.torchvision_sets",
    "imgcls.data.datasets",
    "imgcls.data.duplicates",
    "imgcls.data.audit",
    "imgcls.data.splits",
    "imgcls.data.cache",
    "imgcls.data.augment",
    "imgcls.data.loaders",
    "imgcls.card",
    "imgcls.weights",
    "imgcls.models",
    "imgcls.binning",
    "imgcls.metrics",
    "imgcls.calibration",
    "imgcls.evaluation",
    "imgcls.checkpoint",
    "imgcls.setting",
    "imgcls.training",
    "imgcls.session",
    "imgcls.torch_sessions",
    "imgcls.onnx_sessions",
    "imgcls.runtimes",
    "imgcls.predict",
    "imgcls.parity",
    "imgcls.variants",
    "imgcls.export",
    "bench",
    "bench.config",
    "bench.environment",
    "bench.complexity",
    "bench.latency",
    "bench.disturbance",
    "bench.stats",
    "bench.sessions",
    "bench.macro",
    "bench.pairs",
    "bench.ranks",
    "bench.power",
    "bench.resampling",
    "bench.verdict",
    "bench.recipes",
    "bench.space",
    "bench.measurements",
    "bench.records",
    "bench.tuning",
    "bench.locks",
    "bench.storage",
    "bench.joining",
    "bench.trials",
    "bench.launchers",
    "bench.progress",
    "bench.failures",
    "bench.places",
    "bench.plan",
    "bench.preparation",
    "bench.runner",
    "bench.trial",
    "bench.sweep",
    "bench.cold",
    "bench.measuring",
    "bench.checking",
    "bench.combining",
    "bench.pictures",
    "bench.rounds",
    "bench.worker",
    "bench.majority",
    "bench.predictions",
    "bench.boards",
    "bench.acceptance",
    "bench.cells",
    "bench.speeds",
    "bench.pareto",
    "bench.findings",
    "bench.sweep_view",
    "bench.sweep_report",
    "bench.study",
    "bench.tuned_rows",
    "bench.latency_table",
    "bench.words",
    "bench.details",
    "bench.facts",
    "bench.spreadsheet",
    "bench.leaderboard",
    "bench.compare",
    "bench.recommend",
    "bench.gallery",
    "bench.drawing",
    "bench.plots",
    "bench.report",
    "bench.terminal",
    "bench.harness",
    "bench.remote",
    "bench.cluster",
    "bench.readers",
    "bench.arguments",
    "bench.judging",
    "bench.launching",
    "bench.planning",
    "bench.sweep_commands",
    "bench.commands",
    "bench.cli",
    "bench.__main__",
]


def modules() -> dict[str, Path]:
    found = {}
    for path in [*ROOT.glob("imgcls/**/*.py"), *ROOT.glob("bench/**/*.py")]:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imports_of(path: Path) -> set[str]:
    """Every module of ours that a file imports, at its top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names & set(ORDER)


def test_every_module_stands_in_the_order() -> None:
    assert sorted(modules()) == sorted(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_a_module_imports_only_from_modules_above_it(name: str) -> None:
    below = set(ORDER[ORDER.index(name) :])
    upward = imports_of(modules()[name]) & below
    assert not upward, f"{name} imports {sorted(upward)}, which stand below it"


@pytest.mark.parametrize(
    "module",
    [
        "bench.cli",
        "bench.readers",
        "bench.terminal",
        "bench.leaderboard",
        "bench.judging",
        "bench.report",
        "bench.cold",
        "bench.measuring",
        "imgcls.predict",
        "bench.worker",
    ],
)
def test_a_module_that_must_start_fast_leaves_torch_out(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
