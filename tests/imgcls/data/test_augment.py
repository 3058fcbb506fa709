"""Random augmentation, and the batches of training and evaluation."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from imgcls.data.augment import MIXES, POLICIES, Draws, Normalisation, augment, draw, mix, normalise
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


@pytest.mark.parametrize("name", list(POLICIES))
def test_policy_is_determined_by_its_generator_and_differs_between_images(name: str) -> None:
    batch = images(1).expand(6, -1, -1, -1)
    state = torch.get_rng_state()
    first, second = (POLICIES[name](batch, torch.Generator().manual_seed(5), PLAIN, hflip=True) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    # Drawn per image: six views of one image are not all equal.
    assert (len({view.numpy().tobytes() for view in first}) > 1) == (name != "none")


@pytest.mark.parametrize("name", list(POLICIES))
@pytest.mark.parametrize("hflip", [True, False])
def test_images_are_mirrored_only_where_allowed(name: str, hflip: bool) -> None:  # noqa: FBT001 - a parameter
    """A dark left half stays left of the middle, unless the image is mirrored."""
    if name in {"randaugment", "trivialaugment"}:
        pytest.skip("their operations change brightness, and may invert it")
    batch = images(64)
    batch[:, :, :16] = 0
    batch[:, :, 16:] = 255
    views = POLICIES[name](batch, torch.Generator().manual_seed(0), PLAIN, hflip=hflip)
    left, right = views[..., :16].mean(dim=(1, 2, 3)), views[..., 16:].mean(dim=(1, 2, 3))
    mirrored = int((left > right).sum())
    assert (mirrored > 10) == (hflip and name != "none")
    assert hflip or mirrored == 0


@pytest.mark.parametrize("name", list(MIXES))
@pytest.mark.parametrize("count", [8, 9, 2])
def test_mixed_images_and_labels_have_the_same_shares(name: str, count: int) -> None:
    """Image i is i everywhere: the mean of a mixed image is then the mean of its labels."""
    labels = torch.arange(count)
    pure = labels.float().view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - timm's own generator
    mixed, targets = mix(pure, labels, torch.Generator().manual_seed(1), name=name, num_classes=count)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert mixed.shape == pure.shape
    assert torch.allclose(targets.sum(dim=1), torch.ones(count))
    assert torch.allclose(mixed.mean(dim=(1, 2, 3)), targets @ labels.float(), atol=1e-4)
    # Each pair has a ratio of its own.
    assert count == 2 or len({round(float(row.max()), 4) for row in targets}) > 1
    again, _ = mix(pure, labels, torch.Generator().manual_seed(1), name=name, num_classes=count)
    assert torch.equal(mixed, again)
