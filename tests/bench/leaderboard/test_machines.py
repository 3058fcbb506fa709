"""Latency of several machines beside the accuracy of one training, and whose check judges a reduced precision."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from bench.comparison import analysis
from bench.comparison.latencies.acceptance import acceptance, acceptance_on
from bench.records.measurements import Check, Measurement
from bench.records.schema import Latency, RunRecord
from bench.records.store import record_path, write_json
from tests.helpers import examples
from tests.helpers.boards import keep, some_right
from tests.helpers.documents import csv_of, markdown_of, tables_of, terminal_of
from tests.helpers.latency_rows import INT8, check, row

OWN, LAPTOP = examples.ENVIRONMENT.machine, "laptop-4-cores"
RIGHT = some_right(0.9)


SYNTHETIC = check(inputs="synthetic")


def on_laptop(record: RunRecord, *rows: Measurement, checks: tuple[Check, ...] = ()) -> RunRecord:
    environment = replace(examples.ENVIRONMENT, machine=LAPTOP)
    return record.with_latency(Latency(environment=environment, measurements=rows, checks=checks))


def board(results: Path, own: dict[str, float], laptop: dict[str, float]) -> analysis.Comparison:
    """Models with a p50 on each machine, in ms: the median of rounds that are slower by 0, 10 to 40 %."""
    for name in sorted({*own, *laptop}):
        rows = (row("onnxruntime-cpu", speed=own[name]),) if name in own else ()
        record = keep(results, name, RIGHT, measurements=rows)
        assert isinstance(record, RunRecord)
        if name in laptop:
            record = on_laptop(record, row("onnxruntime-cpu", speed=laptop[name], session_id="laptop"))
        write_json(record, record_path(results, record))
    (found,) = analysis.read(results)
    return found


def tables(found: analysis.Comparison) -> list[list[dict[str, str]]]:
    return [[dict(zip(header, line, strict=True)) for line in lines] for header, *lines in tables_of(found)]


def test_other_machines_are_named_below_the_table(tmp_path: Path) -> None:
    found = board(tmp_path, {"a": 10.0, "b": 20.0}, {"a": 5.0})
    main, *_ = tables(found)
    assert [line["ONNX ms"].split()[0] for line in main[:2]] == ["12.0", "24.0"]
    sentence = f"On {LAPTOP}, p50 in ms on onnxruntime-cpu: `a` 6.00 ±16 % and `b` not measured."
    assert f"- {sentence}\n" in markdown_of(found)
    assert sentence.replace("`", "") in terminal_of(found)


def test_accuracy_stands_beside_each_machine(tmp_path: Path) -> None:
    found = board(tmp_path, {"a": 10.0}, {"a": 5.0})
    (machines,) = (lines for lines in tables(found) if "Measured on" in lines[0])
    assert [(line["Model"], line["Measured on"]) for line in machines] == [("a", OWN), ("a", LAPTOP)]
    assert len({line["Top-1 % (95 % CI)"] for line in machines}) == 1
    assert [line["onnxruntime-cpu p50 / p90"][:4] for line in machines] == ["12.0", "6.00"]
    alone = board(tmp_path / "alone", {"a": 10.0}, {})
    assert not any("Measured on" in lines[0] for lines in tables(alone))
    assert LAPTOP not in markdown_of(alone)


def test_the_latency_table_names_every_machine(tmp_path: Path) -> None:
    text = markdown_of(board(tmp_path, {"a": 10.0}, {"a": 5.0}))
    assert f"| `a, seed 0, on {LAPTOP}` | onnxruntime-cpu |" in text
    assert f"- Lines without a machine are of {OWN}.\n" in text


def test_figures_of_another_machine_alone_are_named(tmp_path: Path) -> None:
    """One that trained but measured nothing: the columns are of the other machine, in all places that have figures."""
    found = board(tmp_path, {}, {"a": 10.0, "b": 20.0})
    text = markdown_of(found)
    main, *_ = tables(found)
    assert main[0]["ONNX ms"].startswith("12.0")
    assert f"- The latency columns are of {LAPTOP}, as {OWN} has measured nothing.\n" in text
    assert f"`pytorch-cuda`, `onnxruntime-cpu`, measured on {LAPTOP}\n" in text
    assert f"On onnxruntime-cpu of {LAPTOP}, `a` is 2.0 x as fast as `b`" in text
    assert f"| onnxruntime-cpu of {LAPTOP} p50 / p90 |" in text
    assert f"p90 latency, ms (onnxruntime-cpu of {LAPTOP})" in text


def test_a_column_is_of_one_machine(tmp_path: Path) -> None:
    main, *_ = tables(board(tmp_path, {"a": 10.0}, {"b": 5.0}))
    assert {line["Model"]: line["ONNX ms"] for line in main[:2]} == {"a": "12.0 ±16 %", "b": "not measured"}


def test_the_csv_names_every_machine(tmp_path: Path) -> None:
    name = "onnxruntime-cpu_1threads_host_batch1_p50_ms"
    found = board(tmp_path, {"a": 10.0, "b": 20.0}, {"a": 5.0})
    lines = {line["model"]: line for line in csv.DictReader(io.StringIO(csv_of(found)))}
    assert {line["latency_machine"] for line in lines.values()} == {OWN}
    assert float(lines["a"][name]) == pytest.approx(12.0, rel=0.01)
    assert float(lines["a"][f"{LAPTOP}/{name}"]) == pytest.approx(6.0, rel=0.01)
    assert lines["b"][f"{LAPTOP}/{name}"] == ""


@pytest.mark.parametrize(
    ("own", "laptop", "word", "machine"),
    [
        (check(lost=0), SYNTHETIC, "accepted", OWN),
        (check(lost=60), SYNTHETIC, "refused", OWN),
        (check(lost=0), check(inputs="synthetic", made_from="a other"), "not checked", None),
        (check(lost=60), check(inputs="synthetic", made_from="a other"), "not checked", None),
        (check(lost=0), check(inputs="synthetic", compared=False), "not checked", None),
        (check(lost=60), check(inputs="synthetic", compared=False), "refused", OWN),
        (None, SYNTHETIC, "not checked", None),
        (check(lost=60), check(lost=0), "accepted", None),
        (SYNTHETIC, SYNTHETIC, "not checked", None),
    ],
)
def test_only_test_images_judge_a_precision(own: Check | None, laptop: Check, word: str, machine: str | None) -> None:
    record = examples.record(checks=(own,) if own else ())
    found = acceptance_on(on_laptop(record, checks=(laptop,)), INT8, LAPTOP)
    assert (found.word, found.machine) == (word, machine)


def test_synthetic_counts_are_no_accuracy() -> None:
    assert acceptance(check(lost=0)).word == "accepted"
    assert acceptance(replace(check(lost=0), inputs="synthetic")).word == "not checked"


def latency_lines(own: Check, laptop: Check) -> dict[str, dict[str, str]]:
    """The lines of int8 in the latency table, by model."""
    record = examples.record(measurements=(row(INT8),), checks=(own,))
    record = on_laptop(record, row(INT8, speed=5.0), checks=(laptop,))
    (found,) = analysis.compare_records([record], Path("/nowhere"))
    (lines,) = (lines for lines in tables(found) if "Runtime" in lines[0])
    return {line["Model"].removeprefix("resnet50, seed 0"): line for line in lines}


def test_the_latency_table_shows_who_accepted_int8() -> None:
    line = latency_lines(check(lost=0), SYNTHETIC)[f", on {LAPTOP}"]
    assert line["Accuracy against trained, pp (95 % CI)"] == f"accepted on {OWN}"
    assert line["Largest logit error (batch 1 against 32)"] == "1.0e-01, synthetic"
    assert line["Flips"] == "0, synthetic"
    assert line["p50, ms"].startswith("6.00")


def test_int8_refused_at_home_is_refused_elsewhere() -> None:
    assert latency_lines(check(lost=60), SYNTHETIC)[f", on {LAPTOP}"]["Validity"] == "refused"
    record = examples.record(measurements=(row(INT8),), checks=(check(lost=60),))
    (found,) = analysis.compare_records([on_laptop(record, row(INT8), checks=(SYNTHETIC,))], Path("/nowhere"))
    reason = (
        f"`resnet50, seed 0, on {LAPTOP}` on {INT8}: accuracy -6.0 pp (95 % CI -7.6 to -4.7), on the test images on"
    )
    assert f"- Refused: {reason} {OWN}" in markdown_of(found)
    assert "p50_ms" not in csv_of(found)


def test_int8_refused_elsewhere_is_kept_at_home() -> None:
    record = examples.record(measurements=(row(INT8),), checks=(check(lost=0),))
    (found,) = analysis.compare_records([on_laptop(record, row(INT8), checks=(check(lost=60),))], Path("/nowhere"))
    header = csv_of(found).splitlines()[0].split(",")
    assert [name for name in header if name.endswith("_p50_ms")] == [f"{INT8}_1threads_host_batch1_p50_ms"]


def test_missing_synthetic_logits_are_stated() -> None:
    line = latency_lines(check(lost=0), check(inputs="synthetic", compared=False))[f", on {LAPTOP}"]
    assert line["Largest logit error (batch 1 against 32)"] == "not checked"
