"""Conversion of uint8 batches to normalised tensors, with random augmentation of each image in training."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from timm.data.mixup import Mixup
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from imgcls.data import crops

FLIP_PROBABILITY: Final = 0.5
MAX_ROTATION_DEGREES: Final = 15.0
BRIGHTNESS_RANGE: Final = (0.8, 1.2)
CPU_CHUNK: Final = 8
"""Images warped at once on a CPU, because a batch of 32 at 224 px exceeds the CPU's cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalisation:
    """Channel means and standard deviations of pixels in [0, 1]; a property of the weights."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def scale_and_shift(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factor and offset ``[1, 3, 1, 1]`` that normalise pixels of 0 to 255."""
        mean, std = (like.new_tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return 1 / (255 * std), -mean / std


@dataclass(frozen=True, kw_only=True, slots=True)
class Draws:
    """Augmentation parameters, one per image, float32 ``[B]``: flip (1 or -1), angle (radians), brightness factor."""

    flip: Tensor
    angle: Tensor
    brightness: Tensor


def draw(count: int, generator: torch.Generator) -> Draws:
    """Draw the augmentation parameters of ``count`` images on the CPU, so that they are the same for every device."""
    flip, angle, brightness = torch.rand(3, count, generator=generator)
    low, high = BRIGHTNESS_RANGE
    return Draws(
        flip=torch.where(flip < FLIP_PROBABILITY, -1.0, 1.0),
        angle=(2 * angle - 1) * math.radians(MAX_ROTATION_DEGREES),
        brightness=low + (high - low) * brightness,
    )


def to_float(images: Tensor) -> Tensor:
    """Convert uint8 ``[B, H, W, 3]`` to float32 ``[B, 3, H, W]`` in channels_last memory, not scaled (0 to 255)."""
    # permute() only changes strides, and the conversion keeps them: no separate pass transposes the batch.
    return images.permute(0, 3, 1, 2).to(torch.float32)


def normalise(images: Tensor, normalisation: Normalisation) -> Tensor:
    """Normalise uint8 ``[B, H, W, 3]`` to float32 ``[B, 3, H, W]``, without augmentation."""
    pixels = to_float(images)
    # 255, mean and std are folded into one factor and one offset, applied in place, to save passes over memory.
    scale, shift = normalisation.scale_and_shift(pixels)
    return pixels.mul_(scale).add_(shift)


def augment(images: Tensor, draws: Draws, normalisation: Normalisation) -> Tensor:
    """Augment uint8 ``[B, H, W, 3]`` by flip, rotation (bilinear, black corners) and brightness, and normalise it.

    Returns float32 ``[B, 3, H, W]`` on the device of ``images``.
    """
    chunk = CPU_CHUNK if images.device.type == "cpu" else len(images)
    parts = [
        _augment_chunk(images[start : start + chunk], _slice(draws, start, chunk, images.device), normalisation)
        for start in range(0, len(images), chunk)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _slice(draws: Draws, start: int, count: int, device: torch.device) -> Draws:
    cut = [
        values[start : start + count].to(device, non_blocking=True)
        for values in (draws.flip, draws.angle, draws.brightness)
    ]
    return Draws(flip=cut[0], angle=cut[1], brightness=cut[2])


def _augment_chunk(images: Tensor, draws: Draws, normalisation: Normalisation) -> Tensor:
    pixels = to_float(images)
    warped = functional.grid_sample(
        pixels, _grid(draws, pixels.shape[-1]), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    # Values that exceed 255 saturate before normalisation, as in an over-exposed photograph.
    bright = warped.mul_(draws.brightness.view(-1, 1, 1, 1)).clamp_(0, 255)
    scale, shift = normalisation.scale_and_shift(bright)
    return bright.mul_(scale).add_(shift)


def _grid(draws: Draws, size: int) -> Tensor:
    """Return the source position of each output pixel, ``[B, S, S, 2]`` in [-1, 1].

    The rotation is a multiplication of complex numbers, because ``affine_grid``, which returns the same grid, takes
    many times as long on a CPU.
    """
    # Pixel centres in the coordinates of align_corners=False, as in ``grid_sample`` above.
    steps = torch.arange(1 - size, size, 2, device=draws.angle.device, dtype=torch.float32) / size
    centres = torch.complex(*torch.meshgrid(steps, steps, indexing="xy"))
    turned = centres * torch.polar(torch.ones_like(draws.angle), draws.angle).view(-1, 1, 1)
    grid = torch.view_as_real(turned)
    # Mirroring the source positions flips the image without another pass over its pixels.
    grid[..., 0].mul_(draws.flip.view(-1, 1, 1))
    return grid


Draw = Callable[[int, torch.Generator], Tensor]
"""Draws the random numbers of a number of images on the CPU, ``[B, K]``, whichever device augments them."""


class Apply(Protocol):
    """Augments and normalises uint8 ``[B, H, W, 3]`` to float32 ``[B, 3, H, W]``."""

    def __call__(self, images: Tensor, numbers: Tensor, normalisation: Normalisation, *, hflip: bool) -> Tensor:
        """Return the augmented batch; ``numbers``, ``[B, K]``, are those drawn for it, ``hflip`` allows mirror images.

        Each image depends on its own numbers only, so that a part of a batch has the images of the whole.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """How each image is augmented; ``version`` is part of a training's id, and increases with other random numbers."""

    draw: Draw
    apply: Apply
    version: int = 1

    def __call__(
        self, images: Tensor, generator: torch.Generator, normalisation: Normalisation, *, hflip: bool
    ) -> Tensor:
        """Draw for a batch with ``generator``, which is on the CPU, and return the augmented batch."""
        return self.apply(images, self.draw(len(images), generator), normalisation, hflip=hflip)


def _no_numbers(count: int, generator: torch.Generator) -> Tensor:
    del generator
    return torch.empty(count, 0)


def plain(images: Tensor, numbers: Tensor, normalisation: Normalisation, *, hflip: bool) -> Tensor:
    """Normalise a batch only."""
    del numbers, hflip
    return normalise(images, normalisation)


def _report_numbers(count: int, generator: torch.Generator) -> Tensor:
    drawn = draw(count, generator)
    return torch.stack([drawn.flip, drawn.angle, drawn.brightness], dim=1)


def report(images: Tensor, numbers: Tensor, normalisation: Normalisation, *, hflip: bool) -> Tensor:
    """Augment a batch as the original report: flips, rotation, brightness."""
    flip, angle, brightness = numbers.unbind(dim=1)
    drawn = Draws(flip=flip if hflip else torch.ones_like(flip), angle=angle, brightness=brightness)
    return augment(images, drawn, normalisation)


def _crop_numbers(count: int, generator: torch.Generator) -> Tensor:
    # The last one is the seed of a further operation on the image.
    return torch.rand(count, crops.NUMBERS + 1, generator=generator, dtype=torch.float64)


def crop(images: Tensor, numbers: Tensor, normalisation: Normalisation, *, hflip: bool) -> Tensor:
    """Augment a batch by random resized crops (Szegedy et al. 2015) of half the image or more, and flips."""
    pixels = _cropped(images, numbers, hflip=hflip)
    scale, shift = normalisation.scale_and_shift(pixels)
    return pixels.mul_(scale).add_(shift)


def _cropped(images: Tensor, numbers: Tensor, *, hflip: bool) -> Tensor:
    """Return random resized crops of uint8 ``[B, H, W, 3]`` as float32 ``[B, 3, H, W]``, not scaled (0 to 255)."""
    chunk = CPU_CHUNK if images.device.type == "cpu" else len(images)
    views = []
    for start in range(0, len(images), chunk):
        own = numbers[start : start + chunk, : crops.NUMBERS]
        boxes = crops.boxes_of(own, images.shape[1], hflip=hflip)
        views.append(crops.warped(to_float(images[start : start + chunk]), boxes))
    return torch.cat(views)


def trivialaugment(images: Tensor, numbers: Tensor, normalisation: Normalisation, *, hflip: bool) -> Tensor:
    """Augment a batch as ``crop``, and then each image by one random operation (Mueller and Hutter 2021)."""
    return _cropped_then(v2.TrivialAugmentWide(), images, numbers, normalisation, hflip=hflip)


def randaugment(images: Tensor, numbers: Tensor, normalisation: Normalisation, *, hflip: bool) -> Tensor:
    """Augment a batch as ``crop``, and then each image by two random operations (Cubuk et al. 2020)."""
    return _cropped_then(v2.RandAugment(), images, numbers, normalisation, hflip=hflip)


def _cropped_then(
    transform: v2.Transform, images: Tensor, numbers: Tensor, normalisation: Normalisation, *, hflip: bool
) -> Tensor:
    """Crop, and then apply a transform of torchvision to each image, seeded by the last of its numbers."""
    views = _cropped(images, numbers, hflip=hflip).round_().to(torch.uint8)
    # torchvision draws from torch's global generator, from which dropout draws too.
    with torch.random.fork_rng(devices=[]):
        for view, number in zip(views, numbers[:, -1].tolist(), strict=True):
            torch.default_generator.manual_seed(int(number * 2**53))
            view.copy_(transform(view))
    return normalise(views.permute(0, 2, 3, 1), normalisation)


POLICIES: Final[dict[str, Policy]] = {
    "none": Policy(draw=_no_numbers, apply=plain),
    "report": Policy(draw=_report_numbers, apply=report),
    # Version 1 drew from one sequence for all images of a batch, by torchvision's transforms.
    "crop": Policy(draw=_crop_numbers, apply=crop, version=2),
    "randaugment": Policy(draw=_crop_numbers, apply=randaugment, version=2),
    "trivialaugment": Policy(draw=_crop_numbers, apply=trivialaugment, version=2),
    "mixup": Policy(draw=_crop_numbers, apply=crop, version=2),
    "cutmix": Policy(draw=_crop_numbers, apply=crop, version=2),
}
"""What the augmentation policies do to each image, by the value of ``TrainConfig.augmentation``."""

MIXES: Final = {"mixup": {"mixup_alpha": 0.2, "cutmix_alpha": 0.0}, "cutmix": {"mixup_alpha": 0.0, "cutmix_alpha": 1.0}}
"""Parameters of timm's ``Mixup`` for the policies that then mix pairs of images: those of the two papers."""


def mix(
    images: Tensor, labels: Tensor, generator: torch.Generator, *, name: str, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Mix each image ``[B, 3, H, W]`` of an augmented batch with another one, and their labels, int64 ``[B]``.

    Returns new images, and the probabilities of the classes ``[B, num_classes]``. Each pair has a ratio of its own.
    """
    mixing = Mixup(  # type: ignore[no-untyped-call]
        **MIXES[name], mode="elem", label_smoothing=0.0, num_classes=num_classes
    )
    # timm mixes image i with image B - 1 - i, and accepts even batches only: the last image of an odd one stays.
    even = len(images) // 2 * 2
    # timm draws from numpy's global generator, which may be the caller's: seeded here, and then put back.
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(int(torch.randint(2**32, (), generator=generator)))  # noqa: NPY002
    try:
        mixed, targets = mixing(images[:even].clone(), labels[:even])
    finally:
        np.random.set_state(state)  # noqa: NPY002
    rest = functional.one_hot(labels[even:], num_classes).to(targets.dtype)
    return torch.cat([mixed, images[even:]]), torch.cat([targets, rest])
