"""Objects of a cloud: a server of S3 on the loopback, and fsspec's memory and files."""

import importlib.util
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgcls.data.audit import audit_dataset
from imgcls.data.sources.copied import mirror
from imgcls.data.sources.locations import local, name_of
from imgcls.data.sources.registry import load_dataset
from imgcls.errors import ConfigError, DataError
from tests.helpers.images import MakeFolder
from tests.helpers.shards import labelled, write_shard

fsspec = pytest.importorskip("fsspec")
buckets = pytest.importorskip("tests.helpers.buckets", reason="needs moto[s3], flask, flask-cors and s3fs")


@pytest.fixture(scope="module")
def server() -> Iterator["buckets.Bucket"]:
    with buckets.serve() as bucket:
        yield bucket


@pytest.fixture
def bucket(server: "buckets.Bucket", monkeypatch: pytest.MonkeyPatch) -> "buckets.Bucket":
    for key, value in (buckets.CREDENTIALS | {"AWS_ENDPOINT_URL": server.endpoint}).items():
        monkeypatch.setenv(key, value)
    server.reads.clear()
    return server


def test_prefix_is_the_folder_that_it_holds(bucket: "buckets.Bucket", make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cät": 4, "dog 1": 4})
    (root / ".hidden").mkdir()
    (root / ".hidden" / "x").touch()
    bucket.put_folder(root, "field/pets")
    bucket.put("field/pets/empty/", b"")  # what consoles make for a folder
    dataset = load_dataset("s3://photos/field/pets/", cache=cache)
    assert dataset.name == name_of("s3://photos/field/pets/") == "pets"
    assert audit_dataset(dataset, cache=cache).digest == audit_dataset(load_dataset(str(root)), cache=cache).digest
    assert set(bucket.reads.values()) == {1}
    assert len(bucket.reads) == 8


def test_only_what_changed_is_downloaded_again(bucket: "buckets.Bucket", make_folder: MakeFolder, cache: Path) -> None:
    bucket.put_folder(make_folder({"cat": 4, "dog": 4, "emu": 1}), "more")
    before = audit_dataset(load_dataset("s3://photos/more", cache=cache), cache=cache)
    bucket.reads.clear()
    assert load_dataset("s3://photos/more", cache=cache).files
    assert not bucket.reads
    other = make_folder({"cat": 1}, name="other", start=99) / "cat" / "000.png"
    size = len(bucket.client.get_object(Bucket=buckets.BUCKET, Key="more/cat/001.png")["Body"].read())
    bucket.put("more/cat/001.png", other.read_bytes()[:size].ljust(size, b"\0"))  # of equal size, in the same second
    bucket.put("more/dog/new.png", other.read_bytes())
    bucket.delete("more/emu/000.png")
    bucket.reads.clear()
    dataset = load_dataset("s3://photos/more", cache=cache)
    assert dict(bucket.reads) == {"more/cat/001.png": 1, "more/dog/new.png": 1}
    assert dataset.class_names == ("cat", "dog")
    assert not dataset.empty_folders
    assert audit_dataset(dataset, cache=cache).digest != before.digest
    (dataset.root / "cat" / "002.png").write_bytes(b"damaged")
    load_dataset("s3://photos/more", cache=cache)
    assert (dataset.root / "cat" / "002.png").stat().st_size > 100


def test_killed_download_goes_on(
    bucket: "buckets.Bucket", make_folder: MakeFolder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put_folder(make_folder({"cat": 10, "dog": 10}), "long")
    write_aside = mirror.write_aside
    written: list[Path] = []

    def killed(path: Path, write: object) -> None:
        if len(written) == 7:
            raise KeyboardInterrupt
        written.append(path)
        write_aside(path, write)  # type: ignore[arg-type]

    monkeypatch.setattr(mirror, "DOWNLOADS", 1)
    monkeypatch.setattr(mirror, "write_aside", killed)
    with pytest.raises(KeyboardInterrupt):
        load_dataset("s3://photos/long", cache=cache)
    monkeypatch.undo()
    for key, value in (buckets.CREDENTIALS | {"AWS_ENDPOINT_URL": bucket.endpoint}).items():
        monkeypatch.setenv(key, value)
    journal = next(cache.glob("cloud/*/objects.jsonl"))
    with journal.open("a") as file:
        file.write('["cat/009.png", 1')  # a line that was being written
    (written[0].parent / "x.png.host-1.partial").touch()
    bucket.reads.clear()
    dataset = load_dataset("s3://photos/long", cache=cache)
    assert len(bucket.reads) == 13
    assert len(dataset.files) == 20


def test_shards_lie_in_a_bucket(bucket: "buckets.Bucket", tmp_path: Path, cache: Path) -> None:
    for number in range(2):
        for split in ("train", "test"):
            shard = write_shard(tmp_path / f"{number}.tar", labelled(4 * number, 4))
            bucket.put(f"wds/{split}/pets-{number}.tar", shard.read_bytes())
    dataset = load_dataset("wds:s3://photos/wds/{train,test}/pets-{0..1}.tar", cache=cache)
    assert (dataset.given_splits, len(dataset.files)) == (True, 16)
    dataset = load_dataset("wds:s3://photos/wds/train/pets-*.tar", cache=cache)
    assert (dataset.name, dataset.given_splits, len(dataset.files)) == ("pets", False, 8)
    for pattern, says in (("train/pets-{0..2}.tar", "cannot be read"), ("x-*.tar", "no object matches photos/wds/x")):
        with pytest.raises(DataError, match=says):
            load_dataset(f"wds:s3://photos/wds/{pattern}", cache=cache)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://photos/nothing", "no objects with this prefix"),
        ("s3://other-bucket/pets", "cannot be read (The specified bucket does not exist); check the name"),
        ("s3://other-bucket", "cannot be read ("),
        ("s3://photos/single/a.png", "an object; give the prefix of its folder"),
        ("s3://photos/odd", "the object 'a//x.png' cannot be a file here; rename it"),
        ("s3://photos/folders", "the object 'a' has the name of a folder of others"),
        ("s3://photos/empty", "no objects with this prefix"),
        ("ftp://photos/x", "unknown scheme; use one of s3, gs, az"),
    ],
)
def test_what_is_not_there_is_one_line(bucket: "buckets.Bucket", cache: Path, url: str, says: str) -> None:
    for key in ("single/a.png", "odd/a//x.png", "folders/a/b", "folders/a"):
        bucket.put(key, b"x")
    bucket.put("empty/", b"")
    with pytest.raises((DataError, ConfigError)) as raised:
        load_dataset(url, cache=cache)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (cache / "datasets").exists()


