"""Where pixels come from: the same to the bit, whether they are stored or decoded in every pass."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from imgcls.config import ArchitectureConfig, LoaderConfig, StoreConfig, TrainConfig
from imgcls.data.audit import Audit, audit_dataset
from imgcls.data.augment import Normalisation
from imgcls.data.decode import Resize
from imgcls.data.loaders import eval_batches
from imgcls.data.prepared import Prepared, prepare
from imgcls.data.sources.registry import load_dataset
from imgcls.data.splits import make_splits
from imgcls.data.stores.choice import choose_store, names_of
from imgcls.data.stores.files import FileStore
from imgcls.data.stores.pixels import build_cache
from imgcls.errors import ConfigError, DataError
from imgcls.pipeline import fine_tune
from tests.helpers.images import MakeFolder

SQUARE = Resize(size=40, interpolation="bilinear")
NORMALISATION = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def audited(root: Path, cache: Path) -> Audit:
    return audit_dataset(load_dataset(str(root), cache=cache), cache=cache)


def test_decoded_pixels_are_those_that_would_be_stored(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cät": 3, "dog": 3})
    (root / "dog" / "000.png").rename(root / "dog" / "e\u0301.png")  # composed otherwise in its id
    audit = audited(root, cache)
    stored = build_cache(audit, SQUARE, root=root, cache=cache)
    decoded = FileStore(root=root, names=names_of(audit), resize=SQUARE)
    rows = np.array([5, 0, 3])
    assert (decoded[rows] == stored[rows]).all()
    assert (decoded.load(rows) == stored[rows]).all()
    assert decoded[rows[:0]].shape == (0, 40, 40, 3)


@pytest.fixture
def decoding(make_folder: MakeFolder, cache: Path) -> tuple[Prepared, Path]:
    root = make_folder({"cat": 20, "dog": 20})
    audit = audited(root, cache)
    splits = make_splits(audit)
    return prepare(audit, splits, SQUARE, root=root, cache=cache, store="files"), root


def test_batches_come_from_processes_and_in_order(decoding: tuple[Prepared, Path], cache: Path) -> None:
    data, root = decoding
    stored = prepare(data.audit, make_splits(data.audit), SQUARE, root=root, cache=cache)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    for expected, batch in zip(batches(stored), batches(data), strict=True):
        assert torch.equal(expected[0], batch[0])
        assert torch.equal(expected[1], batch[1])
    # Dropout draws from it: a store that draws, too, would change what is trained.
    assert torch.equal(torch.get_rng_state(), state)


def batches(data: Prepared) -> list[tuple[torch.Tensor, torch.Tensor]]:
    source, device = data.source("train"), torch.device("cpu")
    return list(eval_batches(source, batch_size=5, normalisation=NORMALISATION, device=device))


def test_photo_that_changed_since_its_audit_ends_the_pass(decoding: tuple[Prepared, Path]) -> None:
    data, root = decoding
    (root / data.image_ids("train")[7]).write_text("no image")
    with pytest.raises(DataError, match=r"was decoded in the audit and is now not an image: audit again$"):
        batches(data)


def test_training_is_the_same_to_the_bit(make_folder: MakeFolder, cache: Path, tmp_path: Path) -> None:
    dataset = load_dataset(str(make_folder({"cat": 20, "dog": 20})))
    audit = audit_dataset(dataset, cache=cache)
    states = []
    for store in ("files", "pixels"):  # in this order: stored pixels are used wherever they are
        tuned = fine_tune(
            "test_efficientnet",
            dataset,
            audit,
            make_splits(audit),
            folder=tmp_path / store,
            weights="none",
            loader=LoaderConfig(image_size=32, batch_size=8),
            architecture=ArchitectureConfig(dropout=0.3),
            train=TrainConfig(epochs=1, device="cpu", train_threads=1),
            cache=cache,
            store=StoreConfig(store=store),
        )
        assert isinstance(tuned.data.pixels, FileStore) == (store == "files")
        assert (cache / "pixels").exists() == (store == "pixels")
        states.append(tuned.training.state)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_auto_stores_what_fits_and_says_otherwise(
    make_folder: MakeFolder, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    root = make_folder({"cat": 30, "dog": 30})
    audit = audited(root, cache)
    needed = 60 * 40 * 40 * 3 / 1e9
    assert choose_store(audit, SQUARE, cache=cache) == "pixels"
    assert choose_store(audit, SQUARE, cache=cache, config=StoreConfig(store_gb=needed)) == "pixels"
    assert not caplog.text
    for budget in (0.0, 0.99 * needed):
        caplog.clear()
        assert choose_store(audit, SQUARE, cache=cache, config=StoreConfig(store_gb=budget)) == "files"
        assert "the pixels of 60 images at 40 px take 0.001 GB, more than the" in caplog.text
    with pytest.raises(ConfigError, match="60 images at 40 px take"):
        choose_store(audit, SQUARE, cache=cache, config=StoreConfig(store="pixels", store_gb=0.0))
    build_cache(audit, SQUARE, root=root, cache=cache)
    assert choose_store(audit, SQUARE, cache=cache, config=StoreConfig(store_gb=0.0)) == "pixels"
    assert choose_store(audit, SQUARE, cache=cache, config=StoreConfig(store="files")) == "files"


@pytest.mark.parametrize("wrong", [{"store": "tar"}, {"store_gb": -1.0}, {"store_gb": float("nan")}])
def test_wrong_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=str(*wrong.values())):
        StoreConfig(**wrong)  # type: ignore[arg-type]
