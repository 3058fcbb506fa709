"""Versions of files: a stored audit, and what is cached by it, must never be that of other pixels."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imgcls.data.audit import Audit, audit_dataset
from imgcls.data.decode import Resize
from imgcls.data.sources.registry import load_dataset
from imgcls.data.sources.version import version_of
from imgcls.data.stores.pixels import build_cache

STAMP = 1_600_000_000_000_000_000


def write_set(root: Path, seed: int) -> Path:
    """Write uncompressed images of equal names, sizes and times for every seed."""
    rng = np.random.default_rng(seed)
    for name in ("ash", "birch"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(3):
            path = root / name / f"{number}.bmp"
            Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
            os.utime(path, ns=(STAMP, STAMP))
    return root


def audited(root: Path, cache: Path, **options: Any) -> Audit:
    return audit_dataset(load_dataset(str(root)), cache=cache, **options)


def version(root: Path, **options: Any) -> str:
    return version_of(load_dataset(str(root)), **options)


def pixels_of(root: Path, cache: Path) -> Any:
    return build_cache(audited(root, cache), Resize(size=64, interpolation="nearest"), root=root, cache=cache)


def test_sets_of_equal_names_sizes_and_times_share_nothing(tmp_path: Path, cache: Path) -> None:
    first, second = (write_set(tmp_path / folder / "photos", seed) for seed, folder in enumerate("ab"))
    before, after = (pixels_of(root, cache) for root in (first, second))
    assert audited(first, cache).digest != audited(second, cache).digest
    assert np.array_equal(after[0], np.asarray(Image.open(second / "ash" / "0.bmp")))
    assert not np.array_equal(before, after)


def test_set_that_is_unpacked_in_the_place_of_another_is_another_version(tmp_path: Path, cache: Path) -> None:
    root = write_set(tmp_path / "photos", 0)
    before = audited(root, cache).digest
    write_set(root, 1)
    assert audited(root, cache).digest != before


def test_one_changed_byte_in_the_middle_of_a_file_is_found(tmp_path: Path) -> None:
    """By the time of its change, which programs cannot set, although it has the old modification time again."""
    path = write_set(tmp_path / "photos", 0) / "ash" / "0.bmp"
    before = version(tmp_path / "photos"), version(tmp_path / "photos", verify=True)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(STAMP, STAMP))
    after = version(tmp_path / "photos"), version(tmp_path / "photos", verify=True)
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize("where", [0, -1])
def test_first_and_last_bytes_identify_files_without_inode_and_time_of_change(
    where: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_set(tmp_path / "photos", 0)
    path, whole = root / "ash" / "0.bmp", Path.stat

    def without(self: Path, **options: Any) -> Any:
        found = whole(self, **options)
        # As on a file system that keeps neither.
        values = {name: getattr(found, name) for name in ("st_mode", "st_size", "st_mtime_ns")}
        return type("Stat", (), {**values, "st_ino": 0, "st_ctime_ns": 0})

    monkeypatch.setattr(Path, "stat", without)
    before = version(root)
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(STAMP, STAMP))
    assert version(root) != before


def test_verified_version_is_that_of_the_bytes_only(tmp_path: Path, cache: Path) -> None:
    root = write_set(tmp_path / "photos", 0)
    audit = audited(root, cache, verify=True)
    copy = tmp_path / "elsewhere" / "photos"
    shutil.copytree(root, copy)
    assert version(copy) != version(root)
    assert version(copy, verify=True) == version(root, verify=True)
    assert audited(copy, cache, verify=True) == audit


def test_verified_audit_replaces_a_stored_one_that_is_wrong(tmp_path: Path, cache: Path) -> None:
    """As one would be that was stored on a file system whose properties cannot be trusted."""
    root = write_set(tmp_path / "photos", 0)
    right = audited(root, cache)
    (stored,) = (cache / "audits").glob("*.json")
    stored.write_text(stored.read_text().replace(right.digest, "0" * 16))
    assert audited(root, cache).digest == "0" * 16
    assert audited(root, cache, verify=True) == right
    assert audited(root, cache) == right


def test_files_that_cannot_be_read_have_a_version(tmp_path: Path) -> None:
    root = write_set(tmp_path / "photos", 0)
    (root / "ash" / "gone.png").symlink_to(root / "nowhere.png")
    os.mkfifo(root / "ash" / "pipe.png")
    assert version(root) == version(root)
    assert version(root, verify=True) == version(root, verify=True)
