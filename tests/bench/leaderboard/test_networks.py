"""One network, one latency: rows that differ in their weights only, and what belongs to the weights."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cli.main import main
from bench.comparison import analysis
from bench.comparison.decisions.limits import latency_on
from bench.comparison.latencies.speeds import reference_runtime, shown
from bench.config import with_overrides
from bench.recipes import RECIPES
from bench.records.measurements import Check, Measurement
from bench.records.schema import Ensemble, RunRecord
from bench.records.store import record_path, write_json
from tests.helpers import boards, examples
from tests.helpers.documents import content_of, csv_of, markdown_of, notes_of, summary_of, tables_of, terminal_of
from tests.helpers.latency_rows import INT8, check, row

CPU = "onnxruntime-cpu"
QUICK = examples.measurement(CPU)
FULL = row(CPU, speed=5.0)
"""Its p50 is 6.0 ms."""


def keep(  # noqa: PLR0913 - what the rows of a test differ in
    results: Path,
    model: str,
    *measurements: Measurement,
    share: float = 0.9,
    lr: float | None = None,
    seed: int = 0,
    size: int = 64,
    **changes: object,
) -> RunRecord:
    config = RECIPES["quick"]("resnet50")
    config = config if lr is None else with_overrides(config, {"lr": lr})
    right = boards.some_right(share, seed=seed)
    made = boards.keep(results, model, right, config=config, seed=seed, measurements=measurements, **changes)
    assert isinstance(made, RunRecord)
    assert made.outcome is not None
    made = replace(made, outcome=replace(made.outcome, model=replace(made.outcome.model, image_size=size)))
    write_json(made, record_path(results, made))
    return made


def read(results: Path) -> analysis.Comparison:
    (found,) = analysis.read(results)
    return found


def section(found: analysis.Comparison, column: str) -> list[dict[str, str]]:
    """The lines of the first table of the page that has a column."""
    header, *lines = next(one for one in tables_of(found) if column in one[0])
    return [dict(zip(header, line, strict=True)) for line in lines]


def cells(found: analysis.Comparison, column: str = "ONNX ms") -> dict[str, str]:
    """The cells of the main table by setting, without the baseline."""
    return {line["Model"] + " " + line["Setting"]: line[column] for line in section(found, column)[:-1]}


def printed(found: analysis.Comparison) -> str:
    return terminal_of(found)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A network with a quick figure in its best row, a full one in the second, and none in the third."""
    keep(tmp_path, "net", QUICK, share=0.95)
    keep(tmp_path, "net", FULL, share=0.9, lr=0.1)
    keep(tmp_path, "net", share=0.85, lr=0.2)
    return tmp_path


def test_rows_of_a_network_show_its_full_figure_everywhere(three: Path) -> None:
    found = read(three)
    assert {cell.split()[0] for cell in cells(found).values()} == {"6.00"}
    assert "(quick)" not in markdown_of(found)
    assert printed(found).count("6.00 ±16 %") == 3
    lines = list(csv.DictReader(io.StringIO(csv_of(found))))
    figures = [line[f"{CPU}_1threads_host_batch1_p50_ms"] for line in lines]
    assert [float(figure) for figure in figures] == [pytest.approx(6.0, rel=0.01)] * 3
    assert {line[f"{CPU}_1threads_host_batch1_protocol"] for line in lines} == {"full"}
    assert {line["latency_machine"] for line in lines} == {examples.ENVIRONMENT.machine}
    content = content_of(found)
    key = f"{CPU} {examples.ENVIRONMENT.machine}"
    assert len({tuple(one["values"][key]) for one in content["rows"]}) == 1
    assert len({tuple(map(tuple, one["points"])) for one in content["curves"]["latency"]}) == 1
    latency = found.fronts[0]
    assert len(latency.points) == 3
    assert len({point.cost.value for point in latency.points.values()}) == 1
    assert len({latency_on(one, CPU).p90 for one in found.table.rows}) == 1


def test_a_row_is_not_on_the_front_by_the_latency_of_its_own_network(three: Path) -> None:
    """The rounds of one latency vary together: no resample makes the less accurate row faster."""
    found = read(three)
    latency, params, *_ = found.fronts
    assert [point.probability for point in latency.points.values()] == [
        point.probability for point in params.points.values()
    ]
    assert list(latency.points.values())[-1].probability < 0.1


def test_the_figure_does_not_depend_on_the_rows_that_have_it(tmp_path: Path) -> None:
    """Valid is shown before noisy, and a figure of the first seed before that of another."""
    keep(tmp_path, "net", row(CPU, speed=1.0, validity="noisy"))
    keep(tmp_path, "net", row(CPU, speed=2.0), seed=2, lr=0.1)
    keep(tmp_path, "net", row(CPU, speed=3.0), seed=1, lr=0.1)
    assert {cell.split()[0] for cell in cells(read(tmp_path)).values()} == {"3.60"}


