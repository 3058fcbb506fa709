"""The commands ``compare`` and ``recommend``, on made-up results."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.cli.main import main
from bench.comparison.analysis import read
from bench.records.measurements import Measurement
from bench.records.schema import Latency, RunRecord
from bench.records.store import record_path, write_json
from tests.helpers import examples

NAMES = ("glass", "paper")
LABELS = np.arange(300) % 2


def timed(milliseconds: float, **changes: object) -> Measurement:
    made = examples.measurement("onnxruntime-cpu")
    return replace(made, samples_ms=(milliseconds,) * 100, **changes)  # type: ignore[arg-type]


def keep(results: Path, model: str, share: float, seed: int = 0, config_seed: int = 0, **changes: object) -> RunRecord:
    right = np.random.default_rng(seed).random(300) < share
    predictions = examples.predictions_of(right, LABELS, classes=2)
    return examples.keep(results, model, predictions, examples.data_of(LABELS, NAMES), seed=config_seed, **changes)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A slow best, a fast one tied with it, and a faster poor one."""
    keep(tmp_path, "best", 0.9, measurements=(timed(30),))
    keep(tmp_path, "fast", 0.89, measurements=(timed(5),))
    keep(tmp_path, "poor", 0.6, seed=2, measurements=(timed(1),))
    return tmp_path


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def recommend(results: Path, *limits: str) -> int:
    return main(["recommend", "--results", str(results), *limits])


def test_compare_prints_both_p_values(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "poor", "best", "--results", str(three)]) == 0
    text = said(capsys)
    assert "best, seed" not in text
    assert "exact p < 0.0001, mid-p < 0.0001: a significant difference between these checkpoints." in text
    assert "poor wrong" in text
    assert "No minority class: every class has at least half" in text


def test_compare_takes_ids_of_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (3, 4):
        keep(tmp_path, "net", 0.8, seed=seed, config_seed=seed, run_id=f"{seed}abcdef")
    assert main(["compare", "3abc", "4abc", "--results", str(tmp_path)]) == 0
    assert "net, seed 4 against net, seed 3: pets, 300 test images" in said(capsys)


