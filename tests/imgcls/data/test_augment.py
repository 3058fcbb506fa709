"""Random augmentation, and the batches of training and evaluation."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from imgcls.data.augment import Draws, Normalisation, augment, draw, normalise
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


def test_neutral_draws_only_normalise() -> None:
    batch = images(20)
    assert torch.allclose(augment(batch, draws(count=20), PLAIN), normalise(batch, PLAIN), atol=1e-5)


def test_flip_mirrors_left_and_right() -> None:
    batch = images()
    assert torch.allclose(augment(batch, draws(flip=-1), PLAIN), normalise(batch.flip(2), PLAIN), atol=1e-5)


def test_brightness_scales_and_clips() -> None:
    batch = torch.tensor([100, 250], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 8, 8, 3)
    bright = augment(batch, draws(brightness=1.2, count=2), PLAIN)
    assert bright[0].unique().tolist() == pytest.approx([120 / 255])
    assert bright[1].unique().tolist() == pytest.approx([1.0])


def test_rotation_agrees_with_pillow() -> None:
    smooth = Image.fromarray(images(size=6)[0].numpy()).resize((96, 96), Image.Resampling.BICUBIC)
    batch = torch.from_numpy(np.array(smooth))[None]
    ours = augment(batch, draws(angle=math.radians(10)), PLAIN)[0].permute(1, 2, 0).numpy() * 255
    candidates = [np.asarray(smooth.rotate(sign * 10, Image.Resampling.BILINEAR)).astype(float) for sign in (1, -1)]
    errors = [np.abs(candidate - ours)[4:-4, 4:-4].mean() for candidate in candidates]
    assert min(errors) < 1.0 < max(errors)


def test_normalisation_uses_mean_and_std() -> None:
    batch = torch.full((1, 2, 2, 3), 255, dtype=torch.uint8)
    out = normalise(batch, Normalisation(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0)))
    assert out[0, :, 0, 0].tolist() == pytest.approx([1.0, 3.0, 0.5])


def test_draws_differ_and_stay_in_range() -> None:
    drawn = draw(4000, torch.Generator().manual_seed(0))
    degrees = torch.rad2deg(drawn.angle)
    assert 14.9 < degrees.max() <= 15.001
    assert -15.001 <= degrees.min() < -14.9
    assert 0.8 <= drawn.brightness.min() < 0.801
    assert 1.199 < drawn.brightness.max() <= 1.2001
    assert 0.47 < (drawn.flip == -1).float().mean() < 0.53
    assert len(drawn.angle.unique()) > 3900


def test_chunking_does_not_change_images() -> None:
    batch = images(20)
    drawn = draw(20, torch.Generator().manual_seed(1))
    whole = augment(batch, drawn, PLAIN)
    last = Draws(flip=drawn.flip[19:], angle=drawn.angle[19:], brightness=drawn.brightness[19:])
    assert torch.equal(whole[19:], augment(batch[19:], last, PLAIN))


def source(count: int) -> Source:
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), dtype=np.uint8)
    return Source(pixels=pixels, indices=np.arange(count), labels=np.arange(count) % 3)


def test_training_pass_is_shuffled_by_generator() -> None:
    def labels_of(seed: int) -> list[int]:
        batches = train_batches(
            source(40), batch_size=8, normalisation=PLAIN, device=CPU, generator=torch.Generator().manual_seed(seed)
        )
        return [int(label) for _, labels in batches for label in labels]

    assert sorted(labels_of(0)) == sorted(source(40).labels.tolist())
    assert labels_of(0) == labels_of(0)
    assert labels_of(0) != labels_of(1)


def test_training_drops_a_last_batch_of_one() -> None:
    trained = train_batches(
        source(9), batch_size=4, normalisation=PLAIN, device=CPU, generator=torch.Generator().manual_seed(0)
    )
    assert [len(labels) for _, labels in trained] == [4, 4]
    evaluated = eval_batches(source(9), batch_size=4, normalisation=PLAIN, device=CPU)
    assert [len(labels) for _, labels in evaluated] == [4, 4, 1]


def test_evaluation_is_in_order_unaugmented() -> None:
    whole = source(20)
    split = Source(pixels=whole.pixels, indices=whole.indices[5:14], labels=whole.labels[5:14])
    batches = list(eval_batches(split, batch_size=4, normalisation=PLAIN, device=CPU))
    assert torch.equal(torch.cat([labels for _, labels in batches]), torch.from_numpy(split.labels))
    expected = normalise(torch.from_numpy(whole.pixels[5:14]), PLAIN)
    assert torch.equal(torch.cat([pixels for pixels, _ in batches]), expected)


def test_warp_equals_torchs_affine_grid() -> None:
    drawn = draw(6, torch.Generator().manual_seed(3))
    cosine, sine, zero = torch.cos(drawn.angle), torch.sin(drawn.angle), torch.zeros(6)
    rows = [drawn.flip * cosine, -drawn.flip * sine, zero, sine, cosine, zero]
    theta = torch.stack(rows, dim=1).view(-1, 2, 3)
    batch = images(6, size=37)
    grid = torch.nn.functional.affine_grid(theta, [6, 3, 37, 37], align_corners=False)
    warped = torch.nn.functional.grid_sample(normalise(batch, PLAIN), grid, align_corners=False)
    expected = (warped * drawn.brightness.view(-1, 1, 1, 1)).clamp(max=1)
    assert torch.allclose(augment(batch, drawn, PLAIN), expected, atol=1e-4)