def test_an_invalid_figure_gives_way_to_a_quick_one_of_the_network(tmp_path: Path) -> None:
    keep(tmp_path, "net", row(CPU, validity="invalid", reason="disturbed"))
    keep(tmp_path, "net", QUICK, lr=0.1)
    keep(tmp_path, "other", row(CPU, validity="invalid", reason="disturbed"))
    keep(tmp_path, "other", lr=0.1)
    found = cells(read(tmp_path))
    assert [cell for name, cell in found.items() if name.startswith("other")] == ["invalid"] * 2
    assert [cell[-7:] for name, cell in found.items() if name.startswith("net")] == ["(quick)"] * 2


def test_another_architecture_size_or_ensemble_keeps_its_own_figure(tmp_path: Path) -> None:
    keep(tmp_path, "net", FULL)
    keep(tmp_path, "net", lr=0.1, size=96)
    keep(tmp_path, "other", row(CPU, speed=10.0))
    for seed, speed in enumerate((20.0, 30.0)):
        rule = Ensemble(rule="soft", candidates=("net", "other"), members=())
        keep(tmp_path, "ensemble", row(CPU, speed=speed), seed=seed, ensemble=rule)
    found = read(tmp_path)
    assert {name.split()[0]: cell.split()[0] for name, cell in cells(found).items() if "lr" not in name} == {
        "net": "6.00",
        "other": "12.0",
        "ensemble": "24.0",
    }
    assert [cell for name, cell in cells(found).items() if "lr" in name] == ["not measured"]
    seeds = [line for line in csv.DictReader(io.StringIO(csv_of(found))) if line["model"] == "ensemble"]
    each = sorted(float(line[f"{CPU}_1threads_host_batch1_p50_ms"]) for line in seeds)
    assert each == [pytest.approx(24.0, rel=0.01), pytest.approx(36.0, rel=0.01)]


def test_the_tag_of_the_weights_is_no_part_of_the_network(tmp_path: Path) -> None:
    made = keep(tmp_path, "net", FULL)
    assert made.outcome is not None
    tagged = replace(made, outcome=replace(made.outcome, model=replace(made.outcome.model, timm_name="net.tag")))
    assert tagged.network == made.network != keep(tmp_path, "net_b", FULL).network
    assert replace(made, outcome=None, status="failed").network is None


@pytest.fixture
def int8(tmp_path: Path) -> Path:
    """The most accurate row was not checked in int8, the second was, and the third was refused."""
    fast = row(INT8, speed=1.0)
    keep(tmp_path, "net", FULL, share=0.95)
    keep(tmp_path, "net", fast, share=0.9, lr=0.1, checks=(check(),))
    keep(tmp_path, "net", row(INT8, speed=0.5), share=0.85, lr=0.2, checks=(check(lost=60),))
    return tmp_path


def test_int8_is_shown_for_checked_weights_only(int8: Path) -> None:
    found = read(int8)
    lines = section(found, f"{INT8} p50 / p90")
    assert [line[f"{INT8} p50 / p90"].split()[0:2] for line in lines] == [
        ["not", "checked"],
        ["1.20", "/"],
        ["refused"],
    ]
    assert {line[f"{CPU} p50 / p90"].split()[0] for line in lines} == {"6.00"}
    name = f"{INT8}_1threads_host_batch1_p50_ms"
    rows = csv.DictReader(io.StringIO(csv_of(found)))
    assert {line["setting"]: line[name] != "" for line in rows if "lr" in line["setting"]} == {
        "lr=0.1; weights=random": True,
        "lr=0.2; weights=random": False,
    }
    key = f"{INT8} {examples.ENVIRONMENT.machine}"
    content = content_of(found)["rows"]
    assert [key in one["values"] for one in content] == [False, True, False]
    assert [one["missing"].get(key) for one in content] == ["not checked", None, "refused"]


