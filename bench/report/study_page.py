"""The Markdown page of a finished study, with plots by Optuna."""

import datetime as dt
import shlex
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.leaderboard.cells import NO_VALUE, accuracy_cell, code, hyperparameters_text, table
from bench.recipes import budget_text, training_text
from bench.records.paths import Paths
from bench.tuning.records import StudyRecord, TrialRecord
from bench.tuning.space import flags
from imgcls.files import write_text

if TYPE_CHECKING:
    from collections.abc import Callable

    import optuna

BEST_SHOWN: Final = 10

LEAST_FOR_IMPORTANCE: Final = 10
"""With fewer finished trials, importances are shown with a warning."""

# fANOVA fits a random forest; seeded, so that the page stays the same when it is written again.
FOREST_SEED: Final = 0

REGIME: Final = """Trials: cosine schedule over each trial's own epochs, scored on val at its last epoch. The default
  setting is trained and scored like its row in the leaderboard"""

PLOT_INCHES: Final = (9, 5)

UNIT: Final = "(1e12 multiply-adds, 3 x forward x images)"


def write(record: StudyRecord, results: Path) -> None:
    """Write ``sweeps/<study>.md`` and its plots."""
    # From the record alone: the storage may be a server that is no longer available.
    folder = Paths(results=results).sweeps
    study = as_study(record)
    drawn = _plots(study, folder, record.name)
    write_text(markdown(record, study, drawn), folder / f"{record.name}.md")


def as_study(record: StudyRecord) -> "optuna.Study":
    """Return the finished and pruned trials of a record as an Optuna study in memory, for importances and plots."""
    import optuna  # noqa: PLC0415 - a quarter of a second

    study = optuna.create_study(study_name=record.name, direction="maximize")
    kinds = {"complete": optuna.trial.TrialState.COMPLETE, "pruned": optuna.trial.TrialState.PRUNED}
    for trial in record.trials:
        # A failed trial may have no hyperparameters, which Optuna refuses.
        if trial.state not in kinds:
            continue
        study.add_trial(
            optuna.trial.create_trial(
                state=kinds[trial.state],
                value=trial.val_top1_accuracy,
                params=dict(trial.hyperparameters),
                distributions=_distributions(record),
            )
        )
    return study


def _distributions(record: StudyRecord) -> "dict[str, optuna.distributions.BaseDistribution]":
    from optuna import distributions as kinds  # noqa: PLC0415

    distributions: dict[str, kinds.BaseDistribution] = {}
    for name, hyperparameter in record.space.items():
        assert hyperparameter.high is not None
        if hyperparameter.choices:
            distributions[name] = kinds.CategoricalDistribution(hyperparameter.choices)
        elif hyperparameter.integer:
            distributions[name] = kinds.IntDistribution(
                int(hyperparameter.low), int(hyperparameter.high), log=hyperparameter.log
            )
        else:
            distributions[name] = kinds.FloatDistribution(
                hyperparameter.low, hyperparameter.high, log=hyperparameter.log
            )
    return distributions


def markdown(record: StudyRecord, study: "optuna.Study", drawn: list[str]) -> str:
    """Return the page; ``drawn`` are the names of its plots."""
    title = f"# Study {code(record.name)}\n"
    parts = [title, *_facts(record), "", *_result(record), "", *_trials(record), "", *_importance(record, study), ""]
    parts += [*_cost(record), "", *_rerun(record)]
    if drawn:
        parts += ["", "## Plots", "", *(f"![{name}]({record.name}-{name}.png)" for name in drawn)]
    return "\n".join(parts) + "\n"


