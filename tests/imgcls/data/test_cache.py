"""The file of resized pixels: written once, completely or not at all."""

import multiprocessing
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imgcls.data.audit import Audit, audit_dataset
from imgcls.data.decode import Resize, load_square
from imgcls.data.sources.registry import load_dataset
from imgcls.data.stores import pixels as caching
from imgcls.data.stores.pixels import build_cache, cache_key
from imgcls.errors import DataError
from tests.helpers.images import MakeFolder, smooth_image

SQUARE = Resize(size=40, interpolation="bilinear")


def audited(root: Path, cache: Path) -> Audit:
    return audit_dataset(load_dataset(str(root), cache=cache), cache=cache)


def test_cache_holds_usable_images_in_order(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    (root / "cat" / "broken.png").write_text("x")
    audit = audited(root, cache)
    pixels = build_cache(audit, SQUARE, root=root, cache=cache)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (6, 40, 40, 3)
    for image, row in zip(audit.images, pixels, strict=True):
        assert (row == load_square(root / image.image_id, SQUARE)).all()
    assert not pixels.flags.writeable


def test_key_depends_on_content(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    audit = audited(root, cache)
    smooth_image(50).save(root / "cat" / "000.png")
    changed = audited(root, cache)
    keys = {
        cache_key(audit, SQUARE),
        cache_key(changed, SQUARE),
        cache_key(audit, Resize(size=41, interpolation="bilinear")),
        cache_key(audit, Resize(size=40, interpolation="bicubic")),
        cache_key(audit, Resize(size=40, interpolation="bilinear", crop_pct=0.9)),
    }
    assert len(keys) == 5


def test_models_of_equal_size_share_one_file(
    make_folder: MakeFolder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    audit = audited(root, cache)
    build_cache(audit, SQUARE, root=root, cache=cache)
    monkeypatch.setattr(caching, "load_square", lambda *_: pytest.fail("decoded again"))
    build_cache(audit, SQUARE, root=root, cache=cache)


def test_changed_image_leaves_no_cache(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    audit = audited(root, cache)
    (root / "cat" / "001.png").write_text("no longer an image")
    with pytest.raises(DataError, match=r"001\.png .*audit again"):
        build_cache(audit, SQUARE, root=root, cache=cache)
    assert [path.suffix for path in (cache / "pixels").iterdir()] in ([], [".lock"])


def _build(root: Path, cache: Path, barrier: "multiprocessing.synchronize.Barrier") -> None:
    audit = audited(root, cache)
    barrier.wait()
    build_cache(audit, SQUARE, root=root, cache=cache)


def test_concurrent_builds_make_one_file(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 20, "dog": 20})
    audit = audited(root, cache)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    builders = [context.Process(target=_build, args=(root, cache, barrier)) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert [builder.exitcode for builder in builders] == [0, 0]
    files = [path for path in (cache / "pixels").iterdir() if path.suffix != ".lock"]
    assert len(files) == 1
    pixels = np.load(files[0])
    assert (pixels[7] == load_square(root / audit.images[7].image_id, SQUARE)).all()


def _build_on_a_full_disk(root: Path, cache: Path) -> None:
    audit = audited(root, cache)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    try:
        build_cache(audit, SQUARE, root=root, cache=cache)
    except OSError:
        os._exit(42)


def test_full_disk_leaves_no_cache(make_folder: MakeFolder, cache: Path) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    audited(root, cache)
    process = multiprocessing.get_context("spawn").Process(target=_build_on_a_full_disk, args=(root, cache))
    process.start()
    process.join()
    assert process.exitcode == 42
    assert not list((cache / "pixels").glob("*.npy"))
    assert not list((cache / "pixels").glob("*.partial"))


def test_what_a_killed_build_left_is_removed(make_folder: MakeFolder, cache: Path) -> None:
    """Whatever it was building; files of processes that are running, here or elsewhere, stay."""
    audit = audited(make_folder({"cat": 3, "dog": 3}), cache)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (cache / "pixels").mkdir()
    here, other = f"{platform.node()}-{{}}.partial", f"other.example.org-{ended.pid}.partial"
    kept = {f"0123.npy.{here.format(os.getpid())}", f"0123.npy.{other}", "photo.partial"}
    for name in (*kept, f"0123.npy.{here.format(ended.pid)}", f"a.{here.format(ended.pid)}"):
        (cache / "pixels" / name).write_text("half")
    build_cache(audit, SQUARE, root=cache.parent / "pets", cache=cache)
    assert {path.name for path in (cache / "pixels").glob("*.partial")} == kept
