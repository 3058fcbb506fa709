"""Division into train, val and test: stratified, reproducible, with duplicates in one split."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgcls.config import NearDuplicates, SplitConfig
from imgcls.data.audit import Audit
from imgcls.data.auditing.images import Images
from imgcls.data.splits import Splits, class_counts, make_splits, missing_classes
from imgcls.errors import ConfigError, DataError
from tests.helpers.audits import audit_of


def parts(splits: Splits) -> dict[str, tuple[int, ...]]:
    return {"train": splits.train, "val": splits.val, "test": splits.test}


sizes = st.lists(st.lists(st.integers(1, 6), min_size=3, max_size=40), min_size=2, max_size=5)


@settings(max_examples=80, deadline=None)
@given(sizes=sizes, seed=st.integers(0, 2**32 - 1))
def test_groups_stay_whole_and_classes_present(sizes: list[list[int]], seed: int) -> None:
    audit = audit_of([[label] * size for label, groups in enumerate(sizes) for size in groups])
    splits = make_splits(audit, SplitConfig(split_seed=seed))
    everything = sorted(splits.train + splits.val + splits.test)
    assert everything == list(range(len(audit.images)))
    for one in parts(splits).values():
        assert all(count > 0 for count in class_counts(audit, one))
    where = {index: name for name, one in parts(splits).items() for index in one}
    for group in {image.group for image in audit.images}:
        members = [index for index, image in enumerate(audit.images) if image.group == group]
        assert len({where[index] for index in members}) == 1


def test_shares_are_80_10_10_in_every_class() -> None:
    audit = audit_of([[0]] * 1000 + [[1]] * 100)
    splits = make_splits(audit, SplitConfig())
    assert class_counts(audit, splits.train) == [800, 80]
    assert class_counts(audit, splits.val) == [100, 10]
    assert class_counts(audit, splits.test) == [100, 10]


def test_split_depends_on_its_seed() -> None:
    audit = audit_of([[0]] * 50 + [[1]] * 50)
    first = make_splits(audit, SplitConfig(split_seed=1))
    assert make_splits(audit, SplitConfig(split_seed=1)) == first
    other = make_splits(audit, SplitConfig(split_seed=2))
    assert other.test != first.test
    assert other.digest != first.digest


def test_new_images_keep_other_classes_splits() -> None:
    few = audit_of([[0]] * 50 + [[1]] * 50)
    more = audit_of([[0]] * 50 + [[1]] * 70)
    first, second = (make_splits(audit, SplitConfig()) for audit in (few, more))
    assert {i for i in first.test if i < 50} == {i for i in second.test if i < 50}


def test_class_with_two_groups_is_refused() -> None:
    with pytest.raises(DataError, match=r"class 'class 1'.* 2 usable"):
        make_splits(audit_of([[0]] * 10 + [[1, 1, 1, 1]] * 2), SplitConfig())


def test_conflicting_near_copies_share_a_split() -> None:
    audit = audit_of([[0]] * 20 + [[1]] * 20 + [[0, 1]] * 10)
    splits = make_splits(audit, SplitConfig())
    where = {index: name for name, one in parts(splits).items() for index in one}
    for index in range(40, 60, 2):
        assert where[index] == where[index + 1]


def test_undersampling_changes_train_only() -> None:
    audit = audit_of([[0]] * 400 + [[1]] * 100)
    plain = make_splits(audit, SplitConfig())
    even = make_splits(audit, SplitConfig(max_class_ratio=1.5))
    assert (even.val, even.test) == (plain.val, plain.test)
    assert class_counts(audit, even.train) == [120, 80]
    assert len(even.undersampled) == 200
    assert set(even.train) | set(even.undersampled) == set(plain.train)
    assert even.digest != plain.digest


def test_undersampling_follows_the_split_seed() -> None:
    given = ["train"] * 110 + ["val", "val", "test", "test"]
    audit = audit_of([[0]] * 100 + [[1]] * 10 + [[0], [1]] * 2, splits=given)
    first, again, other = (
        make_splits(audit, SplitConfig(max_class_ratio=1, split_seed=seed)).undersampled for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_given_splits_are_respected() -> None:
    audit = audit_of([[0], [1]] * 3, splits=["train", "train", "val", "val", "test", "test"])
    assert parts(make_splits(audit, SplitConfig())) == {"train": (0, 1), "val": (2, 3), "test": (4, 5)}


def test_missing_val_is_cut_from_train() -> None:
    audit = audit_of([[0], [1]] * 55, splits=["train"] * 90 + ["test"] * 20)
    splits = make_splits(audit, SplitConfig())
    assert splits.test == tuple(range(90, 110))
    assert class_counts(audit, splits.val) == [5, 5]
    assert splits.source == "given, val cut from train"


def test_missing_test_is_refused() -> None:
    audit = audit_of([[0], [1]] * 20, splits=["train"] * 30 + ["val"] * 10)
    with pytest.raises(DataError, match='split="generated"'):
        make_splits(audit, SplitConfig())
    assert make_splits(audit, SplitConfig(split="generated")).source == "generated"


def test_missing_class_is_reported() -> None:
    audit = audit_of([[0], [1], [0], [1], [0]], splits=["train", "train", "val", "val", "test"])
    assert missing_classes(audit, make_splits(audit, SplitConfig())) == ["test has no image of class class 1"]


@pytest.mark.parametrize("ratio", [0.5, float("nan"), -1])
def test_ratio_below_one_is_refused(ratio: float) -> None:
    with pytest.raises(ConfigError, match=r"^max_class_ratio is "):
        SplitConfig(max_class_ratio=ratio)


def divided(*, test: int = 4, val: int = 4, train: int = 12) -> Audit:
    """An audit with split folders: the first images of all splits are duplicates, as are the second ones of two."""
    names = ["train"] * train + ["val"] * val + ["test"] * test
    audit = audit_of([[number % 2] for number in range(len(names))], splits=names, classes=2)
    groups = list(range(len(names)))
    groups[train] = groups[0]
    if test:
        groups[train + val] = groups[0]
        groups[train + val + 1] = groups[1]
    images = [replace(image, group=group) for image, group in zip(audit.images, groups, strict=True)]
    return replace(audit, images=Images.of(images))


def test_leaks_of_a_given_split_are_counted() -> None:
    splits = make_splits(divided(), SplitConfig())
    assert splits.leaks == (16, 17)
    assert not splits.dropped
    ours = make_splits(divided(), SplitConfig(split="generated"))
    assert not ours.leaks


def test_dropped_leaks_leave_later_splits_whole() -> None:
    plain, clean = (make_splits(divided(), SplitConfig(drop_leaks=drop)) for drop in (False, True))
    assert clean.test == plain.test
    assert clean.dropped == (0, 1, 12)
    assert set(plain.train) - set(clean.train) == {0, 1}
    assert set(plain.val) - set(clean.val) == {12}
    assert not clean.leaks
    assert clean.digest != plain.digest


def test_val_can_serve_as_test() -> None:
    audit = divided(test=0)
    with pytest.raises(DataError, match="val_as_test=True"):
        make_splits(audit, SplitConfig())
    splits = make_splits(audit, SplitConfig(val_as_test=True))
    assert splits.test == (12, 13, 14, 15)
    assert splits.val
    assert set(splits.val) | set(splits.train) == set(range(12))
    assert splits.source == "given, val as test, val cut from train"


@pytest.mark.parametrize("name", ["drop_leaks", "val_as_test"])
def test_settings_of_given_splits_need_one(name: str) -> None:
    audit = audit_of([[number % 2] for number in range(20)])
    with pytest.raises(ConfigError, match=f"^{name}=True: made-up is not divided"):
        make_splits(audit, SplitConfig(**{name: True}))
    with pytest.raises(ConfigError, match="val_as_test=True: made-up has train, val, test"):
        make_splits(divided(), SplitConfig(val_as_test=True))


def alike(number: int) -> Audit:
    """An audit of two classes, each one group of near-duplicates, with one exact copy in the first."""
    audit = audit_of([[0] * number, [1] * number])
    ids = [image.image_id for image in audit.images]
    return replace(
        audit, near_duplicates=(tuple(ids[:number]), tuple(ids[number:])), exact_duplicates=((ids[0], ids[3]),)
    )


def test_class_of_images_that_look_alike_is_refused_with_what_to_do() -> None:
    with pytest.raises(DataError, match=r'20 of its 20 images look alike, .* add near_duplicates="keep"'):
        make_splits(alike(20))


@pytest.mark.parametrize("kept", ["keep", "report"])
def test_images_that_look_alike_can_be_different_ones(kept: NearDuplicates) -> None:
    splits = make_splits(alike(20), SplitConfig(near_duplicates=kept))
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [32, 4, 4]
    # Exact copies stay together.
    assert splits.groups[0] == splits.groups[3]
    assert len(set(splits.groups)) == 39
    assert splits.leaks == (splits.test if kept == "report" else ())
    assert splits.source == "generated, near-duplicates as different images"


def test_near_duplicates_are_part_of_the_split() -> None:
    audit = audit_of([[0]] * 10 + [[1]] * 10)
    digests = {make_splits(audit, SplitConfig(near_duplicates=kept)).digest for kept in ("group", "keep", "report")}
    assert len(digests) == 3


def test_reported_leaks_are_those_of_groups_too() -> None:
    """One image of a patient in train and one in test, and a pair of near-duplicates."""
    names = ["train"] * 4 + ["test"] * 4
    audit = audit_of([[0]] * 4 + [[1]] * 4, splits=names)
    ids = ["pa_0", "b", "c", "d", "pa_1", "f", "g", "h"]
    images = tuple(
        replace(image, image_id=name, label=n % 2)
        for n, (image, name) in enumerate(zip(audit.images, ids, strict=True))
    )
    images = (*images[:5], replace(images[5], group=images[1].group), *images[6:])
    audit = replace(audit, images=Images.of(images), near_duplicates=(("b", "f"),))
    for kept, leaks in (("group", ["pa_1", "f"]), ("report", ["pa_1", "f"]), ("keep", ["pa_1"])):
        splits = make_splits(audit, SplitConfig(near_duplicates=kept, group_by="^p."))
        assert [audit.images[index].image_id for index in splits.leaks] == leaks
