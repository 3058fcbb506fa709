"""Batches of stored or decoded pixels; images are transferred to the device as uint8."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from imgcls.config import MIN_BATCH
from imgcls.data.augment import POLICIES, Normalisation, Policy, normalise
from imgcls.data.stores.files import FileStore, Pixels
from imgcls.data.stores.jpeg import JpegStore
from imgcls.errors import DataError
from imgcls.parallel import usable_cores

Batch = tuple[Tensor, Tensor]
BATCHES_AHEAD: Final = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One split of a cached data set.

    ``pixels`` are those of the whole data set; ``indices`` and ``labels``, int64 ``[M]``, are the rows of the split's
    images and their labels.
    """

    pixels: Pixels
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of images in the split."""
        return len(self.indices)

    def counts(self, num_classes: int) -> NDArray[np.int64]:
        """Return the number of images of each class, ``[num_classes]``."""
        return np.bincount(self.labels, minlength=num_classes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """The part of each batch that one of several processes trains on; by default there is one, with all of it."""

    rank: int = 0
    world: int = 1

    def of(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the part of this process; each has a whole small batch, as batch norm needs two images in each."""
        return np.array_split(batch, self.world)[self.rank] if self.divides(len(batch)) else batch

    def divides(self, size: int) -> bool:
        """Return whether a batch of ``size`` images is divided, into parts that differ by one image at most."""
        return size >= MIN_BATCH * self.world


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
    policy: Policy = POLICIES["report"],
    hflip: bool = True,
    sampler: Sampler = shuffled,
    share: Share = Share(),
) -> Iterator[Batch]:
    """Yield one pass, augmented by ``policy``, as (float32 ``[B, 3, S, S]``, int64 ``[B]``) on ``device``.

    ``generator`` (on the CPU) determines order and augmentation. A last batch of one image is dropped, because batch
    norm needs two. Of each batch, only the images of ``share`` are read.
    """
    order = sampler(torch.from_numpy(source.labels), generator).numpy()
    batches = [order[start : start + size] for start, size in batch_sizes(len(order), batch_size)]
    for batch, (images, labels) in zip(batches, _transfer(source, list(map(share.of, batches)), device), strict=True):
        # Drawn for the whole batch, so that an image looks the same however many processes divide it.
        numbers = policy.draw(len(batch), generator)[share.of(np.arange(len(batch)))]
        # Augmented after the transfer, because uint8 needs a quarter of the bytes of float32.
        yield policy.apply(images, numbers, normalisation, hflip=hflip), labels


def batch_sizes(count: int, batch_size: int) -> list[tuple[int, int]]:
    """Return the first position and the size of each batch of a pass over ``count`` images."""
    return [(start, min(batch_size, count - start)) for start in range(0, count - 1, batch_size)]


def eval_batches(
    source: Source, *, batch_size: int, normalisation: Normalisation, device: torch.device
) -> Iterator[Batch]:
    """Yield every image once, in order, without augmentation."""
    positions = np.arange(len(source))
    rows = [positions[start : start + batch_size] for start in range(0, len(positions), batch_size)]
    for images, labels in _transfer(source, rows, device):
        yield normalise(images, normalisation), labels


def _read(source: Source, rows: NDArray[np.int64], *, pin: bool) -> Batch:
    return _tensors(source.pixels[source.indices[rows]], source.labels[rows], pin=pin)


def _tensors(images: NDArray[np.uint8], labels: NDArray[np.int64], *, pin: bool) -> Batch:
    batch = torch.from_numpy(images), torch.from_numpy(labels)
    return (batch[0].pin_memory(), batch[1].pin_memory()) if pin else batch


def _transfer(source: Source, rows: Sequence[NDArray[np.int64]], device: torch.device) -> Iterator[Batch]:
    """Read batches ahead, and transfer them; on CUDA without blocking, which needs pinned memory."""
    if isinstance(source.pixels, FileStore | JpegStore):
        yield from _decoded(source.pixels, source, rows, device)
        return
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


@dataclass(frozen=True, slots=True)
class _Batches(Dataset[NDArray[np.uint8] | DataError]):
    """The batches of a pass, each a list of rows; for torch's worker processes."""

    store: FileStore | JpegStore
    rows: Sequence[NDArray[np.int64]]

    def __getitem__(self, number: int) -> NDArray[np.uint8] | DataError:
        try:
            return self.store.load(self.rows[number])
        except DataError as error:  # returned, because torch would raise it with a traceback as its message
            return error

    def __len__(self) -> int:
        return len(self.rows)


def _as_it_is(batch: object) -> object:
    # As an array, which is sent through a pipe: tensors need shared memory, of which containers have 64 MB.
    return batch


def _decoded(
    store: FileStore | JpegStore, source: Source, rows: Sequence[NDArray[np.int64]], device: torch.device
) -> Iterator[Batch]:
    """Decode batches ahead in worker processes, one for each core."""
    loader = DataLoader(
        _Batches(store, [source.indices[batch] for batch in rows]),
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=min(usable_cores(), len(rows)),
        # Without one it draws from torch's global generator, from which dropout draws too.
        generator=torch.Generator(),
    )
    for batch, images in zip(rows, loader, strict=True):
        if isinstance(images, DataError):
            raise images
        yield _to_device(_tensors(images, source.labels[batch], pin=device.type == "cuda"), device)


def _to_device(batch: Batch, device: torch.device) -> Batch:
    images, labels = batch
    return images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
