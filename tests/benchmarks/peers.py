"""Fine-tuning with other libraries: ``peers.py ARM MODEL SEED DATA WEIGHTS EPOCHS OUT``.

Runs in an environment that has the library, and imports nothing of this project. DATA has the folders train, val and
test with a folder for each class; WEIGHTS is a folder with MODEL/config.json and MODEL/model.safetensors, or ``none``
for random ones. OUT gets the accuracy on test, the seconds in which the training steps ran, and the versions.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import nn
from torchvision.datasets import ImageFolder

PX: Final = 128
BATCH: Final = 32


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained."""

    model: str
    seed: int
    data: Path
    weights: Path | None
    epochs: int

    @property
    def config(self) -> dict[str, Any]:
        """Return what makes timm read the weights from their folder, with their mean, std and interpolation."""
        if self.weights is None:
            return timm.get_pretrained_cfg(self.model).to_dict()
        folder = self.weights / self.model
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return {**content["pretrained_cfg"], "file": str(folder / "model.safetensors"), "source": ""}

    def network(self, classes: int) -> nn.Module:
        """Return timm's network."""
        given = self.weights is not None
        overlay = self.config if given else None
        return timm.create_model(self.model, pretrained=given, num_classes=classes, pretrained_cfg_overlay=overlay)


Trained = tuple[NDArray[np.int64], float]
"""The classes that are predicted for test ``[N]``, and the seconds of the training steps."""


def with_fastai(job: Job) -> Trained:
    """Fine-tune by ``fine_tune`` with fastai's defaults, on images squeezed to a square as ours are.

    Its first epoch, of the head, comes before those that it is told.
    """
    import fastai.callback.schedule  # noqa: F401 - adds fine_tune to Learner
    from fastai.data.transforms import Normalize
    from fastai.metrics import accuracy
    from fastai.torch_core import set_seed
    from fastai.vision.augment import Resize, ResizeMethod, aug_transforms
    from fastai.vision.data import ImageDataLoaders
    from fastai.vision.learner import Learner, create_timm_model, default_split

    set_seed(job.seed, reproducible=True)
    cfg, given = job.config, job.weights is not None
    loaders = ImageDataLoaders.from_folder(
        job.data,
        train="train",
        valid="val",
        bs=BATCH,
        item_tfms=Resize(PX, method=ResizeMethod.Squish),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(cfg["mean"], cfg["std"])],
    )
    options = {"pretrained_cfg_overlay": cfg} if given else {}
    network, _ = create_timm_model(job.model, loaders.c, pretrained=given, **options)
    learner = Learner(loaders, network, splitter=default_split, metrics=accuracy)
    clock = _FastaiClock()
    learner.add_cb(clock.callback())
    learner.fine_tune(job.epochs)
    test = loaders.test_dl([Path(path) for path, _ in ImageFolder(job.data / "test").samples])
    probabilities, _ = learner.get_preds(dl=test)
    return probabilities.argmax(dim=1).numpy(), clock.seconds


class _FastaiClock:
    seconds = 0.0

    def callback(self) -> Any:
        from fastai.callback.core import Callback

        clock = self

        class Timed(Callback):  # type: ignore[misc]
            def before_train(self) -> None:
                self.began = time.perf_counter()

            def after_train(self) -> None:
                clock.seconds += time.perf_counter() - self.began

        return Timed()


def with_autotimm(job: Job) -> Trained:
    """Train by ``AutoTrainer`` with AutoTimm's defaults, which compile the network."""
    from autotimm import AutoTrainer, ImageClassifier, ImageDataModule
    from autotimm.core.backbone import BackboneConfig
    from pytorch_lightning import Callback

    assert job.weights is None, "it reads weights from the hub only"

    class Timed(Callback):
        seconds = 0.0

        def on_train_epoch_start(self, *_: object) -> None:
            self.began = time.perf_counter()

        def on_validation_start(self, trainer: Any, _module: object) -> None:
            if not trainer.sanity_checking:
                self.seconds += time.perf_counter() - self.began

    clock = Timed()
    data = ImageDataModule(data_dir=job.data, image_size=PX, batch_size=BATCH)
    data.setup()
    module = ImageClassifier(
        BackboneConfig(model_name=job.model, pretrained=False), len(data.class_names), seed=job.seed
    )
    with tempfile.TemporaryDirectory() as home:
        trainer = AutoTrainer(max_epochs=job.epochs, callbacks=[clock], default_root_dir=home, logger=False)
        trainer.fit(module, datamodule=data)
    module.eval()
    with torch.inference_mode():
        predicted = torch.cat([module(batch).argmax(dim=1) for batch, _ in data.test_dataloader()])
    return predicted.numpy(), clock.seconds


