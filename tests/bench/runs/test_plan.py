"""Planned runs: what identifies a run and its training, and their task files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
from timm.models import PretrainedCfg, get_pretrained_cfg

from bench import harness
from bench.comparison.settings import described
from bench.config import RunConfig, with_overrides
from bench.recipes import RECIPES
from bench.records.ids import hash_of, identity
from bench.records.paths import Paths
from bench.runs.plan import Task, dataset_info, ids_of, make_task, own_precision, plan_data, read_task, write_task
from bench.tuning.space import flags
from imgcls.config import LoaderConfig, NearDuplicates, Precision, RuntimeConfig, SplitConfig, StoreConfig
from imgcls.data.auditing.images import Images
from imgcls.data.splits import make_splits
from imgcls.errors import ConfigError
from imgcls.models.registry import resolve_spec, weights_policy
from imgcls.models.weights import config_of, random_weights
from tests.helpers.audits import audit_of
from tests.helpers.examples import ENVIRONMENT, record
from tests.helpers.images import MakeFolder
from tests.helpers.weights import TINY, write_weights

RECIPE = RECIPES["quick"]("test_resnet")
CONFIG = replace(RECIPE, train=replace(RECIPE.train, device="cpu", train_threads=1))


def plan(  # noqa: PLR0913 - what identifies a run
    config: RunConfig = CONFIG,
    *,
    machine: str = "a-cpu",
    digest: str = "d",
    sha256: str | None = None,
    revision: str | None = None,
    store: str = "auto",
) -> Task:
    audit = replace(audit_of([[0]] * 10 + [[1]] * 10), digest=digest)
    spec = resolve_spec(config.model, config.loader, random_weights)
    return make_task(
        config,
        plan_data(audit, config.split, data="pets"),
        spec=replace(spec, weights=replace(spec.weights, sha256=sha256, revision=revision)),
        environment=replace(ENVIRONMENT, machine=machine),
        paths=Paths(results=Path("results"), cache=Path("cache")),
        store=StoreConfig(store=store, store_gb=1.0),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"config": replace(CONFIG, train=replace(CONFIG.train, lr=0.5))},
        {"config": replace(CONFIG, loader=replace(CONFIG.loader, batch_size=8))},
        {"config": replace(CONFIG, architecture=replace(CONFIG.architecture, dropout=0.5))},
        {"config": replace(CONFIG, seed=1)},
        {"config": replace(CONFIG, split=SplitConfig(split_seed=1))},
        {"machine": "b-cpu"},
        {"digest": "e"},
        {"sha256": "f" * 64},
    ],
    ids=["lr", "batch size", "dropout", "seed", "split", "machine", "data", "weights"],
)
def test_other_trainings_have_other_ids(changes: dict[str, Any]) -> None:
    assert plan(**changes).train_id != plan().train_id
    assert plan(**changes).run_id != plan().run_id


def test_other_runtimes_share_a_training() -> None:
    other = plan(replace(CONFIG, runtime=RuntimeConfig(runtimes=("onnxruntime-cpu",))))
    assert other.train_id == plan().train_id
    assert other.run_id != plan().run_id


def test_version_of_the_augmentation_changes_ids_where_it_is_not_the_first() -> None:
    """Records from before there were versions keep their ids, and are the first version."""

    def ids(task: Task, version: int) -> tuple[str, str]:
        spec, data = task.spec, task.dataset
        source = [
            [spec.timm_name, spec.weights.init, spec.weights.tag, spec.weights.sha256],
            [data.digest, data.split_digest],
        ]
        return ids_of(replace(task.config, augmentation_version=version), source, "a-cpu", None)

    report, crop = (plan(with_overrides(CONFIG, {"augmentation": name})) for name in ("report", "crop"))
    assert (report.config.augmentation_version, crop.config.augmentation_version) == (1, 2)
    assert (report.run_id, report.train_id) == ids(report, 1)
    assert (crop.run_id, crop.train_id) == ids(crop, 2)
    assert not {*ids(crop, 1)} & {*ids(crop, 2)}


def test_revision_of_the_weights_changes_no_id() -> None:
    pinned = plan(revision="0" * 40)
    assert pinned.spec.weights.revision == "0" * 40
    assert (pinned.train_id, pinned.run_id) == (plan().train_id, plan().run_id)


def test_task_file_is_private_and_read_back(tmp_path: Path) -> None:
    """The URL of a study's storage, which is part of a task, may contain a password."""
    task = replace(plan(), data="/photos of 2024/F\udcfcr")  # a name whose bytes are not UTF-8
    write_task(task, tmp_path / "task.json")
    assert (tmp_path / "task.json").stat().st_mode & 0o777 == 0o600
    assert read_task(tmp_path / "task.json", Task) == task


