"""Photos without labels: files, folders, patterns and tables, in the order in which they are named."""

import os
from pathlib import Path

import pytest

from imgcls.data.sources.file_names import escape
from imgcls.data.sources.photos import list_photos
from imgcls.errors import DataError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with files at two levels and hidden ones; what they contain does not matter here."""
    root = tmp_path / "photos"
    for name in ("b.jpg", "a/2.png", "a/1.png", ".hidden.jpg", ".git/3.png", "notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(found: list[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in found]


def test_a_folder_gives_all_visible_files(photos: Path) -> None:
    assert names(list_photos([photos]), photos) == ["b.jpg", "notes.txt", "a/1.png", "a/2.png"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*/*.png", ["a/1.png", "a/2.png"]), ("**/*.[jp]*g", ["a/1.png", "a/2.png", "b.jpg"]), ("?.jpg", ["b.jpg"])],
)
def test_a_pattern_gives_sorted_files(photos: Path, pattern: str, expected: list[str]) -> None:
    assert names(list_photos([photos / pattern]), photos) == expected


def test_an_existing_name_is_no_pattern(photos: Path) -> None:
    (photos / "[a].jpg").touch()
    assert list_photos([photos / "[a].jpg"]) == [photos / "[a].jpg"]


@pytest.mark.parametrize(("suffix", "separator"), [("csv", ","), ("TSV", "\t")])
def test_a_table_gives_its_paths_in_order(photos: Path, suffix: str, separator: str) -> None:
    odd = os.fsdecode(b"\xff.jpg")
    rows = [("label", "path"), ("x", "b.jpg"), ("y", "NA"), ("", "007"), ("x", "b.jpg"), ("", escape(odd))]
    table = photos / f"list.{suffix}"
    table.write_text("".join(separator.join(row) + "\n" for row in rows), encoding="utf-8-sig")
    assert names(list_photos([table]), photos) == ["b.jpg", "NA", "007", "b.jpg", odd]


def test_inputs_keep_their_order_and_repetitions(photos: Path) -> None:
    found = list_photos([photos / "none.jpg", photos / "a", photos / "b.jpg", photos / "a"])
    assert names(found, photos) == ["none.jpg", "a/1.png", "a/2.png", "b.jpg", "a/1.png", "a/2.png"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.csv", None, "none.csv: not a table that can be read"),
        ("t.csv", "file,label\na.jpg,x\n", "has no column 'path'; columns there: file, label"),
        ("t.csv", "path\n", "no rows in this table"),
        ("t.csv", "", "not a table that can be read (it has no header)"),
        ("t.csv", "path,label\na.jpg,x,y\n", "not a table that can be read (line 2 has 3 cells, the header has 2)"),
        ("t.tsv", b"path\n\xff.jpg\n", "not a table that can be read (neither UTF-8 nor UTF-16)"),
        ("*.gif", None, "*.gif: no file matches this pattern"),
        ("empty", None, "empty: no files in this folder"),
    ],
)
def test_an_input_without_photos_is_refused(tmp_path: Path, name: str, content: str | bytes | None, says: str) -> None:
    (tmp_path / "empty").mkdir()
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as raised:
        list_photos([tmp_path / name])
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_an_unreadable_folder_is_refused(photos: Path) -> None:
    (photos / "a").chmod(0)
    with pytest.raises(DataError, match="a: cannot be read"):
        list_photos([photos])
