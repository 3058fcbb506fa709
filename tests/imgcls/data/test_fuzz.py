"""Damaged files of every format are refused with a reason, and nothing else is raised; ``nox -s fuzz`` takes longer."""

import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgcls.data.decode import SUFFIXES, UndecodableError, decode, quiet_libraries
from tests.helpers.images import smooth_image

FUZZ_S = float(os.environ.get("FUZZ_S", "1"))


def encoded(kind: str) -> bytes:
    """A small valid file; ``kind`` is a format, or a format and a mode."""
    name, _, mode = kind.partition(" ")
    image = smooth_image(0, size=24)
    if mode == "I;16":
        image = Image.fromarray(np.arange(576, dtype=np.uint16).reshape(24, 24) * 100)
    elif mode:
        image = image.convert(mode)
    out = io.BytesIO()
    image.save(out, name)
    return out.getvalue()


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes changed, cut off, removed or repeated."""
    changed = bytearray(data)
    for place in rng.integers(0, len(changed), rng.integers(1, 12)):
        changed[place] = rng.integers(0, 256)
    start, end = sorted(rng.integers(0, len(changed) + 1, 2).tolist())
    kind = rng.integers(0, 4)
    if kind == 0:
        return bytes(changed[: max(start, 1)])
    if kind == 1:
        del changed[start:end]
    if kind == 2:
        changed[start:start] = changed[start:end]
    return bytes(changed) or b"\0"


@pytest.mark.parametrize("kind", [*SUFFIXES, "PNG I;16", "JPEG CMYK", "PNG RGBA", "GIF P"])
def test_damaged_files_are_refused_with_a_reason(kind: str, tmp_path: Path) -> None:
    data, rng = encoded(kind), np.random.default_rng(0)
    path = tmp_path / f"x.{kind.partition(' ')[0].lower()}"
    ended, tried = time.monotonic() + FUZZ_S, 0
    reasons = []
    with quiet_libraries():
        while time.monotonic() < ended:
            path.write_bytes(mutated(data, rng))
            tried += 1
            try:
                assert decode(path, min_side=8 if tried % 2 else None).image.mode == "RGB"
            except UndecodableError as error:
                reasons.append(str(error))
    assert 0 < len(reasons) <= tried
    assert all(reasons)
