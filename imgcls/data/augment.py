"""Batches of uint8 pictures to normalised tensors: augmented per image in training, fixed in evaluation."""

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

FLIP_PROBABILITY: Final = 0.5
MAX_ROTATION_DEGREES: Final = 15.0
BRIGHTNESS_RANGE: Final = (0.8, 1.2)
CPU_CHUNK: Final = 8
"""Images warped at once on a CPU: a batch of 32 at 224 px falls out of its cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalisation:
    """Channel means and standard deviations in units of [0, 1]; they belong to the weights."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def scale_and_shift(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factor and offset ``[1, 3, 1, 1]`` that normalise pixels of 0 to 255."""
        mean, std = (like.new_tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return 1 / (255 * std), -mean / std


@dataclass(frozen=True, kw_only=True, slots=True)
class Draws:
    """One draw for each image of a batch, float32 ``[B]``: flip (1 or -1), angle (radians), brightness."""

    flip: Tensor
    angle: Tensor
    brightness: Tensor


def draw(count: int, generator: torch.Generator) -> Draws:
    """Draw the augmentation of ``count`` images on the CPU, so that every device gets the same."""
    flip, angle, brightness = torch.rand(3, count, generator=generator)
    low, high = BRIGHTNESS_RANGE
    return Draws(
        flip=torch.where(flip < FLIP_PROBABILITY, -1.0, 1.0),
        angle=(2 * angle - 1) * math.radians(MAX_ROTATION_DEGREES),
        brightness=low + (high - low) * brightness,
    )


def to_float(images: Tensor) -> Tensor:
    """View uint8 ``[B, H, W, 3]`` as float32 ``[B, 3, H, W]`` in channels_last memory, 0 to 255."""
    return images.permute(0, 3, 1, 2).to(torch.float32)


def normalise(images: Tensor, normalisation: Normalisation) -> Tensor:
    """Turn uint8 ``[B, H, W, 3]`` into normalised float32 ``[B, 3, H, W]``: the deterministic transform."""
    pixels = to_float(images)
    scale, shift = normalisation.scale_and_shift(pixels)
    return pixels.mul_(scale).add_(shift)


def augment(images: Tensor, draws: Draws, normalisation: Normalisation) -> Tensor:
    """Flip, rotate (bilinear, black corners), brighten, then normalise uint8 ``[B, H, W, 3]``.

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
    bright = warped.mul_(draws.brightness.view(-1, 1, 1, 1)).clamp_(0, 255)
    scale, shift = normalisation.scale_and_shift(bright)
    return bright.mul_(scale).add_(shift)


def _grid(draws: Draws, size: int) -> Tensor:
    """Return where each output pixel comes from, ``[B, S, S, 2]`` in units of [-1, 1].

    A rotation is a product of complex numbers; ``affine_grid``, which gives the same, takes many times as long
    on a CPU.
    """
    steps = torch.arange(1 - size, size, 2, device=draws.angle.device, dtype=torch.float32) / size
    places = torch.complex(*torch.meshgrid(steps, steps, indexing="xy"))
    turned = places * torch.polar(torch.ones_like(draws.angle), draws.angle).view(-1, 1, 1)
    grid = torch.view_as_real(turned)
    grid[..., 0].mul_(draws.flip.view(-1, 1, 1))
    return grid
