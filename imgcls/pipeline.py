"""One model on one data set, from weights to an ONNX file: the functions of ``imgcls`` for use in notebooks."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import torch

from imgcls.config import ArchitectureConfig, LoaderConfig, StoreConfig, TrainConfig
from imgcls.data.audit import Audit
from imgcls.data.augment import POLICIES
from imgcls.data.prepared import Prepared, prepare
from imgcls.data.sources.folder import Dataset
from imgcls.data.splits import Splits
from imgcls.data.stores.choice import choose_store
from imgcls.data.stores.jpeg import SETTING as JPEG
from imgcls.devices import unusable_gpu, usable_cuda
from imgcls.errors import ConfigError
from imgcls.evaluation.calibration import fit_temperature
from imgcls.evaluation.forward import predict_split
from imgcls.evaluation.metrics import score
from imgcls.files import default_cache, write_aside, write_text
from imgcls.inference.export import export_checked
from imgcls.inference.runtimes import ONNX
from imgcls.inference.torch_sessions import WEIGHTS
from imgcls.models.building import require_pretrained, save_trained
from imgcls.models.registry import ModelSpec, resolve_spec, timm_name_of, weights_policy
from imgcls.training.events import Report, silent
from imgcls.training.fitting import fit
from imgcls.training.plan import Training, TrainingPlan, resolve_train
from imgcls.training.precision import decide

LOGGER = logging.getLogger(__name__)

SETTINGS: Final = "settings.json"
"""File beside the weights with the digest of everything that a training depends on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FineTuned:
    """A trained model: its specification, data, training history and device, and the folder of its weights."""

    spec: ModelSpec
    data: Prepared
    training: Training
    device: torch.device
    folder: Path


def fine_tune(  # noqa: PLR0913 - a model, its data and its settings
    model: str,
    dataset: Dataset,
    audit: Audit,
    splits: Splits,
    *,
    folder: str | Path,
    weights: str = "auto",
    loader: LoaderConfig | None = None,
    architecture: ArchitectureConfig | None = None,
    train: TrainConfig | None = None,
    seed: int = 0,
    cache: Path | None = None,
    store: StoreConfig | None = None,
    report: Report = silent,
) -> FineTuned:
    """Train a timm model on the train split, select the epoch on val, and write its weights into ``folder``.

    ``model`` is a name in ``MODELS`` or of timm; ``weights`` is ``auto``, ``pretrained``, ``pretrained@REVISION``,
    ``none`` or a folder, as on the command line. The same call resumes an interrupted one. The test split is not read.

    Raises ConfigError for a wrong name, size or device, or if ``folder`` holds a training with other settings.
    """
    loader, architecture = loader or LoaderConfig(), architecture or ArchitectureConfig()
    spec = resolve_spec(model, loader, weights_policy(weights, [timm_name_of(model)]))
    cache, home = cache or default_cache(), Path(folder)
    # Before the digest: ``auto`` may be another device in a later call.
    train = _resolved(train or TrainConfig(), spec, loader, cache)
    chosen = choose_store(audit, spec.resize, cache=cache, config=store or StoreConfig())
    identity = [spec.timm_name, spec.weights.sha256, splits.digest, loader, architecture, train, seed]
    _claim(home, [*identity, POLICIES[train.augmentation].version, *([JPEG] if chosen == "jpeg" else [])])
    data = prepare(audit, splits, spec.resize, root=dataset.root, cache=cache, store=chosen)
    plan = TrainingPlan(
        spec=spec,
        num_classes=len(audit.class_names),
        train_source=data.source("train"),
        val_source=data.source("val"),
        loader=loader,
        architecture=architecture,
        train=train,
        seed=seed,
        folder=home,
        report=report,
    )
    training = fit(plan)
    num_classes = plan.num_classes
    write_aside(home / WEIGHTS, lambda path: save_trained(training.state, spec, num_classes=num_classes, path=path))
    return FineTuned(spec=spec, data=data, training=training, device=torch.device(train.device), folder=home)


def _resolved(train: TrainConfig, spec: ModelSpec, loader: LoaderConfig, cache: Path) -> TrainConfig:
    """Return a config with the device, threads and precision of this machine; raises ConfigError."""
    unusable = unusable_gpu()
    if unusable is not None and train.device == "auto":
        LOGGER.warning("training on the CPU: %s", unusable)
    train = resolve_train(train, cuda=usable_cuda(), unusable=unusable, batch_size=loader.batch_size)
    if train.tune_layers != "all":
        require_pretrained(spec)
    return replace(train, precision=decide(spec, loader, train, cache=cache, place="fine_tune"))


def _claim(folder: Path, identity: Sequence[object]) -> None:
    """Write the digest of a training's settings into its folder; raises ConfigError if it holds another digest."""
    digest = hashlib.sha256(json.dumps(msgspec.to_builtins(identity)).encode()).hexdigest()
    # The training loop resumes from any state that it finds, also from one with other settings.
    file = folder / SETTINGS
    if file.exists() and file.read_text(encoding="utf-8") != digest:
        message = f"{folder}: holds a training with other settings or data; name another folder"
        raise ConfigError(message)
    write_text(digest, file)


def evaluate(model: FineTuned, split: str = "test") -> dict[str, float]:
    """Return the metrics of a split (``train``, ``val`` or ``test``) by name: fractions, and log_loss in nats.

    The split is predicted once: its logits are stored in the model's folder and read by later calls.
    """
    predictions = predict_split(model.folder / WEIGHTS, model.data, split, spec=model.spec, device=model.device)
    return score(predictions.logits, predictions.labels)


def export(model: FineTuned) -> Path:
    """Write ``model.onnx`` beside the weights, check its logits on the test split, and return its path.

    Raises ParityError if they differ from the trained model's by more than float32 rounding explains.
    """
    trained = predict_split(model.folder / WEIGHTS, model.data, "test", spec=model.spec, device=model.device)
    val = predict_split(model.folder / WEIGHTS, model.data, "val", spec=model.spec, device=model.device)
    temperature = fit_temperature(val.logits, val.labels)
    export_checked(model.folder, model.spec, model.data, trained, temperature=temperature)
    return model.folder / ONNX
