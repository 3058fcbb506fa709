"""The real command in separate processes: runs, failures, concurrent commands, and Ctrl-C."""

import json
import os
import resource
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from bench import harness
from bench.cli import run
from bench.comparison import analysis
from bench.comparison.latencies.speeds import shown
from bench.config import with_overrides
from bench.latency.measure import Measured
from bench.recipes import RECIPES
from bench.records.measurements import Measurement
from bench.records.paths import Paths
from bench.records.schema import RunRecord
from bench.records.store import read_records
from imgcls.config import RuntimeConfig
from imgcls.evaluation.predictions import load_predictions
from imgcls.inference.predict import classify
from tests.helpers import examples, latency_rows
from tests.helpers.boards import keep, some_right
from tests.helpers.commands import bench, bench_here, kill, start
from tests.helpers.images import MakeFolder
from tests.helpers.short_protocol import SHORT_FULL
from tests.helpers.waiting import busy_processes, until
from tests.helpers.weights import write_weights

# One thread, because other tests run on the other cores.
SMALL = ("--recipe", "quick", "--weights", "none", "--image-size", "32", "--train-threads", "1")
FLAGS = (*SMALL, "--epochs", "1")
ONE_RUNTIME = ("--runtimes", "onnxruntime-cpu")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, digits_cache: Path) -> Path:
    """Results of one run-all of two models on digits."""
    home = tmp_path_factory.mktemp("done")
    shutil.copytree(digits_cache, home / "cache")
    environment = {"IMGCLS_CACHE": str(home / "cache")}
    models = ("--models", "test_efficientnet", "test_resnet")
    status, output = bench("run-all", *models, *FLAGS, "--results", str(home / "results"), environment=environment)
    assert status == 0, output
    return home


def test_training_beside_other_processes_is_reported(make_folder: MakeFolder, tmp_path: Path) -> None:
    data = ("--data", str(make_folder({"cat": 60, "dog": 60})))
    flags = ("run", "test_efficientnet", *data, *FLAGS, *ONE_RUNTIME, "--results", str(tmp_path / "results"))
    with busy_processes():
        status, output = bench_here(*flags)
    assert status == 0, output
    assert "% of the CPU during training (test_efficientnet): training times and images/s are not those of" in output
    (record,) = read_records(tmp_path / "results")
    assert record.outcome is not None
    assert (record.outcome.training.others_share or 0.0) > 0.2
    assert (
        "of the CPU during 1 of 1 trainings, whose times and images/s are too slow: `test_efficientnet` (seed 0)"
        in (tmp_path / "results" / "leaderboard.md").read_text()
    )


def test_frozen_features_are_a_row_beside_the_fine_tuned_model(make_folder: MakeFolder, tmp_path: Path) -> None:
    root, results = make_folder({"cat": 30, "dog": 30}), tmp_path / "results"
    weights = write_weights(tmp_path / "weights")
    small = ("--image-size", "32", "--epochs", "2", "--precision", "fp32", "--train-threads", "1", *ONE_RUNTIME)
    flags = ("--data", str(root), "--weights", str(weights), *small, "--results", str(results))
    for layers in ((), ("--tune-layers", "head", "--feature-views", "2")):
        status, output = bench_here("run", "test_efficientnet", *flags, *layers)
        assert status == 0, output
    (comparison,) = analysis.read(results)
    by_setting = {row.setting: row.outcome.training for row in comparison.table.rows}
    frozen = by_setting["tune_layers=head", "feature_views=2", "weights=made_up"]
    tuned = by_setting["weights=made_up",]
    assert (frozen.epochs, frozen.steps, frozen.best_epoch) == (1, 0, 1)
    assert frozen.history[0].images == 2 * 48
    assert 0 < frozen.train_time_s == frozen.history[0].train_time_s
    assert 0 < tuned.head_time_s < tuned.train_time_s
    assert tuned.train_time_s == pytest.approx(tuned.head_time_s + sum(epoch.train_time_s for epoch in tuned.history))


