"""Figures of a CUDA machine, which have no limit to pass; ``tests.benchmarks.gpu`` prints them."""

import statistics
from collections.abc import Callable
from typing import Any, Final

import torch

from imgcls.config import ArchitectureConfig, LoaderConfig, TrainConfig
from imgcls.data.augment import POLICIES, Normalisation
from imgcls.inference.torch_sessions import device_timer
from imgcls.models.building import build_model
from tests.benchmarks.gpu_checks import Outcome, Subject
from tests.benchmarks.training_steps import BATCHES, bare_step, epoch_s, seconds, training_of

REPEATS: Final = 20

BF16: Final = TrainConfig(epochs=1, precision="bf16")


def transfer(subject: Subject) -> Outcome:
    """Print the time of ``.to(device, dtype)`` over that of ``.to(device).to(dtype)``."""
    images = torch.randn(subject.batch_sizes[-1], 3, subject.px, subject.px)
    together = _ms(lambda: images.to(subject.device, torch.float16))
    one_by_one = _ms(lambda: images.to(subject.device).to(torch.float16))
    return None, f"{together:.2f} ms over {one_by_one:.2f} ms: {together / one_by_one:.2f} x"


def augmentation(subject: Subject) -> Outcome:
    """Print the time of the augmentation of a batch over that of a bf16 step."""
    size, px = subject.batch_sizes[0], subject.px
    loader = LoaderConfig(image_size=px, batch_size=size)
    spec, plan = training_of(subject.models[0], subject.folder, BF16, device=subject.device, loader=loader)
    step = bare_step(spec, plan)
    images = torch.randint(0, 256, (size, px, px, 3), dtype=torch.uint8)
    images, generator = images.to(subject.device), torch.Generator()
    plain = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    augmented = {name: _ms(lambda name=name: POLICIES[name](images, generator, plain, hflip=True)) for name in POLICIES}  # type: ignore[misc]
    step_ms = _ms(step)
    return None, "; ".join(f"{name} {took / step_ms:.2f} of a step ({took:.2f} ms)" for name, took in augmented.items())


def device_time(subject: Subject) -> Outcome:
    """Print the device's time of a forward pass at batch 1 with and without launch gaps."""
    loader = LoaderConfig(image_size=subject.px)
    spec, _ = training_of(subject.models[0], subject.folder, BF16, device=subject.device, loader=loader)
    model = build_model(spec, ArchitectureConfig(), num_classes=6).eval().to(subject.device)
    images = torch.zeros(1, 3, subject.px, subject.px, device=subject.device)
    event: Any = torch.cuda.Event
    start, end = event(enable_timing=True), event(enable_timing=True)

    def with_gaps() -> float:
        with torch.inference_mode():
            start.record()
            model(images)
            end.record()
        end.synchronize()
        return float(start.elapsed_time(end))

    without = device_timer(model, lambda pixels: torch.from_numpy(pixels).to(subject.device))(images.cpu().numpy())
    for run in (with_gaps, without):
        run()
    gaps, alone = (statistics.median(run() for _ in range(REPEATS)) for run in (with_gaps, without))
    return None, f"{gaps:.3f} ms with gaps over {alone:.3f} ms without: {gaps / alone:.2f} x"


def throughput(subject: Subject) -> Outcome:
    """Print the images/s of the training loop over those of the bare step."""
    told = []
    for batch_size in subject.batch_sizes:
        folder = subject.folder / "steps"
        folder.mkdir(exist_ok=True)
        loader = LoaderConfig(image_size=subject.px, batch_size=batch_size)
        spec, plan = training_of(subject.models[0], folder, BF16, device=subject.device, loader=loader)
        step = bare_step(spec, plan)
        model = build_model(spec, ArchitectureConfig(), num_classes=6, aux_head=spec.has_aux_head)
        ratios = []
        for _ in range(4):
            loop_s = epoch_s(model, plan)
            ratios.append(BATCHES * _ms(step, repeats=BATCHES) / 1e3 / loop_s)
        told.append(f"batch {batch_size}: {statistics.median(ratios[1:]):.2f} x")
    return None, "; ".join(told)


def _ms(run: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the median time of a call in ms, until the device is done, after one call that is not counted."""

    def done() -> None:
        run()
        torch.cuda.synchronize()

    done()
    return 1e3 * statistics.median(seconds(done) for _ in range(repeats))
