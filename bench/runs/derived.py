"""Networks that are made from finished trainings without training: adjusted logits, and ensembles."""

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import torch

from bench.records.schema import Ensemble, Outcome, TrainingInfo
from bench.runs.plan import Task
from imgcls.errors import RunError
from imgcls.evaluation.predictions import combined, load_predictions, predictions_file, save_predictions
from imgcls.files import write_aside
from imgcls.inference.torch_sessions import WEIGHTS
from imgcls.models.building import Part, load_trained, save_ensemble, shift_logits, storable


def adjusted(task: Task, train_id: str) -> tuple[dict[str, torch.Tensor], TrainingInfo]:
    """Return the weights of a finished training with the log priors subtracted from its logits, and its cost.

    Menon et al. (2021), tau = 1. Raises RunError if the training is not among the artifacts.
    """
    # In the network's own biases, so that every runtime and ``predict`` have the adjusted logits.
    done = task.paths.outcome(train_id)
    if not done.exists():
        message = "imbalance post-hoc: the same training with imbalance none is not in this results folder"
        raise RunError(message)
    trained = msgspec.json.decode(done.read_bytes(), type=Outcome).training
    model = load_trained(task.paths.artifacts(train_id) / WEIGHTS)
    # As in the loss: a class without train images would have a prior of 0.
    counts = torch.tensor(task.dataset.counts["train"]).clamp_min(1)
    shift_logits(model, task.spec.structure.heads, -(counts / counts.sum()).log())
    return storable(model), trained


def combine(task: Task, ensemble: Ensemble) -> TrainingInfo:
    """Write the network of an ensemble, and its predictions of val and test from those of its members.

    Returns the cost of training all members.
    """
    folders = [task.paths.artifacts(member.train_id) for member in ensemble.members]
    outcomes = [
        msgspec.json.decode(task.paths.outcome(member.train_id).read_bytes(), type=Outcome)
        for member in ensemble.members
    ]
    weights, folder = [member.weight for member in ensemble.members], task.paths.artifacts(task.train_id)
    ours, parts = task.spec.normalisation, list[Part]()
    for outcome, weight in zip(outcomes, weights, strict=True):
        own = outcome.model
        # From the means and standard deviations of the ensemble to those of the member.
        scale = tuple(float(std / own_std) for std, own_std in zip(ours.std, own.std, strict=True))
        differences = zip(ours.mean, own.mean, own.std, strict=True)
        shift = tuple(float((mean - own_mean) / own_std) for mean, own_mean, own_std in differences)
        parts.append(Part(weight=weight, scale=scale, shift=shift))
    write_aside(folder / WEIGHTS, lambda path: save_ensemble([member / WEIGHTS for member in folders], parts, path))
    # From the stored logits: no network sees the test images again, and the check of parity compares the exported
    # network with them.
    for split in ("val", "test"):
        member_predictions = [load_predictions(predictions_file(member, split)) for member in folders]
        logits = combined([predictions.logits for predictions in member_predictions], weights)
        save_predictions(replace(member_predictions[0], logits=logits), predictions_file(folder, split))
    return _summed([outcome.training for outcome in outcomes])


def _summed(members: Sequence[TrainingInfo]) -> TrainingInfo:
    """Return the cost of several trainings; an ensemble has no epochs of its own."""
    return replace(
        members[0],
        epochs=0,
        best_epoch=0,
        resumed_from=(),
        steps=sum(member.steps for member in members),
        train_time_s=sum(member.train_time_s for member in members),
        eval_time_s=sum(member.eval_time_s for member in members),
        head_time_s=sum(member.head_time_s for member in members),
        head_images=sum(member.head_images or 0 for member in members),
        train_img_per_s=0.0,
        peak_memory_bytes=max(member.peak_memory_bytes for member in members),
        peak_gpu_memory_bytes=max((member.peak_gpu_memory_bytes or 0 for member in members), default=0) or None,
        history=(),
        others_share=max((member.others_share or 0.0 for member in members), default=None),
    )
