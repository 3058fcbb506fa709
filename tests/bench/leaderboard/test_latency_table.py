"""What a reader sees of a latency: marks, intervals, ratios within rounds, and nothing of what may not be believed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.comparison import analysis
from bench.comparison.latencies.figures import measured
from bench.comparison.latencies.sessions import is_outlier, relative_half_width, round_samples, sessions_of
from bench.comparison.results.building import table_result
from bench.latency.protocol import PROTOCOL_VERSION
from bench.leaderboard.cells import latency_text
from bench.leaderboard.latency_table import latency_table
from bench.records.measurements import Check, Measurement
from bench.records.schema import RunRecord
from bench.render.documents import Block, three_digits
from bench.render.markdown import markdown
from imgcls.evaluation.results import Parity
from tests.helpers import examples
from tests.helpers.documents import markdown_of, tables_in
from tests.helpers.latency_rows import row


def int8(lost: int, images: int = 1000) -> Check:
    parity = Parity(
        max_rel_logit_error=0.1,
        top1_agreement=0.9,
        flips=(),
        only_trained_right=lost,
        only_runtime_right=0,
    )
    return Check(
        runtime="onnxruntime-cpu-int8",
        status="ok",
        protocol_version=PROTOCOL_VERSION,
        precision="int8",
        parity=parity,
        num_images=images,
    )


def document_of(record: RunRecord) -> list[Block]:
    (comparison,) = analysis.compare_records([record], Path("/nowhere"))
    return latency_table(table_result(comparison))


def lines_of(record: RunRecord) -> list[str]:
    return markdown(document_of(record)).splitlines()


def said(measurement: Measurement) -> str:
    return str(latency_text(measured(measurement, "here", {})))


def page_of(record: RunRecord) -> str:
    return markdown_of(*analysis.compare_records([record], Path("/nowhere")))


def table(record: RunRecord) -> dict[str, dict[str, str]]:
    """The latency table by runtime."""
    ((header, *lines),) = tables_in(document_of(record))
    return {cells[1]: dict(zip(header, cells, strict=True)) for cells in lines}


def test_a_ratio_is_taken_within_rounds_so_that_a_drift_of_all_does_not_widen_it() -> None:
    found = table(examples.record(measurements=(row("pytorch-cpu"), row("onnxruntime-cpu", speed=5.0))))
    assert found["onnxruntime-cpu"]["Time over pytorch-cpu's (95 %)"] == "0.500 (0.500 to 0.500)"
    assert found["onnxruntime-cpu"]["p50, ms"] == "6.00 ±16 %"


def test_rows_of_two_measurements_have_no_common_rounds_and_so_no_ratio() -> None:
    later = row("onnxruntime-cpu", speed=5.0, session_id="another")
    found = lines_of(examples.record(measurements=(row("pytorch-cpu"), later)))
    assert "Time over" not in found[0]


def test_rounds_can_be_told_apart_again() -> None:
    assert [len(samples) for samples in round_samples(row("pytorch-cpu"))] == [40] * 5
    old = examples.measurement()
    assert round_samples(old) == [old.samples_ms]


def test_a_figure_carries_its_half_width_and_its_queries_and_a_quick_one_says_so() -> None:
    full = row("pytorch-cpu")
    width = relative_half_width(full)
    assert width is not None
    assert said(full).endswith(f"ms ±{100 * width:.0f} % (n=200)")
    assert said(examples.measurement()).endswith("ms quick (n=100)")


def spread(width: float, **changes: object) -> Measurement:
    """A row whose five rounds lie about 10 ms, evenly over +-``width``."""
    steady = row("pytorch-cpu", **changes)
    levels = 10 * (1 + width * np.linspace(-1, 1, 5))
    return replace(steady, samples_ms=tuple(np.repeat(levels, 40).tolist()))


def test_noise_that_all_rows_share_is_one_sentence_and_a_mark_is_for_rows_worse_than_their_session() -> None:
    rows = tuple(spread(0.03, validity="noisy", num_threads=number) for number in range(1, 10))
    worse = spread(0.12, validity="noisy", num_threads=10)
    record = examples.record(measurements=(*rows, worse))
    sessions = sessions_of(record.measurements)
    assert [is_outlier(each, sessions) for each in record.measurements] == [False] * 9 + [True]
    page = lines_of(record)
    assert sum(" ~ |" in line for line in page) == 1
    assert [line for line in page if "10 of 10 rows of one session are noisy" in line]


def test_in_a_quiet_session_every_noisy_row_is_marked() -> None:
    rows = tuple(spread(0.01, num_threads=number) for number in range(1, 10))
    noisy = spread(0.03, validity="noisy", num_threads=10)
    sessions = sessions_of((*rows, noisy))
    assert is_outlier(noisy, sessions)
    assert "of one session are noisy" not in "\n".join(lines_of(examples.record(measurements=(*rows, noisy))))


def test_an_invalid_figure_is_no_figure_anywhere() -> None:
    record = examples.record(
        measurements=(row("pytorch-cpu", validity="invalid", reason="other processes: up to 50 %"),)
    )
    page = page_of(record)
    assert "12.0" in page_of(examples.record(measurements=(row("pytorch-cpu"),)))
    assert "12.0" not in page
    assert "invalid: `other processes: up to 50 %`" in page
    assert table(record)["pytorch-cpu"]["Validity"] == "invalid"
    assert "p50, ms" not in table(record)["pytorch-cpu"]


def test_a_refused_precision_has_no_place_and_the_reason_is_told() -> None:
    fast = row("onnxruntime-cpu-int8", speed=1.0)
    refused = examples.record(measurements=(row("pytorch-cpu"), fast), checks=(int8(lost=60),))
    page = page_of(refused)
    assert "- Refused: `resnet50, seed 0` on onnxruntime-cpu-int8: accuracy -6.0 pp (95 % CI -7.6 to -4.7)" in page
    assert "| refused |" in page
    assert table(refused)["onnxruntime-cpu-int8"]["p50, ms"] == "-"
    kept = examples.record(measurements=(row("pytorch-cpu"), fast), checks=(int8(lost=0),))
    assert table(kept)["onnxruntime-cpu-int8"]["p50, ms"].startswith("1.20")
    unsure = examples.record(measurements=(row("pytorch-cpu"), fast), checks=(int8(lost=1, images=100),))
    assert "too few images to tell" in table(unsure)["onnxruntime-cpu-int8"]["Accuracy against trained, pp (95 % CI)"]


def test_a_percentile_of_too_few_queries_is_not_shown() -> None:
    for queries, shown in ((63, ["p50, ms"]), (64, ["p50, ms", "p90, ms"]), (661, ["p50, ms", "p90, ms", "p95, ms"])):
        line = table(examples.record(measurements=(replace(row("pytorch-cpu"), num_queries=queries),)))["pytorch-cpu"]
        percentiles = [name for name in line if name in {"p50, ms", "p90, ms", "p95, ms", "p99, ms"}]
        assert percentiles == shown


@pytest.mark.parametrize(("value", "text"), [(0.1234, "0.12"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123")])
def test_a_latency_has_about_three_digits(value: float, text: str) -> None:
    assert three_digits(value) == text


def test_a_batch_that_did_not_fit_is_told_under_the_table() -> None:
    large = replace(
        examples.measurement(batch_size=128), status="failed", reason="batch 128 does not fit in memory", samples_ms=()
    )
    lines = lines_of(examples.record(measurements=(row("pytorch-cpu"), large)))
    assert "- `resnet50, seed 0` on pytorch-cpu: batch 128 failed (`batch 128 does not fit in memory`)" in lines
