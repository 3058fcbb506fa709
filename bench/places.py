"""Where this machine has the images of finished runs, and what their audit found."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from bench import progress
from bench.config import Paths
from bench.records import RunRecord
from imgcls.data.audit import Audit, audit_dataset
from imgcls.data.datasets import load_dataset
from imgcls.errors import UserError

PLACE: Final = "place.json"
"""Beside the artifacts, never in a record: where this machine has the images of a training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Images:
    """An audited data set and its folder, which holds the very images of a run."""

    audit: Audit
    root: Path


def find_images(record: RunRecord, paths: Paths, console: Console) -> Images | str:
    """Find the images that a run was made of, or say why not."""
    try:
        place = (paths.artifacts(record.train_id) / PLACE).read_bytes()
        dataset = load_dataset(msgspec.json.decode(place, type=dict[str, str])["data"], cache=paths.cache)
        with progress.counting(console, f"auditing {dataset.name}") as advance:
            audit = audit_dataset(dataset, cache=paths.cache, progress=advance)
    except (OSError, msgspec.MsgspecError, KeyError):
        return f"where the images of {record.dataset.name} are is not known here; the run-all that made it tells"
    except UserError as error:
        return f"the images of {record.dataset.name} are not as they were: {error}"
    if audit.digest != record.dataset.digest:
        return f"the images of {record.dataset.name} are not as they were: digest {audit.digest}"
    return Images(audit=audit, root=dataset.root)
