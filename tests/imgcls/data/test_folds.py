"""Folds: each image is tested once, duplicates share a fold, and all models and seeds have the same folds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.cli.arguments import RunAllArgs
from bench.cli.parsing import parse_runs
from imgcls.config import SplitConfig
from imgcls.data.splits import Splits, class_counts, make_splits
from imgcls.errors import ConfigError, DataError
from tests.helpers.audits import audit_of


def folds_of(audit: object, folds: int, **options: int) -> list[Splits]:
    return [make_splits(audit, SplitConfig(folds=folds, fold=fold, **options)) for fold in range(folds)]  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(1, 4), min_size=5, max_size=30), min_size=2, max_size=4),
    folds=st.integers(2, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_folds_partition_images_by_group(sizes: list[list[int]], folds: int, seed: int) -> None:
    audit = audit_of([[label] * size for label, groups in enumerate(sizes) for size in groups])
    every = folds_of(audit, folds, split_seed=seed)
    assert sorted(index for splits in every for index in splits.test) == list(range(len(audit.images)))
    for splits in every:
        assert sorted(splits.train + splits.val + splits.test) == list(range(len(audit.images)))
        groups = [{audit.images[index].group for index in part} for part in (splits.train, splits.val, splits.test)]
        assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
        assert min(class_counts(audit, splits.train)) > 0
    assert len({splits.folds_digest for splits in every}) == 1
    assert len({splits.digest for splits in every}) == folds


def test_folds_are_stratified() -> None:
    audit = audit_of([[0]] * 1000 + [[1]] * 100)
    for splits in folds_of(audit, 5):
        assert class_counts(audit, splits.test) == [200, 20]
        assert class_counts(audit, splits.val) == [100, 10]


def test_split_seed_changes_the_folds() -> None:
    audit = audit_of([[0]] * 30 + [[1]] * 30)
    first, second = (make_splits(audit, SplitConfig(folds=3, fold=0, split_seed=seed)) for seed in (0, 1))
    assert first.folds_digest != second.folds_digest
    assert make_splits(audit, SplitConfig()).folds_digest is None


def test_folds_of_given_splits_are_refused() -> None:
    audit = audit_of([[0], [1]] * 20, splits=["train", "test"] * 20)
    with pytest.raises(ConfigError, match='split="generated"'):
        make_splits(audit, SplitConfig(folds=3, fold=0))
    assert len(make_splits(audit, SplitConfig(folds=4, fold=0, split="generated")).test) == 10


@pytest.mark.parametrize("options", [{"folds": 1}, {"folds": 51}, {"fold": 0}, {"folds": 3, "fold": 3}])
def test_invalid_folds_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"^folds? is "):
        SplitConfig(**options)  # type: ignore[arg-type]


def test_run_all_plans_every_fold() -> None:
    flags = ["--folds", "3", "--models", "resnet50", "efficientnet_b0", "--seeds", "0", "1"]
    _, configs = parse_runs(RunAllArgs, flags, "run-all")
    assert len(configs) == 12
    assert {config.split.fold for config in configs} == {0, 1, 2}
    _, one = parse_runs(RunAllArgs, ["--folds", "3", "--fold", "1", "--models", "resnet50"], "run-all")
    assert [config.split.fold for config in one] == [1]


@pytest.mark.parametrize(("folds", "least"), [(2, 4), (3, 3), (5, 5)])
def test_least_groups_fill_all_splits(folds: int, least: int) -> None:
    audit = audit_of([[0]] * least + [[1]] * least)
    for splits in folds_of(audit, folds):
        assert min(min(class_counts(audit, part)) for part in (splits.train, splits.val, splits.test)) > 0
    with pytest.raises(DataError, match=f"class 'class 1' .* has {least - 1} .* needs {least} or more"):
        folds_of(audit_of([[0]] * least + [[1]] * (least - 1)), folds)
