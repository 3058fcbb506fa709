"""Settings of the library as frozen dataclasses; this module imports neither torch nor timm."""

import math
from dataclasses import dataclass
from typing import Final, Literal

from imgcls.errors import ConfigError
from imgcls.messages import Setting

SPLITS: Final = ("train", "val", "test")
MAX_FOLDS: Final = 50
MIN_BATCH: Final = 2
"""Batch norm needs two images."""
Device = Literal["auto", "cpu", "cuda"]
Schedule = Literal["plateau", "cosine"]
Optimizer = Literal["adam", "adamw"]
Augmentation = Literal["none", "report", "crop", "randaugment", "trivialaugment", "mixup", "cutmix"]
Imbalance = Literal[
    "none",
    "undersample",
    "class-weights",
    "balanced-sampler",
    "focal",
    "logit-adjustment",
    "balanced-softmax",
    "post-hoc",
]
TuneLayers = Literal["all", "head", "head-then-all"]
Norm = Literal["batch", "frozen"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Select = Literal["best", "last"]
NearDuplicates = Literal["group", "report", "keep"]


QUANTITIES: Final = ("epochs", "images", "minutes", "tmacs")
"""Quantities of a training's budget; tmacs are 1e12 multiply-accumulates, three forward passes per image."""


def parse_budget(text: str) -> tuple[str, float]:
    """Return quantity and amount of a budget such as ``minutes=10``; raises ConfigError for any other text."""
    quantity, _, amount = text.partition("=")
    try:
        value = float(amount)
    except ValueError:
        value = math.nan
    if quantity not in QUANTITIES or not 0 < value < math.inf:
        forms = ", ".join(f"{name}=AMOUNT" for name in QUANTITIES)
        raise ConfigError(Setting("budget", text), f": write one of {forms}, above 0")
    if quantity in {"epochs", "images"} and not value.is_integer():
        raise ConfigError(Setting("budget", text), f": {quantity} are whole numbers")
    return quantity, value


def require(*, name: str, value: float | None, low: float, high: float, hint: str) -> None:
    """Raise ConfigError unless ``low <= value <= high``; None is allowed, NaN is not."""
    if value is not None and (math.isnan(value) or not low <= value <= high):
        raise ConfigError(Setting(name), f" is {value}; {hint}", value=value)


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitConfig:
    """Division of the images into train, val and test."""

    split: Literal["auto", "generated", "ours"] = "auto"
    """auto: use train/val/test folders if the data set has them; generated: always divide 80/10/10 (ours: the same, its
    former name)."""
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
    near_duplicates: NearDuplicates = "group"
    """What to do with images that nearly look alike: group (keep them in one split, as one independent image), report
    (treat them as different images, and report test images that have one in train or val), or keep (treat them as
    different images: a fixed camera makes pictures of different objects alike)."""
    val_as_test: bool = False
    """With train and val folders, but no test folder: use val as test, and cut a new val from train."""

    def __post_init__(self) -> None:
        """Check the ranges, and read the former name of a value."""
        if self.split == "ours":
            object.__setattr__(self, "split", "generated")
        require(name="folds", value=self.folds, low=2, high=MAX_FOLDS, hint=f"use 2 to {MAX_FOLDS}")
        if self.fold is not None and self.folds is None:
            raise ConfigError(Setting("fold"), f" is {self.fold}; it needs ", Setting("folds"), value=self.fold)
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
    micro_batch: int | None = None
    """Images of a step that are in memory at once, a divisor of the batch size; None: all. Gradients are summed, but
    batch norm uses the statistics of each micro-batch."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(name="image_size", value=self.image_size, low=8, high=4096, hint="use 8 to 4096 pixels")
        require(
            name="batch_size",
            value=self.batch_size,
            low=MIN_BATCH,
            high=65536,
            hint=f"use {MIN_BATCH} or more (batch norm needs two images)",
        )
        if self.micro_batch is not None and (self.micro_batch < MIN_BATCH or self.batch_size % self.micro_batch):
            divisors = [size for size in range(MIN_BATCH, self.batch_size + 1) if self.batch_size % size == 0]
            hint = f"it must divide the batch of {self.batch_size}: use one of {', '.join(map(str, divisors))}"
            raise ConfigError(Setting("micro_batch"), f" is {self.micro_batch}; {hint}", value=self.micro_batch)


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
    """Training: which layers, loss, optimizer, schedule, augmentation and precision."""

    epochs: int = 10
    """Passes over the training images."""
    budget: str | None = None
    """End of the training instead of epochs: images=N, minutes=N or tmacs=N (1e12 multiply-accumulates, three forward
    passes per image); or epochs=N. Evaluation is not counted."""
    lr: float = 1e-3
    """Initial learning rate; with warm-up, the highest."""
    tune_layers: TuneLayers = "all"
    """all: train every layer; head: fit only the classifier, to features of the pre-trained layers that are computed
    once; head-then-all: the same, and then train every layer."""
    norm: Norm = "batch"
    """batch: batch norm uses the statistics of each batch in training; frozen: always those of the initial weights."""
    feature_views: int = 1
    """Views of each image whose features the classifier is fitted to: the image itself, the others augmented."""
    optimizer: Optimizer = "adam"
    """adam (Kingma and Ba 2015), or adamw with decoupled weight decay (Loshchilov and Hutter 2019)."""
    layer_decay: float = 1.0
    """Factor of the learning rate from each layer to the one before it, with adamw (Clark et al. 2020); 1: the same
    rate for all layers."""
    schedule: Schedule = "plateau"
    """plateau: reduce the learning rate when the validation loss stops improving; cosine: reduce it to 0."""
    warmup: float = 0.0
    """Share of the steps in which the learning rate rises linearly before the cosine schedule falls."""
    select: Select = "best"
    """Epoch whose weights are kept: the best by validation accuracy, or the last."""
    weight_decay: float = 0.0
    """With adam, an L2 penalty that is added to the gradient; with adamw, decoupled, and not of biases and norms."""
    label_smoothing: float = 0.0
    """Share of the target that is spread evenly over all classes (Szegedy et al. 2016)."""
    ema: float | None = None
    """Decay per step of an exponential moving average of the weights, which is evaluated in their place; None: none."""
    augmentation: Augmentation = "report"
    """none; report: flips, rotation within 15 degrees, brightness 0.8 to 1.2; crop: random resized crops and flips; the
    others do the same and RandAugment (Cubuk et al. 2020), TrivialAugment (Mueller and Hutter 2021), mixup (Zhang et
    al. 2018) or CutMix (Yun et al. 2019)."""
    no_hflip: bool = False
    """Do not mirror images, whose classes differ in their mirror images, as those of digits, text and signs."""
    imbalance: Imbalance = "none"
    """Technique against class imbalance: undersample every class to the smallest; class-weights: inverse frequencies;
    balanced-sampler: batches with all classes equally likely; focal (Lin et al. 2017); logit-adjustment (Menon et al.
    2021); balanced-softmax (Ren et al. 2020); post-hoc: the finished training of none, with adjusted logits (Menon)."""
    train_share: float = 1.0
    """Share of the train images of each class that are used, drawn by the training seed; val and test stay."""
    precision: Precision = "fp32"
    """Precision of training steps: fp32 (without TF32), bf16 or fp16 (mixed), or auto: what is fastest here."""
    lr_factor: float = 0.1
    """Factor by which the plateau schedule multiplies the learning rate."""
    lr_patience: int = 2
    """Epochs without a lower validation loss before the plateau schedule reduces the learning rate."""
    device: Device = "auto"
    """Training device; auto: CUDA if available."""
    train_threads: int = 0
    """CPU threads for training, of all devices together; 0: all cores that this process may use."""
    devices: int | Literal["auto"] = 1
    """Devices that train one model together, each with its part of every batch: GPUs, auto for all, or as many
    processes on the CPU."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(name="epochs", value=self.epochs, low=1, high=100_000, hint="use 1 or more")
        if self.budget is not None:
            parse_budget(self.budget)
        require(name="lr", value=self.lr, low=1e-12, high=1e3, hint="use a positive number")
        require(name="weight_decay", value=self.weight_decay, low=0, high=1e3, hint="use 0 or more")
        require(name="feature_views", value=self.feature_views, low=1, high=1000, hint="use 1 or more")
        require(name="train_share", value=self.train_share, low=1e-6, high=1, hint="use a share above 0, at most 1")
        require(name="layer_decay", value=self.layer_decay, low=0.01, high=1, hint="use a number from 0.01 to 1")
        require(name="warmup", value=self.warmup, low=0, high=0.9, hint="use a share of the steps, 0 to 0.9")
        self._require_effect()
        if self.ema is not None and not 0 < self.ema < 1:
            hint = "use a number between 0 and 1, such as 0.99"
            raise ConfigError(Setting("ema"), f" is {self.ema}; {hint}", value=self.ema)
        require(name="label_smoothing", value=self.label_smoothing, low=0, high=0.99, hint="use 0 to 0.99")
        require(name="lr_factor", value=self.lr_factor, low=1e-6, high=1, hint="use a number in (0, 1]")
        require(name="lr_patience", value=self.lr_patience, low=0, high=100_000, hint="use 0 or more")
        require(name="train_threads", value=self.train_threads, low=0, high=4096, hint="use 0 (all) or more")
        if self.devices != "auto":
            require(name="devices", value=self.devices, low=1, high=4096, hint="use 1 or more, or auto")

    @property
    def threads_per_device(self) -> int:
        """CPU threads of the process of each device; ``train_threads`` and ``devices`` are resolved."""
        assert self.devices != "auto", "resolve_train replaces it"
        return max(1, self.train_threads // self.devices)

    @property
    def norms_per_process(self) -> bool:
        """Whether batch norm uses statistics of each process's part of a batch: torch exchanges none on a CPU."""
        return self.devices != 1 and self.norm == "batch" and self.device == "cpu"

    @property
    def passes_per_image(self) -> int:
        """Forward passes that an image costs in training: three with a backward pass, one through frozen layers."""
        return 1 if self.tune_layers == "head" else 3

    def images_within(self, tmacs: float, *, gmacs: float, features: float = 0.0) -> float:
        """Return the images that can be trained on with a compute of which ``features`` images pass frozen layers."""
        return 1e3 * tmacs / (self.passes_per_image * gmacs) - features / self.passes_per_image

    def _require_effect(self) -> None:
        """Raise ConfigError for a value that would have no effect, but stand in the setting's name."""
        head_only = Setting("tune_layers", "head")
        ineffective = (
            ("layer_decay", self.layer_decay < 1 and self.optimizer == "adam", Setting("optimizer", "adam"), 1),
            ("warmup", self.warmup > 0 and self.schedule == "plateau", Setting("schedule", "plateau"), 0),
            ("feature_views", self.feature_views > 1 and self.tune_layers == "all", Setting("tune_layers", "all"), 1),
            ("budget", self.budget is not None and self.tune_layers == "head", head_only, "epochs=1"),
            ("precision", self.precision in {"bf16", "fp16"} and self.tune_layers == "head", head_only, "fp32"),
            ("devices", self.devices != 1 and self.tune_layers == "head", head_only, 1),
        )
        for name, wrong, beside, neutral in ineffective:
            if wrong:
                value = getattr(self, name)
                hint = (beside, " it has no effect: use ", Setting(name, neutral))
                raise ConfigError(Setting(name), f" is {value}; with ", *hint, value=value)


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


STORES: Final = ("auto", "pixels", "files", "jpeg")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreConfig:
    """Where pixels come from."""

    store: str = "auto"
    """pixels (one file in the cache), files (decoded from your files in every pass, which needs no disk), or auto:
    pixels if they fit into the disk space for them, with results that are the same to the bit; or jpeg: train images
    are resized and stored once as JPEG, which loses a little and makes another row; val and test are exact."""
    store_gb: float | None = None
    """Disk space in GB (1e9 bytes) for the pixels of one data set at one image size; None: a third of what is free."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.store not in STORES:
            raise ConfigError(Setting("store", self.store), f": unknown; use one of {', '.join(STORES)}")
        if self.store_gb is not None and not (math.isfinite(self.store_gb) and self.store_gb >= 0):
            raise ConfigError(Setting("store_gb", self.store_gb), ": use a number of GB, 0 or more")
