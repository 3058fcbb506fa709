"""The flags of every command, generated from dataclasses by tyro, and the configs that they ask for."""

import contextlib
import io
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar, cast

import tyro

from bench.config import DEFAULT_MODELS, FIELDS, RunConfig, value_of
from bench.recipes import RECIPES, configs_of
from bench.tuning.space import DEFAULT_SPACE
from imgcls.config import RuntimeConfig

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanArgs:
    """Which runs to plan, and where things are."""

    data: str = "digits"
    """A folder of class folders, a folder of train/, val/ and test/, or a named set (python -m bench data)."""
    recipe: str = "quick"
    """quick, standard or report: it gives all settings below (here: those of quick for ResNet50)."""
    seeds: tuple[int, ...] = (0,)
    """One run a seed."""
    weights: str = "auto"
    """auto (pretrained, or random with a warning), pretrained, none, or a folder of MODEL/model.safetensors."""
    results: Path = Path("results")
    """Where records, artifacts and the leaderboard go."""
    run: RunConfig = field(default_factory=RunConfig)

    @property
    def planned_models(self) -> tuple[str, ...]:
        """The models that runs are planned for."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, slots=True)
class RunArgs(PlanArgs):
    """Train, evaluate, export and measure one model."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = "resnet50"
    """Model by name (python -m bench models), or any other timm name."""
    force: bool = False
    """Repeat runs that are done."""

    @property
    def planned_models(self) -> tuple[str, ...]:
        """The one model."""
        return (self.name,)


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchArgs(PlanArgs):
    """What a study searches, and what carries it out."""

    space: tuple[str, ...] = DEFAULT_SPACE
    """Hyperparameters to search, as NAME or NAME=LOW:HIGH: lr, dropout, epochs, weight_decay, label_smoothing,
    batch_size, image_size."""
    storage: str = ""
    """An RDB URL of Optuna's for the studies; none means an SQLite file in the results folder."""
    launcher: str = "local"
    """local, or ray: train on a Ray cluster."""
    ray_address: str = ""
    """Address of a Ray cluster; none means one started on this machine."""
    jobs: int = 1
    """Trainings at once."""
    force_new: bool = False
    """Start another study where its name is taken by one of another space, data set or setting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepArgs(SearchArgs):
    """Search a model's best setting by validation score with Optuna; the test split is not opened."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = "resnet50"
    """Model by name (python -m bench models), or any other timm name."""
    trials: int | None = None
    """Budget in trials finished or pruned (20 where no budget is given); more than before goes on with the study."""
    minutes: float | None = None
    """Budget in minutes of trials."""
    tmacs: float | None = None
    """Budget in 1e12 multiply-adds of training (3 x forward x images)."""

    @property
    def planned_models(self) -> tuple[str, ...]:
        """The one model."""
        return (self.name,)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunAllArgs(SearchArgs):
    """Train, evaluate, export and measure several models under one budget, and write the leaderboard."""

    models: tuple[str, ...] = DEFAULT_MODELS
    """Models by name (python -m bench models), or any other timm name."""
    force: bool = False
    """Repeat runs that are done."""
    tuned: bool = False
    """Run the best setting of each model's finished study too, beside the default one."""
    tune_trials: int | None = None
    """Tune every model first, each with this budget in trials, and run the tuned settings too."""
    tune_minutes: float | None = None
    """The same with a budget in minutes of trials a model."""
    tune_tmacs: float | None = None
    """The same with a budget in 1e12 multiply-adds of training a model."""

    @property
    def planned_models(self) -> tuple[str, ...]:
        """All models."""
        return self.models


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultsArgs:
    """Write the leaderboard from the records in a results folder, and print it."""

    results: Path = Path("results")
    """The results folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TablesArgs(ResultsArgs):
    """Which tables of a results folder."""

    data: str | None = None
    """Only the tables on this data set, by its name."""
    table: str | None = None
    """Only this table, by the id in its heading."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportArgs(TablesArgs):
    """Write one page with tables, plots and galleries that needs no network."""

    no_images: bool = False
    """Leave all pictures of the data out."""
    to: Path | None = None
    """The page's folder; none means report/ in the results folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareArgs(TablesArgs):
    """Compare two rows of the leaderboard, or two runs, on the same test images."""

    first: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="A")]
    """A row's name, such as resnet50, or the first characters of a run's id."""
    second: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="B")]
    """The same of what is compared with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecommendArgs(TablesArgs):
    """Name the model to ship: of those not significantly worse than the best within all limits, the fastest."""

    max_latency_ms: float | None = None
    """Most ms of p90, one picture at a time."""
    runtime: str = "onnxruntime-cpu"
    """The runtime that it will run in."""
    min_recall: tuple[str, ...] = ()
    """Least recall of classes, as CLASS=SHARE, such as glass=0.8."""
    max_size_mb: float | None = None
    """Most megabytes of the exported file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureArgs:
    """Measure the latency of this machine's runs by the whole protocol, from their artifacts, without training."""

    results: Path = Path("results")
    """The results folder."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditArgs:
    """Decode every picture of a data set and say what is wrong."""

    folder: tyro.conf.Positional[str]
    """A folder, or a named set."""
    results: Path = Path("results")
    """The report goes to audits/ in this folder, as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictArgs:
    """Label photos with an exported model; needs neither torch nor the data set."""

    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL.onnx")]
    """An ONNX file that a run has exported."""
    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE...")]
    """Photos."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelsArgs:
    """List the models that are known by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataArgs:
    """List the named data sets, or download some."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Sets to download now."""


AnyPlan = TypeVar("AnyPlan", bound=PlanArgs)


def named_fields(arguments: Sequence[str]) -> list[str]:
    """Return the fields of ``RunConfig`` that stand on a command line as flags, whatever their value is."""
    flags = [word[2:].partition("=")[0].replace("-", "_") for word in arguments if word.startswith("--")]
    return [name for name in dict.fromkeys(flags) if name in FIELDS]


def parse(kind: type[Parsed], arguments: Sequence[str], command: str, *, default: Parsed | None = None) -> Parsed:
    """Parse one command's flags; exits with status 2 and tyro's own message if they cannot be read.

    What was given stands first: tyro's message may name the flag without its value.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed = tyro.cli(
                kind,
                prog=f"python -m bench {command}",
                args=list(arguments),
                default=default,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
            return cast("Parsed", parsed)
    except SystemExit as ended:
        if ended.code not in {0, None}:
            print(f"error: {command} {shlex.join(arguments)}", file=sys.stderr)  # noqa: T201
            sys.stderr.write(complaint.getvalue())
        raise


def parse_runs(kind: type[AnyPlan], arguments: Sequence[str], command: str) -> tuple[AnyPlan, list[RunConfig]]:
    """Parse the flags once, into overrides, and apply them to the recipe's config of every model."""
    args = parse(kind, arguments, command, default=kind(run=RECIPES["quick"](DEFAULT_MODELS[0])))
    overrides = {name: value_of(args.run, name) for name in named_fields(arguments)}
    return args, configs_of(args.planned_models, recipe=args.recipe, seeds=args.seeds, overrides=overrides)
