"""The command line: parse, call one function, print. torch is imported only by commands that need it."""

import contextlib
import io
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import tyro

from bench.config import DEFAULT_MODELS, Paths, RunConfig, default_cache
from bench.recipes import RECIPES
from imgcls.errors import ConfigError, UserError

if TYPE_CHECKING:
    from rich.console import Console

USER_ERROR_STATUS: Final = 2
INTERRUPTED_STATUS: Final = 130
Parsed = TypeVar("Parsed")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanArgs:
    """Which runs to plan, and where things are."""

    data: str = "digits"
    """A folder of class folders, a folder of train/, val/ and test/, or a named set (python -m bench data)."""
    recipe: str = "quick"
    """quick, standard or report: the defaults of all settings below."""
    seeds: tuple[int, ...] = (0,)
    """One run a seed."""
    weights: str = "auto"
    """auto (pretrained, or random with a warning), pretrained, none, or a folder of MODEL/model.safetensors."""
    results: Path = Path("results")
    """Where records, artifacts and the leaderboard go."""
    force: bool = False
    """Repeat runs that are done."""
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunAllArgs(PlanArgs):
    """Train, evaluate, export and measure several models under one budget, and write the leaderboard."""

    models: tuple[str, ...] = DEFAULT_MODELS
    """Models by name (python -m bench models), or any other timm name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunArgs(PlanArgs):
    """Train, evaluate, export and measure one model."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = "resnet50"
    """Model by name (python -m bench models), or any other timm name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultsArgs:
    """Write the leaderboard from the records in a results folder, and print it."""

    results: Path = Path("results")
    """The results folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureArgs:
    """Measure latency again from the artifacts of this machine's runs, without training."""

    results: Path = Path("results")
    """The results folder."""


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


def parse(kind: type[Parsed], arguments: Sequence[str], *, command: str, **default: Parsed) -> Parsed:
    """Parse one command's flags; raises ConfigError with tyro's complaint as one line."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed: Parsed = tyro.cli(
                kind,
                prog=f"python -m bench {command}",
                args=list(arguments),
                **default,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    except SystemExit as ended:
        if ended.code in {0, None}:
            raise
        raise ConfigError(_one_line(complaint.getvalue())) from None


def _one_line(boxed: str) -> str:
    """Take tyro's message out of its frame."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", boxed)
    words = [line.strip(" │╭╮╰╯─") for line in plain.splitlines()]
    text = " ".join(word for word in words if word and "Parsing error" not in word)
    return re.split(r"\s*(?:Perhaps|For full helptext|Similar|─{3,})", text)[0].strip() or "cannot parse the flags"


def _console() -> "Console":
    from rich.console import Console  # noqa: PLC0415 - a tenth of a second

    return Console(highlight=False, soft_wrap=True)


def _plan_and_run(kind: type[PlanArgs], arguments: Sequence[str], command: str) -> int:
    from bench.commands import plan_and_run  # noqa: PLC0415 - imports torch

    first = parse(kind, arguments, command=command)
    if first.recipe not in RECIPES:
        message = f"--recipe {first.recipe}: unknown; known: {', '.join(RECIPES)}"
        raise ConfigError(message)
    if not (models := _models(first)) or not first.seeds:
        message = "--models and --seeds need one value or more"
        raise ConfigError(message)
    recipe = RECIPES[first.recipe]
    configs = [
        replace(
            parse(kind, arguments, command=command, default=replace(first, run=recipe(model))).run,
            model=model,
            recipe=first.recipe,
            seed=seed,
        )
        for model in models
        for seed in first.seeds
    ]
    paths = Paths(results=first.results, cache=default_cache())
    return plan_and_run(
        configs, data=first.data, weights=first.weights, paths=paths, force=first.force, console=_console()
    )


def _models(args: PlanArgs) -> tuple[str, ...]:
    if isinstance(args, RunAllArgs):
        return args.models
    assert isinstance(args, RunArgs)
    return (args.name,)


def _run_all(arguments: Sequence[str]) -> int:
    return _plan_and_run(RunAllArgs, arguments, "run-all")


def _run(arguments: Sequence[str]) -> int:
    return _plan_and_run(RunArgs, arguments, "run")


def _measure(arguments: Sequence[str]) -> int:
    args = parse(MeasureArgs, arguments, command="measure")
    from bench.commands import measure_again  # noqa: PLC0415

    return measure_again(args.results, _console())


def _leaderboard(arguments: Sequence[str]) -> int:
    args = parse(ResultsArgs, arguments, command="leaderboard")
    from bench.readers import show_leaderboard  # noqa: PLC0415

    return show_leaderboard(args.results, _console())


def _audit(arguments: Sequence[str]) -> int:
    args = parse(AuditArgs, arguments, command="audit")
    from bench.readers import show_audit  # noqa: PLC0415

    return show_audit(args.folder, Paths(results=args.results, cache=default_cache()), _console())


def _predict(arguments: Sequence[str]) -> int:
    args = parse(PredictArgs, arguments, command="predict")
    from bench.readers import show_predictions  # noqa: PLC0415

    return show_predictions(args.model, args.images, _console())


def _list_models(arguments: Sequence[str]) -> int:
    parse(ModelsArgs, arguments, command="models")
    from bench.commands import show_models  # noqa: PLC0415

    return show_models(_console())


def _data(arguments: Sequence[str]) -> int:
    args = parse(DataArgs, arguments, command="data")
    from bench.readers import show_datasets  # noqa: PLC0415

    return show_datasets(args.names, default_cache(), _console())


COMMANDS: Final[dict[str, tuple[Callable[[Sequence[str]], int], str]]] = {
    "run-all": (_run_all, "train, evaluate, export and measure several models; write the leaderboard"),
    "run": (_run, "the same for one model"),
    "measure": (_measure, "latency again, from the artifacts, without training"),
    "leaderboard": (_leaderboard, "records to leaderboard.md and leaderboard.csv, nothing else"),
    "audit": (_audit, "what is wrong with these images"),
    "predict": (_predict, "an exported model and photos to labels"),
    "models": (_list_models, "models that are known by name"),
    "data": (_data, "named data sets; with names: download them"),
}
"""Commands by name, with a line of help."""


def usage() -> str:
    """Give the overview of all commands."""
    lines = [f"  {name:<12} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        ["usage: python -m bench COMMAND [FLAGS]", "", *lines, "", "python -m bench COMMAND --help shows its flags."]
    )


def main(arguments: Sequence[str]) -> int:
    """Carry out one command; 0 all well, 1 a run failed, 2 the user's mistake (one line), 130 interrupted."""
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(usage())  # noqa: T201 - the help is this program's output
        return 0 if arguments else USER_ERROR_STATUS
    name, *rest = arguments
    try:
        if name not in COMMANDS:
            message = f"unknown command {name!r}; known: {', '.join(COMMANDS)}"
            raise ConfigError(message)
        return COMMANDS[name][0](rest)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
        return USER_ERROR_STATUS
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)  # noqa: T201
        return INTERRUPTED_STATUS
