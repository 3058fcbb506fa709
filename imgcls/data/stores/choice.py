"""The choice between the stores of pixels, by the space that the pixels of all images would take."""

import logging
import math
import shutil
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from imgcls.config import StoreConfig
from imgcls.data.audit import Audit
from imgcls.data.decode import Resize
from imgcls.data.stores.files import FileStore, Pixels
from imgcls.data.stores.jpeg import build_jpegs
from imgcls.data.stores.pixels import build_cache, cache_path
from imgcls.errors import ConfigError
from imgcls.messages import Setting
from imgcls.parallel import OnProgress, silent

LOGGER = logging.getLogger(__name__)

Store = Literal["pixels", "files", "jpeg"]
"""``pixels``: one file of the resized pixels of all images. ``files``: the user's files, decoded in every pass.
``jpeg``: the resized train images as JPEG, and the user's files for val and test."""

FREE_SHARE: Final = 1 / 3
"""Share of the free disk that the pixels may take."""
GB: Final = 10**9

DEFAULT: Final = StoreConfig()


def choose_store(audit: Audit, resize: Resize, *, cache: Path, config: StoreConfig = DEFAULT) -> Store:
    """Return where the pixels of a data set at one size come from; pixels that are stored already are used.

    Raises ConfigError if ``pixels`` are asked for that are larger than the given budget.
    """
    if config.store in {"files", "jpeg"}:
        return cast("Store", config.store)
    if cache_path(audit, resize, cache=cache).exists():
        return "pixels"
    needed = len(audit.images) * resize.size**2 * 3 / GB
    budget = config.store_gb
    if budget is None:
        if config.store == "pixels":
            return "pixels"
        cache.mkdir(parents=True, exist_ok=True)
        budget = FREE_SHARE * shutil.disk_usage(cache).free / GB
    if needed <= budget:
        return "pixels"
    # Rounded up: a budget of the size that the message names is enough.
    size = f"the pixels of {len(audit.images):,} images at {resize.size} px take {math.ceil(needed * 1000) / 1000:g} GB"
    if config.store == "pixels":
        raise ConfigError(Setting("store_gb", config.store_gb), f": {size}; use that, or ", Setting("store", "files"))
    LOGGER.info("%s, more than the %.3g GB for them: files are decoded in every pass", size, budget)
    return "files"


def open_store(  # noqa: PLR0913 - two folders in addition to the data
    audit: Audit, resize: Resize, *, root: Path, cache: Path, store: Store, progress: OnProgress = silent
) -> tuple[Pixels, Pixels]:
    """Return the pixels of a data set below ``root``, and those to train on, which differ for ``jpeg`` only.

    Raises the errors of ``build_cache`` and ``build_jpegs``.
    """
    if store == "pixels":
        pixels = build_cache(audit, resize, root=root, cache=cache, progress=progress)
        return pixels, pixels
    exact = FileStore(root=root, names=names_of(audit), resize=resize)
    return exact, build_jpegs(audit, exact, cache=cache, progress=progress) if store == "jpeg" else exact


def names_of(audit: Audit) -> NDArray[Any]:
    """Return the escaped path of each image below the data set's root, ``[N]``."""
    images = audit.images
    names: NDArray[Any] = np.where(images.own_paths == "", images.ids, images.own_paths)
    return names
