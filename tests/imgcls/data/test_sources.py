"""Data sets from folders, and data sets known by name."""

import errno
import json
import os
import shutil
import struct
import threading
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgcls.data.audit import audit_dataset
from imgcls.data.decode import Resize
from imgcls.data.sources import registry
from imgcls.data.sources.copied import torchvision_sets
from imgcls.data.sources.file_names import file_of
from imgcls.data.sources.folder import Dataset
from imgcls.data.sources.registry import load_dataset
from imgcls.data.sources.walking import IGNORED
from imgcls.data.splits import make_splits
from imgcls.data.stores.pixels import build_cache
from imgcls.errors import DataError
from tests.helpers.images import MakeFolder, smooth_image


def test_class_folders_give_classes_and_ids(make_folder: MakeFolder, cache: Path) -> None:
    dataset = load_dataset(str(make_folder({"dog": 2, "cat": 1})), cache=cache)
    assert dataset.class_names == ("cat", "dog")
    assert [file.image_id for file in dataset.files] == ["cat/000.png", "dog/000.png", "dog/001.png"]
    assert [file.label for file in dataset.files] == [0, 1, 1]
    assert not dataset.given_splits


def test_hidden_files_are_skipped(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"dog": 1, "cat": 1})
    (root / "cat" / ".DS_Store").touch()
    (root / "cat" / "kittens").mkdir()
    smooth_image(9).save(root / "cat" / "kittens" / "a.png")
    dataset = load_dataset(str(root), cache=cache)
    assert [file.image_id for file in dataset.files] == ["cat/000.png", "cat/kittens/a.png", "dog/000.png"]


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("training", "valid", "testing"),
        ("Train", "Validation", "TEST"),
        ("trn", "dev", "eval"),
    ],
)
def test_given_splits_are_read(make_folder: MakeFolder, cache: Path, train: str, val: str, test: str) -> None:
    root = make_folder({f"{train}/cat": 2, f"{train}/dog": 2, f"{val}/cat": 1, f"{test}/dog": 1, f"{test}/owl": 1})
    dataset = load_dataset(str(root), cache=cache)
    assert dataset.given_splits
    assert dataset.class_names == ("cat", "dog", "owl")
    assert {file.split for file in dataset.files} == {"train", "val", "test"}


@pytest.mark.parametrize("names", [("training", "validation"), ("Train", "Test"), ("train", "HoldOut")])
def test_two_split_folders_are_not_classes(make_folder: MakeFolder, cache: Path, names: tuple[str, str]) -> None:
    dataset = load_dataset(str(make_folder({f"{name}/{kind}": 2 for name in names for kind in "ab"})), cache=cache)
    assert dataset.class_names == ("a", "b")
    assert len({file.split for file in dataset.files}) == 2


def test_two_folders_of_a_split_are_refused(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({f"{name}/{kind}": 1 for name in ("train", "val", "dev") for kind in "ab"})
    with pytest.raises(DataError, match=r"several val folders \(dev, val\): keep one"):
        load_dataset(str(root), cache=cache)


def test_deeper_class_folders_are_refused(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({f"{split}/Fruit/{kind}": 1 for split in ("train", "test") for kind in ("Apple", "Pear")})
    with pytest.raises(
        DataError, match=r"/Fruit/ contains folders and no files \((test|train)/Fruit/Apple, (test|train)/Fruit/Pear\)"
    ):
        load_dataset(str(root), cache=cache)


def test_class_may_be_named_test(make_folder: MakeFolder, cache: Path) -> None:
    dataset = load_dataset(str(make_folder({"test": 1, "control": 1})), cache=cache)
    assert dataset.class_names == ("control", "test")


def test_splits_without_train_are_refused(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"val/cat": 1, "val/dog": 1, "test/cat": 1, "test/dog": 1})
    with pytest.raises(DataError, match="no train"):
        load_dataset(str(root), cache=cache)


def test_train_folder_alone_is_a_split(make_folder: MakeFolder, cache: Path) -> None:
    dataset = load_dataset(str(make_folder({"train/cat": 1, "train/dog": 1})), cache=cache)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.given_splits


def test_folder_beside_splits_is_refused(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"train/cat": 1, "train/dog": 1, "test/cat": 1, "extra": 1})
    with pytest.raises(DataError, match="extra"):
        load_dataset(str(root), cache=cache)


