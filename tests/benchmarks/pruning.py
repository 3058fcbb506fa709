"""What pruning is worth: one list of 30 settings of up to 12 epochs, with and without it; ``nox -s pruning``."""

import tempfile
from dataclasses import replace
from pathlib import Path

import optuna
import torch
from optuna.pruners import BasePruner, NopPruner

from bench import harness
from bench.leaderboard.cells import accuracy_cell, hyperparameters_text
from bench.recipes import RECIPES
from bench.runs.execution import prepare
from bench.runs.plan import Task
from bench.tuning import conversion, search
from bench.tuning.objective import run_trial, rungs_for
from bench.tuning.records import SweepBudget, TrialRecord, best_trial
from bench.tuning.search import SweepTask, asha
from bench.tuning.space import DEFAULT_SPACE, Values, apply, defaults, parse_space, suggest
from bench.tuning.storage import open_storage, quiet
from imgcls.data.prepared import Prepared
from imgcls.evaluation.forward import logits_of
from imgcls.evaluation.metrics import top1_accuracy
from imgcls.files import write_text
from imgcls.models.building import build_model

MODEL = "test_efficientnet"
SETTINGS, EPOCHS, IMAGE_SIZE = 30, 12, 32
SEEDS = (1, 2, 3)
ROOT = Path(__file__).parent.parent.parent


def base_task(results: Path) -> Task:
    recipe = RECIPES["quick"](MODEL)
    config = replace(
        recipe,
        train=replace(recipe.train, epochs=EPOCHS),
        loader=replace(recipe.loader, image_size=IMAGE_SIZE),
    )
    return harness.planner([config], data="digits", weights="none", results=results)(config)


def study_of(folder: Path, task: Task, settings: list[Values]) -> tuple[SweepTask, optuna.Study]:
    folder.mkdir()
    url = f"sqlite:///{folder / 'study.db'}"
    space = parse_space(DEFAULT_SPACE, task.config)
    study = optuna.create_study(study_name="pruning", storage=open_storage(url), direction="maximize")
    for number, values in enumerate(settings):
        study.enqueue_trial(dict(values), user_attrs={"default": True} if number == 0 else None)
    budget = SweepBudget(trials=len(settings))
    return SweepTask(task=task, name="pruning", url=url, space=space, budget=budget), study


def settings_of(task: Task) -> list[Values]:
    """Return the default and 29 random settings of the default space."""
    space = parse_space(DEFAULT_SPACE, task.config)
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [defaults(task.config, space), *(suggest(drawn.ask(), space) for _ in range(SETTINGS - 1))]


def carry_out(folder: Path, task: Task, settings: list[Values], pruner: BasePruner) -> list[TrialRecord]:
    whole, study = study_of(folder, task, settings)
    search.work(whole, open_storage(whole.url), search.evaluate_here(whole), pruner=pruner)
    return conversion.records(study)


def test_scores(task: Task, prepared: Prepared, values: Values) -> list[float]:
    """Train a setting from fresh seeds and score each on test, which no trial has seen."""
    scores = []
    for seed in SEEDS:
        config = replace(apply(task.config, values), seed=seed)
        state = run_trial(replace(task, config=config), prepared, lambda _at: False, rungs=()).state
        assert state is not None
        model = build_model(task.spec, config.architecture, num_classes=len(task.dataset.class_names))
        model.load_state_dict(state)
        source = prepared.source("test")
        logits = logits_of(model, source, normalisation=task.spec.normalisation, device=torch.device("cpu"))
        scores.append(top1_accuracy(logits, source.labels))
    return scores


def row(name: str, trials: list[TrialRecord], task: Task, prepared: Prepared) -> str:
    best = best_trial(trials)
    assert best is not None
    scores = test_scores(task, prepared, best.hyperparameters)
    val = accuracy_cell(best.val_top1_accuracy or 0.0, sum(task.dataset.counts["val"]))
    tests = ", ".join(f"{100 * score:.1f}" for score in scores)
    tmacs = sum(trial.tmacs for trial in trials)
    cells = [name, f"{tmacs:.3f}", str(sum(t.state == "pruned" for t in trials)), str(best.number)]
    cells += [hyperparameters_text(best.hyperparameters), val, tests, f"{100 * sum(scores) / len(scores):.1f}"]
    return f"| {' | '.join(cells)} |"


def how(task: Task) -> list[str]:
    environment, rungs = task.environment, " and ".join(f"{rung:.0%}" for rung in rungs_for(EPOCHS))
    commit = (environment.git_commit or "unknown")[:8]
    return [
        f"Made by `nox -s pruning`: {SETTINGS} settings of up to {EPOCHS} epochs of {MODEL}",
        f"on {task.config.dataset} at {IMAGE_SIZE} px, the same list with and without pruning",
        f"({environment.machine}, code {commit}).",
        f"Rungs at {rungs} of each setting's own steps; 1 in {search.REDUCTION} continues.",
    ]


def main() -> None:
    quiet()
    with tempfile.TemporaryDirectory() as home:
        task = base_task(Path(home) / "results")
        prepared = prepare(task)
        settings = settings_of(task)
        pruned = carry_out(Path(home) / "pruned", task, settings, asha())
        whole = carry_out(Path(home) / "whole", task, settings, NopPruner())
        ratio = sum(trial.tmacs for trial in pruned) / sum(trial.tmacs for trial in whole)
        columns = ["Study", "TMACs", "Pruned", "Best trial", "Its setting", "Val top-1, % (95 % interval)"]
        columns += [f"Test top-1 of seeds {', '.join(map(str, SEEDS))}, %", "Mean"]
        lines = [
            "# Effect of pruning",
            "",
            *how(task),
            "",
            f"**Training compute of the pruned over the unpruned study: {ratio:.2f}.**",
            "",
            f"| {' | '.join(columns)} |",
            "|---|" + "--:|" * (len(columns) - 1),
            row("pruned", pruned, task, prepared),
            row("unpruned", whole, task, prepared),
        ]
    text = "\n".join(lines) + "\n"
    write_text(text, ROOT / "docs" / "pruning.md")


if __name__ == "__main__":
    main()
