"""Changes that must set off an alarm, as replacements in a copy of the tree."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, kw_only=True, slots=True)
class Plant:
    """What is wrong, and the edits that make it so: file, old text, new text."""

    what: str
    edits: tuple[tuple[str, str, str], ...]


def slower(file: str, line: str, share: float) -> Plant:
    """Repeat the work of a line that starts with ``return`` in such a share of its calls."""
    value = line.strip().removeprefix("return ")
    new = f"""    global _owed
    _owed += {share}
    if _owed >= 1:
        _owed -= 1
        {value}
    return {value}


_owed = 0.0
"""
    return Plant(what=f"{file} does {share:.0%} more of `{value}`", edits=((file, line, new),))


NO_MEAN: Final = ("imgcls/inference/card.py", "    scaled += shift\n", "")
PLANTED: Final[dict[str, Plant]] = {
    "slower-by-15-percent": slower(
        "imgcls/data/decode.py",
        "    return to_square(decode(path, min_side=resize.side).image, resize)\n",
        0.15,
    ),
    "wrong-normalisation-in-prediction": Plant(
        what="prediction from ONNX does not subtract the mean, training does",
        edits=(NO_MEAN,),
    ),
    "wrong-normalisation-everywhere": Plant(
        what="the mean is subtracted nowhere, so that training and prediction agree",
        edits=(NO_MEAN, ("imgcls/data/augment.py", "1 / (255 * std), -mean / std", "1 / (255 * std), 0 * mean")),
    ),
}
"""By the name of the branch that a report calls it."""


def plant(change: Plant, tree: Path) -> None:
    """Make a change in a tree; raises ValueError where a place is not found once."""
    for file, old, new in change.edits:
        path = tree / file
        text = path.read_text(encoding="utf-8")
        if text.count(old) != 1:
            message = f"{file}: {old.strip()!r} is not there once"
            raise ValueError(message)
        path.write_text(text.replace(old, new), encoding="utf-8")
