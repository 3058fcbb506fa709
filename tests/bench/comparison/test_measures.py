"""The registry of measures: a new one is a line, and every table, file and command has it."""

import csv
import io
from pathlib import Path

import pytest

from bench.cli.arguments import RecommendArgs
from bench.cli.main import main
from bench.cli.parsing import parse
from bench.comparison import analysis
from bench.comparison.measures import MEASURES, Estimate, Measure
from tests.helpers.boards import keep, some_right
from tests.helpers.documents import content_of, csv_of, tables_of

ENERGY = Measure(
    key="energy",
    title="Energy of training",
    unit="kJ",
    better="low",
    scale=1e-3,
    main="Energy (kJ)",
    rows="Energy, kJ",
    front="Energy on the front, kJ",
    csv="energy_j",
    # As if a kilojoule was spent on each parameter of the name.
    of=lambda _, row: Estimate(1000.0 * len(row.name)),
)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(MEASURES, ENERGY.key, ENERGY)  # type: ignore[arg-type]
    keep(tmp_path, "net", some_right(0.9))
    keep(tmp_path, "largest", some_right(0.95))
    return tmp_path


def test_new_measure_is_in_every_table_file_and_command(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = analysis.read(results)
    by_title = {
        header[0]: [dict(zip(header, line, strict=True)) for line in lines] for header, *lines in tables_of(found)
    }
    assert [line["Energy (kJ)"] for line in by_title["Rank"]] == ["7.0", "3.0", "-"]
    (rows,) = ([header, *lines] for header, *lines in tables_of(found) if "Probability best" in header)
    assert [line[rows[0].index("Energy, kJ")] for line in rows[1:]] == ["7.0", "3.0"]
    front = by_title["Probability of being on the front"]
    assert [line["Energy on the front, kJ"].partition(" at ")[2] for line in front] == ["7.00", "3.00"]
    assert {line["energy_j"] for line in csv.DictReader(io.StringIO(csv_of(found)))} == {"7000.0", "3000.0"}
    content = content_of(found)
    assert {row["name"]: row["values"]["energy"] for row in content["rows"]} == {"net": [3.0], "largest": [7.0]}
    assert next(metric for metric in content["metrics"] if metric["key"] == "energy")["unit"] == "kJ"
    limits = ["--limit", "energy=5", "--runtime", "pytorch-cpu"]
    assert main(["recommend", "--results", str(results), *limits]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("Ship net: ")
    assert "Without --limit energy=5: largest, " in said


def test_limit_where_high_values_are_better(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["recommend", "--results", str(results), "--runtime", "pytorch-cpu", "--limit"]
    assert main([*words, "top1=99"]) == 3
    said = " ".join(capsys.readouterr().out.split())
    assert "--limit top1=99 excludes largest (Top-1 accuracy 9" in said
    assert main([*words, "top1=90", "energy=20"]) == 0
    assert "--limit top1=90 is met by the estimate, but not by its whole interval" in capsys.readouterr().out


@pytest.mark.parametrize("limit", ["energie=5", "energy", "energy=", "energy=-1", "energy=nan", "=5"])
def test_wrong_limit_is_one_line(results: Path, limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", "--results", str(results), "--limit", limit]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--limit {limit}: use MEASURE=VALUE" in line
    assert "top1, macro_f1" in line


@pytest.mark.parametrize(("limit", "advice"), [("top1=0.9", "top1 is in per cent"), ("size=9", "use --max-size-mb")])
def test_limit_in_another_unit_or_of_another_flag_is_one_line(
    results: Path, limit: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recommend", "--results", str(results), "--limit", limit]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--limit {limit}: {advice}" in line


def test_help_names_every_measure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(RecommendArgs, ["--help"], "recommend")
    words = capsys.readouterr().out
    assert all(key in words for key in MEASURES if key != "size")
