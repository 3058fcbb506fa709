"""The document of a finished study."""

import datetime as dt
import shlex
from typing import TYPE_CHECKING, Final

from bench.comparison.results.conditions import accuracy_of
from bench.leaderboard.cells import hyperparameters_text, per_cent
from bench.recipes import budget_text, training_text
from bench.records.paths import Paths
from bench.render.documents import (
    NO_VALUE,
    Block,
    Command,
    Name,
    Number,
    Paragraph,
    Picture,
    Section,
    Text,
    Words,
    bullets,
    table,
    text,
)
from bench.render.markdown import markdown
from bench.tuning.pages.plots import as_study, draw, importances
from bench.tuning.records import StudyRecord, TrialRecord
from bench.tuning.space import flags
from imgcls.files import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import optuna

BEST_SHOWN: Final = 10

LEAST_FOR_IMPORTANCE: Final = 10
"""With fewer finished trials, importances are shown with a warning."""

REGIME: Final = """Trials: cosine schedule over each trial's own epochs, scored on val at its last epoch. The default
  setting is trained and scored like its row in the leaderboard"""

UNIT: Final = "(1e12 multiply-adds, 3 x forward x images)"


def write(record: StudyRecord, results: "Path") -> None:
    """Write ``sweeps/<study>.md`` and its plots."""
    folder = Paths(results=results).sweeps
    study = as_study(record)
    drawn = draw(study, folder, record.name)
    write_text(markdown(document(record, study, drawn)), folder / f"{record.name}.md")


def document(record: StudyRecord, study: "optuna.Study", drawn: "Sequence[str]" = ()) -> list[Block]:
    """Return the document; ``drawn`` are the names of its plots."""
    title = text("Study ", Name(record.name))
    blocks = [Section(title, (), level=1), *bullets(_facts(record))]
    blocks += [Section(text("Result"), tuple(bullets(_result(record)))), *_trials(record)]
    blocks += [_importance(record, study), _cost(record)]
    if record.best is not None:
        command = Command(rerun_command(record))
        blocks.append(Section(text("Command to train the best setting again"), (command,)))
    if drawn:
        pictures = tuple(Picture(name, f"{record.name}-{name}.png") for name in drawn)
        blocks.append(Section(text("Plots"), pictures))
    return blocks


def _facts(record: StudyRecord) -> list[Words]:
    data, environment = record.dataset, record.environment
    ranges = ", ".join(f"{name} {_range(record, name)}" for name in record.space)
    machines = ", ".join(sorted({trial.machine or environment.machine for trial in record.trials}))
    images = f"{sum(data.counts['train']):,} train and {sum(data.counts['val'])} val images"
    digests = f"data digest {data.digest}, split digest {data.split_digest}"
    default = f"{budget_text(record.base.budget)}; {training_text(record.base)}"
    rungs = " and ".join(f"{rung:.0%}" for rung in record.rungs)
    pruning = f"pruned by ASHA at {rungs} of each trial's own steps" if rungs else "no pruning: trials are too short"
    return [
        text("Model: ", Name(record.base.model), f", init: {record.origin[1]}, seed {record.base.seed}"),
        text("Data: ", Name(data.name), f", {images} ({digests}); the test split was not read"),
        f"Default setting: recipe {record.base.recipe}, {default}",
        f"Search space: {ranges}; sampler: TPE; {pruning}",
        REGIME,
        f"Budget: {record.budget}; see Cost for what was used",
        f"Machine: {machines}; code {(environment.git_commit or 'unknown')[:8]}",
    ]


def _range(record: StudyRecord, name: str) -> str:
    hyperparameter = record.space[name]
    if hyperparameter.choices:
        return f"one of {', '.join(map(str, hyperparameter.choices))}"
    return f"{hyperparameter.low:g} to {hyperparameter.high:g}{' (logarithmic)' if hyperparameter.log else ''}"


def _result(record: StudyRecord) -> list[Text]:
    best, default = record.best, record.default
    if best is None:
        return [text("No trial finished, so there is no tuned setting.")]
    number = sum(record.dataset.counts["val"])
    chosen = f"{best.number}, {hyperparameters_text(best.hyperparameters)}"
    lines = [text(f"Best: trial {chosen}: top-1 ", _score(best, number), f" % on {number} val images.")]
    if default is None:
        lines.append(text("The default setting did not finish, so the gain is unknown."))
    elif default.number == best.number:
        lines.append(text("This is the default setting: no other trial was better on val."))
    else:
        lines.append(text(f"The default setting, trial {default.number}: ", _score(default, number), " %."))
    bias = (
        "The val score of the best trial is optimistically biased by the selection, which the intervals (95 % Wilson, "
        "one training each) do not cover. The test score of a tuned run ("
    )
    lines.append(text(bias, Name("run-all --tuned"), ") does not have this bias."))
    return lines


