"""Random resized crops (Szegedy et al. 2015) and flips of a batch, from numbers that are drawn for all images at once.

Boxes have the distribution of torchvision's ``RandomResizedCrop``, and pixels are its own but for rounding.
"""

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

SCALE: Final = (0.5, 1.0)
"""Smallest and largest share of an image's area in a crop; of photos of a single object, a small crop may miss it."""
ASPECT_RATIO: Final = (3 / 4, 4 / 3)
ATTEMPTS: Final = 10
FLIP_PROBABILITY: Final = 0.5
NUMBERS: Final = 2 * ATTEMPTS + 3
"""Random numbers of an image: area and ratio of each attempt, the position (two), and the flip."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """The box of each image in pixels, int64 ``[B]`` each, and whether it is mirrored, bool ``[B]``."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor


def boxes_of(numbers: Tensor, size: int, *, hflip: bool) -> Boxes:
    """Return the boxes in square images of ``size`` pixels, from uniform numbers in [0, 1), float64 ``[B, NUMBERS]``.

    As in torchvision, the first of ``ATTEMPTS`` boxes that is not larger than the image is taken, else the image.
    """
    low, high = (math.log(ratio) for ratio in ASPECT_RATIO)
    area = size**2 * (SCALE[0] + (SCALE[1] - SCALE[0]) * numbers[:, :ATTEMPTS])
    ratio = torch.exp(low + (high - low) * numbers[:, ATTEMPTS : 2 * ATTEMPTS])
    widths, heights = torch.sqrt(area * ratio).round(), torch.sqrt(area / ratio).round()
    fits = (widths.clamp(1, size) == widths) & (heights.clamp(1, size) == heights)
    # argmax of equal numbers is the first one.
    first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
    some = fits.any(dim=1)
    height, width = (torch.where(some, sides.gather(1, first)[:, 0], float(size)) for sides in (heights, widths))
    top, left, flip = numbers[:, 2 * ATTEMPTS :].unbind(dim=1)
    return Boxes(
        top=(top * (size - height + 1)).long(),
        left=(left * (size - width + 1)).long(),
        height=height.long(),
        width=width.long(),
        flip=(flip < FLIP_PROBABILITY) & hflip,
    )


def warped(pixels: Tensor, boxes: Boxes) -> Tensor:
    """Return the boxes of float32 ``[B, 3, S, S]``, resized to the same size by one bilinear warp, on any device."""
    size = pixels.shape[-1]
    rows = _positions(boxes.top, boxes.height, size, pixels.device)
    columns = _positions(boxes.left, boxes.width, size, pixels.device)
    # Mirroring the source positions flips the image without another pass over its pixels.
    columns = torch.where(boxes.flip.to(pixels.device, non_blocking=True)[:, None], columns.flip(1), columns)
    grid = torch.stack([columns[:, None, :].expand(-1, size, -1), rows[:, :, None].expand(-1, -1, size)], dim=-1)
    return functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _positions(start: Tensor, length: Tensor, size: int, device: torch.device) -> Tensor:
    """Return the source positions of ``size`` output pixels along one axis, float32 ``[B, size]`` in [-1, 1]."""
    start, length = (values.to(device, torch.float32, non_blocking=True)[:, None] for values in (start, length))
    centres = torch.arange(size, device=device, dtype=torch.float32) + 0.5
    inside = (centres * length / size - 0.5).clamp_min(0)
    # Not beyond the box, whose pixels at the edge are repeated, as by a resize of the box alone.
    return (2 * (start + torch.minimum(inside, length - 1)) + 1) / size - 1
