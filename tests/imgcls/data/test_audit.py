"""Audit of a folder of images: unusable files, and exact and near-duplicates."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from imgcls.data import audit as auditing
from imgcls.data.audit import Audit, audit_dataset, read_audit, write_audit
from imgcls.data.auditing import duplicates, inspection
from imgcls.data.auditing.duplicates import (
    HASHED_PX,
    group_pairs,
    members_of,
    near_groups,
    near_pairs,
    perceptual_hashes,
    same_picture,
)
from imgcls.data.auditing.images import Images, write_images
from imgcls.data.sources.registry import load_dataset
from imgcls.errors import DataError
from tests.growth.photos import alike
from tests.helpers.audits import audit_of
from tests.helpers.images import MakeFolder, frames, smooth_image


def audited(root: Path, cache: Path) -> Audit:
    return audit_dataset(load_dataset(str(root), cache=cache), cache=cache)


def groups_of(audit: Audit) -> dict[str, int]:
    return {image.image_id: image.group for image in audit.images}


def test_bad_files_are_skipped_with_a_reason(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    (root / "cat" / "empty.png").touch()
    (root / "dog" / "notes.txt").write_text("not an image")
    whole = (root / "dog" / "000.png").read_bytes()
    (root / "dog" / "cut.png").write_bytes(whole[: len(whole) // 2])
    removed = {removal.image_id: removal.reason for removal in audited(root, cache).removed}
    assert removed["cat/empty.png"] == "empty"
    assert removed["dog/notes.txt"] == "not an image"
    assert "truncated" in removed["dog/cut.png"]
    assert len(removed) == 3


def test_conflicting_exact_copies_are_removed(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    Image.open(root / "cat" / "001.png").save(root / "dog" / "copy.bmp")
    audit = audited(root, cache)
    assert {removal.image_id for removal in audit.removed} == {"cat/001.png", "dog/copy.bmp"}
    assert {removal.reason for removal in audit.removed} == {auditing.CONFLICT}
    assert not {image.image_id for image in audit.images} & {"cat/001.png", "dog/copy.bmp"}


def test_exact_copies_share_a_group(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    Image.open(root / "cat" / "001.png").save(root / "cat" / "copy.bmp")
    audit = audited(root, cache)
    assert audit.exact_duplicates == (("cat/001.png", "cat/copy.bmp"),)
    groups = groups_of(audit)
    assert groups["cat/001.png"] == groups["cat/copy.bmp"]
    assert len(set(groups.values())) == 6


def test_conflicting_near_copies_share_a_group(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    ImageEnhance.Brightness(Image.open(root / "cat" / "002.png")).enhance(0.95).save(root / "dog" / "near.png")
    audit = audited(root, cache)
    assert audit.near_conflicts == (("cat/002.png", "dog/near.png"),)
    assert not audit.removed
    assert groups_of(audit)["cat/002.png"] == groups_of(audit)["dog/near.png"]


def test_images_under_32_px_are_not_searched(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 2, "dog": 2})
    for number, brightness in enumerate((1.0, 0.97)):
        ImageEnhance.Brightness(smooth_image(77, size=31)).enhance(brightness).save(root / "cat" / f"small{number}.png")
    audit = audited(root, cache)
    assert audit.near_duplicates == ()
    assert audit.too_small_to_search == 2


def test_duplicates_across_splits_are_reported(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"train/cat": 3, "train/dog": 3, "test/cat": 2, "test/dog": 2})
    Image.open(root / "train" / "cat" / "000.png").save(root / "test" / "cat" / "leak.png")
    assert audited(root, cache).across_splits == (("test/cat/leak.png", "train/cat/000.png"),)


def test_audit_is_cached_per_data_version(
    make_folder: MakeFolder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    first = audited(root, cache)
    monkeypatch.setattr(inspection, "decode", lambda path: pytest.fail(f"{path} was read again"))
    assert audited(root, cache) == first
    monkeypatch.undo()
    smooth_image(99).save(root / "cat" / "new.png")
    second = audited(root, cache)
    assert len(second.images) == 7
    assert second.digest != first.digest


def test_digest_follows_pixels_not_bytes(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    first = audited(root, cache)
    path = root / "cat" / "000.png"
    Image.open(path).save(path, compress_level=1)
    assert audited(root, cache).digest == first.digest
    smooth_image(99).save(path)
    assert audited(root, cache).digest != first.digest


def test_notes_are_kept(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    Image.open(root / "cat" / "000.png").convert("L").save(root / "cat" / "000.png")
    for _ in ("audited", "read"):
        notes = {image.image_id: image.notes for image in audited(root, cache).images}
        assert notes["cat/000.png"] == ("not RGB: L converted",)
        assert notes["cat/001.png"] == ()


def test_unusable_folder_is_refused(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 1, "dog": 1})
    for path in root.glob("*/*.png"):
        path.write_text("broken")
    with pytest.raises(DataError, match="no usable image"):
        audited(root, cache)


def test_perceptual_hashes_are_those_of_imagehash() -> None:
    sizes = (32, 48, 65, 200)
    images = [smooth_image(seed, size=sizes[seed % 4]) for seed in range(40)]
    images += [Image.new("RGB", (40, 40), (level, level, 200)) for level in (0, 100, 255)]
    side = (HASHED_PX, HASHED_PX)
    grey = np.stack([image.convert("L").resize(side, Image.Resampling.LANCZOS) for image in images])
    expected = [int(str(imagehash.phash(image)), 16) for image in images]
    assert perceptual_hashes(grey).tolist() == expected
    assert perceptual_hashes(grey[:0]).tolist() == []


def test_groups_of_keys_are_those_of_a_dict() -> None:
    keys = np.random.default_rng(0).integers(0, 60, 100)
    by_key: dict[int, list[int]] = {}
    for index, key in enumerate(keys.tolist()):
        by_key.setdefault(key, []).append(index)
    assert members_of(keys) == sorted(group for group in by_key.values() if len(group) > 1)
    assert members_of(keys[:0]) == []


@pytest.mark.parametrize("damage", ["removed", "cut", "flipped", "of other images", "summary cut"])
def test_damaged_stored_audit_is_made_again_and_said(
    damage: str, make_folder: MakeFolder, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder({"cat": 6, "dog": 6})
    audit = audited(root, cache)
    (summary,) = (cache / "audits").glob("*.json")
    table = summary.with_suffix(".parquet")
    data = bytearray(table.read_bytes())
    if damage == "removed":
        table.unlink()
    elif damage == "cut":
        table.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        data[len(data) // 3] ^= 1
        table.write_bytes(data)
    elif damage == "of other images":
        write_images(Images.of(audit.images[:5]), table, columns=())
    else:
        summary.write_text(summary.read_text()[:100])
    assert audited(root, cache) == audit
    assert "the stored audit is made again" in caplog.text
    caplog.clear()
    assert audited(root, cache) == audit
    assert not caplog.text


def test_audit_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Its images are in the JSON file."""
    audit = audit_of([[0, 0], [1]], splits=["train", "test"])
    audit = replace(audit, columns=("patient",), images=Images.of(replace(i, values=("p",)) for i in audit.images))
    path = tmp_path / "audit.json"
    write_audit(audit, path)
    assert read_audit(path) == audit
    images = [dataclasses.asdict(image) for image in audit.images]
    old = json.loads(path.read_text()) | {"images": images}
    del old["images_sha256"]
    path.with_suffix(".parquet").unlink()
    path.write_text(json.dumps(old, indent=1))
    assert read_audit(path) == audit


