"""Records of all earlier schema versions are read without loss."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from bench.recipes import RECIPES, epochs_text, sizes_text
from bench.records.paths import Paths
from bench.records.predictions import read_predictions
from bench.records.schema import SCHEMA_VERSION, RunRecord
from bench.records.store import read_record, write_json
from bench.tuning.records import ADDED
from imgcls.evaluation.results import Calibration
from tests.helpers.examples import record

VERSIONS = range(1, SCHEMA_VERSION)
FIXTURES = Path(__file__).parent.parent.parent / "fixtures" / "records"

TRAINED_TWICE = 0.7094972067039106  # versions 3 and 4 repeat the run of version 1


def record_of(version: int) -> RunRecord:
    return read_record(FIXTURES / f"v{version}.json")


def accuracy_of(record: RunRecord) -> float:
    assert record.outcome is not None
    return record.outcome.metrics.test_metrics["top1_accuracy"]


def test_every_schema_version_has_a_fixture() -> None:
    assert sorted(path.name for path in FIXTURES.glob("*.json")) == [f"v{version}.json" for version in VERSIONS]


@pytest.mark.parametrize(
    ("version", "run_id", "train_id", "started_at", "accuracy"),
    [
        (1, "f1892c24d9b14611", "dead81644ab9f818", "2026-11-23T21:43:56+00:00", TRAINED_TWICE),
        (2, "c562a1287257c759", "d11ee0f80473e895", "2026-11-24T01:17:08+00:00", 0.7821229050279329),
        (3, "8770620fa4e68cc2", "ebf3e2f9afee114e", "2026-11-24T01:13:51+00:00", TRAINED_TWICE),
        (4, "8770620fa4e68cc2", "ebf3e2f9afee114e", "2026-11-24T11:47:58+00:00", TRAINED_TWICE),
    ],
)
def test_record_keeps_identity_and_score(
    version: int, run_id: str, train_id: str, started_at: str, accuracy: float
) -> None:
    record = record_of(version)
    assert (record.schema_version, record.status, record.error) == (version, "ok", None)
    assert (record.run_id, record.train_id, record.started_at) == (run_id, train_id, started_at)
    assert (record.config.model, record.config.recipe, record.dataset.name) == ("efficientnet_b0", "quick", "digits")
    assert record.dataset.counts["test"] == (18, 18, 18, 18, 18, 18, 18, 18, 17, 18)
    assert accuracy_of(record) == accuracy


@pytest.mark.parametrize(
    ("version", "rows", "rounds", "samples", "checks"),
    [
        (1, {(1, "host", "quick", None): 4}, 0, 817, 0),
        (2, {(1, "host", "quick", None): 4}, 0, 1171, 0),
        (3, {(2, "host", "full", "noisy"): 12, (2, "file", "full", "noisy"): 3}, 75, 4387, 3),
        (4, {(2, "host", "full", "noisy"): 12, (2, "file", "full", "noisy"): 3}, 75, 4387, 3),
    ],
)
def test_record_keeps_latency(
    version: int, rows: dict[tuple[int, str, str, str | None], int], rounds: int, samples: int, checks: int
) -> None:
    record = record_of(version)
    measured = record.measurements
    assert Counter((row.protocol_version, row.kind, row.protocol, row.validity) for row in measured) == rows
    assert {row.status for row in measured} == {"ok"}
    assert [row.session_id for row in measured] == [row.measured_at for row in measured]
    assert set(record.latency) == {"amd-epyc-2-cores"}
    assert sum(len(row.rounds) for row in measured) == rounds
    assert sum(len(row.samples_ms) for row in measured) == samples
    assert [sum(part.kept for part in row.rounds) for row in measured if row.rounds] == [
        len(row.samples_ms) for row in measured if row.rounds
    ]
    assert [check.status for check in record.checks] == ["ok"] * checks


def test_version_1_gets_training_defaults() -> None:
    train = record_of(1).config.train
    found = (train.schedule, train.select, train.weight_decay, train.label_smoothing)
    assert found == ("plateau", "best", 0.0, 0.0)


def test_version_2_keeps_tuning() -> None:
    record = record_of(2)
    tuning = record.tuning
    assert tuning is not None
    assert (record.config.train.schedule, record.config.train.select) == ("cosine", "last")
    assert tuning.study == "efficientnet_b0-digits-quick"
    assert (tuning.trial, tuning.trials, tuning.pruned, tuning.failed) == (12, 15, 9, 0)
    assert tuning.hyperparameters == {"lr": 0.004096123563081528, "dropout": 0.04195166000435968, "epochs": 3}
    assert (tuning.base.train.lr, tuning.base.train.schedule) == (0.001, "plateau")
    assert tuning.val_top1_accuracy == 0.7877094972067039


@pytest.mark.parametrize("version", VERSIONS)
def test_budget_and_overrides_are_derived(version: int) -> None:
    record = record_of(version)
    assert (epochs_text(record.base.budget), sizes_text(record.base.budget)) == (
        "3 epochs",
        "64 px (Inception V3: 75 px)",
    )
    assert record.base.overrides == {}
    if record.tuning is not None:
        assert record.config.overrides["schedule"] == "cosine"


@pytest.mark.parametrize("version", [1, 3, 4])
def test_untuned_record_is_its_own_base(version: int) -> None:
    record = record_of(version)
    assert record.tuning is None
    assert record.base is record.config


@pytest.mark.parametrize("version", [3, 4])
def test_checks_keep_runtime_and_precision(version: int) -> None:
    assert [(check.runtime, check.precision) for check in record_of(version).checks] == [
        ("pytorch-cpu", "fp32"),
        ("onnxruntime-cpu", "fp32"),
        ("onnxruntime-cpu-int8", "int8"),
    ]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_fields_of_later_versions_are_empty(version: int) -> None:
    record = record_of(version)
    assert record.outcome is not None
    assert (record.config.split.folds, record.config.split.fold, record.dataset.folds_digest) == (None, None, None)
    assert (record.outcome.metrics.calibration, record.test_scorings) == (None, 1)
    assert record.outcome.artifact.parity.cosine is None


def test_version_4_keeps_calibration() -> None:
    record = record_of(4)
    assert record.outcome is not None
    assert record.test_scorings == 2
    assert record.outcome.metrics.calibration == Calibration(
        temperature=0.8825724562704323, test_log_loss=0.8079046771653613
    )
    assert record.outcome.artifact.parity.cosine == 0.9999999999990471
    assert record.outcome.artifact.parity.only_trained_right == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_answers_match_the_recorded_score(version: int, tmp_path: Path) -> None:
    record = record_of(version)
    folder = tmp_path / "records" / record.environment.machine
    folder.mkdir(parents=True)
    shutil.copyfile(FIXTURES / f"v{version}.npz", folder / f"{record.run_id}.npz")
    predictions = read_predictions(record, Paths(results=tmp_path))
    assert predictions is not None
    assert (len(predictions.right), float(predictions.right.mean())) == (179, accuracy_of(record))
    assert (predictions.p_predicted > 0.1).all()
    assert len(set(predictions.group.tolist())) == 179
    assert predictions.log_p_true_calibrated is None


@pytest.mark.parametrize("version", VERSIONS)
def test_fields_that_a_version_lacked_are_no_overrides(version: int, tmp_path: Path) -> None:
    """Although the recipe has other values for them now: ``standard`` has the precision auto."""
    content = json.loads((FIXTURES / f"v{version}.json").read_text(encoding="utf-8"))
    content["config"]["recipe"] = "standard"
    standard = RECIPES["standard"]("efficientnet_b0")
    content["config"]["train"]["epochs"] = standard.train.epochs
    content["config"]["loader"]["image_size"] = standard.loader.image_size
    (tmp_path / "record.json").write_text(json.dumps(content), encoding="utf-8")
    assert not ADDED & set(read_record(tmp_path / "record.json").config.overrides)


def test_records_of_gpus_without_a_precision_were_in_bf16(tmp_path: Path) -> None:
    plain = record()
    write_json(plain, tmp_path / "record.json")
    content = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    content["config"]["train"]["device"] = "cuda"
    del content["config"]["train"]["precision"]
    (tmp_path / "old.json").write_text(json.dumps(content), encoding="utf-8")
    content["config"]["train"]["precision"] = "fp32"
    (tmp_path / "new.json").write_text(json.dumps(content), encoding="utf-8")
    found = [read_record(tmp_path / name).config.train.precision for name in ("record.json", "old.json", "new.json")]
    assert found == ["fp32", "bf16", "fp32"]
