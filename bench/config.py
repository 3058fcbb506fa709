"""One run's settings, composed of the library's, and where things are on this machine."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import platformdirs
import tyro

from imgcls.config import LoaderConfig, ModelConfig, RuntimeConfig, SplitConfig, TrainConfig

DEFAULT_MODELS = ("resnet50", "efficientnet_b0", "inception_v3")

Decided = Annotated[str, tyro.conf.Suppress]
"""A field that other words of the command line decide."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """One training, evaluation and measurement of one model on one data set."""

    dataset: Decided = "digits"
    """Name of the data set, never its place."""
    model: Decided = "resnet50"
    """Name of the model."""
    recipe: Decided = "quick"
    """The recipe that gave the defaults."""
    seed: Annotated[int, tyro.conf.Suppress] = 0
    """Seed of weights, order, augmentation and dropout."""
    split: SplitConfig = field(default_factory=SplitConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    architecture: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class Paths:
    """Where things are on this machine; stays outside every config and record."""

    results: Path
    cache: Path

    def artifacts(self, train_id: str) -> Path:
        """Give the folder of a training's heavy files."""
        return self.results / "artifacts" / train_id

    def records(self, machine: str) -> Path:
        """Give the folder of a machine's records."""
        return self.results / "records" / machine


def default_cache() -> Path:
    """Give ``$IMGCLS_CACHE``, or this user's cache folder."""
    return Path(os.environ.get("IMGCLS_CACHE") or platformdirs.user_cache_dir("imgcls"))
