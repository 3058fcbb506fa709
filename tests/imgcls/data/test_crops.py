"""Random resized crops: their distribution and their pixels are those of torchvision."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from imgcls.data import crops
from imgcls.data.augment import POLICIES, Normalisation, to_float

PLAIN = Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
DRAWS = 4000


def numbers(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, crops.NUMBERS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def images(count: int, size: int = 48) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, size, size, 3), generator=generator, dtype=torch.uint8)


def columns(boxes: crops.Boxes) -> NDArray[np.int64]:
    return torch.stack([boxes.top, boxes.left, boxes.height, boxes.width], dim=1).numpy()


@pytest.mark.parametrize("size", [16, 160])
def test_boxes_have_the_distribution_of_torchvision(size: int) -> None:
    boxes = columns(crops.boxes_of(numbers(DRAWS), size, hflip=True))
    transform = v2.RandomResizedCrop(size, scale=crops.SCALE)
    image = torch.zeros(3, size, size, dtype=torch.uint8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [transform.make_params([image]) for _ in range(DRAWS)]
    theirs = np.array([[box["top"], box["left"], box["height"], box["width"]] for box in drawn])

    def measures(of: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        top, left, height, width = of.T.astype(float)
        return {"area": height * width, "ratio": width / height, "top": top, "left": left, "height": height}

    for name, values in measures(boxes).items():
        assert ks_2samp(values, measures(theirs)[name]).pvalue > 1e-3, name
    ends = boxes[:, :2] + boxes[:, 2:]
    assert boxes[:, :2].min() >= 0
    assert boxes[:, 2:].min() >= 1
    assert ends.max() == size


def test_half_of_the_images_are_mirrored_unless_that_is_forbidden() -> None:
    assert 0.47 < crops.boxes_of(numbers(DRAWS), 32, hflip=True).flip.float().mean() < 0.53
    assert not crops.boxes_of(numbers(DRAWS), 32, hflip=False).flip.any()


@pytest.mark.parametrize("size", [47, 48])
def test_pixels_are_those_of_torchvision_but_for_rounding(size: int) -> None:
    batch = images(40, size)
    boxes = crops.boxes_of(numbers(40), size, hflip=True)
    views = crops.warped(to_float(batch), boxes)
    for image, view, box, flip in zip(batch, views, columns(boxes).tolist(), boxes.flip.tolist(), strict=True):
        resized = functional.resized_crop(image.permute(2, 0, 1), *box, size=[size, size], antialias=True)
        expected = functional.horizontal_flip(resized) if flip else resized
        # torchvision rounds after each of the two axes.
        assert (view - expected).abs().max() <= 1.01


@pytest.mark.parametrize("name", list(POLICIES))
def test_a_part_of_a_batch_has_the_images_of_the_whole(name: str) -> None:
    """So that several processes of one training see what one process sees."""
    policy, batch = POLICIES[name], images(12)
    drawn = policy.draw(12, torch.Generator().manual_seed(3))
    whole = policy.apply(batch, drawn, PLAIN, hflip=True)
    assert torch.equal(policy.apply(batch[5:9], drawn[5:9], PLAIN, hflip=True), whole[5:9])
    assert torch.equal(policy(batch, torch.Generator().manual_seed(3), PLAIN, hflip=True), whole)
