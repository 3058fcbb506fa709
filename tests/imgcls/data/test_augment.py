"""Flip, rotation within 15 degrees, brightness 0.8 to 1.2: drawn for each image; evaluation is fixed."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from imgcls.data.augment import Draws, Normalisation, _grid, augment, draw, normalise
from imgcls.data.loaders import Source, eval_batches, train_batches

PLAIN = Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
CPU = torch.device("cpu")


def draws(flip: float = 1, angle: float = 0, brightness: float = 1, count: int = 1) -> Draws:
    def full(value: float) -> torch.Tensor:
        return torch.full((count,), float(value))

    return Draws(flip=full(flip), angle=full(angle), brightness=full(brightness))


def images(count: int = 1, size: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, size, size, 3), generator=generator, dtype=torch.uint8)


def test_no_augmentation_is_the_evaluation_transform() -> None:
    batch = images(20)
    assert torch.allclose(augment(batch, draws(count=20), PLAIN), normalise(batch, PLAIN), atol=1e-5)


def test_a_flip_mirrors_left_and_right() -> None:
    batch = images()
    assert torch.allclose(augment(batch, draws(flip=-1), PLAIN), normalise(batch.flip(2), PLAIN), atol=1e-5)


def test_brightness_scales_and_clips_at_white() -> None:
    batch = torch.tensor([100, 250], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 8, 8, 3)
    bright = augment(batch, draws(brightness=1.2, count=2), PLAIN)
    assert bright[0].unique().tolist() == pytest.approx([120 / 255])
    assert bright[1].unique().tolist() == pytest.approx([1.0])


def test_a_rotation_agrees_with_pillows() -> None:
    smooth = Image.fromarray(images(size=6)[0].numpy()).resize((96, 96), Image.Resampling.BICUBIC)
    batch = torch.from_numpy(np.array(smooth))[None]
    ours = augment(batch, draws(angle=math.radians(10)), PLAIN)[0].permute(1, 2, 0).numpy() * 255
    candidates = [np.asarray(smooth.rotate(sign * 10, Image.Resampling.BILINEAR)).astype(float) for sign in (1, -1)]
    errors = [np.abs(candidate - ours)[4:-4, 4:-4].mean() for candidate in candidates]
    assert min(errors) < 1.0 < max(errors)


def test_normalisation_subtracts_the_mean_and_divides_by_the_deviation() -> None:
    batch = torch.full((1, 2, 2, 3), 255, dtype=torch.uint8)
    out = normalise(batch, Normalisation(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0)))
    assert out[0, :, 0, 0].tolist() == pytest.approx([1.0, 3.0, 0.5])


def test_each_image_of_a_batch_has_a_draw_of_its_own_within_the_ranges() -> None:
    drawn = draw(4000, torch.Generator().manual_seed(0))
    degrees = torch.rad2deg(drawn.angle)
    assert 14.9 < degrees.max() <= 15.001
    assert -15.001 <= degrees.min() < -14.9
    assert 0.8 <= drawn.brightness.min() < 0.801
    assert 1.199 < drawn.brightness.max() <= 1.2001
    assert 0.47 < (drawn.flip == -1).float().mean() < 0.53
    assert len(drawn.angle.unique()) > 3900


def test_chunks_do_not_change_what_an_image_becomes() -> None:
    batch = images(20)
    drawn = draw(20, torch.Generator().manual_seed(1))
    whole = augment(batch, drawn, PLAIN)
    last = Draws(flip=drawn.flip[19:], angle=drawn.angle[19:], brightness=drawn.brightness[19:])
    assert torch.equal(whole[19:], augment(batch[19:], last, PLAIN))


def source(count: int) -> Source:
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), dtype=np.uint8)
    return Source(pixels=pixels, indices=np.arange(count), labels=np.arange(count) % 3)


def test_a_training_pass_shows_every_image_once_in_an_order_from_its_generator() -> None:
    def labels_of(seed: int) -> list[int]:
        batches = train_batches(
            source(40), batch_size=8, normalisation=PLAIN, device=CPU, generator=torch.Generator().manual_seed(seed)
        )
        return [int(label) for _, labels in batches for label in labels]

    assert sorted(labels_of(0)) == sorted(source(40).labels.tolist())
    assert labels_of(0) == labels_of(0)
    assert labels_of(0) != labels_of(1)


def test_a_last_batch_of_one_image_is_dropped_in_training_and_kept_in_evaluation() -> None:
    trained = train_batches(
        source(9), batch_size=4, normalisation=PLAIN, device=CPU, generator=torch.Generator().manual_seed(0)
    )
    assert [len(labels) for _, labels in trained] == [4, 4]
    evaluated = eval_batches(source(9), batch_size=4, normalisation=PLAIN, device=CPU)
    assert [len(labels) for _, labels in evaluated] == [4, 4, 1]


def test_two_evaluation_passes_give_equal_tensors() -> None:
    first, second = (
        torch.cat([pixels for pixels, _ in eval_batches(source(9), batch_size=4, normalisation=PLAIN, device=CPU)])
        for _ in range(2)
    )
    assert torch.equal(first, second)


def test_the_grid_is_torchs_affine_grid() -> None:
    drawn = draw(6, torch.Generator().manual_seed(3))
    cosine, sine, zero = torch.cos(drawn.angle), torch.sin(drawn.angle), torch.zeros(6)
    rows = [drawn.flip * cosine, -drawn.flip * sine, zero, sine, cosine, zero]
    theta = torch.stack(rows, dim=1).view(-1, 2, 3)
    wanted = torch.nn.functional.affine_grid(theta, [6, 3, 37, 37], align_corners=False)
    assert torch.allclose(_grid(drawn, 37), wanted, atol=1e-6)