def test_summary_has_one_key_a_line(tmp_path: Path) -> None:
    write_audit(audit_of([[0, 0], [1]]), tmp_path / "audit.json")
    lines = (tmp_path / "audit.json").read_text().splitlines()
    assert lines[1:-1] == [line for line in lines if line.startswith('"')]
    assert '"images": 3,' in lines


KILLED = """
import os, signal, sys
from pathlib import Path
from imgcls.data.audit import audit_dataset
from imgcls.data.auditing import inspection
from imgcls.data.sources.registry import load_dataset

inspection.FIRST_PART = 4
root, cache, parts = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def progress(done, total):
    stored = list((cache / "audits").glob("*.parts/*.npz"))
    if len(stored) == parts:
        os.kill(os.getpid(), signal.SIGKILL)

audit_dataset(load_dataset(str(root)), cache=cache, progress=progress)
"""


def test_killed_audit_goes_on_where_it_was(
    make_folder: MakeFolder, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder({"cat": 40, "dog": 40})
    Image.open(root / "cat" / "001.png").convert("L").save(root / "cat" / "grey.png")
    shutil.copy(root / "cat" / "002.png", root / "cat" / "copy.png")
    (root / "dog" / "broken.png").write_text("no image")
    whole = audit_dataset(load_dataset(str(root)), cache=tmp_path / "other")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(root), str(cache), "2"], check=False)
    assert killed.returncode == -signal.SIGKILL
    read = []
    real = inspection._inspect_part  # noqa: SLF001 - counts what is read again
    monkeypatch.setattr(inspection, "FIRST_PART", 4)
    monkeypatch.setattr(
        inspection, "_inspect_part", lambda paths, progress: read.extend(paths) or real(paths, progress)
    )
    # The second of two stored parts is damaged: it is read again, too.
    first, second = sorted((cache / "audits").glob("*.parts/*.npz"), key=lambda path: int(path.stem))
    second.write_bytes(second.read_bytes()[:100])
    assert audited(root, cache) == whole
    assert 0 < len(read) == 83 - int(second.stem)
    assert int(first.stem) == 0
    assert sorted(path.suffix for path in (cache / "audits").iterdir()) == [".json", ".lock", ".parquet"]


