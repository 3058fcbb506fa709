"""Precision of training steps: what a device supports, and whether a reduced one is faster than float32 on it."""

import contextlib
import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import timm
import torch
from torch import Tensor
from torch.nn import functional

from imgcls.config import ArchitectureConfig, LoaderConfig, Precision, TrainConfig
from imgcls.devices import usable_cuda, without_tf32
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
    """Return autocast to bfloat16 or float16, and a context without effect (float32) for ``fp32``."""
    assert precision != "auto", "planning decides on a precision"
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16 if precision == "bf16" else torch.float16)


def scaler_of(device: torch.device, precision: Precision) -> torch.amp.GradScaler:
    """Return the scaler of the loss; it has no effect except for ``fp16``."""
    # Small gradients are zero in float16. bfloat16 has the range of float32, as weights and optimizer have.
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def supports_bf16(device: str) -> bool:
    """Return whether a device (cpu or cuda) computes in bfloat16 in hardware, or on a CPU at least in its library."""
    if device == "cuda":
        return usable_cuda() and torch.cuda.is_bf16_supported(including_emulation=False)
    # The operator exists only in builds with oneDNN.
    has_onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(has_onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - has no public name


def reduced_precision(device: str) -> Precision | None:
    """Return the reduced precision of a device: bf16, on a GPU without it fp16, else None."""
    if supports_bf16(device):
        return "bf16"
    return "fp16" if device == "cuda" and usable_cuda() else None


def check_precision(train: TrainConfig) -> None:
    """Raise ConfigError if the device of a training lacks its precision."""
    if train.precision == "bf16" and not supports_bf16(train.device):
        reason = f": the {train.device} here has no bfloat16; use fp32 or auto"
        raise ConfigError(Setting("precision", "bf16"), reason)
    if train.precision == "fp16" and train.device != "cuda":
        raise ConfigError(Setting("precision", "fp16"), f": not on {train.device}; use fp32 or auto")


@dataclass(frozen=True, kw_only=True, slots=True)
class Speedup:
    """The time of a float32 step over that of the step after it in a reduced precision, for each of several rounds.

    ``reduced`` is None, and there are no ``ratios``, if the device has no reduced precision.
    """

    reduced: Precision | None = None
    ratios: tuple[float, ...] = ()


def speedup(spec: ModelSpec, loader: LoaderConfig, train: TrainConfig) -> Speedup:
    """Measure the speed-up of the device's reduced precision in ``ROUNDS`` rounds.

    The steps are on random images, with the size, batch, device and threads of the training. The first round in which
    the reduced precision is not worthwhile is the last.
    """
    reduced = reduced_precision(train.device)
    if reduced is None:
        return Speedup()
    threads = torch.get_num_threads()
    torch.set_num_threads(train.train_threads)
    device = torch.device(train.device)
    try:
        # A generator state of its own: a caller's random numbers do not depend on whether a precision was decided.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), without_tf32():
            step, ratios = _Step(spec, loader, train, device), list[float]()
            # In the first steps, which are not counted, libraries choose kernels and memory is allocated.
            step.time_s("fp32")
            step.time_s(reduced)
            while len(ratios) < ROUNDS and min(ratios, default=WORTHWHILE) >= WORTHWHILE:
                ratios.append(step.time_s("fp32") / step.time_s(reduced))
    finally:
        torch.set_num_threads(threads)
    return Speedup(reduced=reduced, ratios=tuple(ratios))


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
        scaler = scaler_of(self._device, precision)
        started = time.perf_counter()
        with autocast(self._device, precision):
            outputs = self._model(self._images)
            logits: Tensor = outputs if isinstance(outputs, Tensor) else sum(outputs)
            loss = functional.cross_entropy(logits, self._labels)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(scaler.scale(loss))
        scaler.step(self._optimizer)
        scaler.update()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - started


Measure = Callable[[ModelSpec, LoaderConfig, TrainConfig], Speedup | None]
"""Measures ``speedup`` where the training will run; None if that failed, for example for a lack of memory."""


def decide(  # noqa: PLR0913 - a training, and where it is decided
    spec: ModelSpec,
    loader: LoaderConfig,
    train: TrainConfig,
    *,
    cache: Path,
    place: str = "",
    measure: Measure = speedup,
    alone: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Precision:
    """Return the precision of a training: its own, or for ``auto`` the faster one.

    That is fp32, unless the reduced precision of the device is so in every round. The decision is made within
    ``alone`` and kept in ``cache``, so that an interrupted training is resumed with the same one: there is one for each
    place, machine, device, model, size, batch, number of threads, and versions of the libraries. Raises ConfigError if
    the device lacks a requested precision.
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


def _decided(spec: ModelSpec, file: Path, measured: Speedup | None) -> Precision:
    if measured is None:
        LOGGER.warning("%s: the speed of a reduced precision could not be measured: trained in fp32", spec.name)
        return "fp32"
    precision: Precision = "fp32"
    if measured.reduced is not None:
        least = min(measured.ratios)
        precision = measured.reduced if least >= WORTHWHILE else "fp32"
        text = "%s: steps in %s are %.2f times as fast as in fp32: %s"
        LOGGER.info(text, spec.name, measured.reduced, least, precision)
    write_text(json.dumps({"model": spec.timm_name, "ratios": measured.ratios, "precision": precision}), file)
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
