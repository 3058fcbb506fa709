"""Data sets described by a table of labels."""

import errno
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from imgcls.data.audit import audit_dataset
from imgcls.data.groups import grouped
from imgcls.data.sources.file_names import ESCAPED
from imgcls.data.sources.folder import Dataset
from imgcls.data.sources.registry import load_dataset
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
    rows = f"{root}/shots/a.png,cat\n./shots/../shots/b.png,dog\n../outside.png,cat\n"
    dataset = read(root, rows)
    assert [file.image_id for file in dataset.files] == ["../outside.png", "shots/a.png", "shots/b.png"]


def test_absolute_paths_elsewhere_have_their_common_folder_as_root(root: Path, tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    rows = f"{root}/shots/a.png,cat\n{root}/shots/b.png,dog\n{root}/c.png,dog\n/nowhere/d.png,cat\n,dog\n"
    rows += "C:\\\\Users\\\\me\\\\x.jpg,dog\n"
    smooth_image(9).save(root / "c.png")
    dataset = read(tmp_path / "tables", rows)
    assert (dataset.name, dataset.root) == ("field", root)
    assert [file.image_id for file in dataset.files] == ["c.png", "shots/a.png", "shots/b.png"]
    # No path of this machine.
    assert reasons(dataset) == {"line 5": "no such file", "line 6": "blank path", "line 7": "no such file"}


def test_relative_and_absolute_paths_have_a_common_root(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    smooth_image(9).save(tmp_path / "other" / "x.png")
    dataset = read(root, f"shots/a.png,cat\n{tmp_path}/other/x.png,dog\n")
    assert dataset.root == tmp_path
    assert [file.image_id for file in dataset.files] == ["field/shots/a.png", "other/x.png"]


def test_absolute_paths_outside_of_a_named_folder_are_rejected(root: Path, tmp_path: Path) -> None:
    smooth_image(9).save(tmp_path / "outside.png")
    (tmp_path / "l.csv").write_text(f"path,label\nshots/a.png,x\nshots/b.png,y\n{tmp_path}/outside.png,x\n")
    dataset = load_dataset(str(root), labels=str(tmp_path / "l.csv"))
    assert reasons(dataset) == {"line 4": "absolute path outside the folder"}


def test_absolute_paths_without_a_common_folder_are_refused(root: Path) -> None:
    with pytest.raises(DataError, match=r"its files have no folder in common, such as /.*; link them below one folder"):
        read(root, f"{root}/shots/a.png,cat\n{next(Path('/bin').iterdir()).absolute()},dog\n")


@pytest.mark.parametrize("through", ["link", "target"])
def test_absolute_paths_through_a_link(root: Path, tmp_path: Path, through: str) -> None:
    """The folder is known by a link, and paths may lead through it or not."""
    link = tmp_path / "link"
    link.symlink_to(root)
    start = link if through == "link" else root
    (root / "labels.csv").write_text(f"path,label\n{start}/shots/a.png,x\n{start}/shots/b.png,y\n", encoding="utf-8")
    for dataset in (
        load_dataset(str(link / "labels.csv")),
        load_dataset(str(link), labels=str(root / "labels.csv")),
        load_dataset(str(root / "labels.csv")),
    ):
        assert [file.image_id for file in dataset.files] == ["shots/a.png", "shots/b.png"]
        assert dataset.name == "field"


def test_huge_cells_are_rows(root: Path) -> None:
    huge = "x" * 10_000_000
    dataset = read(root, f'{GOOD}{huge},cat\nb.png,{huge}\n"{huge}\n",cat\n')
    assert len(dataset.files) == 3
    assert list(reasons(dataset).values()) == ["a cell of over 4,096 characters"] * 3
    assert max(map(len, reasons(dataset))) < 20


def test_paths_that_cannot_be_files_are_rows(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Path.stat

    def refusing(self: Path, **options: Any) -> Any:
        if self.parent.name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied")
        return whole(self, **options)

    def without_names(_self: Path) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "stat", refusing)
    monkeypatch.setattr(Path, "iterdir", without_names)
    long = "a caption " * 40
    dataset = read(root, f"{GOOD}{long},cat\nclosed/a.png,cat\na\0b.png,cat\nclosed/é.png,cat\n")
    assert len(dataset.files) == 3
    unreadable = "unreadable: Permission denied"
    assert list(reasons(dataset).values()) == ["no such file", unreadable, "no such file", unreadable]


ROWS = [("path", "label"), ("shots/a.png", "cat"), ("shots/b.png", "dog"), ("shots/c.png", "cat")]


def joined(separator: str, *, end: str = "\n", last: str = "") -> str:
    return end.join(separator.join(row) + (last if number else "") for number, row in enumerate(ROWS)) + end


@pytest.mark.parametrize(
    "text",
    [
        joined(",").replace("shots/", "shots\\"),
        joined(";"),
        joined("\t"),
        joined("|"),
        joined(",", end="\r\n"),
        joined(",", end="\r"),
        joined(",", last=","),
        joined(" , "),
        f"sep=;\n{joined(';')}",
        f"# exported\n\n{joined(',')}",
        "\n".join(", ".join(f'"{cell}"' for cell in row) for row in ROWS),
        "\n".join(",".join(f"'{cell}'" for cell in row) for row in ROWS),
        "\n".join(",".join(("" if not number else str(number - 1), *row)) for number, row in enumerate(ROWS)),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_several_programs_are_the_same(root: Path, text: str, encoding: str) -> None:
    (root / "labels.csv").write_bytes(text.encode(encoding))
    dataset = load_dataset(str(root / "labels.csv"))
    assert [(file.image_id, dataset.class_names[file.label]) for file in dataset.files] == ROWS[1:]
    assert (dataset.columns, dataset.rejected) == ((), ())


def test_first_column_may_be_called_number(root: Path) -> None:
    dataset = read(root, "0,shots/a.png,cat\n1,shots/b.png,dog\n", header="#,path,label")
    assert (dataset.columns, len(dataset.files)) == (("#",), 2)


def test_columns_are_found_in_either_spelling_and_any_case(root: Path, cache: Path) -> None:
    header = unicodedata.normalize("NFD", "path,label,Né")
    dataset = read(root, "shots/a.png,cat,x\nshots/b.png,dog,x\nshots/c.png,cat,y\n", header=header)
    audit = audit_dataset(dataset, cache=cache)
    for name in ("né", "NÉ", unicodedata.normalize("NFD", "Né")):
        assert [image.group for image in grouped(audit, name).images] == [0, 0, 2]


def test_urls_of_files_are_paths(root: Path) -> None:
    (root / "shots" / "a.png").rename(root / "shots" / "a b.png")
    dataset = read(root, f"{(root / 'shots' / 'a b.png').as_uri()},cat\nfile://{root}/shots/b.png,dog\n")
    assert [file.image_id for file in dataset.files] == ["shots/a b.png", "shots/b.png"]


def test_names_are_found_in_either_spelling(root: Path) -> None:
    """A table has one spelling, and the files that macOS has unpacked have the other."""
    composed, decomposed = (unicodedata.normalize(form, "forêt/é.png") for form in ("NFC", "NFD"))
    (root / decomposed).parent.mkdir()
    smooth_image(9).save(root / decomposed)
    dataset = read(root, f"{composed},fr{unicodedata.normalize('NFD', 'ê')}ne\nshots/b.png,frêne\nshots/a.png,ash\n")
    file = dataset.files[0]
    assert (file.image_id, file.own_path) == (composed, decomposed)
    assert dataset.class_names == ("ash", "frêne")
    repeated = read(root, f"{composed},x\n{decomposed},x\nshots/b.png,y\n")
    assert reasons(repeated) == {composed: "row repeated"}


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
        ("path,label", "a.png,x\nb.png,y\n", r"no usable row: 2 x no such file; looked for /.*/field/a\.png"),
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
    with pytest.raises(DataError, match=r'labels=".*none\.csv": no such file'):
        load_dataset(str(root), labels=str(tmp_path / "none.csv"))
    with pytest.raises(DataError, match=r'data=".*nowhere": no such folder'):
        load_dataset(str(tmp_path / "nowhere"), labels=str(root / "labels.csv"))
    (root / "labels.txt").touch()
    with pytest.raises(ConfigError, match=r"use a file ending in .csv or .tsv"):
        load_dataset(str(root), labels=str(root / "labels.txt"))