def test_run_on_a_table_finds_its_images_again(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"all": 60})
    rows = [f"all/{number:03d}.png,{'ab'[number % 2]},s{number // 4}" for number in range(60)]
    table = tmp_path / "kinds.csv"
    table.write_text("\n".join(["path,label,session", *rows, "all/none.png,a,s0"]), encoding="utf-8")
    environment, results = {"IMGCLS_CACHE": str(tmp_path / "cache")}, str(tmp_path / "results")
    data = ("--data", str(root), "--labels", str(table), "--group-by", "session")
    status, output = bench_here(
        "run", "test_efficientnet", *data, *FLAGS, *ONE_RUNTIME, "--results", results, environment=environment
    )
    assert status == 0, output
    assert f"python -m bench audit {root} --labels {table}" in output
    (record,) = read_records(Path(results))
    assert record.dataset.grouped_by == "session"
    assert record.dataset.removed == {"no such file": 1}
    status, output = bench_here("report", "--results", results, environment=environment)
    assert status == 0, output
    assert "No thumbnails" not in (Path(results) / "report" / "index.html").read_text(encoding="utf-8")


def test_run_all_writes_its_results(done: Path) -> None:
    results = done / "results"
    two = read_records(results)
    assert sorted(record.config.model for record in two) == ["test_efficientnet", "test_resnet"]
    assert (results / "leaderboard.md").read_text().count("| random |") == 2
    assert (results / "leaderboard.csv").exists()
    for record in two:
        assert {(row.runtime, row.batch_size) for row in record.measurements} >= {
            ("pytorch-cpu", 1),
            ("pytorch-cpu", 32),
            ("onnxruntime-cpu", 1),
            ("onnxruntime-cpu", 32),
        }
        assert all(
            (row.status, row.protocol, row.validity) == ("ok", "quick", None)
            for row in record.measurements
            if row.runtime.endswith("cpu")
        )
        left = {path.name for path in (results / "artifacts" / record.train_id).iterdir()}
        kept = {"model.safetensors", "model.onnx", "test_logits.npz", "val_logits.npz", "outcome.json"}
        assert left == kept | {"place.json", "synthetic.npz", f"{record.run_id}.json"}
        assert list((results / "records").glob(f"*/{record.run_id}.npz"))


def test_a_network_is_measured_once(make_folder: MakeFolder, tmp_path: Path) -> None:
    """Two seeds of two settings; the rows of both have the latency of one run, and a repetition measures nothing."""
    data, results = ("--data", str(make_folder({"cat": 20, "dog": 20}))), tmp_path / "results"
    flags = ("run", "test_efficientnet", *data, *FLAGS, *ONE_RUNTIME, "--results", str(results), "--seeds", "0", "1")
    for setting in ((), ("--lr", "0.01"), ("--lr", "0.01")):
        before = read_records(results)
        status, output = bench_here(*flags, *setting)
        assert status == 0, output
    assert read_records(results) == before
    found = {(one.config.train.lr, one.config.seed): bool(one.measurements) for one in read_records(results)}
    assert found == {(1e-3, 0): True, (1e-3, 1): False, (1e-2, 0): False, (1e-2, 1): False}
    (comparison,) = analysis.read(results)
    first, second = (shown(row, "onnxruntime-cpu") for row in comparison.table.rows)
    assert first is not None
    assert first == second


def quick(*runtimes: str) -> tuple[Measurement, ...]:
    return tuple(examples.measurement(runtime) for runtime in runtimes)


