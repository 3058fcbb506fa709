"""Data sets described by a table of labels."""

from pathlib import Path

import pytest

from imgcls.data.audit import audit_dataset
from imgcls.data.sources.folder import Dataset
from imgcls.data.sources.named import load_dataset
from imgcls.data.sources.names import ESCAPED
from imgcls.errors import ConfigError, DataError
from tests.helpers.images import MakeFolder, smooth_image

GOOD = "shots/a.png,cat\nshots/b.png,dog\nshots/c.png,cat\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "field"
    (folder / "shots").mkdir(parents=True)
    for seed, name in enumerate("abcdef"):
        smooth_image(seed).save(folder / "shots" / f"{name}.png")
    return folder


def read(root: Path, rows: str, *, header: str = "path,label", name: str = "labels.csv") -> Dataset:
    (root / name).write_text(f"{header}\n{rows}", encoding="utf-8")
    return load_dataset(str(root / name))


def reasons(dataset: Dataset) -> dict[str, str]:
    return {one.image_id: one.reason for one in dataset.rejected}


def test_table_names_files_and_classes(root: Path) -> None:
    dataset = read(root, GOOD)
    assert (dataset.name, dataset.class_names, dataset.given_splits) == ("field", ("cat", "dog"), False)
    assert [(file.image_id, file.label) for file in dataset.files] == [
        ("shots/a.png", 0),
        ("shots/b.png", 1),
        ("shots/c.png", 0),
    ]


def test_tsv_and_header_in_any_case(root: Path) -> None:
    dataset = read(root, "shots/a.png\tcat, wild\nshots/b.png\tdog\n", header="\ufeffPath\tLABEL", name="l.tsv")
    assert dataset.class_names == ("cat, wild", "dog")


def test_labels_are_text(root: Path) -> None:
    dataset = read(root, "shots/a.png,007\nshots/b.png,NA\nshots/c.png,7\nshots/d.png,1.0\n")
    assert dataset.class_names == ("007", "1.0", "7", "NA")


def test_splits_and_further_columns_are_kept(root: Path) -> None:
    rows = "shots/a.png,cat,Train,p1,north\nshots/b.png,dog,validation,p2,\nshots/c.png,dog,test,p1,south\n"
    dataset = read(root, rows, header="path,label,split,patient,source")
    assert dataset.given_splits
    assert dataset.columns == ("patient", "source")
    assert [(file.split, file.values) for file in dataset.files] == [
        ("train", ("p1", "north")),
        ("val", ("p2", "")),
        ("test", ("p1", "south")),
    ]


def test_unusable_rows_are_listed(root: Path) -> None:
    rows = (
        "shots/a.png,cat,train\nshots/b.png,dog,test\nshots/none.png,dog,test\n,cat,train\nshots/c.png,,train\n"
        "shots/d.png,cat,tset\nshots/e.png,cat,\nshots/a.png,cat,train\nshots/f.png,cat,train\nshots/f.png,dog,train\n"
    )
    dataset = read(root, rows, header="path,label,split")
    assert [file.image_id for file in dataset.files] == ["shots/a.png", "shots/b.png"]
    assert reasons(dataset) == {
        "shots/none.png": "no such file",
        "line 5": "blank path",
        "shots/c.png": "blank label",
        "shots/d.png": "unknown split 'tset' (known: train, val, test)",
        "shots/e.png": "blank split",
        "shots/a.png": "row repeated",
        "shots/f.png": "several rows of one path that differ",
    }


def test_audit_lists_rejected_rows(root: Path, cache: Path) -> None:
    (root / "shots" / "b.png").write_bytes(b"")
    dataset = read(root, f"{GOOD}shots/none.png,dog\nshots/d.png,dog\n")
    audit = audit_dataset(dataset, cache=cache)
    found = {removal.image_id: removal.reason for removal in audit.removed}
    assert found == {"shots/none.png": "no such file", "shots/b.png": "empty"}
    assert len(audit.images) == 3


def test_blank_lines_are_skipped(root: Path) -> None:
    assert reasons(read(root, f"\n{GOOD}\n\nshots/none.png,cat\n")) == {"shots/none.png": "no such file"}


def test_paths_inside_the_folder_are_relative(root: Path, tmp_path: Path) -> None:
    smooth_image(9).save(tmp_path / "outside.png")
    rows = f"{root}/shots/a.png,cat\n./shots/../shots/b.png,dog\n{tmp_path}/outside.png,cat\n../outside.png,cat\n"
    dataset = read(root, rows)
    assert [file.image_id for file in dataset.files] == ["../outside.png", "shots/a.png", "shots/b.png"]
    assert list(reasons(dataset).values()) == ["absolute path outside the folder"]


def test_escaped_names_are_read(root: Path) -> None:
    (root / "shots" / "a.png").rename(root / "caf\udce9.png")
    dataset = read(root, f"{ESCAPED}caf%E9.png,cat\nshots/b.png,dog\n")
    assert not dataset.rejected


def test_labels_of_a_folder(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"all": 4})
    (tmp_path / "kinds.csv").write_text("path,label\nall/000.png,x\nall/001.png,y\n", encoding="utf-8")
    dataset = load_dataset(str(root), labels=str(tmp_path / "kinds.csv"))
    assert (dataset.name, dataset.class_names, len(dataset.files)) == ("pets", ("x", "y"), 2)


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("file,label", GOOD, "has no column 'path'; columns there: file, label"),
        ("path,kind", GOOD, "has no column 'label'"),
        ("path,label,Label", "a,b,c\n", "has 2 columns 'label'"),
        ("path,label", "a.png,x\nb.png,y\n", "no usable row: 2 x no such file"),
        ("path,label", "shots/a.png,x\nshots/b.png,x\nc.png,y\n", r"one class only \(x\).*1 x no such file"),
        ("path,label", "shots/a.png,x,y\n", "not a table that can be read"),
        ("path,label", "", "no usable row"),
        ("path,label", '"shots/a.png,x\n', "not a table that can be read"),
    ],
)
def test_unusable_table_is_refused(root: Path, header: str, rows: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(root, rows, header=header)


def test_bytes_that_are_not_utf8_are_refused(root: Path) -> None:
    (root / "labels.csv").write_bytes(b"path,label\n\xff\xfe,x\n")
    with pytest.raises(DataError, match="not a table that can be read"):
        load_dataset(str(root / "labels.csv"))


def test_wrong_labels_argument_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--labels .*none\.csv: no such file"):
        load_dataset(str(root), labels=str(tmp_path / "none.csv"))
    with pytest.raises(DataError, match=r"--data .*nowhere: no such folder"):
        load_dataset(str(tmp_path / "nowhere"), labels=str(root / "labels.csv"))
    (root / "labels.txt").touch()
    with pytest.raises(ConfigError, match=r"use a file ending in .csv or .tsv"):
        load_dataset(str(root), labels=str(root / "labels.txt"))