def test_missing_credentials_are_named(
    bucket: "buckets.Bucket", cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bucket
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(key)
    for key in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(key, str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"cannot be read \(Unable to locate credentials\); .*AWS_ACCESS_KEY_ID"):
        load_dataset("s3://photos/pets", cache=cache)


def test_unreachable_and_silent_endpoints_have_a_deadline(
    bucket: "buckets.Bucket", cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bucket
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setattr("imgcls.data.sources.copied.cloud.ANSWER_S", 1.0)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        began = time.monotonic()
        with pytest.raises(DataError, match=r"cannot be read \(no end within 1 s\); check the name, the network"):
            load_dataset("s3://photos/pets", cache=cache)
        assert time.monotonic() - began < 5
    monkeypatch.setattr("imgcls.data.sources.copied.cloud.ANSWER_S", 20.0)
    with pytest.raises(DataError, match=r"cannot be read \(Could not connect to the endpoint"):
        load_dataset("s3://photos/pets", cache=cache)


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("az", "adlfs"), ("s3", "fsspec")])
def test_missing_package_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, package: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name) or True)
    with pytest.raises(ConfigError, match=rf"needs the package {package}; pip install -e '\.\[cloud\]'"):
        load_dataset(f"{scheme}://photos/pets", cache=cache)


def test_object_that_is_replaced_meanwhile_is_downloaded_again(tmp_path: Path) -> None:
    contents, versions = [b"old", b"cut", b"final"], iter(("2", "3", "3", "3", "3"))

    def ask(name: str) -> mirror.Remote:
        return mirror.Remote(name=name, relative="a", size=5, version=next(versions))

    def fetch(_name: str, path: str) -> None:
        Path(path).write_bytes(contents.pop(0))

    first = mirror.Remote(name="x/a", relative="a", size=3, version="1")
    mirror.mirror([first], tmp_path / "x", fetch=fetch, ask=ask, shown="x")
    assert (tmp_path / "x" / "a").read_bytes() == b"final"
    contents = [b"cut"] * 3
    with pytest.raises(DataError, match="'a' could not be downloaded whole in 3 tries"):
        mirror.mirror(
            [mirror.Remote(name="x/a", relative="a", size=9, version="9")],
            tmp_path / "x",
            fetch=fetch,
            ask=lambda name: mirror.Remote(name=name, relative="a", size=9, version="9"),
            shown="x",
        )
    assert (tmp_path / "x" / "a").read_bytes() == b"final"  # nothing half-written


def test_download_that_does_not_fit_is_refused_before_it(tmp_path: Path) -> None:
    huge = mirror.Remote(name="x/a", relative="a", size=2**60, version="1")
    with pytest.raises(OSError, match="no space left for 1"):
        mirror.mirror([huge], tmp_path / "x", fetch=lambda *_: pytest.fail("fetched"), ask=lambda _: huge, shown="x")


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_other_file_systems(make_folder: MakeFolder, cache: Path, scheme: str) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    url = f"file://{root}"
    if scheme == "memory":
        url = "memory://shelf/pets"
        fsspec.filesystem("memory").put(str(root), "/shelf/pets", recursive=True)
    folder = Path(local(url, cache=cache))
    assert folder.is_relative_to(cache)
    dataset = load_dataset(url, cache=cache)
    assert (dataset.name, dataset.root, len(dataset.files)) == ("pets", folder, 6)
    assert (dataset.root / "cat" / "000.png").read_bytes() == (root / "cat" / "000.png").read_bytes()
    if scheme == "file":
        shutil.rmtree(root)
        with pytest.raises(DataError, match=r"cannot be read \(.*No such file"):
            load_dataset(url, cache=cache)