FINE = replace(RECIPES["finetune"](TINY), loader=LoaderConfig(image_size=32))


def fine(config: RunConfig, folder: Path | None, *, precision: Precision = "fp32") -> Task:
    return make_task(
        replace(config, train=replace(config.train, device="cpu", train_threads=1)),
        plan_data(audit_of([[0]] * 10 + [[1]] * 10), config.split, data="pets"),
        spec=resolve_spec(config.model, config.loader, weights_policy("none" if folder is None else str(folder), [])),
        environment=ENVIRONMENT,
        paths=Paths(results=Path("results"), cache=Path("cache")),
        decide=lambda _spec, _loader, train: precision if train.precision == "auto" else train.precision,
    )


def test_random_weights_drop_what_only_pretrained_ones_allow(tmp_path: Path) -> None:
    pretrained, random = fine(FINE, write_weights(tmp_path)), fine(FINE, None)
    assert pretrained.config.train.tune_layers == "head-then-all"
    assert pretrained.config.overrides == {}
    own = {"tune_layers": "all", "layer_decay": 1.0, "norm": "batch"}
    assert random.config.overrides == own
    assert random.config.train == replace(pretrained.config.train, **own)


def test_frozen_features_have_a_version_only_where_they_are_of_augmented_views(tmp_path: Path) -> None:
    folder = write_weights(tmp_path)
    versions = [
        fine(with_overrides(FINE, changes), folder).config.augmentation_version
        for changes in ({"tune_layers": "head"}, {"tune_layers": "head", "feature_views": 2}, {})
    ]
    assert versions == [1, 2, 2]


def test_what_the_user_asks_for_stays_with_random_weights() -> None:
    asked = with_overrides(FINE, {"layer_decay": 0.5})
    assert fine(asked, None).config.train.layer_decay == 0.5


@pytest.mark.parametrize(
    ("recipe", "layers"), [("finetune", "head"), ("standard", "head"), ("standard", "head-then-all")]
)
def test_random_weights_have_no_features_to_fit(recipe: str, layers: str) -> None:
    config = with_overrides(RECIPES[recipe](TINY), {"tune_layers": layers, "image_size": 32})
    with pytest.raises(ConfigError, match="tune_layers: test_efficientnet starts from random weights; use all"):
        fine(config, None)


@pytest.mark.parametrize("recipe", ["quick", "finetune"])
def test_one_setting_has_one_name_however_its_precision_was_chosen(recipe: str, tmp_path: Path) -> None:
    folder = write_weights(tmp_path)
    config = replace(RECIPES[recipe](TINY), loader=LoaderConfig(image_size=32))
    for chosen in ("fp32", "bf16"):
        asked = fine(with_overrides(config, {"precision": chosen}), folder)
        decided = fine(with_overrides(config, {"precision": "auto"}), folder, precision=chosen)
        assert asked.config == decided.config
        assert asked.config.train.precision == chosen
        assert asked.config.overrides == ({"precision": "bf16"} if chosen == "bf16" else {})
        assert asked.run_id == decided.run_id


def test_precisions_are_rows_of_one_table(tmp_path: Path) -> None:
    folder = write_weights(tmp_path)
    fast, exact = fine(FINE, folder, precision="bf16"), fine(FINE, folder, precision="fp32")
    assert fast.train_id != exact.train_id
    assert fast.config.budget == exact.config.budget


def test_ids_on_gpus_stay_those_of_bf16() -> None:
    """Before there was a choice, trainings on CUDA were in bf16, and their ids named no precision."""

    def on_cuda(precision: Precision) -> Task:
        train = replace(CONFIG.train, device="cuda", precision=precision)
        audit = audit_of([[0]] * 10 + [[1]] * 10)
        return make_task(
            replace(CONFIG, train=train),
            plan_data(audit, CONFIG.split, data="pets"),
            spec=resolve_spec("test_resnet", CONFIG.loader, random_weights),
            environment=ENVIRONMENT,
            paths=Paths(results=Path("results"), cache=Path("cache")),
            cuda=True,
        )

    task = on_cuda("bf16")
    parts = [identity(task.config.loader), identity(task.config.architecture)]
    named = {"epochs": 3, "no_hflip": True, "device": "cuda", "train_threads": 1}
    source = [["test_resnet", "random", "random", None], [task.dataset.digest, task.dataset.split_digest]]
    assert task.train_id == hash_of([["test_resnet", 0, *parts, named, ENVIRONMENT.machine], *source])
    assert on_cuda("fp32").train_id != task.train_id