def test_missing_folder_is_refused(cache: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder.*digits, digits-uneven, cifar10"):
        load_dataset("/no/such/folder", cache=cache)


def test_folder_without_images_is_refused(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="no images"):
        load_dataset(str(tmp_path / "empty"), cache=cache)


def test_one_class_is_refused(make_folder: MakeFolder, cache: Path) -> None:
    with pytest.raises(DataError, match="one class only"):
        load_dataset(str(make_folder({"cat": 3})), cache=cache)


def test_digits_are_written_once(cache: Path) -> None:
    dataset = load_dataset("digits", cache=cache)
    assert len(dataset.files) == 1797
    assert dataset.class_names == tuple("0123456789")
    stamp = (dataset.root / dataset.files[0].image_id).stat().st_mtime_ns
    again = load_dataset("digits", cache=cache)
    assert (again.root / again.files[0].image_id).stat().st_mtime_ns == stamp


def test_interrupted_named_set_is_rewritten(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: Path) -> None:
        (folder / "0").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setitem(registry.DATASETS, "digits", broken)
    with pytest.raises(KeyboardInterrupt):
        load_dataset("digits", cache=cache)
    monkeypatch.setitem(registry.DATASETS, "digits", registry.write_digits)
    assert len(load_dataset("digits", cache=cache).files) == 1797


def test_concurrent_loads_write_a_set_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []

    def counted(folder: Path) -> None:
        calls.append(folder)
        registry.write_digits(folder)

    monkeypatch.setitem(registry.DATASETS, "digits", counted)
    threads = [threading.Thread(target=load_dataset, args=("digits",), kwargs={"cache": cache}) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_uneven_digits_are_uneven_in_train_and_val_only(cache: Path) -> None:
    dataset = load_dataset("digits-uneven", cache=cache)
    sizes = {
        split: [
            sum(file.split == split and dataset.class_names[file.label] == name for file in dataset.files)
            for name in dataset.class_names
        ]
        for split in ("train", "val", "test")
    }
    assert sizes["train"][0] == 20 * sizes["train"][-1] == 100
    assert sizes["train"] == sorted(sizes["train"], reverse=True)
    assert sizes["val"] == sorted(sizes["val"], reverse=True)
    assert sizes["test"] == [45] * 10
    numbers = [(file.label, file.image_id.rsplit("/", 1)[-1]) for file in dataset.files]
    assert len(set(numbers)) == len(numbers)


def test_download_without_network_is_one_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(DataError, match='data="cifar10": cannot be downloaded here'):
        load_dataset("cifar10", cache=cache)


def write_idx(path: Path, values: np.ndarray) -> None:
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


def test_array_set_becomes_png_files(cache: Path) -> None:
    raw = cache / "datasets" / "fashionmnist.raw" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", 30), ("t10k", 10)):
        write_idx(raw / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (count, 28, 28)))
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    dataset = load_dataset("FashionMNIST", cache=cache)
    assert len(dataset.files) == 40
    assert "T-shirt-top" in dataset.class_names
    assert {file.split for file in dataset.files} == {"train", "test"}
    assert not raw.exists()


def test_file_set_keeps_its_files(cache: Path) -> None:
    home = cache / "datasets" / "food101.raw" / "food-101"
    (home / "meta").mkdir(parents=True)
    names = {"apple_pie": ["apple_pie/1", "apple_pie/2"], "waffles": ["waffles/3"]}
    for split in ("train", "test"):
        (home / "meta" / f"{split}.json").write_text(json.dumps(names))
    for name in ("apple_pie/1", "apple_pie/2", "waffles/3"):
        path = home / "images" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth_image(len(name)).save(path)
    original = (home / "images" / "waffles" / "3.jpg").read_bytes()
    dataset = load_dataset("food101", cache=cache)
    assert len(dataset.files) == 6
    kept = [file for file in dataset.files if "waffles" in file.image_id]
    assert (dataset.root / kept[0].image_id).read_bytes() == original


def test_named_sets_exist_in_torchvision() -> None:
    import torchvision.datasets

    for row in torchvision_sets.TORCHVISION_SETS.values():
        assert hasattr(torchvision.datasets, row.class_name)


def test_empty_class_folders_are_reported(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 1, "dog": 1})
    (root / "eel").mkdir()
    dataset = load_dataset(str(root), cache=cache)
    assert dataset.empty_folders == ("eel",)
    assert dataset.class_names == ("cat", "dog")
    assert "class folders without files, ignored: eel" in str(audit_dataset(dataset, cache=cache))


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"%:plain.png", b"50%.png", "größe.png".encode(), b"a\\xff.png"])
def test_file_names_are_escaped_reversibly(name: bytes, make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 1, "dog": 1})
    (root / "cat" / "000.png").rename(root / "cat" / os.fsdecode(name))
    dataset = load_dataset(str(root), cache=cache)
    first = dataset.files[0]
    json.dumps(first.image_id, ensure_ascii=False).encode()
    assert os.fsencode(file_of(root, first)) == os.fsencode(root) + b"/cat/" + name
    assert "1 skipped" not in str(audit_dataset(dataset, cache=cache))