def _score(trial: TrialRecord, number: int) -> Text:
    accuracy = trial.val_top1_accuracy
    return NO_VALUE if accuracy is None else text(per_cent(accuracy_of(accuracy, number)))


def _trials(record: StudyRecord) -> list[Block]:
    number, names = sum(record.dataset.counts["val"]), list(record.space)
    done = [trial for trial in record.trials if trial.state == "complete"]
    done.sort(key=lambda trial: (-(trial.val_top1_accuracy or 0.0), trial.number))
    columns = ["Trial", "Val top-1 % (95 % CI)", *names, "TMACs", "Training, s"]
    best = table(columns, [_finished(trial, names, number) for trial in done[:BEST_SHOWN]])
    sections: list[Block] = [
        Section(text(f"Best {min(BEST_SHOWN, len(done))} of {len(done)} finished trials"), tuple(best))
    ]
    early = [trial for trial in record.trials if trial.state != "complete"]
    if early:
        rows = table(["Trial", "State", *names, "Steps done", "Reason"], [_early(trial, names) for trial in early])
        sections.append(Section(text(f"Trials that did not finish ({len(early)})"), tuple(rows)))
    return sections


def _finished(trial: TrialRecord, names: list[str], number: int) -> list[Words]:
    cost = (Number(trial.tmacs, spec=".2f"), Number(trial.train_time_s, spec=".0f"))
    return [str(trial.number), _score(trial, number), *_values(trial, names), *cost]


def _early(trial: TrialRecord, names: list[str]) -> list[Words]:
    steps = text(Number(100 * trial.fraction, spec=".0f"), " %")
    reason = Name(trial.reason) if trial.reason else NO_VALUE
    return [str(trial.number), trial.state, *_values(trial, names), steps, reason]


def _values(trial: TrialRecord, names: list[str]) -> list[Words]:
    values = trial.hyperparameters
    return [Number(values[name], spec=".4g") if name in values else NO_VALUE for name in names]


def _importance(record: StudyRecord, study: "optuna.Study") -> Section:
    done, title = record.count("complete"), text("Importance of each hyperparameter (fANOVA)")
    shares = importances(study)
    if not shares:
        why = f"Not computed: no two finished trials differ in score (finished: {done})."
        return Section(title, (Paragraph(text(why)),))
    columns = ("Hyperparameter", "Share of the variance of val top-1")
    rows = table(columns, [[name, Number(part, spec=".2f")] for name, part in shares.items()])
    few = f" Fewer than {LEAST_FOR_IMPORTANCE} trials are a weak basis." if done < LEAST_FOR_IMPORTANCE else ""
    basis = f"Computed from the {done} finished trials; pruned trials, mostly worse, are excluded.{few}"
    return Section(title, (*rows, Paragraph(text(basis))))


def _cost(record: StudyRecord) -> Section:
    pruned = [trial for trial in record.trials if trial.state == "pruned"]
    spent = sum(trial.tmacs for trial in record.trials)
    saved = sum(trial.planned_tmacs - trial.tmacs for trial in pruned)
    took = dt.timedelta(seconds=round(sum(trial.trial_time_s for trial in record.trials)))
    share = record.command_train_s / (record.command_s * record.jobs)
    states = f"{record.count('complete')} finished, {len(pruned)} pruned, {record.count('failed')} failed"
    lines = [f"{len(record.trials)} trials ({states}); trial time {took}; training compute {spent:.2f} TMACs {UNIT}."]
    if pruned:
        lines.append(
            f"Pruning saved {saved:.2f} TMACs, {100 * saved / (spent + saved):.0f} % of the compute of the same trials "
            "without pruning."
        )
    lines.append(
        f"The last command took {record.command_s:.0f} s (processes: {record.jobs}); {100 * share:.0f} % of that time "
        "was spent in training steps."
    )
    return Section(text("Cost"), tuple(bullets(lines)))


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
