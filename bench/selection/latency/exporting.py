"""Export of an untrained network, which is as fast as a trained one, and the time that it takes for an image."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch

from imgcls.config import ArchitectureConfig
from imgcls.devices import without_tf32
from imgcls.inference.export import export_onnx
from imgcls.inference.runtimes import ONNX
from imgcls.inference.torch_sessions import WEIGHTS
from imgcls.models import complexity
from imgcls.models.building import build_model, load_deployed, memory_format, save_trained, storable
from imgcls.models.registry import ModelSpec
from imgcls.training.loop import use_threads

BATCH: Final = 32

PASSES: Final = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportTask:
    """A network to export into ``folder``, and where and with how many threads its candidate trains."""

    spec: ModelSpec
    class_names: tuple[str, ...]
    folder: Path
    device: str
    threads: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What a network costs: seconds of a forward pass per image where it trains, parameters, 1e9 MACs; or its error."""

    forward_s: float = 0.0
    num_params: int = 0
    gmacs: float = 0.0
    error: str | None = None


def export_untrained(task: ExportTask) -> Exported:
    """Write the checkpoint and the ONNX file of a network with random weights, and time its forward pass."""
    use_threads(task.threads)
    torch.manual_seed(0)
    spec = replace(task.spec, weights=replace(task.spec.weights, file=None))
    model = build_model(spec, ArchitectureConfig(), num_classes=len(task.class_names)).eval()
    task.folder.mkdir(parents=True, exist_ok=True)
    save_trained(storable(model), spec, num_classes=len(task.class_names), path=task.folder / WEIGHTS)
    deployed = load_deployed(task.folder / WEIGHTS)
    export_onnx(deployed, spec, class_names=task.class_names, path=task.folder / ONNX)
    counted = complexity.count(load_deployed(task.folder / WEIGHTS), spec.resize.size)
    return Exported(
        forward_s=_forward_s(model, spec, torch.device(task.device)),
        num_params=counted.num_params,
        gmacs=counted.gmacs,
    )


def _forward_s(model: torch.nn.Module, spec: ModelSpec, device: torch.device) -> float:
    """Return the seconds per image of a batch, the fastest of two after one that is not counted."""
    layout, size = memory_format(spec.structure, spec.resize.size), spec.resize.size
    model.to(device).to(memory_format=layout)
    images = torch.randn(BATCH, 3, size, size, device=device).to(memory_format=layout)
    seconds = []
    with torch.inference_mode(), without_tf32():
        for _ in range(PASSES + 1):
            started = time.perf_counter()
            model(images).sum().item()  # waits for the device
            seconds.append(time.perf_counter() - started)
    return min(seconds[1:]) / BATCH
