"""What is wrong with a folder of pictures, by path and reason."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from imgcls.data import audit as auditing
from imgcls.data.audit import Audit, audit_dataset, to_json
from imgcls.data.duplicates import group_pairs, near_pairs, same_picture
from imgcls.data.sources.named import load_dataset
from imgcls.errors import DataError
from tests.conftest import MakeFolder, picture


def audited(root: Path, cache: Path) -> Audit:
    return audit_dataset(load_dataset(str(root), cache=cache), cache=cache)


def groups_of(audit: Audit) -> dict[str, int]:
    return {image.image_id: image.group for image in audit.images}


def test_bad_files_are_left_out_with_path_and_reason(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    (root / "cat" / "empty.png").touch()
    (root / "dog" / "notes.txt").write_text("not a picture")
    whole = (root / "dog" / "000.png").read_bytes()
    (root / "dog" / "cut.png").write_bytes(whole[: len(whole) // 2])
    removed = {removal.image_id: removal.reason for removal in audited(root, cache).removed}
    assert removed["cat/empty.png"] == "empty"
    assert removed["dog/notes.txt"] == "not an image"
    assert "truncated" in removed["dog/cut.png"]
    assert len(removed) == 3


def test_the_same_pixels_under_two_labels_are_left_out_and_listed(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    Image.open(root / "cat" / "001.png").save(root / "dog" / "copy.bmp")
    audit = audited(root, cache)
    assert {removal.image_id for removal in audit.removed} == {"cat/001.png", "dog/copy.bmp"}
    assert {removal.reason for removal in audit.removed} == {auditing.CONFLICT}
    assert not {image.image_id for image in audit.images} & {"cat/001.png", "dog/copy.bmp"}


def test_exact_copies_of_one_label_share_a_group(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    Image.open(root / "cat" / "001.png").save(root / "cat" / "copy.bmp")
    audit = audited(root, cache)
    assert audit.exact_duplicates == (("cat/001.png", "cat/copy.bmp"),)
    groups = groups_of(audit)
    assert groups["cat/001.png"] == groups["cat/copy.bmp"]
    assert len(set(groups.values())) == 6


def test_near_duplicates_under_two_labels_stay_together_and_are_listed(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    ImageEnhance.Brightness(Image.open(root / "cat" / "002.png")).enhance(0.95).save(root / "dog" / "near.png")
    audit = audited(root, cache)
    assert audit.near_conflicts == (("cat/002.png", "dog/near.png"),)
    assert not audit.removed
    assert groups_of(audit)["cat/002.png"] == groups_of(audit)["dog/near.png"]


def test_pictures_under_32_px_are_not_searched_for_near_duplicates(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 2, "dog": 2})
    for number, brightness in enumerate((1.0, 0.97)):
        ImageEnhance.Brightness(picture(77, size=31)).enhance(brightness).save(root / "cat" / f"small{number}.png")
    audit = audited(root, cache)
    assert audit.near_duplicates == ()
    assert audit.too_small_to_search == 2


def test_duplicates_across_given_splits_are_reported(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"train/cat": 3, "train/dog": 3, "test/cat": 2, "test/dog": 2})
    Image.open(root / "train" / "cat" / "000.png").save(root / "test" / "cat" / "leak.png")
    assert audited(root, cache).across_splits == (("test/cat/leak.png", "train/cat/000.png"),)


def test_an_audit_is_done_once_for_each_version_of_the_data(
    make_folder: MakeFolder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    first = audited(root, cache)
    monkeypatch.setattr(auditing, "_look_at", lambda path: pytest.fail(f"{path} was read again"))
    assert audited(root, cache) == first
    monkeypatch.undo()
    picture(99).save(root / "cat" / "new.png")
    second = audited(root, cache)
    assert len(second.images) == 7
    assert second.digest != first.digest


def test_the_digest_follows_the_pixels_and_not_the_bytes_of_the_files(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    first = audited(root, cache)
    path = root / "cat" / "000.png"
    Image.open(path).save(path, compress_level=1)
    assert audited(root, cache).digest == first.digest
    picture(99).save(path)
    assert audited(root, cache).digest != first.digest


def test_the_audit_is_json_and_says_the_notes(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    Image.open(root / "cat" / "000.png").convert("L").save(root / "cat" / "000.png")
    report = json.loads(to_json(audited(root, cache)))
    notes = {image["image_id"]: image["notes"] for image in report["images"]}
    assert notes["cat/000.png"] == ["not RGB: L converted"]


def test_a_folder_of_nothing_usable_is_refused(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 1, "dog": 1})
    for path in root.glob("*/*.png"):
        path.write_text("broken")
    with pytest.raises(DataError, match="no usable image"):
        audited(root, cache)


@settings(max_examples=50, deadline=None)
@given(
    base=st.integers(0, 2**64 - 1),
    flips=st.lists(st.sets(st.integers(0, 63), max_size=7), min_size=1, max_size=12),
)
def test_bands_find_every_pair_within_four_bits_and_no_other(base: int, flips: list[set[int]]) -> None:
    hashes = np.array([base ^ sum(1 << bit for bit in bits) for bits in flips], dtype=np.uint64)
    thumbnails = np.tile(np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3), (len(hashes), 1, 1, 1))
    found = {pair for _, pair in near_pairs(hashes, thumbnails)}
    wanted = {
        (i, j) for j in range(len(hashes)) for i in range(j) if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= 4
    }
    assert found == wanted


def test_four_bits_that_lie_far_apart_are_found() -> None:
    hashes = np.array([0, sum(1 << bit for bit in (0, 16, 32, 48))], dtype=np.uint64)
    thumbnails = np.tile(np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3), (2, 1, 1, 1))
    assert near_pairs(hashes, thumbnails) == [(4, (0, 1))]


def test_a_hash_hit_that_the_pixels_do_not_confirm_is_no_pair() -> None:
    rng = np.random.default_rng(0)
    thumbnails = rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    assert near_pairs(np.array([5, 5], dtype=np.uint64), thumbnails) == []
    assert near_pairs(np.array([5, 5], dtype=np.uint64), thumbnails[[0, 0]]) == [(0, (0, 1))]


def test_flat_pictures_are_the_same_only_where_their_colour_is() -> None:
    grey = np.full((16, 16, 3), 100, dtype=np.uint8)
    assert same_picture(grey, grey + 5)
    assert not same_picture(grey, grey + 100)


def test_a_long_chain_is_broken_to_its_nearest_confirmed_pairs() -> None:
    chain = [(1, (0, 1)), (2, (1, 2)), (1, (2, 3)), (3, (3, 4))]
    assert group_pairs(10, chain, largest=4) == ([[0, 1], [2, 3]], 1)
    assert group_pairs(10, chain, largest=5) == ([[0, 1, 2, 3, 4]], 0)


def test_a_large_group_whose_pairs_are_all_confirmed_is_no_chain() -> None:
    clique = [(0, (i, j)) for j in range(4) for i in range(j)]
    assert group_pairs(10, clique, largest=1) == ([[0, 1, 2, 3]], 0)


def test_recompressed_and_resized_copies_are_found_and_unlike_pictures_are_not(
    make_folder: MakeFolder, cache: Path
) -> None:
    root = make_folder({"cat": 40, "dog": 40})
    original = picture(5, size=200)
    original.save(root / "cat" / "big.png")
    original.save(root / "cat" / "big.jpg", quality=40)
    original.resize((90, 90)).save(root / "cat" / "small.png")
    assert audited(root, cache).near_duplicates == (("cat/005.png", "cat/big.jpg", "cat/big.png", "cat/small.png"),)
