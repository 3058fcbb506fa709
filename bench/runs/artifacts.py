"""The artifacts of a training: whether they are whole, and those from before a repetition, kept until it succeeds."""

import logging
import shutil
from pathlib import Path
from typing import Final

import msgspec

from bench.records.paths import Paths
from bench.records.schema import Outcome
from imgcls.inference.runtimes import ONNX
from imgcls.inference.torch_sessions import WEIGHTS

LOGGER = logging.getLogger(__name__)

FORMER: Final = ".former"
"""Suffix of the folder with the artifacts from before a repetition."""


def whole_outcome(paths: Paths, train_id: str) -> Outcome | None:
    """Return the outcome of a complete training whose artifacts are whole, else None; damage is logged.

    Sizes are compared, not digests, which would read gigabytes whenever a command finds its runs done.
    """
    file, folder = paths.outcome(train_id), paths.artifacts(train_id)
    try:
        outcome = msgspec.json.decode(file.read_bytes(), type=Outcome)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        LOGGER.warning("artifacts/%s/%s is damaged (%s): the run is repeated", train_id, file.name, error)
        return None
    expected = {ONNX: outcome.artifact.size_bytes, WEIGHTS: outcome.artifact.checkpoint_size_bytes}
    for name, size in expected.items():
        there = (folder / name).stat().st_size if (folder / name).exists() else 0
        if there != size:
            text = "artifacts/%s/%s has %s of %s bytes: the run is repeated"
            LOGGER.warning(text, train_id, name, f"{there:,}", f"{size:,}")
            return None
    return outcome


def set_aside(paths: Paths, train_id: str) -> None:
    """Keep the whole artifacts of a training that is repeated, and remove others."""
    folder, former = paths.artifacts(train_id), _former(paths, train_id)
    # Of an interrupted repetition: the former artifacts are still the good ones.
    if not former.exists() and whole_outcome(paths, train_id) is not None:
        folder.rename(former)
    shutil.rmtree(folder, ignore_errors=True)


def restore(paths: Paths, train_id: str) -> bool:
    """Bring back the artifacts from before a repetition that did not succeed; return whether there were any."""
    former = _former(paths, train_id)
    if not former.exists():
        return False
    shutil.rmtree(paths.artifacts(train_id), ignore_errors=True)
    former.rename(paths.artifacts(train_id))
    return True


def discard_former(paths: Paths, train_id: str) -> None:
    """Remove the artifacts from before a repetition that has succeeded."""
    shutil.rmtree(_former(paths, train_id), ignore_errors=True)


def _former(paths: Paths, train_id: str) -> Path:
    folder = paths.artifacts(train_id)
    return folder.with_name(folder.name + FORMER)
