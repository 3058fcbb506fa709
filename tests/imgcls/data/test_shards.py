"""WebDataset's shards: the images and labels in tar files, audited like files."""

import logging
import tarfile
from pathlib import Path

import pytest

from imgcls.data.audit import audit_dataset
from imgcls.data.sources.folder import Dataset
from imgcls.data.sources.locations import name_of
from imgcls.data.sources.registry import absolute, load_dataset
from imgcls.data.splits import make_splits
from imgcls.errors import DataError
from tests.helpers.images import MakeFolder
from tests.helpers.shards import Members, labelled, photo, write_shard


def content(dataset: Dataset) -> list[tuple[str, str, str | None]]:
    return [(file.image_id, dataset.class_names[file.label], file.split) for file in dataset.files]


@pytest.mark.parametrize("ending", ["cls", "txt", "json"])
def test_labels_lie_beside_the_images(tmp_path: Path, cache: Path, ending: str) -> None:
    write_shard(tmp_path / "pets-000.tar", labelled(0, 4, ending=ending))
    write_shard(tmp_path / "pets-001.tar", labelled(4, 2, ending=ending))
    dataset = load_dataset(f"wds:{tmp_path}/pets-{{000..001}}.tar", cache=cache)
    assert (dataset.name, dataset.class_names, dataset.given_splits) == ("pets", ("cat", "dog"), False)
    assert content(dataset)[0] == ("000000.png", "cat", None)
    assert [label for _, label, _ in content(dataset)] == ["cat", "dog"] * 3
    assert (dataset.root / "000005.png").read_bytes() == photo(5)
    assert len(audit_dataset(dataset, cache=cache).images) == 6
    if ending == "json":
        assert dataset.columns == ("patient",)
        assert dataset.files[5].values == ("p2",)


def test_first_label_of_several_counts(tmp_path: Path, cache: Path) -> None:
    members: Members = {}
    for number, label in enumerate(["7", "8"]):
        stem = f"a b/{number} "  # cells of tables lose such spaces
        described = f'{{"label": 3, "txt": null, "size": [1, 2], "site": {number}}}'
        members |= {f"{stem}.PNG": photo(number), f"{stem}.txt": "a caption", f"{stem}.json": described}
        members |= {f"{stem}.cls": label, f"{stem}.seg.json": '{"label": "mask"}'}
    dataset = load_dataset(f"wds:{write_shard(tmp_path / 'x.tar', members)}", cache=cache)
    assert content(dataset) == [("a b/0 .PNG", "7", None), ("a b/1 .PNG", "8", None)]
    assert dataset.columns == ("site",)


