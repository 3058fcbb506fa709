"""What Optuna computes and draws of the trials of a study."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.tuning.records import StudyRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    import optuna

# fANOVA fits a random forest; seeded, so that the page stays the same when it is written again.
FOREST_SEED: Final = 0

PLOT_INCHES: Final = (9, 5)


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


def importances(study: "optuna.Study") -> dict[str, float]:
    """Return each hyperparameter's share of the variance of the score (fANOVA, Hutter et al. 2014), if there is any."""
    import optuna  # noqa: PLC0415

    done = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    if len({trial.value for trial in done}) <= 1:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=FOREST_SEED)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def draw(study: "optuna.Study", folder: Path, name: str) -> list[str]:
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
