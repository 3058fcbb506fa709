"""How the rows of a table were made, in words: the conditions of all runs, and the studies of the tuned ones."""

from typing import Final

from bench.comparison.results.conditions import Conditions, Disturbed, Duplicates, TunedRun, Weights
from bench.comparison.results.values import TableResult
from bench.leaderboard.cells import LATENCY_COLUMNS, hyperparameters_text, per_cent
from bench.recipes import epochs_text, sizes_text
from bench.render.documents import (
    NO_VALUE,
    Block,
    Link,
    Name,
    Number,
    Paragraph,
    Text,
    Words,
    bullets,
    joined,
    listed,
    table,
    text,
)

COLUMNS: Final = (
    "Tuned",
    "Seed",
    "Chosen setting",
    "Test top-1, default",
    "Test top-1, tuned",
    "Val in the study, default",
    "Val in the study, tuned",
    "Trials (pruned, failed)",
    "TMACs",
    "Minutes of trials",
    "Study",
)

_WORDS: Final = """Each study selects by val, so its val scores are optimistic; test was scored once per run. The table
of pairs shows whether a tuned row differs significantly from the default. A tuned row costs its study in addition to
one training; TMACs are 1e12 multiply-adds of training, 3 x forward x images."""


def tuning_table(results: TableResult, *, sweeps: str) -> list[Block]:
    """Return a line per tuned run; empty if there is none."""
    if not results.tuned:
        return []
    return [*table(COLUMNS, [_tuned(run, sweeps) for run in results.tuned]), Paragraph(text(_WORDS))]


def _tuned(run: TunedRun, sweeps: str) -> list[Words]:
    # If the first trial, the default setting, was the best, listing its values would suggest a changed setting.
    chosen = "the default" if run.hyperparameters is None else hyperparameters_text(run.hyperparameters)
    return [
        Name(run.model),
        str(run.seed),
        chosen,
        *(NO_VALUE if score is None else per_cent(score) for score in (run.default_test, run.test, run.default_val)),
        per_cent(run.val),
        text(Number(run.trials, spec="d"), f" ({run.pruned}, {run.failed})"),
        Number(run.tmacs, spec=".2f"),
        Number(run.minutes, spec=".1f"),
        Link(Name(run.study), f"{sweeps}/{run.study}.md"),
    ]


def facts(results: TableResult) -> list[Block]:
    """Return the conditions under which the runs of a table were made."""
    conditions, key = results.conditions, results.key
    folds = conditions.folds
    split = conditions.split_source
    if folds is not None:
        split = f"{folds}{', every image tested once' if folds.are_all else ''}; sizes of the first"
    sizes = ", ".join(f"{name} {count:,}" for name, count in conditions.images.items())
    digests = f"data digest {conditions.data_digest}, split digest {conditions.split_digest}"
    removed = ", ".join(f"{number} {reason}" for reason, number in conditions.removed.items()) or "none"
    dropped = f"; training images dropped by undersampling: {conditions.undersampled}; "
    memory = f"{conditions.ram_bytes / 2**30:.0f} GiB"
    gpu = conditions.gpu_name or "none, so CUDA is not measured"
    elsewhere = "" if results.measured_on == key.machine else f", measured on {results.measured_on}"
    runtimes = joined([Name(name) for name in LATENCY_COLUMNS.values()])
    return bullets(
        [
            f"Data: {len(results.class_names)} classes; images: {sizes} (split: {split}; {digests})",
            text("Cleaning: files skipped: ", Name(removed), dropped, _duplicates(conditions.duplicates)),
            text("Groups of images that are not independent: by ", Name(conditions.grouped_by))
            if conditions.grouped_by
            else "",
            text(
                *("Recipe: ", joined([*map(Name, conditions.recipes), *conditions.trained], "; ")),
                "; the Setting column lists deviations from it",
            ),
            f"Budget: {epochs_text(key.budget)}",
            f"Image size: {sizes_text(key.budget)}",
            text("Latency columns: p50 of one image at a time on ", runtimes, elsewhere),
            f"Machine: {conditions.cpu_model}, {conditions.cpu_count} cores, {memory}; GPU: {gpu}",
            f"Software: {'; '.join(conditions.software)}",
            _scorings(conditions),
            *(text("Note: ", note) for note in _notes(conditions)),
        ]
    )


def _duplicates(duplicates: Duplicates) -> str:
    """Return what is known of duplicates: our own split keeps each group in one split, a given one may not."""
    if not duplicates.given_split:
        return f"groups of duplicates, each kept in one split: {duplicates.groups}"
    leaks = "not counted" if duplicates.leaks is None else f"{duplicates.leaks:,}"
    dropped = f"; removed from train and val: {duplicates.dropped:,} images" if duplicates.dropped else ""
    groups = f"groups of duplicates: {duplicates.groups}; across the given splits: {duplicates.across_splits}"
    return f"{groups}; test images with a duplicate in train or val: {leaks}{dropped}"


def _notes(conditions: Conditions) -> list[Words]:
    """Return what may limit the comparison of rows, and where their weights come from."""
    notes: list[Words] = [] if conditions.disturbed is None else [_disturbed(conditions.disturbed)]
    notes += [text(Name(run.model), f", seed {run.seed}, is excluded: {run.reason}") for run in conditions.excluded]
    notes += map(Name, conditions.missing)
    notes += [
        text(Name(model), f", seed {seed}, was trained on {machine}") for model, seed, machine in conditions.elsewhere
    ]
    return notes + [note for weights in conditions.weights for note in _weights(weights)]


def _weights(weights: Weights) -> list[Text]:
    notes = [text(Name(weights.model), f": {note}") for note in weights.notes]
    if weights.sha256:
        revision = f", revision {weights.revision[:16]}" if weights.revision else ""
        origin = text(" starts from weights ", Name(weights.tag), f", sha256 {weights.sha256[:16]}{revision}")
        notes.append(text(Name(weights.model), origin))
    return notes


def _disturbed(disturbed: Disturbed) -> Text:
    rows = listed([text(Name(name), f" (seed {seed})") for name, seed in disturbed.trainings])
    return text(
        f"other processes used up to {100 * disturbed.most:.0f} % of the CPU during {len(disturbed.trainings)} of "
        f"{disturbed.total} trainings, whose times and images/s are too slow: ",
        rows,
    )


def _scorings(conditions: Conditions) -> Text:
    """Return how often test was scored: the more often, the more optimistic the best row is."""
    trainings, times = conditions.scorings
    often = "once" if times == 1 else f"{times} times"
    again = (f", {times - trainings} of them repetitions by ", Name("--force")) if times > trainings else ()
    number = f"scored {often} for {trainings} training{'' if trainings == 1 else 's'}"
    return text("Test split: ", number, *again, "; never read by sweeps")
