"""The table of commands, and what each invocation does: parse, call one function, print."""

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

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
    parse,
    parse_runs,
)
from imgcls.errors import ConfigError, UserError

USER_ERROR_STATUS: Final = 2
INTERRUPTED_STATUS: Final = 130


@dataclass(frozen=True, slots=True)
class Command:
    """The flags of a command, the function that carries it out, as ``module:function``, and a line of help.

    The module is imported when the command runs: a command that only reads leaves torch unloaded. The function gets the
    parsed flags, the configs of all runs if the command plans any, and a console, and returns the exit status.
    """

    args: type
    function: str
    text: str

    def load(self) -> Callable[..., int]:
        """Import the function."""
        module, name = self.function.split(":")
        function: Callable[..., int] = getattr(importlib.import_module(module), name)
        return function


COMMANDS: Final[dict[str, Command]] = {
    "run-all": Command(
        RunAllArgs,
        "bench.cli.training:run_all",
        "train, evaluate, export and measure several models; write the leaderboard",
    ),
    "run": Command(RunArgs, "bench.cli.training:run_one_model", "the same for one model"),
    "sweep": Command(SweepArgs, "bench.cli.tuning:sweep", "search a model's best setting by validation score"),
    "measure": Command(
        MeasureArgs, "bench.cli.training:measure_again", "latency again, from the artifacts, without training"
    ),
    "leaderboard": Command(
        ResultsArgs, "bench.cli.judging:leaderboard", "records to leaderboard.md and leaderboard.csv, nothing else"
    ),
    "report": Command(ReportArgs, "bench.cli.judging:report", "one page with tables, plots and galleries"),
    "compare": Command(CompareArgs, "bench.cli.judging:compare_two", "two rows or runs on the same test images"),
    "recommend": Command(
        RecommendArgs, "bench.cli.judging:recommend_one", "what to ship under limits of latency, recall and size"
    ),
    "audit": Command(AuditArgs, "bench.cli.reading:show_audit", "what is wrong with these images"),
    "predict": Command(PredictArgs, "bench.cli.reading:show_predictions", "an exported model and photos to labels"),
    "models": Command(ModelsArgs, "bench.cli.training:show_models", "models that are known by name"),
    "data": Command(DataArgs, "bench.cli.reading:show_datasets", "named data sets; with names: download them"),
}
"""Commands by name."""


def usage() -> str:
    """Return the overview of all commands."""
    lines = [f"  {name:<12} {command.text}" for name, command in COMMANDS.items()]
    return "\n".join(
        ["usage: python -m bench COMMAND [FLAGS]", "", *lines, "", "python -m bench COMMAND --help shows its flags."]
    )


def main(arguments: Sequence[str]) -> int:
    """Carry out one command, and return its exit status.

    0 all well, 1 a run failed, 2 the user's mistake, 3 no model keeps to the limits, 130 interrupted.
    """
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(usage())  # noqa: T201 - the help is this program's output
        return 0 if arguments else USER_ERROR_STATUS
    name, *rest = arguments
    try:
        return _carry_out(name, rest)
    except SystemExit as ended:  # tyro has printed its help, or what is wrong
        return int(ended.code or 0)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
        return USER_ERROR_STATUS
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)  # noqa: T201
        return INTERRUPTED_STATUS


def _carry_out(name: str, flags: Sequence[str]) -> int:
    if name not in COMMANDS:
        message = f"unknown command {name!r}; known: {', '.join(COMMANDS)}"
        raise ConfigError(message)
    command = COMMANDS[name]
    plans = issubclass(command.args, PlanArgs)
    parsed: tuple[Any, ...] = parse_runs(command.args, flags, name) if plans else (parse(command.args, flags, name),)
    from bench.cli.display import new_console, showing_logs  # noqa: PLC0415 - a tenth of a second, not needed by --help

    console = new_console()
    with showing_logs(console):
        return command.load()(*parsed, console)
