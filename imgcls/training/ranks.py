"""Several processes that train one model, each on a device of its own: what they share and what they agree on.

``torchrun`` or Ray Train starts them. Everything here also works in a process that trains alone, where it does nothing.
"""

import contextlib
import datetime as dt
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from imgcls.config import Norm, TrainConfig
from imgcls.data.loaders import Share
from imgcls.errors import ConfigError, RunError
from imgcls.messages import Setting

Shared = TypeVar("Shared")

WAIT: Final = dt.timedelta(days=1)
"""Longest wait for another process, which may evaluate or wait for a lock; the launcher ends them all if one dies."""


LOST: Final = ("Connection closed by peer", "Connection reset by peer", "Socket Timeout", "gloo/transport", "NCCL")
"""Parts of the messages of the errors that torch raises in the processes that remain."""


class StoppedError(RunError):
    """The first process stopped the training, for example because its trial was pruned."""


class PeerLostError(RunError):
    """Another process of this training has ended; its launcher knows why."""


def _have_joined() -> bool:
    # Some builds of torch have none of it.
    return distributed.is_available() and distributed.is_initialized()


def share() -> Share:
    """Return the part of each batch that this process trains on."""
    if not _have_joined():
        return Share()
    return Share(rank=distributed.get_rank(), world=distributed.get_world_size())


def leads() -> bool:
    """Return whether this is the first process, which writes files and reports."""
    return share().rank == 0


@contextlib.contextmanager
def joined(train: TrainConfig) -> Iterator[None]:
    """Join the processes of one training for the context; nothing happens if it has one device, or has joined already.

    Raises ConfigError if this process is not one of ``train.devices``.
    """
    # Schedulers of clusters set WORLD_SIZE, too, for what is not started by torchrun.
    started = distributed.is_available() and distributed.is_torchelastic_launched() and not _have_joined()
    world = int(os.environ["WORLD_SIZE"]) if started else share().world
    if world != train.devices:
        reason = f": this process is one of {world}; torchrun starts as many as there are devices"
        raise ConfigError(Setting("devices", train.devices), reason)
    if world > 1 and train.device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if world == 1 or _have_joined():
        yield
        return
    distributed.init_process_group("nccl" if train.device == "cuda" else "gloo", timeout=WAIT)
    try:
        yield
    finally:
        distributed.destroy_process_group()


@contextlib.contextmanager
def named_loss() -> Iterator[None]:
    """Raise PeerLostError for the error that torch raises if another process has ended."""
    try:
        yield
    except RuntimeError as error:
        if share().world == 1 or not any(words in str(error) for words in LOST):
            raise
        message = "another process of this training has ended"
        raise PeerLostError(message) from error


def wrapped(model: nn.Module, norm: Norm) -> nn.Module:
    """Return the network as it is called in training: with gradients that are averaged over all processes.

    Weights and buffers become those of the first process.
    """
    if share().world == 1:
        return model
    equalise(model.state_dict().values())
    device = next(model.parameters()).device
    if norm == "batch" and device.type == "cuda":
        # On a CPU torch has none: each process normalises with its own part of a batch.
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    # Buffers are not exchanged in every step: ``equalise`` does so before an evaluation, which is what reads them. The
    # graph is the same in every step, by which layers without gradients are recognised.
    with warnings.catch_warnings():
        # Of a new name of the option, which older versions of torch do not have.
        warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
        return DistributedDataParallel(model, broadcast_buffers=False, static_graph=True)


def equalise(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors by those of the first process."""
    if share().world == 1:
        return
    for tensor in tensors:
        # Not in place, because a tensor in channels_last cannot be sent.
        sent = tensor.contiguous()
        distributed.broadcast(sent, 0)
        tensor.copy_(sent)


def of_first(value: Shared) -> Shared:
    """Return the value of the first process."""
    if share().world == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box, 0)
    return box[0]


def mean(value: Tensor) -> Tensor:
    """Return the mean of a scalar over all processes."""
    if share().world > 1:
        distributed.all_reduce(value)
    return value / share().world


def agreed(call: Callable[[], None]) -> None:
    """Call a function in the first process; if it raises there, all others raise StoppedError."""
    if share().world == 1:
        call()
        return
    stopped = True
    try:
        if leads():
            call()
        stopped = False
    finally:
        stopped = of_first(stopped)
    if stopped:
        message = "the first process of this training has stopped it"
        raise StoppedError(message)


def together(rows: Tensor, count: int) -> Tensor:
    """Return all rows ``[count, C]`` of which each process has every ``world``-th, beginning with its rank."""
    world = share().world
    if world == 1 or count < world:
        return rows
    # All send as many, because a gathering needs equal sizes.
    padded = torch.zeros(-(-count // world), *rows.shape[1:], dtype=rows.dtype, device=rows.device)
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(world)]
    distributed.all_gather(parts, padded)
    return torch.stack(parts, dim=1).flatten(0, 1)[:count]
