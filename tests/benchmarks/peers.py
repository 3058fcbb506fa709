"""Fine-tuning with fastai or timm, for ``recipes.py``: ``peers.py PEER MODEL SEED DATA WEIGHTS IMAGES OUT``.

Runs in an environment that has the peer, and imports nothing of this project. IMAGES is a JSON file with the paths of
train, val and test below DATA, whose folders are the classes; OUT gets the accuracy on test and the training time.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import timm
import torch

PX: Final = 128
EPOCHS: Final = 5
BATCH: Final = 32


def overlay(weights: Path) -> dict[str, Any]:
    """Return what makes timm read the weights from a folder, with their mean, std and interpolation."""
    content = json.loads((weights / "config.json").read_text(encoding="utf-8"))
    return {**content["pretrained_cfg"], "file": str(weights / "model.safetensors"), "source": ""}


def with_fastai(model: str, seed: int, data: Path, weights: Path, images: dict[str, list[str]]) -> tuple[Any, float]:
    """Fine-tune by ``fine_tune(5)`` with fastai's defaults, on images squeezed to a square as ours are."""
    import fastai.callback.schedule  # noqa: F401 - adds fine_tune to Learner
    import pandas as pd
    from fastai.data.transforms import Normalize
    from fastai.metrics import accuracy
    from fastai.torch_core import set_seed
    from fastai.vision.augment import Resize, ResizeMethod, aug_transforms
    from fastai.vision.data import ImageDataLoaders
    from fastai.vision.learner import Learner, create_timm_model, default_split

    set_seed(seed, reproducible=True)
    cfg = overlay(weights)
    frame = pd.DataFrame(
        [(path, path.split("/")[0], split == "val") for split in ("train", "val") for path in images[split]],
        columns=["path", "label", "valid"],
    )
    loaders = ImageDataLoaders.from_df(
        frame,
        data,
        valid_col="valid",
        bs=BATCH,
        item_tfms=Resize(PX, method=ResizeMethod.Squish),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(cfg["mean"], cfg["std"])],
    )
    network, _ = create_timm_model(model, loaders.c, pretrained=True, pretrained_cfg_overlay=cfg)
    learner = Learner(loaders, network, splitter=default_split, metrics=accuracy)
    began = time.perf_counter()
    learner.fine_tune(EPOCHS)
    took_s = time.perf_counter() - began
    test = loaders.test_dl([data / path for path in images["test"]])
    probabilities, _ = learner.get_preds(dl=test)
    names = list(loaders.vocab)
    return np.array([names[index] for index in probabilities.argmax(dim=1)]), took_s


def with_timm(model: str, seed: int, data: Path, weights: Path, images: dict[str, list[str]]) -> tuple[Any, float]:
    """Fine-tune with the data loaders, optimizer, schedule and loss of timm, and the defaults of its ``train.py``.

    The loop is ours, because ``train.py`` is not part of timm's package; the last epoch is kept.
    """
    from PIL import Image
    from timm.data import create_loader
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from torch.utils.data import Dataset

    names = sorted({path.split("/")[0] for path in images["train"]})

    class Photos(Dataset):  # type: ignore[type-arg]
        def __init__(self, split: str) -> None:
            self.paths, self.transform = images[split], None

        def __len__(self) -> int:
            return len(self.paths)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            path = self.paths[index]
            assert self.transform is not None
            return self.transform(Image.open(data / path).convert("RGB")), names.index(path.split("/")[0])

    timm.utils.random_seed(seed, 0)
    cfg = overlay(weights)
    network = timm.create_model(model, pretrained=True, num_classes=len(names), pretrained_cfg_overlay=cfg)
    network = network.to(memory_format=torch.channels_last)
    shared = {
        "input_size": (3, PX, PX),
        "batch_size": BATCH,
        "mean": cfg["mean"],
        "std": cfg["std"],
        "num_workers": 2,
        "use_prefetcher": False,
        "device": torch.device("cpu"),
        "pin_memory": False,
    }
    train = create_loader(
        Photos("train"), is_training=True, color_jitter=0.4, interpolation="random", hflip=0.5, **shared
    )
    test = create_loader(Photos("test"), interpolation=cfg["interpolation"], crop_pct=1.0, crop_mode="squash", **shared)
    optimizer = create_optimizer_v2(network, opt="sgd", lr=0.05, weight_decay=2e-5, momentum=0.9)
    schedule = CosineLRScheduler(
        optimizer, t_initial=EPOCHS, lr_min=1e-6, warmup_t=3, warmup_lr_init=1e-4, warmup_prefix=False
    )
    loss_of = LabelSmoothingCrossEntropy(smoothing=0.1)
    began = time.perf_counter()
    for epoch in range(EPOCHS):
        network.train()
        for batch, labels in train:
            loss = loss_of(network(batch.to(memory_format=torch.channels_last)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step(epoch + 1)
    took_s = time.perf_counter() - began
    network.eval()
    with torch.inference_mode():
        found = torch.cat([network(batch).argmax(dim=1) for batch, _ in test])
    return np.array([names[index] for index in found]), took_s


PEERS: Final = {"fastai": with_fastai, "timm": with_timm}

if __name__ == "__main__":
    peer, model, seed, data, weights, images, out = sys.argv[1:]
    paths = json.loads(Path(images).read_text(encoding="utf-8"))
    predicted, took_s = PEERS[peer](model, int(seed), Path(data), Path(weights) / model, paths)
    labels = np.array([path.split("/")[0] for path in paths["test"]])
    result = {"accuracy": float((predicted == labels).mean()), "train_time_s": took_s}
    Path(out).write_text(json.dumps(result), encoding="utf-8")
