"""Names of shards as patterns: braces as in a shell, which name files that must exist, and globs, which find files."""

import glob
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final

MOST: Final = 1_000_000
"""Names that a pattern may stand for."""
BRACES: Final = re.compile(r"\{([^{}]*)\}")
RANGE: Final = re.compile(r"(\d+)\.\.(\d+)")
MAGIC: Final = re.compile(r"[{*?\[]")
TAR: Final = ".tar"
SEPARATORS: Final = " -_."


class PatternError(ValueError):
    """A pattern that names too many files, files that do not exist, or none."""


def expand(pattern: str) -> list[str]:
    """Return the names that the braces of a pattern stand for: ``{000..099}``, with equal digits, and ``{a,b}``.

    Braces without a range or a comma stay as they are. Raises PatternError if there are too many.
    """
    names = [pattern]
    for match in _braces_of(pattern):
        texts = _texts_in(match[1])
        if len(texts) * len(names) > MOST:
            message = f"more than {MOST:,} names"
            raise PatternError(message)
        names = [name.replace(match[0], text, 1) for name in names for text in texts]
    return names


def _braces_of(pattern: str) -> list[re.Match[str]]:
    return [match for match in BRACES.finditer(pattern) if RANGE.fullmatch(match[1]) or "," in match[1]]


def _texts_in(content: str) -> list[str]:
    """Return the texts that the content of braces stands for."""
    if (match := RANGE.fullmatch(content)) is None:
        return content.split(",")
    first, last = int(match[1]), int(match[2])
    if last - first >= MOST:
        message = f"more than {MOST:,} names"
        raise PatternError(message)
    # As many digits as the shell has: those of the longer end, if one of them begins with 0.
    padded = any(len(end) > 1 and end.startswith("0") for end in match.groups())
    digits = max(map(len, match.groups())) if padded else 1
    return [f"{number:0{digits}}" for number in range(first, last + 1)]


def find_shards(pattern: str) -> list[Path]:
    """Return the files of a pattern, sorted; of a folder, the visible tar files below it.

    Raises PatternError if a file that is named without a glob does not exist, or if there is none.
    """
    whole = Path(pattern).expanduser()
    if whole.is_dir():
        files = sorted(path for path in whole.rglob("*") if TAR in path.suffixes and not path.name.startswith("."))
        if not files:
            message = f"no {TAR} file in this folder"
            raise PatternError(message)
        return files
    # A name may contain braces or brackets itself.
    names = [str(whole)] if whole.is_file() else [str(Path(name).expanduser()) for name in expand(pattern)]
    return sorted(dict.fromkeys(chain.from_iterable(map(_matching, names))))


def _matching(name: str) -> Iterator[Path]:
    if Path(name).exists():
        yield Path(name)
        return
    if not glob.has_magic(name):
        message = f"no such shard: {name}"
        raise PatternError(message)
    matches = glob.glob(name, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not matches:
        message = f"no file matches {name}"
        raise PatternError(message)
    yield from map(Path, matches)


def stem_of(pattern: str) -> str:
    """Return what the names of a pattern have in common, without digits and endings: ``photos`` of photos-{0..9}.tar.

    If that is nothing, it is the name of their folder; an empty text if that is not known.
    """
    for part in reversed(Path(pattern).parts):
        stem = (part[: match.start()] if (match := MAGIC.search(part)) else part.removesuffix(TAR)).rstrip(SEPARATORS)
        if stem and stem.strip("./\\"):
            return stem
    return ""
