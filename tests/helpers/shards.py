"""WebDataset's shards, written as its users write them."""

import io
import tarfile
from pathlib import Path

from tests.helpers.images import smooth_image

Members = dict[str, bytes | str]


def photo(seed: int) -> bytes:
    """Return a small image as PNG, whatever the ending of its name."""
    buffer = io.BytesIO()
    smooth_image(seed).save(buffer, format="PNG")
    return buffer.getvalue()


def write_shard(path: Path, members: Members, *, mode: str = "w") -> Path:
    """Write a tar file with members by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def labelled(start: int, count: int, *, ending: str = "cls") -> Members:
    """Return images of two classes in turn, each with its label."""
    members: Members = {}
    for number in range(start, start + count):
        label = ("cat", "dog")[number % 2]
        text = f'{{"label": "{label}", "patient": "p{number // 2}"}}' if ending == "json" else f"{label}\n"
        members |= {f"{number:06d}.png": photo(number), f"{number:06d}.{ending}": text}
    return members
