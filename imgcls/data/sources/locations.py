"""Where a data set is: what its text on the command line means, in another working directory and as a name."""

import os
from pathlib import Path

from imgcls.data.sources.copied import cloud, hugging_face, shards
from imgcls.data.sources.file_names import escape
from imgcls.data.sources.rows import is_table
from imgcls.data.sources.table import read_table


def local(data: str, *, cache: Path) -> str:
    """Return what holds the data set on this machine: that of a URL is downloaded, any other one is as it is.

    Raises the errors of ``cloud.local_copy``.
    """
    return cloud.local_copy(data, cache=cache) if cloud.is_url(data) else data


def absolute(data: str) -> str:
    """Return a folder, file or pattern as an absolute, escaped path, and the name of a data set as it is."""
    if data.startswith(shards.PREFIX):
        pattern = os.path.abspath(Path(data.removeprefix(shards.PREFIX)).expanduser())  # noqa: PTH100 - a pattern is no path that can be resolved
        return escape(f"{shards.PREFIX}{pattern}")
    prefix = hugging_face.PREFIX if data.startswith(hugging_face.PREFIX) else ""
    path = Path(data.removeprefix(prefix)).expanduser()
    return escape(f"{prefix}{path.resolve()}") if path.exists() else data


def name_of(data: str) -> str:
    """Return the name of a data set that is given by it, its folder, its table of labels, its shards or its URL."""
    if cloud.is_url(data):
        return cloud.name_of(data)
    if data.startswith(shards.PREFIX):
        return shards.name_of(data.removeprefix(shards.PREFIX))
    path = Path(data).expanduser()
    if is_table(path) and path.is_file():
        return read_table(path).name
    return path.resolve().name if path.exists() else data