def test_report_and_quick_do_not_choose() -> None:
    assert {name for name, recipe in RECIPES.items() if recipe(TINY).train.precision == "auto"} == {
        "finetune",
        "standard",
    }
    assert plan(RECIPES["report"]("test_resnet")).config.train.precision == "fp32"


def test_config_of_every_model_reaches_the_worker_unchanged(tmp_path: Path) -> None:
    """timm's configs hold tuples where their types say text."""
    task, file = plan(), tmp_path / "task.json"
    for name in timm.list_models():
        weights = random_weights(name)
        write_task(replace(task, spec=replace(task.spec, weights=weights)), file)
        received = read_task(file, Task).spec.weights
        assert received == weights, name
        # As JSON, because some configs of timm hold an empty list where others have a tuple.
        expected = get_pretrained_cfg(name) or PretrainedCfg(architecture=name)
        assert config_of(received.cfg) == config_of(expected), name


def test_folder_of_weights_is_found_again_for_a_tuned_setting(make_folder: MakeFolder, tmp_path: Path) -> None:
    """Its task names the folder without its path, and a study may have chosen another size and batch."""
    config = replace(FINE, model=f"local-dir:{write_weights(tmp_path / 'w') / TINY}")
    data = str(make_folder({"cat": 20, "dog": 20}))
    plans = harness.planner([config], data=data, weights="auto", results=tmp_path / "results", decide=own_precision)
    first = plans(with_overrides(config, {"precision": "fp32"}))
    assert first.config.model == f"local-dir:{TINY}"
    tuned = plans(with_overrides(first.config, {"image_size": 64, "batch_size": 8}))
    assert tuned.spec.weights == first.spec.weights
    assert tuned.spec.resize.size == 64


@pytest.mark.parametrize(("kept", "groups", "across"), [("group", 2, 2), ("report", 1, 1), ("keep", 1, 1)])
def test_duplicates_of_a_record_are_those_that_the_split_knows(kept: NearDuplicates, groups: int, across: int) -> None:
    """A pair of exact copies and a pair of near-duplicates, each in train and test."""
    audit = audit_of([[0], [1], [0], [1], [0], [1]], splits=["train", "train", "val", "val", "test", "test"])
    images = (*audit.images[:4], *(replace(image, group=image.group - 4) for image in audit.images[4:]))
    exact, near = (("00000", "00004"),), (("00001", "00005"),)
    audit = replace(
        audit, images=Images.of(images), exact_duplicates=exact, near_duplicates=near, across_splits=(*exact, *near)
    )
    config = SplitConfig(near_duplicates=kept)
    data = dataset_info(audit, make_splits(audit, config), config)
    assert (data.duplicate_groups, data.duplicates_across_splits) == (groups, across)
    assert data.test_leaks == (1 if kept == "keep" else 2)


def test_runs_on_a_url_read_its_local_copy(make_folder: MakeFolder, cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    url = f"file://{make_folder({'cat': 10, 'dog': 10})}"
    task = harness.planner([CONFIG], data=url, weights="none", results=tmp_path / "results")(CONFIG)
    assert Path(task.data).is_relative_to(cache)  # so that neither a worker nor a later report needs the network
    assert task.config.dataset == "pets"


def test_lossy_store_is_a_setting_and_exact_ones_are_not() -> None:
    exact = [plan(store=store) for store in ("auto", "pixels", "files")]
    assert len({(task.run_id, task.train_id) for task in exact}) == 1
    lossy = plan(store="jpeg")
    assert (lossy.store, lossy.config.store) == ("jpeg", "jpeg q95 4:4:4")
    assert lossy.train_id != exact[0].train_id
    assert lossy.run_id != exact[0].run_id
    assert described({"row": record(config=lossy.config)})[0]["row"][0] == "store=jpeg q95 4:4:4"
    assert flags(lossy.config)[-2:] == ["--store", "jpeg"]
    # A config that a study has kept is planned again by another command.
    assert plan(lossy.config, store="files").run_id == exact[0].run_id