def test_a_named_pipe_is_listed_and_not_read(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 2, "dog": 2})
    os.mkfifo(root / "cat" / "x.jpg")
    audit = audit_dataset(load_dataset(str(root), cache=cache), cache=cache)
    assert [(one.image_id, one.reason) for one in audit.removed] == [("cat/x.jpg", "not a regular file")]


def test_an_lfs_pointer_is_named(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 2, "dog": 2})
    (root / "cat" / "a.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    (removal,) = audit_dataset(load_dataset(str(root), cache=cache), cache=cache).removed
    assert removal.reason.startswith("Git LFS pointer")


def ids(dataset: Dataset) -> list[str]:
    return [file.image_id for file in dataset.files]


def skipped(dataset: Dataset) -> dict[str, str]:
    return {removal.image_id: removal.reason for removal in dataset.rejected}


def test_linked_folders_are_followed_once(make_folder: MakeFolder, tmp_path: Path, cache: Path) -> None:
    root = make_folder({"cat": 2, "dog": 2})
    disk = tmp_path / "disk" / "cats"
    (disk / "deep").mkdir(parents=True)
    for seed, path in enumerate((disk / "a.png", disk / "deep" / "b.png"), start=50):
        smooth_image(seed).save(path)
    (root / "cat" / "more").symlink_to(disk)
    (root / "cat" / "again").symlink_to(disk)
    (disk / "loop").symlink_to(disk.parent)
    dataset = load_dataset(str(root), cache=cache)
    assert [image_id for image_id in ids(dataset) if image_id.startswith("cat/again")] == [
        "cat/again/a.png",
        "cat/again/deep/b.png",
    ]
    assert len(dataset.files) == 6
    assert skipped(dataset) == {
        "cat/more": "folder that was read before, through a link",
        "cat/again/loop/cats": "folder that was read before, through a link",
    }
    assert "2 skipped" in str(audit_dataset(dataset, cache=cache))


def test_links_inside_the_data_set_are_not_followed(make_folder: MakeFolder, cache: Path) -> None:
    """Their images would count twice, and in two classes."""
    root = make_folder({"cat": 2, "dog": 2, ".store/dogs": 1})
    (root / "cat" / "dogs").symlink_to(root / "dog")
    (root / "cat" / "all").symlink_to(root)
    (root / "cat" / "above").symlink_to(root.parent)
    (root / "dog" / "stored").symlink_to(root / ".store" / "dogs")
    dataset = load_dataset(str(root), cache=cache)
    assert len(dataset.files) == 5
    assert skipped(dataset) == {
        "cat/above": "link to a folder that contains the data set",
        "cat/all": "link to a folder that contains the data set",
        "cat/dogs": "link to dog/, which is read there",
    }


def test_ignored_folders_are_neither_classes_nor_splits(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 2, "dog": 2, "results/artifacts": 1, "cat/own": 1})
    (root / "results" / IGNORED).touch()
    (root / "cat" / "own" / IGNORED).touch()
    assert ids(load_dataset(str(root), cache=cache)) == ["cat/000.png", "cat/001.png", "dog/000.png", "dog/001.png"]


