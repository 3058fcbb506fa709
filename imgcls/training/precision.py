"""Precision of training steps: what a device supports, and which of float32 and bfloat16 is faster on it."""

import contextlib
import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import timm
import torch
from torch import Tensor
from torch.nn import functional

from imgcls.config import ArchitectureConfig, LoaderConfig, Precision, TrainConfig
from imgcls.errors import ConfigError
from imgcls.files import write_text
from imgcls.messages import Setting
from imgcls.models.building import build_model, memory_format, train_mode
from imgcls.models.registry import ModelSpec
from imgcls.training.optimizers import OPTIMIZERS

LOGGER = logging.getLogger(__name__)

ROUNDS: Final = 3
"""Alternating pairs of steps that are compared, after one pair that is not counted."""

WORTHWHILE: Final = 1.05
"""Smallest ratio of speeds for which bf16 is chosen: rounding has a price, and a smaller ratio may be noise."""

CLASSES: Final = 10


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """Return autocast to bfloat16 for ``bf16``, and a context without effect (float32) for ``fp32``."""
    assert precision != "auto", "planning decides on a precision"
    # Weights and optimizer stay in float32, and bfloat16 has its range: no loss scaling is needed, unlike with float16.
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def supports_bf16(device: str) -> bool:
    """Return whether a device (cpu or cuda) computes in bfloat16 in hardware, or on a CPU at least in its library."""
    if device == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    # The operator exists only in builds with oneDNN.
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(has_onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - has no public name


def check_precision(train: TrainConfig) -> None:
    """Raise ConfigError if the device of a training lacks its precision."""
    if train.precision == "bf16" and not supports_bf16(train.device):
        reason = f": the {train.device} here has no bfloat16; use fp32 or auto"
        raise ConfigError(Setting("precision", "bf16"), reason)


def speed_ratios(spec: ModelSpec, loader: LoaderConfig, train: TrainConfig) -> list[float]:
    """Return the time of a float32 step over that of the bfloat16 step after it, for each of ``ROUNDS`` rounds.

    The steps are on random images, with the size, batch, device and threads of the training. The first round in which
    bf16 is not worthwhile is the last. Returns nothing if the device has no bfloat16.
    """
    if not supports_bf16(train.device):
        return []
    threads = torch.get_num_threads()
    torch.set_num_threads(train.train_threads)
    device = torch.device(train.device)
    try:
        # A generator state of its own: a caller's random numbers do not depend on whether a precision was decided.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            step, ratios = _Step(spec, loader, train, device), list[float]()
            # In the first steps, which are not counted, libraries choose kernels and memory is allocated.
            for precision in ("fp32", "bf16"):
                step.time_s(precision)
            while len(ratios) < ROUNDS and min(ratios, default=WORTHWHILE) >= WORTHWHILE:
                ratios.append(step.time_s("fp32") / step.time_s("bf16"))
    finally:
        torch.set_num_threads(threads)
    return ratios


class _Step:
    """A training step on one random batch."""

    def __init__(self, spec: ModelSpec, loader: LoaderConfig, train: TrainConfig, device: torch.device) -> None:
        # With random weights, which need not be read: they change no time.
        random = replace(spec, weights=replace(spec.weights, file=None))
        layout = memory_format(spec.structure, loader.image_size)
        model = build_model(random, ArchitectureConfig(), num_classes=CLASSES, aux_head=spec.has_aux_head)
        self._model = model.to(device).to(memory_format=layout)
        train_mode(self._model, train.norm)
        self._optimizer = OPTIMIZERS[train.optimizer](self._model, train)
        images = loader.micro_batch or loader.batch_size
        self._images = torch.randn(images, 3, loader.image_size, loader.image_size, device=device)
        self._images = self._images.to(memory_format=layout)
        self._labels = torch.arange(images, device=device) % CLASSES
        self._device = device

    def time_s(self, precision: Precision) -> float:
        """Make a step, and return its seconds."""
        started = time.perf_counter()
        with autocast(self._device, precision):
            outputs = self._model(self._images)
            logits: Tensor = outputs if isinstance(outputs, Tensor) else sum(outputs)
            loss = functional.cross_entropy(logits, self._labels)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimizer.step()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - started


Measure = Callable[[ModelSpec, LoaderConfig, TrainConfig], list[float] | None]
"""Measures ``speed_ratios`` where the training will run; None if that failed, for example for a lack of memory."""


def decide(  # noqa: PLR0913 - a training, and where it is decided
    spec: ModelSpec,
    loader: LoaderConfig,
    train: TrainConfig,
    *,
    cache: Path,
    place: str = "",
    measure: Measure = speed_ratios,
    alone: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Precision:
    """Return the precision of a training: its own, or for ``auto`` the faster one.

    That is fp32, unless bf16 is so in every round. The decision is made within ``alone`` and kept in ``cache``, so that
    an interrupted training is resumed with the same one: there is one for each place, machine, device, model, size,
    batch, number of threads, and versions of the libraries. Raises ConfigError if the device lacks a requested
    precision.
    """
    if train.precision != "auto":
        check_precision(train)
        return train.precision
    # Frozen features are computed in float32: they are one pass, without training steps.
    if train.tune_layers == "head":
        return "fp32"
    file = _kept(spec, loader, train, cache=cache, place=place)
    if not file.exists():
        with alone():
            # Again, because another process may have decided while this one waited.
            if not file.exists():
                return _decided(spec, file, measure(spec, loader, train))
    kept: Precision = json.loads(file.read_text(encoding="utf-8"))["precision"]
    return kept


def _decided(spec: ModelSpec, file: Path, ratios: list[float] | None) -> Precision:
    if ratios is None:
        LOGGER.warning("%s: the speed of bf16 could not be measured: trained in fp32", spec.name)
        return "fp32"
    precision: Precision = "bf16" if ratios and min(ratios) >= WORTHWHILE else "fp32"
    if ratios:
        LOGGER.info("%s: steps in bf16 are %.2f times as fast as in fp32: %s", spec.name, min(ratios), precision)
    write_text(json.dumps({"model": spec.timm_name, "ratios": ratios, "precision": precision}), file)
    return precision


def _kept(spec: ModelSpec, loader: LoaderConfig, train: TrainConfig, *, cache: Path, place: str) -> Path:
    """Return the file of the decision for a training; its name is a hash of all that the speed may depend on."""
    depends_on = [
        place,
        platform.node(),
        torch.cuda.get_device_name() if torch.cuda.is_available() else torch.backends.cpu.get_cpu_capability(),
        torch.__version__,
        timm.__version__,
        spec.timm_name,
        loader.image_size,
        loader.micro_batch or loader.batch_size,
        train.device,
        train.train_threads,
        train.optimizer,
        train.norm,
    ]
    digest = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:16]
    return cache / "precision" / f"{digest}.json"
