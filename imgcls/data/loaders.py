"""Batches from the pixel cache; images are transferred to the device as uint8."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import WeightedRandomSampler

from imgcls.data.augment import Normalisation, Policy, normalise, report

Batch = tuple[Tensor, Tensor]
BATCHES_AHEAD: Final = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One split of a cached data set.

    ``pixels`` are those of the whole data set, uint8 ``[N, S, S, 3]``; ``indices`` and ``labels``, int64 ``[M]``, are
    the rows of the split's images and their labels.
    """

    pixels: NDArray[np.uint8]
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of images in the split."""
        return len(self.indices)

    def counts(self, num_classes: int) -> NDArray[np.int64]:
        """Return the number of images of each class, ``[num_classes]``."""
        return np.bincount(self.labels, minlength=num_classes)


Sampler = Callable[[Tensor, torch.Generator], Tensor]
"""Returns the positions of the images of a pass, in order, from the labels of a split, both int64 ``[N]``."""


def shuffled(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Draw each image once."""
    return torch.randperm(len(labels), generator=generator)


def balanced(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Draw as many images as there are, with replacement, each class with the same probability."""
    weights = 1 / torch.bincount(labels).double()[labels]
    return torch.tensor(list(WeightedRandomSampler(weights.tolist(), len(labels), generator=generator)))


SAMPLERS: Final[dict[str, Sampler]] = {"balanced-sampler": balanced}
"""Samplers of the techniques of ``TrainConfig.imbalance`` that have one; the others use ``shuffled``."""


def undersampled(source: Source, seed: int) -> Source:
    """Return a split with as many random images of each class as the smallest class has."""
    counts = np.bincount(source.labels)
    return _drawn(source, np.minimum(counts, counts[counts > 0].min()), seed)


def share_of(source: Source, share: float, seed: int) -> Source:
    """Return a split with a share of the images of each class, at least one; those of smaller shares are among them."""
    counts = np.bincount(source.labels)
    return _drawn(source, np.where(counts > 0, np.maximum(np.rint(share * counts), 1), 0).astype(np.int64), seed)


def _drawn(source: Source, counts: NDArray[np.int64], seed: int) -> Source:
    """Return a split with random images, ``counts`` of each class, in the order of the split."""
    order = np.random.default_rng(seed).permutation(len(source))
    of_class = [order[source.labels[order] == label][:count] for label, count in enumerate(counts)]
    kept = np.sort(np.concatenate(of_class))
    return replace(source, indices=source.indices[kept], labels=source.labels[kept])


def train_batches(  # noqa: PLR0913 - a pass is made of these
    source: Source,
    *,
    batch_size: int,
    normalisation: Normalisation,
    device: torch.device,
    generator: torch.Generator,
    policy: Policy = report,
    hflip: bool = True,
    sampler: Sampler = shuffled,
) -> Iterator[Batch]:
    """Yield one pass, augmented by ``policy``, as (float32 ``[B, 3, S, S]``, int64 ``[B]``) on ``device``.

    ``generator`` (on the CPU) determines order and augmentation. A last batch of one image is dropped, because batch
    norm needs two.
    """
    order = sampler(torch.from_numpy(source.labels), generator).numpy()
    starts = [start for start in range(0, len(order), batch_size) if len(order) - start > 1]
    rows = [order[start : start + batch_size] for start in starts]
    for images, labels in _transfer(source, rows, device):
        # Augmented after the transfer, because uint8 needs a quarter of the bytes of float32.
        yield policy(images, generator, normalisation, hflip=hflip), labels


def eval_batches(
    source: Source, *, batch_size: int, normalisation: Normalisation, device: torch.device
) -> Iterator[Batch]:
    """Yield every image once, in order, without augmentation."""
    positions = np.arange(len(source))
    rows = [positions[start : start + batch_size] for start in range(0, len(positions), batch_size)]
    for images, labels in _transfer(source, rows, device):
        yield normalise(images, normalisation), labels


def _read(source: Source, rows: NDArray[np.int64], *, pin: bool) -> Batch:
    images = torch.from_numpy(source.pixels[source.indices[rows]])
    labels = torch.from_numpy(source.labels[rows])
    return (images.pin_memory(), labels.pin_memory()) if pin else (images, labels)


def _transfer(source: Source, rows: Sequence[NDArray[np.int64]], device: torch.device) -> Iterator[Batch]:
    """Read batches ahead in a thread, and transfer them; on CUDA without blocking, which needs pinned memory."""
    # One thread instead of worker processes: reading a batch is one copy out of the memmap, without decoding.
    pin = device.type == "cuda"
    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead: deque[Future[Batch]] = deque()
        for batch_rows in rows:
            ahead.append(pool.submit(_read, source, batch_rows, pin=pin))
            if len(ahead) > BATCHES_AHEAD:
                yield _to_device(ahead.popleft().result(), device)
        for waiting in ahead:
            yield _to_device(waiting.result(), device)


def _to_device(batch: Batch, device: torch.device) -> Batch:
    images, labels = batch
    return images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