@pytest.mark.parametrize(
    ("model", "epochs", "earlier", "expected"),
    [
        ("net", 3, (latency_rows.row("pytorch-cpu"), latency_rows.row("onnxruntime-cpu")), None),
        ("net", 3, quick("pytorch-cpu", "onnxruntime-cpu"), None),
        ("net", 3, quick("pytorch-cpu"), ("onnxruntime-cpu",)),
        ("net", 3, (replace(quick("pytorch-cpu")[0], num_threads=2),), ("pytorch-cpu", "onnxruntime-cpu")),
        (
            "net",
            3,
            (replace(quick("pytorch-cpu")[0], status="failed", samples_ms=()),),
            ("pytorch-cpu", "onnxruntime-cpu"),
        ),
        ("other", 3, quick("pytorch-cpu", "onnxruntime-cpu"), ("pytorch-cpu", "onnxruntime-cpu")),
        ("net", 9, quick("pytorch-cpu", "onnxruntime-cpu"), ("pytorch-cpu", "onnxruntime-cpu")),
    ],
)
def test_what_any_run_of_a_network_has_is_not_measured_again(  # noqa: PLR0913, PLR0917 - the cases
    model: str,
    epochs: int,
    earlier: tuple[Measurement, ...],
    expected: tuple[str, ...] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An earlier run in the results folder, and two new seeds of another setting in the table of three epochs."""
    plain = RECIPES["quick"]("resnet50")
    plain = replace(plain, runtime=replace(plain.runtime, runtimes=("pytorch-cpu", "onnxruntime-cpu")))
    keep(tmp_path, model, some_right(0.9), config=with_overrides(plain, {"epochs": epochs}), measurements=earlier)
    config = with_overrides(plain, {"epochs": 3, "lr": 0.1})
    new = [keep(tmp_path, "net", some_right(0.8), config=config, seed=seed, measurements=()) for seed in (0, 1)]
    calls: list[tuple[tuple[str, ...], int]] = []

    def stand_in(records: list[RunRecord], *_: object, runtime: RuntimeConfig, **__: object) -> Measured:
        calls.append((runtime.runtimes, len(records)))
        return Measured(rows=(), ok=True)

    monkeypatch.setattr(harness, "measure_all", stand_in)
    monkeypatch.setattr(harness, "remember_place", lambda _: None)
    paths = Paths(results=tmp_path, cache=tmp_path)
    tasks = [SimpleNamespace(run_id=one.run_id, paths=paths, dataset=one.dataset) for one in new]  # type: ignore[attr-defined]
    harness.carry_out(tasks, lambda _: new)  # type: ignore[arg-type]
    assert calls == ([] if expected is None else [(expected, 1)])


def test_record_is_complete_and_names_no_folder(done: Path) -> None:
    (record, _) = read_records(done / "results")
    text = next((done / "results" / "records").glob(f"*/{record.run_id}.json")).read_text()
    assert str(done) not in text
    assert record.outcome is not None
    assert record.outcome.training.history
    assert record.dataset.name == "digits"
    assert sum(map(sum, record.dataset.counts.values())) == 1797
    assert record.outcome.artifact.parity.max_rel_logit_error < 1e-4
    json.loads(text, parse_constant=pytest.fail)


def test_finished_runs_are_skipped(done: Path) -> None:
    before = read_records(done / "results")
    models = ("--models", "test_efficientnet", "test_resnet")
    environment = {"IMGCLS_CACHE": str(done / "cache")}
    status, output = bench_here("run-all", *models, *FLAGS, "--results", str(done / "results"), environment=environment)
    assert status == 0
    assert output.count("already done") == 2
    assert "epoch 1/1" not in output
    assert read_records(done / "results") == before


def test_run_without_artifacts_is_repeated(done: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(done / "results" / "records", results / "records")
    environment = {"IMGCLS_CACHE": str(done / "cache")}
    status, output = bench_here("run", "test_efficientnet", *FLAGS, "--results", str(results), environment=environment)
    assert status == 0, output
    assert "epoch 1/1" in output
    assert "already done" not in output


def test_new_runtimes_do_not_retrain(done: Path) -> None:
    flags = (*FLAGS, "--runtimes", "onnxruntime-cpu", "--results", str(done / "results"))
    environment = {"IMGCLS_CACHE": str(done / "cache")}
    status, output = bench_here("run", "test_resnet", *flags, environment=environment)
    assert status == 0
    assert "epoch 1/1" not in output
    same = [record for record in read_records(done / "results") if record.config.model == "test_resnet"]
    assert len(same) == 2
    assert len({record.train_id for record in same}) == 1
    assert same[0].outcome == same[1].outcome


def test_leaderboard_is_rebuilt_from_records(done: Path) -> None:
    page = done / "results" / "leaderboard.md"
    before = page.read_text()
    page.unlink()
    status, _ = bench_here("leaderboard", "--results", str(done / "results"))
    assert status == 0
    assert page.read_text() == before


def test_predict_repeats_the_test_predictions(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = read_records(done / "results")[0]
    folder = done / "results" / "artifacts" / record.train_id
    stored = load_predictions(folder / "test_logits.npz")
    root = done / "cache" / "datasets" / "digits"
    predictions = classify(folder / "model.onnx", [root / image_id for image_id in stored.image_ids])
    assert [photo.class_name for photo in predictions] == [str(label) for label in stored.logits.argmax(axis=1)]
    status, output = bench_here("predict", str(folder / "model.onnx"), str(root / stored.image_ids[0]))
    assert status == 0
    assert "Probability" in output
    assert not capsys.readouterr().err


def test_killed_measurement_is_resumed(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "results"
    shutil.copytree(done / "results", results)
    before = read_records(results)[0]
    for path in (results / "records").glob("*/*.json"):
        if path.stem != before.run_id:
            path.unlink()
    command = ("measure", "--results", str(results), "--runtimes", "onnxruntime-cpu")
    environment = {"IMGCLS_CACHE": str(done / "cache")}
    process = start(*command, environment=environment, module="tests.helpers.short_protocol")
    until(lambda: list(results.glob("artifacts/.measure/*/round-0-*.json")), what="the end of the first round")
    kill(process)
    first = json.loads(next(results.glob("artifacts/.measure/*/round-0-*.json")).read_text())[0]["samples_ms"][0]
    monkeypatch.setattr(run, "FULL", SHORT_FULL)
    status, output = bench_here(*command, environment=environment)
    assert status == 0, output
    assert "round 5 of 5" in output
    (record,) = read_records(results)
    assert record.outcome == before.outcome
    rows = [row for row in record.measurements if row.runtime == "onnxruntime-cpu"]
    assert [(row.kind, row.batch_size) for row in rows] == [
        ("host", 1),
        ("file", 1),
        ("host", 8),
        ("host", 32),
        ("host", 128),
    ]
    assert {row.validity for row in rows} <= {"valid", "noisy", "invalid"}
    assert all(len(row.rounds) == 5 for row in rows)
    assert rows[0].num_queries >= 64
    assert rows[0].samples_ms[0] == round(first, 4)  # the round before the kill is not repeated
    assert record.checks[0].parity is not None
    others = [row for row in before.measurements if row.runtime != "onnxruntime-cpu"]
    assert [row for row in record.measurements if row.runtime != "onnxruntime-cpu"] == others
    assert not list(results.glob("artifacts/.measure/*"))
    assert "onnxruntime-cpu" in (results / "leaderboard.md").read_text()


def test_failures_do_not_stop_other_runs(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 20, "dog": 20})
    results = tmp_path / "results"
    flags = ("--data", str(root), *FLAGS, "--results", str(results), "--runtimes", "onnxruntime-cuda")
    limited = ("bash", "-c", 'ulimit -f 20000; exec "$0" "$@"')  # 20 MB per file: less than the checkpoint of resnet18
    process = start("run-all", "--models", "resnet18", "test_resnet", *flags, before=limited)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1, output
    by_model = {record.config.model: record for record in read_records(results)}
    assert by_model["resnet18"].status == "failed"
    assert "Error" in str(by_model["resnet18"].error)
    assert str(tmp_path) not in str(by_model["resnet18"].error)
    assert by_model["test_resnet"].status == "ok"
    if not torch.cuda.is_available():
        assert {row.status for row in by_model["test_resnet"].measurements} == {"not measured"}
    assert (results / "leaderboard.md").read_text().count("| failed: ") == 1


def test_full_disk_is_a_failed_row(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 20, "dog": 20})
    flags = ("--data", str(root), *FLAGS, "--results", str(tmp_path / "results"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))  # less than the checkpoint needs
    try:
        status, output = bench_here("run", "test_efficientnet", *flags)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert status == 1, output
    (record,) = read_records(tmp_path / "results")
    assert record.status == "failed"
    assert not list((tmp_path / "results").rglob("*.partial"))


def killed_child(results: Path, flags: tuple[str, ...]) -> tuple[int, str]:
    """Kill the training process, but not the command, as the kernel does when memory runs out."""
    process = start("run", "test_resnet", *flags, "--epochs", "500", "--results", str(results))
    assert process.stdout is not None
    for line in process.stdout:
        if "epoch 1/" in line:
            break
    children = psutil.Process(process.pid).children()
    (worker,) = (child for child in children if "bench.runs.worker" in child.cmdline())
    worker.kill()
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def test_killed_process_is_a_failed_row(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 20, "dog": 20})
    flags = ("--data", str(root), *SMALL)
    status, output = killed_child(tmp_path / "results", flags)
    assert status == 1, output
    (record,) = read_records(tmp_path / "results")
    assert record.status == "failed"
    assert "signal 9" in str(record.error)


def test_concurrent_commands_train_once(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 30, "dog": 30})
    flags = ("--data", str(root), *FLAGS, *ONE_RUNTIME, "--results", str(tmp_path / "results"))
    both = [start("run-all", "--models", "test_efficientnet", "test_resnet", *flags) for _ in range(2)]
    outputs = [process.communicate(timeout=500)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum(output.count("epoch 1/1") for output in outputs) == 2
    assert len(read_records(tmp_path / "results")) == 2


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_interrupted_run_is_resumed(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 30, "dog": 30})
    flags = ("--data", str(root), *SMALL, *ONE_RUNTIME, "--results", str(tmp_path / "results"))
    process = start("run", "test_resnet", *flags, "--epochs", "60")
    assert process.stdout is not None
    for line in process.stdout:
        if "epoch 3/" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=300)
    assert process.returncode == 130
    left = [other for other in psutil.process_iter() if "bench.runs.worker" in _words(other)]
    assert not [other for other in left if str(tmp_path) in " ".join(_words(other))]
    status, output = bench_here("run", "test_resnet", *flags, "--epochs", "60")
    assert status == 0
    assert "epoch 1/60" not in output
    (record,) = read_records(tmp_path / "results")
    assert record.outcome is not None
    assert record.outcome.training.resumed_from[0] >= 3


def test_forced_run_counts_test_scorings(make_folder: MakeFolder, tmp_path: Path) -> None:
    root, results = make_folder({"cat": 20, "dog": 20}), tmp_path / "results"
    command = ("run", "test_efficientnet", "--data", str(root), *FLAGS, *ONE_RUNTIME, "--results", str(results))
    assert bench_here(*command)[0] == 0
    first = read_records(results)[0]
    status, output = bench_here(*command, "--force")
    assert status == 0, output
    second = read_records(results)[0]
    assert (first.test_scorings, second.test_scorings) == (1, 2)
    assert first.outcome is not None
    assert second.outcome is not None
    assert first.outcome.artifact.sha256 == second.outcome.artifact.sha256
    assert second.measurements == first.measurements
    assert "identical to the previous one: its latency figures are kept" in output
    assert second.outcome.metrics.calibration is not None


def test_folds_test_every_image_once(make_folder: MakeFolder, tmp_path: Path) -> None:
    root, results = make_folder({"cat": 12, "dog": 12}), tmp_path / "results"
    flags = ("--data", str(root), "--folds", "2", *FLAGS, *ONE_RUNTIME, "--results", str(results))
    status, output = bench_here("run", "test_efficientnet", *flags)
    assert status == 0, output
    (found,) = analysis.read(results)
    (row,) = found.table.rows
    assert [record.config.split.fold for record in row.checkpoints[0].records] == [0, 1]
    assert row.checkpoints[0].predictions is not None
    tested = row.checkpoints[0].predictions.image_ids
    assert sorted(tested) == sorted(path.relative_to(root).as_posix() for path in root.glob("*/*.png"))
    assert "2 folds, every image tested once" in (results / "leaderboard.md").read_text()