def _facts(record: StudyRecord) -> list[str]:
    data, environment = record.dataset, record.environment
    ranges = ", ".join(f"{name} {_range(record, name)}" for name in record.space)
    machines = ", ".join(sorted({trial.machine or environment.machine for trial in record.trials}))
    images = f"{sum(data.counts['train']):,} train and {sum(data.counts['val'])} val images"
    digests = f"data digest {data.digest}, split digest {data.split_digest}"
    default = f"{budget_text(record.base.budget)}; {training_text(record.base)}"
    return [
        f"- Model: {code(record.base.model)}, init: {record.origin[1]}, seed {record.base.seed}",
        f"- Data: {code(data.name)}, {images} ({digests}); the test split was not read",
        f"- Default setting: recipe {record.base.recipe}, {default}",
        f"- Search space: {ranges}; sampler: TPE; {_pruning(record)}",
        f"- {REGIME}",
        f"- Budget: {record.budget}; see Cost for what was used",
        f"- Machine: {machines}; code {(environment.git_commit or 'unknown')[:8]}",
    ]


def _pruning(record: StudyRecord) -> str:
    rungs = " and ".join(f"{rung:.0%}" for rung in record.rungs)
    return f"pruned by ASHA at {rungs} of each trial's own steps" if rungs else "no pruning: trials are too short"


def _range(record: StudyRecord, name: str) -> str:
    hyperparameter = record.space[name]
    if hyperparameter.choices:
        return f"one of {', '.join(map(str, hyperparameter.choices))}"
    return f"{hyperparameter.low:g} to {hyperparameter.high:g}{' (logarithmic)' if hyperparameter.log else ''}"


def _result(record: StudyRecord) -> list[str]:
    best, default = record.best, record.default
    if best is None:
        return ["No trial finished, so there is no tuned setting."]
    number = sum(record.dataset.counts["val"])
    chosen = hyperparameters_text(best.hyperparameters)
    lines = [f"**Best: trial {best.number}**, {chosen}: top-1 {_score(best, number)} % on {number} val images."]
    if default is None:
        lines.append("The default setting did not finish, so the gain is unknown.")
    elif default.number == best.number:
        lines.append("This is the default setting: no other trial was better on val.")
    else:
        lines.append(f"The default setting, trial {default.number}: {_score(default, number)} %.")
    lines.append(
        "The val score of the best trial is optimistically biased by the selection, which the intervals (95 % Wilson, "
        "one training each) do not cover. The test score of a tuned run (`run-all --tuned`) does not have this bias."
    )
    return lines


def _score(trial: TrialRecord, number: int) -> str:
    return NO_VALUE if trial.val_top1_accuracy is None else accuracy_cell(trial.val_top1_accuracy, number)


def _trials(record: StudyRecord) -> list[str]:
    number, names = sum(record.dataset.counts["val"]), list(record.space)
    done = [trial for trial in record.trials if trial.state == "complete"]
    done.sort(key=lambda trial: (-(trial.val_top1_accuracy or 0.0), trial.number))
    lines = [f"## Best {min(BEST_SHOWN, len(done))} of {len(done)} finished trials", ""]
    columns = ["Trial", "Val top-1 % (95 % CI)", *names, "TMACs", "Training, s"]
    lines += table(columns, [_finished(trial, names, number) for trial in done[:BEST_SHOWN]])
    early = [trial for trial in record.trials if trial.state != "complete"]
    if early:
        lines += ["", f"## Trials that did not finish ({len(early)})", ""]
        lines += table(
            ["Trial", "State", *names, "Steps done", "Reason"],
            [
                [
                    str(t.number),
                    t.state,
                    *_values(t, names),
                    f"{100 * t.fraction:.0f} %",
                    code(t.reason) if t.reason else NO_VALUE,
                ]
                for t in early
            ],
        )
    return lines


def _finished(trial: TrialRecord, names: list[str], number: int) -> list[str]:
    cost = [f"{trial.tmacs:.2f}", f"{trial.train_time_s:.0f}"]
    return [str(trial.number), _score(trial, number), *_values(trial, names), *cost]


def _values(trial: TrialRecord, names: list[str]) -> list[str]:
    return [f"{trial.hyperparameters[name]:.4g}" if name in trial.hyperparameters else NO_VALUE for name in names]


