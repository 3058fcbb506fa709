"""Latency files of other machines are read into the records, and never replace what the training machine measured."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bench.latency.protocol import PROTOCOL_VERSION
from bench.records.copies import find_copies
from bench.records.measurements import Check, Measurement
from bench.records.paths import OUTCOME, PLACE, Paths
from bench.records.schema import LATENCY_FILE_VERSION, Latency, LatencyFile, RunRecord
from bench.records.store import read_records, record_path, write_json
from imgcls.errors import ConfigError
from imgcls.evaluation.results import Parity
from tests.helpers import examples

OWN = examples.ENVIRONMENT.machine
LAPTOP = "laptop-4-cores"


def timed(
    runtime: str = "onnxruntime-cpu", *, when: str = "2026-01-02", ms: float = 5.0, **changes: object
) -> Measurement:
    row = replace(examples.measurement(runtime), samples_ms=(ms,) * 100, measured_at=f"{when}T00:00:00+00:00")
    return replace(row, **changes)  # type: ignore[arg-type]


def checked(inputs: str) -> Check:
    parity = Parity(max_rel_logit_error=1e-6, top1_agreement=1.0, flips=())
    kept = {"protocol_version": PROTOCOL_VERSION, "precision": "fp32", "parity": parity}
    return Check(runtime="onnxruntime-cpu", status="ok", inputs=inputs, **kept)  # type: ignore[arg-type]


def trained(results: Path, *rows: Measurement, checks: tuple[Check, ...] = ()) -> RunRecord:
    made = examples.record(run_id="one", measurements=rows, checks=checks)
    write_json(made, record_path(results, made))
    return made


def came_back(results: Path, *rows: Measurement, machine: str = LAPTOP, **changes: object) -> Path:
    """Write the latency file of a machine to which the artifacts were copied."""
    found = Latency(
        environment=replace(examples.ENVIRONMENT, machine=machine),
        measurements=rows,
        checks=changes.pop("checks", ()),  # type: ignore[arg-type]
    )
    whole = LatencyFile(
        schema_version=LATENCY_FILE_VERSION, run_id="one", train_id="t", onnx_sha256="a" * 64, latency=found
    )
    path = Paths(results=results).latency_file(machine, "one")
    write_json(replace(whole, **changes), path)  # type: ignore[arg-type]
    return path


def times(record: RunRecord, machine: str) -> list[tuple[str, float | None]]:
    return [(row.runtime, row.samples_ms[0] if row.samples_ms else None) for row in record.on(machine).measurements]


def test_figures_of_another_machine_are_added(tmp_path: Path) -> None:
    made = trained(tmp_path, timed(ms=9.0))
    before = record_path(tmp_path, made).read_bytes()
    came_back(tmp_path, timed(ms=5.0))
    (found,) = read_records(tmp_path)
    assert times(found, OWN) == [("onnxruntime-cpu", 9.0)]
    assert times(found, LAPTOP) == [("onnxruntime-cpu", 5.0)]
    assert record_path(tmp_path, made).read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"onnx_sha256": "b" * 64}, "it is of another ONNX file than that of run one; measure it again"),
        ({"run_id": "two"}, "no finished run two here"),
        ({"schema_version": 99}, "schema version 99"),
    ],
)
def test_files_of_other_runs_are_skipped(
    changes: dict[str, object], says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = trained(tmp_path, timed())
    came_back(tmp_path, timed(ms=5.0), **changes)
    assert read_records(tmp_path) == [made]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"skipped measurements/{LAPTOP}/one.json: ")
    assert says in line


def test_a_latency_file_cut_short_is_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = trained(tmp_path, timed())
    path = came_back(tmp_path, timed(ms=5.0))
    path.write_text(path.read_text()[:200])
    assert read_records(tmp_path) == [made]
    assert f"skipped measurements/{LAPTOP}/one.json: not a complete record" in caplog.text


def test_an_equally_named_machine_adds_and_renews(tmp_path: Path) -> None:
    trained(tmp_path, timed(ms=9.0), timed("openvino-cpu", when="2026-03-01", ms=7.0))
    rows = (timed(when="2026-02-01", ms=5.0), timed("openvino-cpu", when="2026-02-01", ms=8.0), timed("pytorch-cpu"))
    came_back(tmp_path, *rows, machine=OWN)
    (found,) = read_records(tmp_path)
    assert dict(times(found, OWN)) == {"openvino-cpu": 7.0, "onnxruntime-cpu": 5.0, "pytorch-cpu": 5.0}


@pytest.mark.parametrize("change", [{"status": "failed", "samples_ms": ()}, {"validity": "invalid"}])
def test_a_later_failure_hides_no_figure(change: dict[str, object], tmp_path: Path) -> None:
    trained(tmp_path, timed(ms=9.0))
    came_back(tmp_path, timed(when="2026-02-01", ms=5.0, **change), machine=OWN)
    assert times(read_records(tmp_path)[0], OWN) == [("onnxruntime-cpu", 9.0)]


def test_checks_on_test_images_are_kept(tmp_path: Path) -> None:
    trained(tmp_path, timed(), checks=(checked("test"),))
    came_back(tmp_path, timed(when="2026-02-01"), machine=OWN, checks=(checked("synthetic"),))
    (found,) = read_records(tmp_path)
    assert [check.inputs for check in found.checks] == ["test"]


def carried(home: Path, *records: RunRecord) -> Path:
    """Write an artifact folder with the records that travel in it."""
    home.mkdir(parents=True)
    (home / OUTCOME).write_text("{}")
    (home / PLACE).write_text("{}")
    for record in records:
        write_json(record, home / f"{record.run_id}.json")
    return home


def test_copies_are_found_below_a_folder(tmp_path: Path) -> None:
    one, two, three = (examples.record(run_id=name) for name in ("one", "two", "three"))
    homes = carried(tmp_path / "a", one, two), carried(tmp_path / "deep" / "b", three)
    assert [copy.record.run_id for copy in find_copies(tmp_path).found] == ["one", "two", "three"]
    assert [copy.folder for copy in find_copies(homes[1]).found] == [homes[1]]


def test_unusable_copies_are_reported_with_reasons(tmp_path: Path) -> None:
    made = examples.record(run_id="one")
    carried(tmp_path / "a", made)
    carried(tmp_path / "b")
    carried(tmp_path / "c", examples.record(run_id="cut"))
    (tmp_path / "c" / "cut.json").write_text("{")
    shutil.copytree(tmp_path / "a", tmp_path / "d")
    carried(tmp_path / "e", replace(examples.record(run_id="f"), status="failed", outcome=None))
    found = find_copies(tmp_path)
    assert [copy.record for copy in found.found] == [made]
    reasons = ["copy records/<machine>/<run_id>.json", "not a complete record", "is in", "the record of a failed run"]
    assert [words in reason for words, reason in zip(reasons, found.skipped, strict=True)] == [True] * 4


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ("nothing", "no such folder; copy artifacts/<train_id>"),
        ("empty", "no outcome.json there or below"),
        ("no record", "has no record of its run; copy records/<machine>/<run_id>.json"),
    ],
)
def test_a_folder_without_copies_is_refused(made: str, says: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    if made == "empty":
        home.mkdir()
    if made == "no record":
        carried(home)
    with pytest.raises(ConfigError, match=f'^artifacts="{home}": .*{says}'):
        find_copies(home)
