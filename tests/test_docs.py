"""The README and the docs: links, commands, code, columns, and tables that came out of a command."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

import noxfile
from bench.cli.arguments import PlanArgs
from bench.cli.main import COMMANDS
from bench.cli.parsing import parse, parse_runs
from bench.comparison.analysis import read
from bench.comparison.measures import MEASURES
from bench.leaderboard import details, latency_table, provenance
from bench.recipes import RECIPES
from tests.helpers.boards import keep, some_right
from tests.helpers.documents import tables_of

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "results" / "examples").glob("*/leaderboard.md"))
README = PAGES[0].read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """Headings of a page as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [*PAGES, *EXAMPLES], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    html = MarkdownIt("gfm-like", {"linkify": False}).render(path.read_text(encoding="utf-8"))
    for target in re.findall(r'(?:href|src)="([^"]+)"', html):
        place, _, anchor = target.partition("#")
        assert not place.startswith("http")
        file = path.parent / place if place else path
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def commands(path: Path) -> list[list[str]]:
    """The commands in code blocks and code spans of a page, as words."""
    found = []
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(path.read_text(encoding="utf-8")):
        spans = [child.content for child in token.children or () if child.type == "code_inline"]
        lines = token.content.splitlines() if token.type in {"code_block", "fence"} else []
        for text in [*spans, *lines]:
            plain = re.sub(r"^.*&& ", "", text.split("  #")[0].strip())
            if re.match(r"(python -m (bench|tests)|imgcls-bench|nox)\b", plain):
                found.append(shlex.split(plain))
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_can_be_parsed(path: Path) -> None:
    for words in commands(path):
        if words[0] == "nox":
            sessions = [words[number + 1] for number, word in enumerate(words) if word == "-s"]
            assert all(hasattr(noxfile, session) for session in sessions), words
        elif words[:2] == ["python", "-m"] and words[2].startswith("tests."):
            assert find_spec(words[2]), words
        else:
            check_bench(words[3:] if words[0] == "python" else words[1:])


def check_bench(words: list[str]) -> None:
    if not words or words[0] in {"COMMAND", "--help", "--version", "--tyro-print-completion"}:
        return
    name, *flags = words
    assert name in COMMANDS, words
    kind = COMMANDS[name].args
    if (not flags and name in {"compare", "audit", "predict"}) or "--help" in flags:  # named, not shown
        return
    if issubclass(kind, PlanArgs):
        parse_runs(kind, flags, name)
    else:
        parse(kind, flags, name)


def test_the_docs_show_commands() -> None:
    names = [
        words[3]
        for path in PAGES
        for words in commands(path)
        if words[:3] == ["python", "-m", "bench"] and len(words) > 3
    ]
    assert {"run-all", "sweep", "report", "measure", "audit", "predict"} <= set(names)


@pytest.mark.parametrize("name", ["library.md", "results-format.md"])
def test_the_code_in_the_docs_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    (tmp_path / "results").symlink_to(ROOT / "results") if name == "results-format.md" else None
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        if "sys.argv" in block:  # a script for a model and images: tests/imgcls/inference/test_reader.py runs it
            continue
        assert len(block.strip().splitlines()) < 20
        exec(compile(block, name, "exec"), {"__name__": "docs"})  # noqa: S102 - code of this repository
    if name == "library.md":
        assert (tmp_path / "digits-model" / "model.onnx").is_file()
        assert (tmp_path / "results" / "leaderboard.md").is_file()


def test_the_readme_is_short_and_names_everything() -> None:
    assert len(README.splitlines()) <= 150
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 50
    for name in [*COMMANDS, *RECIPES]:
        assert f"`{name}" in README
    for path in PAGES[1:]:
        assert path.name == "pruning.md" or f"({path.relative_to(ROOT)})" in README


def test_the_readme_shows_published_results() -> None:
    ((source, shown),) = re.findall(r"<!-- from ([^>]+?) -->\n(.*?)<!-- [^>]+ -->", README, flags=re.DOTALL)
    assert shown.strip() in (ROOT / source).read_text(encoding="utf-8")


def full_page(results: Path) -> list[list[str]]:
    """The headers of all tables of a leaderboard of two models with two seeds."""
    for seed in range(2):
        for model, share in (("a", 0.9), ("b", 0.5)):
            keep(results, model, some_right(share, seed=seed), seed=seed)
    (found,) = read(results)
    return [table[0] for table in tables_of(found)]


def test_every_column_is_documented(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "leaderboard.md").read_text(encoding="utf-8")
    columns = {
        *(measure.main for measure in MEASURES.values() if measure.main),
        *details.CHECKPOINT_COLUMNS,
        *latency_table.COLUMNS,
        *provenance.COLUMNS,
    }
    columns |= set(details.IMBALANCE_COLUMNS)
    columns |= {name for header in full_page(tmp_path) for name in header if " p50 / p90" not in name}
    columns -= {"a", "b", "p90 latency, ms (pytorch-cpu)"}
    undocumented = [name for name in sorted(columns) if name not in text]
    assert not undocumented