def _importance(record: StudyRecord, study: "optuna.Study") -> list[str]:
    done = record.count("complete")
    lines = ["## Importance of each hyperparameter (fANOVA)", ""]
    shares = importances(study)
    if not shares:
        return [*lines, f"Not computed: no two finished trials differ in score (finished: {done})."]
    lines += table(
        ["Hyperparameter", "Share of the variance of val top-1"],
        [[name, f"{part:.2f}"] for name, part in shares.items()],
    )
    few = f" Fewer than {LEAST_FOR_IMPORTANCE} trials are a weak basis." if done < LEAST_FOR_IMPORTANCE else ""
    return [*lines, "", f"Computed from the {done} finished trials; pruned trials, mostly worse, are excluded.{few}"]


def importances(study: "optuna.Study") -> dict[str, float]:
    """Return each hyperparameter's share of the variance of the score (fANOVA, Hutter et al. 2014), if there is any."""
    import optuna  # noqa: PLC0415

    done = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    if len({trial.value for trial in done}) <= 1:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=FOREST_SEED)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _cost(record: StudyRecord) -> list[str]:
    pruned = [trial for trial in record.trials if trial.state == "pruned"]
    spent = sum(trial.tmacs for trial in record.trials)
    saved = sum(trial.planned_tmacs - trial.tmacs for trial in pruned)
    took = dt.timedelta(seconds=round(sum(trial.trial_time_s for trial in record.trials)))
    share = record.command_train_s / (record.command_s * record.jobs)
    states = f"{record.count('complete')} finished, {len(pruned)} pruned, {record.count('failed')} failed"
    lines = [
        "## Cost",
        "",
        f"{len(record.trials)} trials ({states}); trial time {took}; training compute {spent:.2f} TMACs {UNIT}.",
    ]
    if pruned:
        lines.append(
            f"Pruning saved {saved:.2f} TMACs, {100 * saved / (spent + saved):.0f} % of the compute of the same trials "
            "without pruning."
        )
    lines.append(
        f"The last command took {record.command_s:.0f} s (processes: {record.jobs}); {100 * share:.0f} % of that time "
        "was spent in training steps."
    )
    return lines


def _rerun(record: StudyRecord) -> list[str]:
    if record.best is None:
        return []
    return ["## Command to train the best setting again", "", f"    {rerun_command(record)}"]


def rerun_command(
    record: StudyRecord, *, data: str | None = None, labels: str | None = None, weights: str | None = None
) -> str:
    """Return the command that trains the best setting again, of which there must be one.

    Without ``data`` and ``weights`` they are named as in the record, which has no paths of this machine.
    """
    assert record.best is not None
    words = ["python -m bench run", record.base.model, "--data", shlex.quote(data or record.dataset.name)]
    words += [] if labels is None else ["--labels", shlex.quote(labels)]
    words += ["--recipe", record.base.recipe, "--seeds", str(record.base.seed), *flags(record.tuned_config)]
    recorded = "none" if record.origin[1] == "random" else "pretrained"
    words += ["--weights", recorded if weights in {None, "auto"} else shlex.quote(str(weights))]
    return " ".join(words)


def _plots(study: "optuna.Study", folder: Path, name: str) -> list[str]:
    """Draw Optuna's plots of the finished trials as PNG files; return the names of the plots."""
    import matplotlib as mpl  # noqa: PLC0415
    import optuna  # noqa: PLC0415

    # Optuna draws with pyplot, whose default backend may need a display.
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415
    from optuna.visualization import matplotlib as plots  # noqa: PLC0415

    done = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    if not done:
        return []
    draw: dict[str, Callable[..., object]] = {
        "history": plots.plot_optimization_history,
        "parallel": plots.plot_parallel_coordinate,
        "slice": plots.plot_slice,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna marks its matplotlib plots as experimental
        for kind, plot in draw.items():
            plot(study, target_name="val top-1 accuracy")
            plt.gcf().set_size_inches(*PLOT_INCHES)
            plt.gcf().savefig(folder / f"{name}-{kind}.png", dpi=100, bbox_inches="tight")
            plt.close("all")
    return list(draw)
