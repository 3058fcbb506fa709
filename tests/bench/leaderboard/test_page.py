"""Records and the leaderboard that is made of nothing else."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from bench.comparison import analysis
from bench.comparison.tables import group
from bench.config import RunConfig, with_overrides
from bench.leaderboard import page
from bench.recipes import RECIPES, epochs_text, sizes_text
from bench.records.paths import Paths
from bench.records.schema import RunRecord
from bench.records.store import read_record, read_records, record_path, to_json, write_json
from imgcls.config import LoaderConfig, TrainConfig
from imgcls.errors import ConfigError
from tests.helpers import examples
from tests.helpers.documents import markdown_of, tables_of
from tests.helpers.markdown import rendered_tables

ODD_NAMES = ("a b", "müll 猫", "x|y", "<script>alert(1)</script>", "-dash", "`code` *bold*", "back\\slash", "[x](y)")


def page_of(*records: RunRecord) -> str:
    """The leaderboard of some records whose predictions are missing."""
    return markdown_of(*analysis.compare_records(records, Path("/nowhere")))


def main_table(*records: RunRecord) -> list[list[str]]:
    return tables_of(*analysis.compare_records(records, Path("/nowhere")))[0]


def write(results: Path, *records: object) -> list[Path]:
    paths = [record_path(results, record) for record in records]
    for record, path in zip(records, paths, strict=True):
        write_json(record, path)
    return paths


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    record = examples.record()
    (path,) = write(tmp_path, record)
    assert read_record(path) == record


def test_a_nan_never_reaches_a_record() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(replace(examples.record(), duration_s=float("nan")))


def test_an_unreadable_record_is_skipped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = examples.record()
    write(tmp_path, good)
    folder = record_path(tmp_path, good).parent
    (folder / "cut.json").write_text(to_json(good)[:500])
    (folder / "newer.json").write_text(json.dumps({"schema_version": 99}))
    assert read_records(tmp_path) == [good]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line.split(":")[0].split("/")[-1] for line in warnings] == ["cut.json", "newer.json"]
    assert "schema version 99" in warnings[1]


def test_a_failed_write_keeps_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = examples.record()
    (path,) = write(tmp_path, record)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(replace(record, duration_s=1.0), path)
    assert read_record(path) == record
    assert list(path.parent.iterdir()) == [path]


def test_the_leaderboard_is_made_from_records_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write(first, examples.record(), examples.record(accuracy=18 / 21, config=RECIPES["quick"]("vgg16")))
    page.write(Paths(results=first))
    shutil.copytree(first / "records", second / "records")
    (second / "leaderboard.md").write_text("an older one")
    page.write(Paths(results=second))
    for name in ("leaderboard.md", "leaderboard.csv"):
        assert (second / name).read_bytes() == (first / name).read_bytes()
    assert "85.7 (65.4 to 95.0)" in (second / "leaderboard.md").read_text()
    for path in second.glob("records/*/*.json"):
        path.write_text(path.read_text().replace("vgg16", "vgg19"))
    page.write(Paths(results=second))
    assert "`vgg19`" in (second / "leaderboard.md").read_text()
    assert "vgg16" not in (second / "leaderboard.md").read_text()


def test_the_majority_class_is_the_last_row() -> None:
    config = RECIPES["quick"]("vgg16")
    rows = main_table(examples.record(accuracy=12 / 21), examples.record(accuracy=18 / 21, config=config))
    assert [(row[1], row[3]) for row in rows[1:]] == [
        ("vgg16", "85.7 (65.4 to 95.0), predictions missing"),
        ("resnet50", "57.1 (36.5 to 75.5), predictions missing"),
        ("majority-class baseline (dog)", "52.4 (32.4 to 71.7)"),
    ]


def test_the_main_table_has_nine_columns() -> None:
    header, *_ = main_table(examples.record(measurements=()))
    assert header == [
        "Rank",
        "Model",
        "Setting",
        "Top-1 % (95 % CI)",
        "Macro-F1 %",
        "Params (M)",
        "GMACs",
        "CUDA ms",
        "ONNX ms",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"info": replace(examples.dataset(), digest="e" * 16)},
        {"info": replace(examples.dataset(), split_digest="e" * 16)},
        {"environment": replace(examples.ENVIRONMENT, machine="other")},
        {"config": with_overrides(RECIPES["quick"]("resnet50"), {"epochs": 9})},
        {"config": with_overrides(RECIPES["quick"]("resnet50"), {"image_size": 96})},
        {"config": RECIPES["standard"]("resnet50")},
    ],
)
def test_a_table_has_one_data_set_budget_and_machine(change: dict[str, object]) -> None:
    assert len(group([examples.record(), examples.record(**change)], {})) == 2


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_the_models_of_one_recipe_share_a_table(recipe: str) -> None:
    records = [
        examples.record(config=RECIPES[recipe](model), run_id=model)
        for model in ("resnet50", "efficientnet_b0", "inception_v3")
    ]
    assert len(group(records, {})) == 1


def test_rows_with_other_threads_differ_in_setting() -> None:
    config = RECIPES["quick"]("resnet50")
    threads = [replace(config, train=replace(config.train, device="cpu", train_threads=number)) for number in (1, 2)]
    records = [
        examples.record(config=each, init="pretrained", run_id=str(number)) for number, each in enumerate(threads)
    ]
    (table,) = group(records, {})
    assert len({row.row_id for row in table.rows}) == len({row.name for row in table.rows}) == 2
    assert {row.setting[-1] for row in table.rows} == {
        "device=cpu, train_threads=1",
        "device=cpu, train_threads=2",
    }


def test_a_failed_run_is_a_row_with_its_reason() -> None:
    failed = replace(
        examples.record(run_id="f", config=RECIPES["quick"]("vgg16")),
        status="failed",
        outcome=None,
        error="Traceback\n  x\nMemoryError: too | big\n",
    )
    rows = rendered_tables(page_of(examples.record(), failed))[0]
    assert rows[2][:2] == ["-", "vgg16"]
    assert rows[2][3] == "failed: MemoryError: too | big"


def test_cells_report_failed_and_unmeasured_runtimes() -> None:
    row = replace(examples.measurement("onnxruntime-cpu"), status="failed", reason="no memory here", samples_ms=())
    failed = examples.record(measurements=(examples.measurement(), row))
    main, rest, *_ = tables_of(*analysis.compare_records([failed], Path("/nowhere")))
    cells = dict(zip(main[0], main[1], strict=True))
    assert (cells["CUDA ms"], cells["ONNX ms"]) == ("not measured", "failed")
    cells = dict(zip(rest[0], rest[1], strict=True))
    assert cells["onnxruntime-cpu p50 / p90"] == "failed: no memory here"
    assert cells["pytorch-cpu p50 / p90"].endswith("quick (n=100)")


def test_random_weights_are_part_of_the_setting() -> None:
    header, row, _ = main_table(examples.record())
    assert dict(zip(header, row, strict=True))["Setting"] == "weights=random"


@pytest.mark.parametrize(
    ("name", "tag", "setting"),
    [
        ("net.a1_in1k", "a1_in1k", "-"),
        # Part of the tag in the name, and yet another tag.
        ("net.a1_in1k", "in1k", "weights=in1k"),
        ("net_in1k", "in1k", "weights=in1k"),
    ],
)
def test_weights_other_than_those_of_the_name_are_part_of_the_setting(name: str, tag: str, setting: str) -> None:
    record = examples.record(init="pretrained")
    assert record.outcome is not None
    model = replace(record.outcome.model, timm_name=name, weights_tag=tag)
    header, row, _ = main_table(replace(record, outcome=replace(record.outcome, model=model)))
    assert dict(zip(header, row, strict=True))["Setting"] == setting


def test_classifier_trained_by_gradient_is_part_of_the_setting() -> None:
    config = with_overrides(RECIPES["quick"]("resnet50"), {"tune_layers": "head-then-all"})
    record = examples.record(config=config, init="pretrained")
    assert record.outcome is not None
    training = replace(record.outcome.training, classifier_fit="gradient")
    other = replace(record, outcome=replace(record.outcome, training=training))
    for shown, named in ((record, False), (other, True)):
        header, row, _ = main_table(shown)
        assert ("classifier_fit=gradient" in dict(zip(header, row, strict=True))["Setting"]) == named


def test_initialisation_that_differs_is_noted() -> None:
    other = examples.record(accuracy=0.9, init="pretrained")
    assert "Initialisation differs" in page_of(examples.record(), other)
    assert "Initialisation differs" not in page_of(examples.record())


def test_the_budget_and_not_the_recipe_makes_a_table() -> None:
    quick, cosine = (RECIPES["quick"]("resnet50") for _ in range(2))
    cosine = with_overrides(cosine, {"schedule": "cosine"})
    assert len(group([examples.record(config=quick), examples.record(config=cosine)], {})) == 1
    standard = with_overrides(RECIPES["standard"]("resnet50"), {"epochs": 3, "image_size": 64})
    same = with_overrides(quick, {"image_size": 64})
    (table,) = group([examples.record(config=same), examples.record(config=standard)], {})
    assert sorted(row.setting[0] for row in table.rows) == ["recipe=quick", "recipe=standard"]


def test_odd_class_names_stay_text(tmp_path: Path) -> None:
    record = examples.record(info=examples.dataset(ODD_NAMES))
    text = page_of(record)
    main, _rows, _checkpoints, classes, *_ = rendered_tables(text)
    assert sorted(row[0] for row in classes[1:]) == sorted(ODD_NAMES)
    assert main[-1][1] == f"majority-class baseline ({ODD_NAMES[-1]})"
    assert "<script>" not in MarkdownIt("gfm-like", {"linkify": False, "html": False}).render(text)
    write(tmp_path, record)
    page.write(Paths(results=tmp_path))
    assert (tmp_path / "leaderboard.csv").read_text().count("\n") == 2


def test_config_fields_have_unique_names() -> None:
    names = [
        field
        for part in ("split", "loader", "architecture", "train", "runtime")
        for field in getattr(RunConfig(), part).__dataclass_fields__
    ]
    assert len(names) == len(set(names))


def test_standard_has_one_budget_for_all_models() -> None:
    models = ("resnet50", "efficientnet_b0", "inception_v3")
    standard = [RECIPES["standard"](model) for model in models]
    assert len({(config.train, config.loader) for config in standard}) == 1
    report = [RECIPES["report"](model) for model in models]
    assert [config.train.epochs for config in report] == [20, 15, 20]
    assert [config.loader.image_size for config in report] == [224, 299, 299]
    assert {config.split.max_class_ratio for config in report} == {1.5}
    assert [config.architecture.dropout for config in report] == [0.0, 0.5, 0.0]


def test_an_overridden_budget_is_described() -> None:
    config = RECIPES["report"]("resnet50")
    assert "15 for EfficientNet-B0" in epochs_text(config.budget)
    changed = with_overrides(config, {"epochs": 3, "image_size": 128})
    assert (epochs_text(changed.budget), sizes_text(changed.budget)) == ("3 epochs", "128 px")
    assert changed.budget.rule is None


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (TrainConfig, {"epochs": 0}),
        (TrainConfig, {"lr": -1.0}),
        (TrainConfig, {"lr": float("nan")}),
        (TrainConfig, {"lr": float("inf")}),
        (LoaderConfig, {"batch_size": 1}),
        (LoaderConfig, {"image_size": 0}),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(kind: type, changes: dict[str, float]) -> None:
    (name,) = changes
    with pytest.raises(ConfigError, match=f"^{name} is "):
        kind(**changes)


def test_training_on_another_machine_is_noted() -> None:
    here = examples.record()
    assert here.outcome is not None
    elsewhere = replace(here.outcome.environment, machine="gpu-node-64-cores")
    there = replace(here, outcome=replace(here.outcome, environment=elsewhere))
    assert "was trained on" not in page_of(here)
    assert "`resnet50`, seed 0, was trained on gpu-node-64-cores" in page_of(there)