def with_timm(job: Job, *, best: bool = False) -> Trained:
    """Fine-tune with the data loaders, optimizer, schedule and loss of timm, and the defaults of its ``train.py``.

    With ``best``, also with the flags that make it faster here and train the same: ``--channels-last``, as many workers
    as cores, and ``--amp --amp-dtype bfloat16`` where the processor multiplies in bf16. The loop is ours, because
    ``train.py`` is not part of timm's package; the last epoch is kept.
    """
    from timm.data import create_loader
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler

    timm.utils.random_seed(job.seed, 0)
    cfg = job.config
    train, val, test = (ImageFolder(job.data / split) for split in ("train", "val", "test"))
    shared = {
        "input_size": (3, PX, PX),
        "batch_size": BATCH,
        "mean": cfg["mean"],
        "std": cfg["std"],
        "num_workers": torch.get_num_threads() if best else 4,
        "use_prefetcher": False,
        "device": torch.device("cpu"),
        "pin_memory": False,
    }
    loader = create_loader(train, is_training=True, color_jitter=0.4, interpolation="random", hflip=0.5, **shared)
    evaluated = {"interpolation": cfg["interpolation"], "crop_pct": 1.0, "crop_mode": "squash", **shared}
    network = job.network(len(train.classes))
    optimizer = create_optimizer_v2(network, opt="sgd", lr=0.05, weight_decay=2e-5, momentum=0.9)
    schedule = CosineLRScheduler(
        optimizer, t_initial=job.epochs, lr_min=1e-6, warmup_t=3, warmup_lr_init=1e-4, warmup_prefix=False
    )
    return _looped(
        network,
        (loader, create_loader(val, **evaluated), create_loader(test, **evaluated)),
        optimizer,
        LabelSmoothingCrossEntropy(smoothing=0.1),
        schedule.step,
        epochs=job.epochs,
        fast=best,
    )


def with_best_timm(job: Job) -> Trained:
    """Fine-tune as ``with_timm``, with its best flags."""
    return with_timm(job, best=True)


def with_torchvision(job: Job) -> Trained:
    """Train torchvision's network of the same name with the defaults of its reference script, in our loop."""
    import torchvision
    from torch.utils.data import DataLoader
    from torchvision import transforms as v1

    assert job.weights is None, "its weights are others"
    torch.manual_seed(job.seed)
    normalise = [
        v1.PILToTensor(),
        v1.ConvertImageDtype(torch.float),
        v1.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
    augment = v1.Compose([v1.RandomResizedCrop(PX, antialias=True), v1.RandomHorizontalFlip(), *normalise])
    evaluate = v1.Compose([v1.Resize(PX, antialias=True), v1.CenterCrop(PX), *normalise])
    train = ImageFolder(job.data / "train", augment)
    val, test = (ImageFolder(job.data / split, evaluate) for split in ("val", "test"))
    loaders = (
        DataLoader(train, batch_size=BATCH, shuffle=True, num_workers=16),
        DataLoader(val, batch_size=BATCH, num_workers=16),
        DataLoader(test, batch_size=BATCH, num_workers=16),
    )
    network = torchvision.models.get_model(job.model, weights=None, num_classes=len(train.classes))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.1)
    return _looped(
        network, loaders, optimizer, nn.CrossEntropyLoss(), lambda _epoch: schedule.step(), epochs=job.epochs
    )


def _looped(  # noqa: PLR0913 - what a training loop needs
    network: nn.Module,
    loaders: tuple[Iterable[Any], ...],
    optimizer: torch.optim.Optimizer,
    loss_of: nn.Module,
    next_epoch: Callable[[int], object],
    *,
    epochs: int,
    fast: bool = False,
) -> Trained:
    """Train, evaluate on val after every epoch as the scripts do, and predict test."""
    layout = torch.channels_last if fast else torch.contiguous_format
    network = network.to(memory_format=layout)  # type: ignore[call-overload]
    half = fast and torch.cpu._is_amx_tile_supported()  # noqa: SLF001 - has no public name
    precision = torch.autocast("cpu", dtype=torch.bfloat16) if half else nullcontext()
    train, val, test = loaders
    seconds = 0.0
    for epoch in range(epochs):
        network.train()
        began = time.perf_counter()
        for batch, labels in train:
            with precision:
                loss = loss_of(network(batch.to(memory_format=layout)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds += time.perf_counter() - began
        next_epoch(epoch + 1)
        _predicted(network, val, precision)
    return _predicted(network, test, precision), seconds


def _predicted(network: nn.Module, loader: Iterable[Any], precision: Any) -> NDArray[np.int64]:
    network.eval()
    with torch.inference_mode(), precision:
        return torch.cat([network(batch).argmax(dim=1) for batch, _ in loader]).numpy()


ARMS: Final = {
    "fastai": with_fastai,
    "timm": with_timm,
    "timm-best": with_best_timm,
    "torchvision": with_torchvision,
    "autotimm": with_autotimm,
}
"""By library, and for timm by flags."""

if __name__ == "__main__":
    arm, model, seed, data, weights, epochs, out = sys.argv[1:]
    job = Job(
        model=model,
        seed=int(seed),
        data=Path(data),
        weights=None if weights == "none" else Path(weights),
        epochs=int(epochs),
    )
    predicted, train_time_s = ARMS[arm](job)
    labels = np.array(ImageFolder(job.data / "test").targets)
    result = {
        "accuracy": float((predicted == labels).mean()),
        "train_time_s": train_time_s,
        "versions": {name: version(name) for name in (arm.split("-")[0], "torch")},
    }
    Path(out).write_text(json.dumps(result), encoding="utf-8")