def test_flat_folder_is_named_by_its_path(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flat").mkdir()
    smooth_image(0).save(tmp_path / "flat" / "a.png")
    monkeypatch.chdir(tmp_path / "flat")
    expected = rf"1 file\(s\) and no class folder with images in {tmp_path}/flat: .* as flat/CLASS/IMAGE"
    with pytest.raises(DataError, match=expected):
        load_dataset(".", cache=cache)


DECOMPOSED = unicodedata.normalize("NFD", "café")


def test_spellings_of_a_class_are_one_class(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"train/café": 2, "train/dog": 2, f"test/{DECOMPOSED}": 1, "test/dog": 1})
    dataset = load_dataset(str(root), cache=cache)
    assert dataset.class_names == ("café", "dog")
    file = next(file for file in dataset.files if file.split == "test" and file.label == 0)
    assert (file.image_id, file.own_path) == ("test/café/000.png", f"test/{DECOMPOSED}/000.png")
    assert file_of(root, file).is_file()
    assert len(audit_dataset(dataset, cache=cache).images) == 6


def test_copy_with_other_spellings_has_the_same_digest_and_split(
    make_folder: MakeFolder, tmp_path: Path, cache: Path
) -> None:
    """A copy on macOS has decomposed names."""
    root = make_folder({"café": 10, "cafz": 10})
    copy = tmp_path / "copy" / root.name
    shutil.copytree(root, copy)
    (copy / "café").rename(copy / DECOMPOSED)
    audits = [audit_dataset(load_dataset(str(folder)), cache=cache) for folder in (root, copy)]
    assert audits[0].digest == audits[1].digest
    assert make_splits(audits[0]).digest == make_splits(audits[1]).digest
    resize = Resize(size=32, interpolation="bilinear")
    (first, second) = (
        build_cache(audit, resize, root=folder, cache=tmp_path / folder.parent.name)
        for audit, folder in zip(audits, (root, copy), strict=True)
    )
    assert np.array_equal(first, second)


def test_two_spellings_of_a_path_are_refused(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"café": 1, DECOMPOSED: 1, "dog": 1})
    with pytest.raises(DataError, match=r"composition of characters: 'cafe\\u0301/000.png' and 'caf\\xe9/000.png'"):
        load_dataset(str(root), cache=cache)


def test_link_to_a_class_is_no_class(make_folder: MakeFolder, cache: Path) -> None:
    """As a class it would contradict the folder that it shows, and all images of both would be removed."""
    root = make_folder({"cat": 2, "dog": 2})
    (root / "kitten").symlink_to(root / "cat")
    dataset = load_dataset(str(root), cache=cache)
    assert dataset.class_names == ("cat", "dog")
    assert skipped(dataset) == {"kitten": "link to cat/, which is read there"}
    assert len(audit_dataset(dataset, cache=cache).images) == 4


def test_folder_that_may_not_be_entered_is_one_line(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder({"cat": 2, "dog": 2})
    whole, scan = Path.exists, os.scandir

    def exists(self: Path, **options: Any) -> bool:
        if self.parent.name == "dog":
            raise PermissionError(errno.EACCES, "Permission denied")
        return whole(self, **options)

    def scandir(path: Any) -> Any:
        if Path(path).name == "dog":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(Path, "exists", exists)
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"dog: cannot be read \(Permission denied\)"):
        load_dataset(str(root))
