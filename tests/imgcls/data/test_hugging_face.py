"""Data sets of Hugging Face's library, stored on this machine."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from imgcls.data.audit import audit_dataset
from imgcls.data.sources.folder import Dataset
from imgcls.data.sources.registry import load_dataset
from imgcls.errors import ConfigError, DataError
from tests.helpers.images import smooth_image

datasets = pytest.importorskip("datasets")

NAMES = ["cat", "dog"]


def table(start: int, *, count: int = 6, labels: list[int] | None = None) -> Any:
    columns = {
        "photo": [smooth_image(start + number) for number in range(count)],
        "kind": labels or [number % 2 for number in range(count)],
        "patient": [f"p{number // 2}" for number in range(count)],
    }
    features = datasets.Features(
        {"photo": datasets.Image(), "kind": datasets.ClassLabel(names=NAMES), "patient": datasets.Value("string")}
    )
    return datasets.Dataset.from_dict(columns, features=features)


def stored(parts: Any, folder: Path) -> str:
    parts.save_to_disk(str(folder))
    return f"hf:{folder}"


def content(dataset: Dataset) -> list[tuple[str, str | None, tuple[str, ...]]]:
    return [(dataset.class_names[file.label], file.split, file.values) for file in dataset.files]


def test_single_table_is_divided_here(tmp_path: Path, cache: Path) -> None:
    dataset = load_dataset(stored(table(0), tmp_path / "field"), cache=cache)
    assert (dataset.name, dataset.class_names, dataset.given_splits) == ("field", ("cat", "dog"), False)
    assert content(dataset)[:2] == [("cat", None, ("p0",)), ("dog", None, ("p0",))]
    audit = audit_dataset(dataset, cache=cache)
    assert len(audit.images) == 6
    assert not any(image.notes for image in audit.images)


def test_splits_of_the_library_are_given(tmp_path: Path, cache: Path) -> None:
    parts = datasets.DatasetDict({"train": table(0), "validation": table(10), "test": table(20)})
    dataset = load_dataset(stored(parts, tmp_path / "field"), cache=cache)
    assert dataset.given_splits
    assert [split for _, split, _ in content(dataset)].count("val") == 6
    assert dataset.columns == ("patient",)


def test_images_keep_their_bytes(tmp_path: Path, cache: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(4):
        smooth_image(number).save(photos / f"{number}.jpg", quality=60)
    columns = {"image": [str(photos / f"{number}.jpg") for number in range(4)], "label": [0, 1, 0, 1]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    dataset = load_dataset(
        stored(datasets.Dataset.from_dict(columns, features=features), tmp_path / "field"), cache=cache
    )
    written = [(dataset.root / file.image_id).read_bytes() for file in dataset.files]
    assert written == [(photos / f"{number}.jpg").read_bytes() for number in range(4)]


def test_missing_labels_and_images_are_rejected(tmp_path: Path, cache: Path) -> None:
    rows = table(0, labels=[-1, 1, 0, 1, 0, 1])
    dataset = load_dataset(stored(rows, tmp_path / "field"), cache=cache)
    assert [one.reason for one in dataset.rejected] == ["blank label"]
    assert len(dataset.files) == 5


def test_folder_of_parquet_files_is_read(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")
    (tmp_path / "field").mkdir()
    table(0).to_parquet(str(tmp_path / "field" / "train-00000.parquet"))
    assert len(load_dataset(f"hf:{tmp_path / 'field'}", cache=cache).files) == 6


def test_set_is_written_once(tmp_path: Path, cache: Path) -> None:
    name = stored(table(0), tmp_path / "field")
    first = load_dataset(name, cache=cache)
    (first.root / "labels.csv").write_text("path,label\nall/0.png,x\nall/1.png,y\n", encoding="utf-8")
    assert load_dataset(name, cache=cache).class_names == ("x", "y")
    assert load_dataset(stored(table(50), tmp_path / "other" / "field"), cache=cache).class_names == ("cat", "dog")


def test_name_without_network_is_refused(cache: Path) -> None:
    with pytest.raises(DataError, match='data="hf:someone/pets": no data set that can be read here'):
        load_dataset("hf:someone/pets", cache=cache)


def test_set_without_class_labels_is_refused(tmp_path: Path, cache: Path) -> None:
    plain = datasets.Dataset.from_dict({"text": ["a", "b"]})
    with pytest.raises(DataError, match=r"needs one column of images \(Image\), has 0; columns: text \(Value\)"):
        load_dataset(stored(plain, tmp_path / "field"), cache=cache)


def test_unknown_split_is_refused(tmp_path: Path, cache: Path) -> None:
    parts = datasets.DatasetDict({"train": table(0), "extra": table(10)})
    with pytest.raises(DataError, match="unknown split 'extra'; known: train"):
        load_dataset(stored(parts, tmp_path / "field"), cache=cache)


def test_missing_library_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"needs the package datasets; pip install -e '.\[hf\]'"):
        load_dataset("hf:someone/pets", cache=cache)