def test_class_folders_in_shards_are_the_folder_they_were_made_of(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cät": 6, "dog": 6})
    files = sorted(root.rglob("*.png"))
    for number, part in enumerate((files[::2], files[1::2])):
        members: Members = {f"./{path.relative_to(root).as_posix()}": path.read_bytes() for path in part}
        write_shard(root.parent / f"pets-{number}.tar", members)
    expected, dataset = (load_dataset(data, cache=cache) for data in (str(root), f"wds:{root.parent}/pets-*.tar"))
    assert content(dataset) == content(expected)
    audits = [audit_dataset(each, cache=cache) for each in (expected, dataset)]
    assert audits[0].digest == audits[1].digest
    assert make_splits(audits[0]).digest == make_splits(audits[1]).digest


def test_names_of_shards_give_the_split(tmp_path: Path, cache: Path) -> None:
    for split in ("train", "val", "test"):  # with equal keys
        write_shard(tmp_path / f"pets-{split}-0.tar", labelled(0, 4))
    dataset = load_dataset(f"wds:{tmp_path}", cache=cache)
    assert dataset.given_splits
    assert next(image_id for image_id, _, split in content(dataset) if split == "val") == "val/000000.png"
    assert [split for _, _, split in content(dataset)].count("test") == 4
    alone = load_dataset(f"wds:{tmp_path}/pets-train-{{0..0}}.tar", cache=cache)
    assert (alone.given_splits, alone.name, content(alone)[0][0]) == (False, "pets-train", "000000.png")
    write_shard(tmp_path / "pets-more.tar", labelled(90, 2))
    with pytest.raises(DataError, match=r"have a split and pets-more\.tar has none"):
        load_dataset(f"wds:{tmp_path}", cache=cache)


def test_folders_in_folders_of_splits(tmp_path: Path, cache: Path) -> None:
    for split in ("train", "test"):
        images: Members = {f"{label}/{number}.png": photo(number) for number, label in enumerate(("cat", "dog"))}
        write_shard(tmp_path / "x" / split / "0.tar", images)
    dataset = load_dataset(f"wds:{tmp_path}/x/{{train,test}}/*.tar", cache=cache)
    assert (dataset.name, dataset.given_splits) == ("x", True)
    assert content(dataset)[0] == ("test/cat/0.png", "cat", "test")


def test_other_members_are_skipped(tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    others: Members = {"000000.npy": "x", "._000000.png": "x", ".cache/a.png": "x", "README": "x", "9.cls": "cat"}
    dataset = load_dataset(f"wds:{write_shard(tmp_path / 'x.tar', labelled(0, 4) | others)}", cache=cache)
    assert len(dataset.files) == 4
    assert [(removal.image_id, removal.reason) for removal in dataset.rejected] == [("9", "no such file")]
    assert "2 files in shards skipped: no images or labels (.npy, without ending)" in caplog.text


def test_changed_shard_is_unpacked_again(tmp_path: Path, cache: Path) -> None:
    shard = write_shard(tmp_path / "x.tar", labelled(0, 4))
    first = load_dataset(f"wds:{shard}", cache=cache)
    (first.root / "labels.csv").write_text("path,label\n000000.png,a\n000001.png,b\n", encoding="utf-8")
    assert load_dataset(f"wds:{shard}", cache=cache).class_names == ("a", "b")
    write_shard(shard, labelled(2, 4))
    assert content(load_dataset(f"wds:{shard}", cache=cache))[0][0] == "000002.png"


def test_compressed_shard_is_read(tmp_path: Path, cache: Path) -> None:
    shard = write_shard(tmp_path / "x.tar.gz", labelled(0, 4), mode="w:gz")
    assert len(load_dataset(f"wds:{shard}", cache=cache).files) == 4
    shard.write_bytes(shard.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"^x\.tar\.gz: cut short or damaged"):
        load_dataset(f"wds:{shard}", cache=cache)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"3.png": b"x"}, "x.tar: '3.png' has no label; add a .cls or .txt, or a .json"),
        ({"3.png": b"x", "3.jpg": b"x", "3.cls": "a"}, "x.tar: two images with the key '3' (3.png and 3.jpg)"),
        ({"000001.png": b"x"}, "x.tar and y.tar: two images with the key '000001' (000001.png)"),
        ({"000001.jpg": b"x"}, "x.tar and y.tar: two images with the key '000001' (000001.jpg and 000001.png)"),
        ({"3.png": b"x", "3.json": "{"}, "x.tar: 3.json cannot be read"),
        ({"3.png": b"x", "3.json": '{"label": [1]}'}, 'x.tar: the "label" of 3.json is [1]; use a text or a number'),
        ({"3.png": b"x", "3.cls": b"\xff"}, "x.tar: '3.cls' is not UTF-8"),
        ({"/3.png": b"x"}, "x.tar: '/3.png' leads out of the shard's folder"),
        ({"a/../../3.png": b"x"}, "x.tar: 'a/../../3.png' leads out of the shard's folder"),
        (
            {"a.png": b"x", "a.cls": "a", "a.png/b.png": b"x", "a.png/b.cls": "a"},
            "x.tar: 'a.png/b.png' is also the path",
        ),
        ({f"{'n' * 300}.png": b"x"}, "cannot be unpacked (File name too long)"),
    ],
)
def test_members_that_are_refused(tmp_path: Path, cache: Path, members: Members, says: str) -> None:
    write_shard(tmp_path / "x.tar", members)
    write_shard(tmp_path / "y.tar", labelled(0, 4))
    with pytest.raises(DataError) as raised:
        load_dataset(f"wds:{tmp_path}", cache=cache)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not any(path.is_dir() for path in (cache / "datasets").iterdir())  # nothing half-written
    assert not (tmp_path.parent / "3.png").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, cache: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("a.png")
    info.type, info.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.addfile(info)
    with pytest.raises(DataError, match=r"^x\.tar: 'a\.png' is (a link|neither a file nor a folder)"):
        load_dataset(f"wds:{tmp_path}/x.tar", cache=cache)


