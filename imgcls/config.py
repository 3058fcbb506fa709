"""Settings of the library as frozen dataclasses; this module imports neither torch nor timm."""

import math
from dataclasses import dataclass
from typing import Final, Literal

from imgcls.errors import ConfigError

MAX_FOLDS: Final = 50
Device = Literal["auto", "cpu", "cuda"]
Schedule = Literal["plateau", "cosine"]
Select = Literal["best", "last"]


def require(*, name: str, value: float | None, low: float, high: float, hint: str) -> None:
    """Raise ConfigError unless ``low <= value <= high``; None is allowed, NaN is not."""
    if value is not None and (math.isnan(value) or not low <= value <= high):
        flag = name.replace("_", "-")
        message = f"--{flag} is {value}; {hint}"
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitConfig:
    """Division of the images into train, val and test."""

    split: Literal["auto", "ours"] = "auto"
    """auto: use train/val/test folders if the data set has them; ours: always divide 80/10/10."""
    split_seed: int = 0
    """Seed of the split and of undersampling; independent of the training seeds."""
    max_class_ratio: float | None = None
    """Undersample train so that no class has more than this many times the images of the smallest class."""
    folds: int | None = None
    """Number of folds; each is the test split of one run, so that every image is tested exactly once."""
    fold: int | None = None
    """Run only this fold, 0 to folds - 1; None: all folds."""
    drop_leaks: bool = False
    """With split folders: remove images from train and val that have a duplicate or near-duplicate in a later split."""
    group_by: str | None = None
    """Keep images together that are not independent: parent (same folder), a column of the table of labels, or a
    regular expression that is searched in paths; its first group, or the whole match, names the group."""
    val_as_test: bool = False
    """With train and val folders, but no test folder: use val as test, and cut a new val from train."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(name="folds", value=self.folds, low=2, high=MAX_FOLDS, hint=f"use 2 to {MAX_FOLDS}")
        if self.fold is not None and self.folds is None:
            message = f"--fold is {self.fold}; it needs --folds"
            raise ConfigError(message)
        last = (self.folds or 1) - 1
        require(name="fold", value=self.fold, low=0, high=last, hint=f"use 0 to {last}")
        # scikit-learn, which assigns the folds, accepts no larger seed.
        require(name="split_seed", value=self.split_seed, low=0, high=2**32 - 1, hint="use 0 to 2**32-1")
        require(name="max_class_ratio", value=self.max_class_ratio, low=1, high=1e9, hint="use a number of 1 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderConfig:
    """Input size, preprocessing and batch size."""

    image_size: int = 224
    """Side of the square input, in pixels."""
    crop: bool = False
    """Resize and centre-crop as timm evaluates the weights, instead of resizing the whole image to a square."""
    batch_size: int = 32
    """Images per training step."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(name="image_size", value=self.image_size, low=8, high=4096, hint="use 8 to 4096 pixels")
        require(
            name="batch_size",
            value=self.batch_size,
            low=2,
            high=65536,
            hint="use 2 or more (batch norm needs two images)",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchitectureConfig:
    """Hyperparameters of the architecture; its name and weights are resolved separately."""

    dropout: float = 0.0
    """Probability of dropping a feature before the classifier."""
    aux_weight: float = 0.4
    """Weight of Inception's auxiliary loss in training (Szegedy et al. 2015); no effect on other models."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(name="dropout", value=self.dropout, low=0, high=0.99, hint="use 0 to 0.99")
        require(name="aux_weight", value=self.aux_weight, low=0, high=10, hint="use 0 to 10")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Training with Adam, betas (0.9, 0.999), and cross-entropy."""

    epochs: int = 10
    """Passes over the training images."""
    lr: float = 1e-3
    """Initial learning rate."""
    schedule: Schedule = "plateau"
    """plateau: reduce the learning rate when the validation loss stops improving; cosine: reduce it to 0."""
    select: Select = "best"
    """Epoch whose weights are kept: the best by validation accuracy, or the last."""
    weight_decay: float = 0.0
    """L2 penalty, added to the gradient (not decoupled as in AdamW)."""
    label_smoothing: float = 0.0
    """Share of the target that is spread evenly over all classes (Szegedy et al. 2016)."""
    lr_factor: float = 0.1
    """Factor by which the plateau schedule multiplies the learning rate."""
    lr_patience: int = 2
    """Epochs without a lower validation loss before the plateau schedule reduces the learning rate."""
    device: Device = "auto"
    """Training device; auto: CUDA if available."""
    train_threads: int = 0
    """CPU threads for training; 0: all cores that this process may use."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(name="epochs", value=self.epochs, low=1, high=100_000, hint="use 1 or more")
        require(name="lr", value=self.lr, low=1e-12, high=1e3, hint="use a positive number")
        require(name="weight_decay", value=self.weight_decay, low=0, high=1e3, hint="use 0 or more")
        require(name="label_smoothing", value=self.label_smoothing, low=0, high=0.99, hint="use 0 to 0.99")
        require(name="lr_factor", value=self.lr_factor, low=1e-6, high=1, hint="use a number in (0, 1]")
        require(name="lr_patience", value=self.lr_patience, low=0, high=100_000, hint="use 0 or more")
        require(name="train_threads", value=self.train_threads, low=0, high=4096, hint="use 0 (all) or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeConfig:
    """Runtimes to time, and their threads."""

    runtimes: tuple[str, ...] = ()
    """Runtimes to time, such as pytorch-cpu; if empty, PyTorch and ONNX Runtime on CPU, and on CUDA if available."""
    threads: int = 1
    """CPU threads of a timed session; 0: all cores that this process may use."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(name="threads", value=self.threads, low=0, high=4096, hint="use 0 (all) or more")
