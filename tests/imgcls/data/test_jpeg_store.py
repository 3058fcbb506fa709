"""Train images as JPEG: near the exact pixels, in files that are made again if damaged or of another version."""

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from imgcls.config import LoaderConfig, StoreConfig, TrainConfig
from imgcls.data.audit import Audit, audit_dataset
from imgcls.data.augment import Normalisation
from imgcls.data.decode import Resize
from imgcls.data.loaders import eval_batches, train_batches
from imgcls.data.prepared import prepare
from imgcls.data.sources.registry import load_dataset
from imgcls.data.splits import make_splits
from imgcls.data.stores import jpeg
from imgcls.data.stores.choice import names_of
from imgcls.data.stores.files import FileStore
from imgcls.data.stores.jpeg import JpegStore, build_jpegs
from imgcls.errors import ConfigError, DataError
from imgcls.pipeline import fine_tune
from tests.helpers.images import MakeFolder

NORMALISATION = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
ROWS = np.array([11, 0, 4])


@pytest.fixture
def audit(make_folder: MakeFolder, cache: Path) -> Audit:
    return audit_dataset(load_dataset(str(make_folder({"cat": 6, "dog": 6}))), cache=cache)


@pytest.fixture
def exact(audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileStore:
    monkeypatch.setattr(jpeg, "SHARD", 5)
    monkeypatch.setattr(jpeg, "BATCH", 2)
    return FileStore(root=tmp_path / "pets", names=names_of(audit), resize=Resize(size=40, interpolation="bilinear"))


def shards_in(cache: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted(cache.glob("jpeg/*/*")) if path.suffix != ".lock"}


def test_images_are_near_and_in_order(audit: Audit, exact: FileStore, cache: Path) -> None:
    seen: list[tuple[int, int]] = []
    store = build_jpegs(audit, exact, cache=cache, progress=lambda done, total: seen.append((done, total)))
    assert list(shards_in(cache)) == ["00000.arrow", "00001.arrow", "00002.arrow"]
    assert seen[-1] == (12, 12)
    pixels = store[np.arange(12)]
    differences = np.abs(pixels.astype(int) - exact[np.arange(12)])
    assert 0 < differences.mean() < 2  # of 255: quality 95 without subsampled colours
    assert (store[ROWS] == pixels[ROWS]).all()
    assert (store.load(ROWS) == pixels[ROWS]).all()
    assert store[ROWS[:0]].shape == (0, 40, 40, 3)


def test_files_are_used_again(audit: Audit, exact: FileStore, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = build_jpegs(audit, exact, cache=cache)[ROWS]
    made = shards_in(cache)
    assert (build_jpegs(audit, exact, cache=cache)[ROWS] == before).all()
    assert shards_in(cache) == made
    build_jpegs(audit, replace(exact, resize=Resize(size=32, interpolation="bilinear")), cache=cache)
    assert len(list(cache.glob("jpeg/*"))) == 2
    assert not caplog.text


@pytest.mark.parametrize("damage", ["cut", "version", "count", "empty"])
def test_damaged_file_alone_is_made_again(  # noqa: PLR0913, PLR0917 - fixtures
    audit: Audit,
    exact: FileStore,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
) -> None:
    with monkeypatch.context() as patch:
        if damage == "version":
            patch.setattr(jpeg, "STORE_VERSION", 0)
        expected = build_jpegs(audit, exact, cache=cache)[np.arange(12)]
    path = next(cache.glob("jpeg/*/00001.arrow"))
    if damage in {"cut", "empty"}:
        path.write_bytes(path.read_bytes()[: {"cut": -100, "empty": 0}[damage]])
    if damage == "count":
        path.write_bytes(path.with_name("00002.arrow").read_bytes())
    made = shards_in(cache)
    assert (build_jpegs(audit, exact, cache=cache)[np.arange(12)] == expected).all()
    changed = [name for name, time in shards_in(cache).items() if time != made[name]]
    assert changed == (list(made) if damage == "version" else ["00001.arrow"])
    says = {"version": "of another version", "count": "of 2 images, not 5"}.get(damage, "cut short or damaged")
    assert f"00001.arrow in the cache is {says}: it is made again" in caplog.text


def test_image_that_is_damaged_within_a_file_is_an_error(audit: Audit, exact: FileStore, cache: Path) -> None:
    store = build_jpegs(audit, exact, cache=cache)
    path = store.shards[0]
    with pa.OSFile(str(path), "r") as file:
        data = file.read()
    path.write_bytes(data.replace(b"\xff\xd8\xff", b"\0\0\0"))
    with pytest.raises(DataError, match=r"00000\.arrow in the cache is damaged: delete it, and it is made again"):
        JpegStore(store.shards, 40)[np.array([0])]


def test_full_disk_leaves_only_whole_files(
    audit: Audit, exact: FileStore, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, calls = jpeg._jpegs, []  # noqa: SLF001 - the disk becomes full between two images

    def full(squares: object) -> list[bytes]:
        calls.append(squares)
        if len(calls) > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        return encode(squares)  # type: ignore[arg-type]

    monkeypatch.setattr(jpeg, "CHUNK", 1)
    monkeypatch.setattr(jpeg, "_jpegs", full)
    with pytest.raises(OSError, match="No space left"):
        build_jpegs(audit, exact, cache=cache)
    assert list(shards_in(cache)) == ["00000.arrow"]


def test_photo_that_changed_since_its_audit_ends_the_build(audit: Audit, exact: FileStore, cache: Path) -> None:
    (exact.root / "dog" / "000.png").write_text("no image")
    with pytest.raises(DataError, match="was decoded in the audit and is now not an image"):
        build_jpegs(audit, exact, cache=cache)


def test_only_train_reads_it(audit: Audit, exact: FileStore, cache: Path) -> None:
    splits = make_splits(audit)
    folders = {"root": exact.root, "cache": cache}
    exactly, lossy = (prepare(audit, splits, exact.resize, **folders, store=store) for store in ("files", "jpeg"))
    device = torch.device("cpu")
    for split in ("train", "val", "test"):
        first, second = (
            list(eval_batches(data.source(split), batch_size=4, normalisation=NORMALISATION, device=device))
            for data in (exactly, lossy)
        )
        assert all(torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True)) == (split != "train")
        assert all(torch.equal(a[1], b[1]) for a, b in zip(first, second, strict=True))
    batches = train_batches(
        lossy.source("train"),
        batch_size=3,
        normalisation=NORMALISATION,
        device=device,
        generator=torch.Generator().manual_seed(0),
    )
    assert sum(len(labels) for _, labels in batches) >= 8  # read in worker processes


def test_training_on_it_is_another_one(make_folder: MakeFolder, cache: Path, tmp_path: Path) -> None:
    dataset = load_dataset(str(make_folder({"cat": 20, "dog": 20})))
    audit = audit_dataset(dataset, cache=cache)

    def tune(store: str, folder: str) -> dict[str, torch.Tensor]:
        return fine_tune(
            "test_efficientnet",
            dataset,
            audit,
            make_splits(audit),
            folder=tmp_path / folder,
            weights="none",
            loader=LoaderConfig(image_size=32, batch_size=8),
            train=TrainConfig(epochs=1, device="cpu", train_threads=1),
            cache=cache,
            store=StoreConfig(store=store),
        ).training.state

    states = [tune(store, store) for store in ("files", "jpeg")]
    assert not all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    with pytest.raises(ConfigError, match="holds a training with other settings"):
        tune("jpeg", "files")
