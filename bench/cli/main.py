"""The command line: parse, call one function, print. torch is imported only by commands that need it."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from bench.cli.arguments import (
    AuditArgs,
    CompareArgs,
    DataArgs,
    MeasureArgs,
    ModelsArgs,
    PlanArgs,
    PredictArgs,
    RecommendArgs,
    ReportArgs,
    ResultsArgs,
    RunAllArgs,
    RunArgs,
    SweepArgs,
    named_fields,
    parse,
)
from bench.config import DEFAULT_MODELS, RunConfig, value_of, with_overrides
from bench.recipes import RECIPES
from bench.records.paths import Paths, default_cache
from imgcls.config import SplitConfig
from imgcls.errors import ConfigError, UserError

if TYPE_CHECKING:
    from rich.console import Console

USER_ERROR_STATUS: Final = 2

INTERRUPTED_STATUS: Final = 130

AnyPlan = TypeVar("AnyPlan", bound=PlanArgs)


def _console() -> "Console":
    from rich.console import Console  # noqa: PLC0415 - a tenth of a second

    return Console(highlight=False, soft_wrap=True)


def _parse_runs(kind: type[AnyPlan], arguments: Sequence[str], command: str) -> tuple[AnyPlan, list[RunConfig]]:
    """Parse the flags once, into overrides, and apply them to the recipe's config of every model."""
    args = parse(kind, arguments, command=command, default=kind(run=RECIPES["quick"](DEFAULT_MODELS[0])))
    if args.recipe not in RECIPES:
        message = f"--recipe {args.recipe}: unknown; known: {', '.join(RECIPES)}"
        raise ConfigError(message)
    if not (models := _models(args)) or not args.seeds:
        message = "--models and --seeds need one value or more"
        raise ConfigError(message)
    overrides = {name: value_of(args.run, name) for name in named_fields(arguments)}
    recipe = RECIPES[args.recipe]
    configs = [
        replace(config, seed=seed, split=split)
        for config in (with_overrides(recipe(model), overrides) for model in models)
        for seed in args.seeds
        for split in _folds(config.split)
    ]
    return args, configs


def _folds(split: SplitConfig) -> list[SplitConfig]:
    """Give a split for each fold that is wanted; one where there are none."""
    if split.folds is None or split.fold is not None:
        return [split]
    return [replace(split, fold=fold) for fold in range(split.folds)]


def _models(args: PlanArgs) -> tuple[str, ...]:
    if isinstance(args, RunAllArgs):
        return args.models
    assert isinstance(args, RunArgs | SweepArgs)
    return (args.name,)


def _run_all(arguments: Sequence[str]) -> int:
    args, configs = _parse_runs(RunAllArgs, arguments, "run-all")
    from bench.cli.training import run_all  # noqa: PLC0415 - imports torch

    return run_all(args, configs, _console())


def _run(arguments: Sequence[str]) -> int:
    args, configs = _parse_runs(RunArgs, arguments, "run")
    from bench.cli.training import run_one_model  # noqa: PLC0415

    return run_one_model(args, configs, _console())


def _sweep(arguments: Sequence[str]) -> int:
    args, configs = _parse_runs(SweepArgs, arguments, "sweep")
    from bench.cli.tuning import sweep  # noqa: PLC0415

    return sweep(args, configs, _console())


def _measure(arguments: Sequence[str]) -> int:
    args = parse(MeasureArgs, arguments, command="measure")
    from bench.cli.training import measure_again  # noqa: PLC0415

    return measure_again(args, _console())


def _leaderboard(arguments: Sequence[str]) -> int:
    args = parse(ResultsArgs, arguments, command="leaderboard")
    from bench.leaderboard.terminal import show_leaderboard  # noqa: PLC0415

    return show_leaderboard(args.results, _console())


def _report(arguments: Sequence[str]) -> int:
    args = parse(ReportArgs, arguments, command="report")
    from bench.cli.judging import report  # noqa: PLC0415

    return report(args, _console())


def _compare(arguments: Sequence[str]) -> int:
    args = parse(CompareArgs, arguments, command="compare")
    from bench.cli.judging import compare_two  # noqa: PLC0415

    return compare_two(args, _console())


def _recommend(arguments: Sequence[str]) -> int:
    args = parse(RecommendArgs, arguments, command="recommend")
    from bench.cli.judging import recommend_one  # noqa: PLC0415

    return recommend_one(args, _console())


def _audit(arguments: Sequence[str]) -> int:
    args = parse(AuditArgs, arguments, command="audit")
    from bench.cli.reading import show_audit  # noqa: PLC0415

    return show_audit(args.folder, Paths(results=args.results, cache=default_cache()), _console())


def _predict(arguments: Sequence[str]) -> int:
    args = parse(PredictArgs, arguments, command="predict")
    from bench.cli.reading import show_predictions  # noqa: PLC0415

    return show_predictions(args.model, args.images, _console())


def _list_models(arguments: Sequence[str]) -> int:
    parse(ModelsArgs, arguments, command="models")
    from bench.cli.training import show_models  # noqa: PLC0415

    return show_models(_console())


def _data(arguments: Sequence[str]) -> int:
    args = parse(DataArgs, arguments, command="data")
    from bench.cli.reading import show_datasets  # noqa: PLC0415

    return show_datasets(args.names, default_cache(), _console())


COMMANDS: Final[dict[str, tuple[Callable[[Sequence[str]], int], str]]] = {
    "run-all": (_run_all, "train, evaluate, export and measure several models; write the leaderboard"),
    "run": (_run, "the same for one model"),
    "sweep": (_sweep, "search a model's best setting by validation score"),
    "measure": (_measure, "latency again, from the artifacts, without training"),
    "leaderboard": (_leaderboard, "records to leaderboard.md and leaderboard.csv, nothing else"),
    "report": (_report, "one page with tables, plots and galleries: results/report/index.html"),
    "compare": (_compare, "two rows or runs on the same test images, in pairs"),
    "recommend": (_recommend, "what to ship under limits of latency, recall and size"),
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
    """Carry out one command.

    0 all well, 1 a run failed, 2 the user's mistake (one line), 3 no model fits, 130 interrupted.
    """
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