def test_recommend_ships_checked_weights_only(int8: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", "--results", str(int8), "--runtime", INT8]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("Ship net (lr=0.1): ")
    assert main(["recommend", "--results", str(int8), "--runtime", INT8, "--max-latency-ms", "0.1"]) == 3
    said = " ".join(capsys.readouterr().out.split())
    assert "(its accuracy on this runtime was not checked)" in said
    assert "(refused for its accuracy on this runtime)" in said


@pytest.mark.parametrize("checks", [(), (check(inputs="synthetic"),)])
def test_a_measured_row_without_test_images_is_not_recommended_in_int8(
    checks: tuple[Check, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(tmp_path, "net", row(INT8), checks=checks)
    assert main(["recommend", "--results", str(tmp_path), "--runtime", INT8]) == 3
    assert "(its accuracy on this runtime was not checked)" in " ".join(capsys.readouterr().out.split())


def test_recommend_ships_the_checked_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second seed is better on val, but only the first was checked."""
    keep(tmp_path, "net", row(INT8), checks=(check(),), share=0.8)
    better = keep(tmp_path, "net", seed=1, share=0.9)
    assert better.outcome is not None
    assert main(["recommend", "--results", str(tmp_path), "--runtime", INT8]) == 0
    assert f"(seed 0, the best on val of 1 checked on {INT8})" in " ".join(capsys.readouterr().out.split())
    assert main(["recommend", "--results", str(tmp_path), "--runtime", CPU]) == 3


def test_two_rows_of_a_network_are_not_compared_for_speed(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = read(three)
    assert not [line for line in [*summary_of(found), *notes_of(found)] if "as fast" in line or "latency" in line]
    rows = sorted(one.name for one in found.table.rows)
    assert main(["compare", *rows[:2], "--results", str(three)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Both have the same network, whose latency does not depend on the weights." in text
    assert "x the time" not in text
    assert main(["recommend", "--results", str(three), "--margin", "20"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith("Ship net: ")
    assert "Faster" not in text
    assert "As fast, because they have the same network: net (lr=0.1) and net (lr=0.2)." in text


def test_the_summary_compares_the_best_row_with_another_network(three: Path) -> None:
    keep(three, "small", row(CPU, speed=2.5), share=0.8)
    found = read(three)
    assert "On onnxruntime-cpu, small is 2.0 x as fast as net (95 % CI 2.0 to 2.0)." in [
        *summary_of(found),
        *notes_of(found),
    ]


def test_the_latency_table_names_the_measured_run_once(three: Path) -> None:
    """A run that was compared with its own weights has a line without a figure, which names the measured run."""
    keep(three, "net", FULL, row(INT8), seed=1, lr=0.1, checks=(replace(check(), runtime=CPU, precision="fp32"),))
    lines = section(read(three), "Validity")
    found = {(line["Model"], line["Runtime"]): (line["Validity"], line["p50, ms"][:4]) for line in lines}
    assert found == {
        ("net (lr=0.1), seed 0", CPU): ("valid", "6.00"),
        ("net (lr=0.1), seed 1", CPU): ("see net (lr=0.1), seed 0", "-"),
        ("net (lr=0.1), seed 1", INT8): ("valid", "12.0"),
    }


def test_the_reference_runtime_stays_although_a_row_is_invalid_there(tmp_path: Path) -> None:
    for model in ("a", "b"):
        keep(tmp_path, model, row("pytorch-cpu"), FULL)
    keep(tmp_path, "c", row("pytorch-cpu"), row(CPU, validity="invalid", reason="disturbed"), share=0.95)
    found = read(tmp_path)
    assert reference_runtime(found.table.rows) == CPU
    content = content_of(found)
    assert content["metrics"][-2]["title"] == f"Latency on {CPU}"
    assert found.fronts[0].title == f"p90 latency, ms ({CPU})"
    assert [row.name for row in found.compared if row.row_id in found.fronts[0].points] == ["a", "b"]
    (front,) = [line for line in section(found, "Probability of being on the front") if line[next(iter(line))] == "c"]
    assert front[f"p90 latency, ms ({CPU})"] == "-"


@pytest.mark.parametrize(
    ("runtimes", "expected"),
    [
        (("pytorch-cpu", CPU, "pytorch-cuda"), "pytorch-cuda"),
        (("pytorch-cpu", CPU, "pytorch-cuda", "onnxruntime-cuda"), "onnxruntime-cuda"),
        (("pytorch-cpu", CPU, "onnxruntime-tensorrt"), "onnxruntime-tensorrt"),
        (("pytorch-cpu", CPU), CPU),
        (("openvino-cpu", "pytorch-cpu"), "pytorch-cpu"),
        (("openvino-cpu", "pytorch-channels-last-cpu"), "pytorch-channels-last-cpu"),
        ((), None),
    ],
)
def test_cuda_is_the_reference_if_any_row_has_a_figure_on_it(
    runtimes: tuple[str, ...], expected: str | None, tmp_path: Path
) -> None:
    keep(tmp_path, "a", *map(row, runtimes))
    keep(tmp_path, "b", *map(row, runtimes[:2]))
    found = read(tmp_path)
    assert reference_runtime(found.table.rows) == expected
    assert all(shown(one, CPU) is not None for one in found.table.rows) == (CPU in runtimes[:2])