# Within an image, between two members, and within the blocks at the end.
@pytest.mark.parametrize("kept", [0.5, "members", 100])
def test_shard_cut_short_is_refused(tmp_path: Path, cache: Path, kept: float | str) -> None:
    shard = write_shard(tmp_path / "x.tar", labelled(0, 4))
    with tarfile.open(shard) as archive:
        archive.getmembers()
        end = archive.offset
    data = shard.read_bytes()
    shard.write_bytes(data[: {0.5: len(data) // 2, "members": end, 100: end + 100}[kept]])
    with pytest.raises(DataError, match=r"^x\.tar: cut short or damaged"):
        load_dataset(f"wds:{shard}", cache=cache)


def test_overwritten_header_is_no_silent_end(tmp_path: Path, cache: Path) -> None:
    shard = write_shard(tmp_path / "x.tar", labelled(0, 4))
    with tarfile.open(shard) as archive:
        third = archive.getmembers()[2].offset
    data = bytearray(shard.read_bytes())
    data[third : third + 512] = b"?" * 512
    shard.write_bytes(data)
    with pytest.raises(DataError, match=r"^x\.tar: cut short or damaged \(it has no end\)"):
        load_dataset(f"wds:{shard}", cache=cache)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("no-*.tar", "no file matches"),
        ("x-{0..2}.tar", "no such shard: "),
        ("empty", "no .tar file in this folder"),
        ("{0..99999999}.tar", "more than 1,000,000 names"),
        ("text.tar", "text.tar: not a tar file that can be read"),
        ("none.tar", "none.tar: not a tar file that can be read"),
    ],
)
def test_patterns_without_shards(tmp_path: Path, cache: Path, pattern: str, says: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tar").write_text("no tar file")
    (tmp_path / "none.tar").touch()
    write_shard(tmp_path / "x-0.tar", labelled(0, 4))
    with pytest.raises(DataError) as raised:
        load_dataset(f"wds:{tmp_path}/{pattern}", cache=cache)
    assert says in str(raised.value)


def test_braces_count_as_in_a_shell(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (8, 9, 10):
        write_shard(tmp_path / f"{number:02d}" / f"x{number}.tar", labelled(10 * number, 2))
    monkeypatch.chdir(tmp_path)
    assert len(load_dataset("wds:{08..10}/*.tar", cache=cache).files) == 6
    assert len(load_dataset("wds:{08,10}/x*.tar", cache=cache).files) == 4
    with pytest.raises(DataError, match=r"no such shard: 08/x9\.tar"):
        load_dataset("wds:{08..10}/x{8..10}.tar", cache=cache)


def test_place_and_name_of_a_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("wds:a/{0..9}.tar") == f"wds:{tmp_path}/a/{{0..9}}.tar"
    assert [name_of(f"wds:{pattern}") for pattern in ("a/pets-{0..9}.tar", "a/*.tar", "a/b", "pets.tar")] == [
        "pets",
        "a",
        "b",
        "pets",
    ]
    assert name_of("wds:*.tar") == tmp_path.name


def test_huge_claim_of_a_size_is_refused(tmp_path: Path, cache: Path) -> None:
    info = tarfile.TarInfo("a.png")
    info.size = 2**40
    (tmp_path / "x.tar").write_bytes(info.tobuf() + bytes(2048))
    with pytest.raises(DataError, match="larger than 1 GiB"):
        load_dataset(f"wds:{tmp_path}/x.tar", cache=cache)
