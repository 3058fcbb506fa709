"""Preparation and start of a training: threads, seed and model; ``loop`` does the rest."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import torch

from imgcls.config import MIN_BATCH, ArchitectureConfig, LoaderConfig
from imgcls.data.loaders import Source, share_of, undersampled
from imgcls.devices import without_tf32
from imgcls.errors import ConfigError, OutOfMemoryError
from imgcls.messages import Setting
from imgcls.models import complexity
from imgcls.models.building import build_model
from imgcls.models.registry import ModelSpec
from imgcls.training import ranks
from imgcls.training.loop import train as run_loop
from imgcls.training.loop import use_threads
from imgcls.training.plan import Training, TrainingPlan, mixed

# Parts of the messages of the RuntimeErrors that torch raises on a lack of host memory.
OUT_OF_MEMORY: Final = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")


def fit(plan: TrainingPlan) -> Training:
    """Build the model and train it, resuming from the plan's folder if it was interrupted.

    Raises NonFiniteLossError and OutOfMemoryError, and ConfigError for the technique post-hoc.
    """
    spec, train = plan.spec, plan.train
    if train.imbalance == "post-hoc":
        hint = (" adjusts a finished training; it has none of its own: use ", Setting("imbalance", "none"))
        raise ConfigError(Setting("imbalance", "post-hoc"), *hint)
    use_threads(train.threads_per_device)
    torch.manual_seed(plan.seed)
    aux_head = spec.has_aux_head and plan.architecture.aux_weight > 0
    # In every epoch, also before the first evaluation: a training in fp32 must not be one in TF32.
    with ranks.joined(train), ranks.named_loss(), _named_lack_of_memory(plan.loader), without_tf32():
        model = build_model(spec, plan.architecture, num_classes=plan.num_classes, aux_head=aux_head)
        # Of the exported network, before it is moved: an auxiliary head is not counted in any figure.
        gmacs = gmacs_of(spec, plan.num_classes) if (train.budget or "").startswith("tmacs") else None
        return run_loop(model, replace(plan, train_source=_used(plan), gmacs=gmacs))


def _used(plan: TrainingPlan) -> Source:
    """Return the train images that are used: all, a share of each class, or as many of each class."""
    source, train = plan.train_source, plan.train
    if train.train_share < 1:
        source = share_of(source, train.train_share, mixed(plan.seed, 0, 4))
    return undersampled(source, mixed(plan.seed, 0, 3)) if train.imbalance == "undersample" else source


def gmacs_of(spec: ModelSpec, num_classes: int) -> float:
    """Return 1e9 multiply-accumulates of a forward pass per image."""
    # A network of its own, with random weights: it changes neither the one that is trained nor the random numbers.
    with torch.random.fork_rng(devices=[]):
        random = replace(spec, weights=replace(spec.weights, file=None))
        return complexity.count(
            build_model(random, ArchitectureConfig(), num_classes=num_classes), spec.resize.size
        ).gmacs


@contextlib.contextmanager
def _named_lack_of_memory(loader: LoaderConfig) -> Iterator[None]:
    """Raise OutOfMemoryError, which names the remedy, for an error that reports a lack of memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch has an exception class for CUDA memory, but raises a plain RuntimeError for the host's.
        is_memory_error = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not is_memory_error and not any(words in str(error).lower() for words in OUT_OF_MEMORY):
            raise
        size, px = loader.micro_batch or loader.batch_size, loader.image_size
        smaller = "micro-batch or image size" if size > MIN_BATCH else "image size"
        message = f"out of memory in training with {size} images of {px} px at once; a smaller {smaller} needs less"
        raise OutOfMemoryError(message) from error
