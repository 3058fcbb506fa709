"""Grouping of images by folder, column or regular expression."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgcls.config import SplitConfig
from imgcls.data.audit import Audit
from imgcls.data.auditing.images import Images
from imgcls.data.groups import grouped
from imgcls.data.splits import class_counts, make_splits
from imgcls.errors import ConfigError, DataError
from tests.helpers.audits import audit_of


def named(audit: Audit, ids: list[str], **columns: list[str]) -> Audit:
    values = list(zip(*columns.values(), strict=True)) or [()] * len(ids)
    images = tuple(
        replace(image, image_id=image_id, values=tuple(row))
        for image, image_id, row in zip(audit.images, ids, values, strict=True)
    )
    return replace(audit, images=Images.of(images), columns=tuple(columns))


def partition(audit: Audit) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for index, image in enumerate(audit.images):
        groups.setdefault(image.group, []).append(index)
    return sorted(groups.values())


FOUR = audit_of([[0], [0], [1], [1]])


def test_images_of_one_folder_are_a_group() -> None:
    audit = named(FOUR, ["cat/p1/a.png", "cat/p1/b.png", "dog/p1/c.png", "d.png"])
    assert partition(grouped(audit, "parent")) == [[0, 1], [2], [3]]


def test_first_group_of_the_expression_decides() -> None:
    audit = named(FOUR, ["cat/p1_a.png", "cat/p2_b.png", "dog/p1_c.png", "dog/none.png"])
    assert partition(grouped(audit, r"(p\d+)_")) == [[0, 2], [1], [3]]
    assert partition(grouped(audit, r"^[a-z]+/")) == [[0, 1], [2, 3]]


def test_column_takes_precedence_over_expression() -> None:
    audit = named(FOUR, ["p", "p", "p", "p"], p=["x", "y", "x", ""])
    assert partition(grouped(audit, "p")) == [[0, 2], [1], [3]]


def test_duplicates_join_groups() -> None:
    audit = named(audit_of([[0, 0], [0], [0]]), ["a1", "b1", "b2", "c1"])
    assert partition(grouped(audit, "^[a-z]")) == [[0, 1, 2], [3]]


def test_no_grouping_changes_nothing() -> None:
    assert grouped(FOUR, None) is FOUR


@pytest.mark.parametrize(
    ("group_by", "message"),
    [
        ("(", r'group_by="\(": not a regular expression .* and none of: parent, site'),
        ("x+", "it matches no image id, such as 'a1'; columns: site"),
        ("site", "column 'site' is blank"),
    ],
)
def test_wrong_grouping_is_refused(group_by: str, message: str) -> None:
    audit = named(FOUR, ["a1", "a2", "b1", "b2"], site=[""] * 4)
    with pytest.raises(ConfigError, match=message):
        grouped(audit, group_by)


def test_too_few_groups_are_counted_in_the_error() -> None:
    audit = named(audit_of([[0]] * 5 + [[1]] * 6), [f"cat/{i}" for i in range(5)] + [f"dog/{i}" for i in range(6)])
    message = r"class 'class 0' of made-up has 5 usable image\(s\) in 1 group\(s\) by group_by=\"parent\"; .* 3 or more"
    with pytest.raises(DataError, match=message):
        make_splits(audit, SplitConfig(group_by="parent"))


sizes = st.lists(st.lists(st.integers(1, 8), min_size=3, max_size=20), min_size=2, max_size=4)


@settings(max_examples=40, deadline=None)
@given(sizes=sizes, seed=st.integers(0, 99))
def test_split_keeps_groups_whole(sizes: list[list[int]], seed: int) -> None:
    labels = [[label] for label, groups in enumerate(sizes) for size in groups for _ in range(size)]
    ids = [f"{c}/{g}/{i}" for c, groups in enumerate(sizes) for g, size in enumerate(groups) for i in range(size)]
    audit = named(audit_of(labels), ids)
    splits = make_splits(audit, SplitConfig(group_by="parent", split_seed=seed))
    groups = np.array(splits.groups)
    parts = [set(groups[list(part)].tolist()) for part in (splits.train, splits.val, splits.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == sum(map(len, sizes))
    assert all(parts)


def mixed(people: int) -> Audit:
    """Each person has images of both classes."""
    ids = [f"{person}-{number}" for person in range(people) for number in range(6)]
    return named(audit_of([[number % 2] for number in range(6 * people)]), ids)


def test_groups_of_several_classes_are_stratified() -> None:
    splits = make_splits(mixed(30), SplitConfig(group_by="^[0-9]+"))
    assert class_counts(mixed(30), splits.test) == [9, 9]
    assert class_counts(mixed(30), splits.val) == [9, 9]
    assert class_counts(mixed(30), splits.train) == [72, 72]


def test_few_groups_are_shared_among_all_splits() -> None:
    splits = make_splits(mixed(3), SplitConfig(group_by="^[0-9]+"))
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [6, 6, 6]
    with pytest.raises(DataError, match="in 2 group"):
        make_splits(mixed(2), SplitConfig(group_by="^[0-9]+"))


def test_folds_keep_groups_whole() -> None:
    tested = [make_splits(mixed(10), SplitConfig(group_by="^[0-9]+", folds=5, fold=fold)).test for fold in range(5)]
    assert sorted(index for fold in tested for index in fold) == list(range(60))
    assert all(len({index // 6 for index in fold}) * 6 == len(fold) for fold in tested)


def test_groups_across_given_splits_are_leaks() -> None:
    splits = ["train"] * 3 + ["val"] * 2 + ["test"] * 2
    audit = named(
        audit_of([[0], [0], [1], [0], [1], [0], [1]], splits=splits), ["x1", "a1", "b1", "e1", "f1", "a2", "c2"]
    )
    plain, by_letter = make_splits(audit, SplitConfig()), make_splits(audit, SplitConfig(group_by="^[a-z]"))
    assert (plain.leaks, by_letter.leaks) == ((), (5,))
    dropped = make_splits(audit, SplitConfig(group_by="^[a-z]", drop_leaks=True))
    assert (dropped.train, dropped.dropped, dropped.leaks) == ((0, 2), (1,), ())


def test_groups_of_a_given_split_are_part_of_its_digest() -> None:
    splits = ["train"] * 2 + ["val"] * 2 + ["test"] * 2
    audit = named(audit_of([[0], [1]] * 3, splits=splits), ["a1", "b1", "c1", "d1", "e1", "e2"])
    plain, by_letter = make_splits(audit, SplitConfig()), make_splits(audit, SplitConfig(group_by="^[a-z]"))
    assert plain.test == by_letter.test
    assert plain.digest != by_letter.digest


def test_val_is_cut_from_a_given_train_by_group() -> None:
    ids = [f"{person}-{number}" for person in range(9) for number in range(4)] + ["z1", "z2"]
    audit = named(audit_of([[i % 2] for i in range(38)], splits=["train"] * 36 + ["test"] * 2), ids)
    splits = make_splits(audit, SplitConfig(group_by="^[^-]+"))
    assert (len(splits.val), len({audit.images[index].image_id[0] for index in splits.val})) == (4, 1)
    one = named(audit_of([[i % 2] for i in range(6)], splits=["train"] * 4 + ["test"] * 2), ["a"] * 4 + ["z1", "z2"])
    with pytest.raises(
        DataError, match=r"4 images of made-up are in 1 group\(s\); 2 or more are needed for val and train"
    ):
        make_splits(one, SplitConfig(group_by="."))