def test_a_run_without_predictions_is_not_compared(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in three.glob("records/*/*.npz"):
        path.unlink()
    assert main(["compare", "best", "poor", "--results", str(three)]) == 2
    assert "best: predictions are not available" in said(capsys)


def test_other_test_images_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path, "a", 0.8)
    info = replace(examples.data_of(LABELS, NAMES), split_digest="e" * 16)
    examples.keep(tmp_path, "b", examples.predictions_of(LABELS == 0, LABELS, classes=2), info)
    assert main(["compare", "a", "b", "--results", str(tmp_path)]) == 2
    assert "different test splits are not compared" in said(capsys)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["compare", "best", "nobody"], "unknown row or run 'nobody'; available rows: best, fast, poor"),
        (["compare", "best", "fast", "--data", "birds"], "--data birds: no run on it"),
        (["recommend", "--runtime", "tpu"], "--runtime tpu: unknown; known: pytorch-cpu"),
        (["recommend", "--min-recall", "glass"], "--min-recall glass: use CLASS=SHARE"),
        (["recommend", "--min-recall", "glass=80"], "--min-recall glass=80: use CLASS=SHARE"),
        (["recommend", "--min-recall", "wood=0.8"], "--min-recall wood: no such class; classes: glass, paper"),
        (["recommend", "--max-latency-ms", "-1"], "--max-latency-ms -1: use a number above 0"),
        (["recommend", "--margin", "-1"], "--margin -1: use percentage points above 0 and below 50, such as 1"),
        (["recommend", "--margin", "1%"], "--margin 1%: use percentage points above 0 and below 50, such as 1"),
        (["recommend", "--margin", "nan"], "--margin nan: use percentage points above 0"),
        (["recommend", "--margin", "0.01"], "--margin 0.01: one of 300 test images is 0.33 percentage points"),
        (["recommend", "--max-size-mb", "nan"], "--max-size-mb nan: use a number above 0"),
        (["report", "--data", "birds"], "--data birds: no run on it"),
        (["report", "--table", "abc"], "--table abc: no such table"),
    ],
)
def test_a_wrong_argument_is_one_line(
    arguments: list[str], says: str, three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--results", str(three)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["recommend", "report"])
def test_missing_runs_and_folders_are_reported(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--results", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in said(capsys)
    assert main([command, "--results", str(tmp_path)]) == 2
    assert "run-all makes some" in said(capsys)


def test_recommend_reports_the_cost_of_a_limit(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recommend(three, "--max-latency-ms", "2") == 0
    text = said(capsys)
    assert "Ship poor:" in text
    assert "Without --max-latency-ms 2: best" in text
    assert "significant (p < 0.0001, Holm)" in text
    assert "--max-latency-ms 2 is met by the estimate, but not by its whole interval: p90 1 ms (quick run, not" in text
    assert "artifacts/" in text


def test_recommend_names_the_most_accurate_row_and_what_faster_ones_would_lose(
    three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recommend(three) == 0
    text = said(capsys)
    assert "Ship best:" in text
    assert "It is the most accurate of 3 rows within the limits." in text
    assert "Faster: poor, p50 1.00 ms on pytorch-cpu" in text.replace("onnxruntime-cpu", "pytorch-cpu")
    assert re.search(r"Faster: fast, .*?: -0\.\d pp \(95 % CI -\d\.\d to [+-]\d\.\d\), simultaneous", text)


def test_a_margin_ships_the_fastest_row_that_is_shown_to_be_within_it(
    three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recommend(three, "--margin", "5") == 0
    text = said(capsys)
    assert "Ship fast:" in text
    assert "It is the fastest row that is shown to be less than 5 pp below the best row within the limits" in text
    assert "Faster, but not shown to be within 5 pp: poor" in text
    assert "its accuracy is lower by more than the margin" in text


def test_a_margin_that_cannot_be_decided_says_how_many_images_it_takes(
    three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recommend(three, "--margin", "1") == 0
    text = said(capsys)
    assert "Ship best:" in text
    assert re.search(
        r"not shown to be within 1 pp: fast, .*?at the observed difference, about [\d,]+ test images", text
    )


def test_recommend_exits_3_if_nothing_fits(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ("--max-latency-ms", "10", "--min-recall", "glass=0.99", "--max-size-mb", "50")
    assert recommend(three, *limits) == 3
    text = said(capsys)
    assert "No row meets all limits." in text
    assert "--max-latency-ms 10 excludes best (p90 30 ms" in text
    assert "--min-recall glass=0.99 excludes best (" in text
    assert "--max-size-mb 50 excludes best (100.0 MB)" in text


def test_recommend_needs_figures_of_the_runtime(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recommend(three, "--runtime", "onnxruntime-cuda") == 3
    assert "--runtime onnxruntime-cuda excludes best (no measurement on this runtime)" in said(capsys)


def test_recommend_ships_the_seed_best_on_val(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, val in enumerate((0.5, 0.9, 0.7)):
        share = 0.95 if seed == 0 else 0.8  # test prefers the first, and is not asked
        kept = keep(tmp_path, "net", share, seed=seed, config_seed=seed, measurements=(timed(5),))
        assert kept.outcome is not None
        scores = replace(kept.outcome.metrics, val_metrics={"top1_accuracy": val})
        write_json(replace(kept, outcome=replace(kept.outcome, metrics=scores)), record_path(tmp_path, kept))
    assert recommend(tmp_path) == 0
    assert "(seed 1, the best on val of 3)" in said(capsys)


def test_recommend_needs_one_table(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = examples.data_of(LABELS, NAMES, name="birds", digest="b" * 16)
    examples.keep(three, "net", examples.predictions_of(LABELS == 0, LABELS, classes=2), info)
    assert recommend(three) == 2
    assert "holds 2 tables" in said(capsys)
    assert recommend(three, "--data", "pets") == 0
    (pets,) = (one for one in read(three) if one.table.key.dataset == "pets")
    assert recommend(three, "--table", pets.table.key.id) == 0


def test_unreadable_flags_are_shown_with_the_error(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "best", "--results", str(three)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: compare best --results {three}\n")
    assert "required" in error


def test_recommend_exits_3_if_nothing_beats_the_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path, "coin", 0.52, measurements=(timed(5),))
    assert recommend(tmp_path) == 3
    text = said(capsys)
    assert "No recommendation: coin would be chosen" in text
    assert "not significantly better than the majority-class baseline (glass, 50.0 %)." in text


@pytest.fixture
def two_machines(tmp_path: Path) -> Path:
    """Two rows without a significant difference: the first is faster on the training machine, the other on a phone."""
    phone = replace(examples.ENVIRONMENT, machine="phone-8-cores")
    for model, here, there in (("first", 5, 60), ("other", 30, 40)):
        record = keep(tmp_path, model, 0.9, measurements=(timed(here),))
        found = record.with_latency(Latency(environment=phone, measurements=(timed(there),)))
        write_json(found, record_path(tmp_path, found))
    return tmp_path


def test_recommend_uses_the_named_machine(two_machines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recommend(two_machines, "--margin", "5") == 0
    text = said(capsys)
    assert "Ship first: " in text
    assert f"Latencies are of {examples.ENVIRONMENT.machine}; --machine NAME chooses another: phone-8-cores." in text
    assert recommend(two_machines, "--margin", "5", "--machine", "phone-8-cores") == 0
    text = said(capsys)
    assert "Ship other: " in text
    assert "p50 40.0 ms" in text
    assert "Latencies are of phone-8-cores;" in text


def test_latency_limits_are_of_the_named_machine(two_machines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ("--max-latency-ms", "50")
    assert recommend(two_machines, *limits) == 0
    assert "Ship first: " in said(capsys)
    assert recommend(two_machines, *limits, "--machine", "phone-8-cores") == 0
    assert "Ship other: " in said(capsys)
    assert recommend(two_machines, "--max-latency-ms", "20", "--machine", "phone-8-cores") == 3
    assert "excludes first (p90 60 ms (quick run, not validated)) and other (p90 40 ms" in said(capsys)


def test_an_unknown_machine_is_refused(two_machines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recommend(two_machines, "--machine", "toaster") == 2
    known = f"machines that have: {examples.ENVIRONMENT.machine}, phone-8-cores"
    assert said(capsys) == f"error: --machine toaster: has not measured this table; {known}"


def test_one_machine_needs_no_name(three: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recommend(three) == 0
    assert "Latencies are of" not in said(capsys)