@settings(max_examples=50, deadline=None)
@given(
    base=st.integers(0, 2**64 - 1),
    flips=st.lists(st.sets(st.integers(0, 63), max_size=7), min_size=1, max_size=12),
    many=st.sampled_from([0, duplicates.MANY]),
)
def test_all_pairs_within_four_bits_are_found(base: int, flips: list[set[int]], many: int) -> None:
    hashes = np.array([base ^ sum(1 << bit for bit in bits) for bits in flips], dtype=np.uint64)
    thumbnails = np.tile(np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3), (len(hashes), 1, 1, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "MANY", many)
        found = {pair for _, pair in near_pairs(hashes, thumbnails)}
    wanted = {
        (i, j) for j in range(len(hashes)) for i in range(j) if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= 4
    }
    assert found == wanted


def test_four_distant_bits_are_found() -> None:
    hashes = np.array([0, sum(1 << bit for bit in (0, 16, 32, 48))], dtype=np.uint64)
    thumbnails = np.tile(np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3), (2, 1, 1, 1))
    assert near_pairs(hashes, thumbnails) == [(4, (0, 1))]


def test_pairs_need_similar_thumbnails() -> None:
    rng = np.random.default_rng(0)
    thumbnails = rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    assert near_pairs(np.array([5, 5], dtype=np.uint64), thumbnails) == []
    assert near_pairs(np.array([5, 5], dtype=np.uint64), thumbnails[[0, 0]]) == [(0, (0, 1))]


def test_flat_images_are_compared_by_colour() -> None:
    grey = np.full((16, 16, 3), 100, dtype=np.uint8)
    assert same_picture(grey, grey + 5)
    assert not same_picture(grey, grey + 100)


def test_long_chain_is_divided() -> None:
    chain = [(1, (0, 1)), (2, (1, 2)), (1, (2, 3)), (3, (3, 4))]
    assert group_pairs(10, chain, largest=4) == ([[0, 1], [2, 3]], 1)
    assert group_pairs(10, chain, largest=5) == ([[0, 1, 2, 3, 4]], 0)


def test_large_clique_is_not_divided() -> None:
    clique = [(0, (i, j)) for j in range(4) for i in range(j)]
    assert group_pairs(10, clique, largest=1) == ([[0, 1, 2, 3]], 0)


def test_recompressed_copies_are_found(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 40, "dog": 40})
    original = smooth_image(5, size=200)
    original.save(root / "cat" / "big.png")
    original.save(root / "cat" / "big.jpg", quality=40)
    original.resize((90, 90)).save(root / "cat" / "small.png")
    assert audited(root, cache).near_duplicates == (("cat/005.png", "cat/big.jpg", "cat/big.png", "cat/small.png"),)


def test_frames_of_one_scene_are_grouped_in_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is compared with the leader alone; ``nox -s perf`` measures the seconds."""
    compared, paired = [], []

    def counted(first: np.ndarray, second: np.ndarray) -> bool:
        compared.append(1)
        return same_picture(first, second)

    def in_pairs(hashes: np.ndarray, thumbnails: np.ndarray) -> list[tuple[int, tuple[int, int]]]:
        paired.append(len(hashes))
        return near_pairs(hashes, thumbnails)

    monkeypatch.setattr(duplicates, "same_picture", counted)
    monkeypatch.setattr(duplicates, "near_pairs", in_pairs)
    hashes, thumbnails = frames(4000)
    for count in (1000, 4000):
        compared.clear()
        groups, broken = near_groups(hashes[:count], thumbnails[:count], largest=20)
        assert (groups, broken) == ([list(range(count))], 0)
        assert len(compared) == count - 1
    # Pairs are compared in quadratic time, but only the leader is left for that.
    assert paired == [1, 1]


def test_many_images_are_grouped_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    hashes, thumbnails = alike(3000)
    copies = rng.choice(3000, 300)
    near = hashes[copies] ^ np.uint64(1) << rng.integers(0, 64, 300).astype(np.uint64)
    hashes, thumbnails = np.concatenate([hashes, near]), np.concatenate([thumbnails, thumbnails[copies]])
    few = near_groups(hashes, thumbnails, largest=30)
    monkeypatch.setattr(duplicates, "MANY", 0)
    assert near_groups(hashes, thumbnails, largest=30) == few
    assert max(map(len, few[0])) > 300
    assert len(few[0]) > 200


def test_outsiders_and_other_scenes_stay_apart() -> None:
    hashes, thumbnails = frames(800)
    rng = np.random.default_rng(1)
    other = rng.integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    other[2] = other[1]
    strangers = np.array([0, 0x0F0F0F0F0F0F0F0F, 0x0F0F0F0F0F0F0F0E], dtype=np.uint64)
    groups, _ = near_groups(np.concatenate([hashes, strangers]), np.concatenate([thumbnails, other]), largest=8)
    assert groups == [list(range(800)), [801, 802]]
