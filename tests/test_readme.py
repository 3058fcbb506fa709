"""What the README shows came out of a command."""

import re
from pathlib import Path

from bench.cli.arguments import RecommendArgs, ReportArgs, RunAllArgs, SweepArgs
from bench.cli.main import COMMANDS
from bench.config import RunConfig
from bench.recipes import RECIPES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_table_in_the_readme_is_one_in_results() -> None:
    blocks = re.findall(r"<!-- from (\S+) -->\n(.*?)<!-- from \1 -->", README, flags=re.DOTALL)
    assert len(blocks) == 2
    for source, shown in blocks:
        rows = [line for line in shown.splitlines() if line.startswith("|")]
        assert len(rows) >= 5
        there = shown.replace(f"]({Path(source).parent.as_posix()}/", "](")  # links start from another folder
        assert there.strip() in (ROOT / source).read_text(encoding="utf-8")


def test_the_readme_names_every_command_and_recipe() -> None:
    for name in [*COMMANDS, *RECIPES]:
        assert f"`{name}" in README


def test_every_long_flag_in_the_readme_and_the_docs_exists() -> None:
    pages = [README, *((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("latency.md", "tuning.md"))]
    flags = set(re.findall(r"(?<![-\w])--([a-z][a-z-]+)", "\n".join(pages)))
    config = RunConfig()
    parts = (config.split, config.loader, config.architecture, config.train, config.runtime)
    fields = {
        field
        for part in (RunAllArgs(), SweepArgs(), ReportArgs(), RecommendArgs(), *parts)
        for field in part.__dataclass_fields__
    }
    assert flags <= {field.replace("_", "-") for field in fields} | {"help"}
