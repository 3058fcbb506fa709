"""Where a data set is: the copy of one in a cloud, and its name."""

from pathlib import Path

from imgcls.data.sources.copied import cloud, shards
from imgcls.data.sources.rows import is_table
from imgcls.data.sources.table import read_table


def local(data: str, *, cache: Path) -> str:
    """Return what holds the data set on this machine: that of a URL is downloaded, any other one is as it is.

    Raises the errors of ``cloud.local_copy``.
    """
    return cloud.local_copy(data, cache=cache) if cloud.is_url(data) else data


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
