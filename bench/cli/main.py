"""The commands, and their dispatch: parse the flags, call one function, print."""

import errno
import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from bench.cli.arguments import (
    AuditArgs,
    CompareArgs,
    DataArgs,
    EnsembleArgs,
    EstimateArgs,
    LearningCurveArgs,
    MeasureArgs,
    ModelsArgs,
    PlanArgs,
    PredictArgs,
    RecommendArgs,
    ReportArgs,
    ResultsArgs,
    RunAllArgs,
    RunArgs,
    SelectArgs,
    SweepArgs,
    VerifyArgs,
)
from bench.cli.parsing import complete, in_flags, parse, parse_runs
from bench.processes.starting import terminate_as_interrupt
from bench.records.environment import read_commit
from bench.render.escaping import visible
from imgcls.errors import ConfigError, GroupedConfigError, UserError

USER_ERROR_STATUS: Final = 2
"""The status with which argparse, and so tyro, exits if the flags are invalid."""

BROKEN_PIPE_STATUS: Final = 141
"""The status that shells report if a command ends because nobody reads its output: 128 + SIGPIPE."""

OF_THE_SYSTEM: Final = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EISDIR), "cannot be written"),
    # Some network file systems have other words for it.
    **dict.fromkeys(
        (errno.ENOLCK, errno.EOPNOTSUPP), "a file system without locks, which the results folder and the cache need"
    ),
}
"""What is said of an error that the user can remove, by its number; others are faults of this program."""

INTERRUPTED_STATUS: Final = 130
"""The status that shells report after Ctrl-C: 128 + SIGINT."""


@dataclass(frozen=True, slots=True)
class Command:
    """The dataclass of a command's flags, the function that carries it out, as ``module:function``, and a line of help.

    The module is imported when the command runs, so that commands that only read records do not load torch. The
    function receives the parsed flags, the configs of all runs if the command plans runs, and a console; it returns the
    exit status.
    """

    args: type
    function: str
    text: str

    def load(self) -> Callable[..., int]:
        """Import the module and return the function."""
        module, name = self.function.split(":")
        function: Callable[..., int] = getattr(importlib.import_module(module), name)
        return function


COMMANDS: Final[dict[str, Command]] = {
    "run-all": Command(
        RunAllArgs,
        "bench.cli.run:run_all",
        "train, evaluate, export and measure several models; write the leaderboard",
    ),
    "plan": Command(
        EstimateArgs, "bench.cli.run:plan", "estimate minutes, memory and disk of run-all with the same flags"
    ),
    "run": Command(RunArgs, "bench.cli.run:run_one_model", "train, evaluate, export and measure one model"),
    "sweep": Command(
        SweepArgs, "bench.cli.search.sweep:sweep", "search a model's hyperparameters by validation accuracy"
    ),
    "select": Command(
        SelectArgs,
        "bench.cli.search.select:select",
        "select among many models, in a number of minutes, which to fine-tune",
    ),
    "measure": Command(
        MeasureArgs, "bench.cli.run:measure_again", "measure latency by the full protocol, without training"
    ),
    "leaderboard": Command(
        ResultsArgs, "bench.cli.results:leaderboard", "write leaderboard.md and leaderboard.csv from the records"
    ),
    "verify": Command(
        VerifyArgs, "bench.cli.results:verify_all", "verify that records, predictions, artifacts and leaderboard agree"
    ),
    "report": Command(ReportArgs, "bench.cli.results:report", "write an HTML page with tables, plots and galleries"),
    "ensemble": Command(
        EnsembleArgs, "bench.cli.run:ensemble", "combine finished networks of one table into one, as a row of it"
    ),
    "learning-curve": Command(
        LearningCurveArgs, "bench.cli.run:learning_curve", "train on shares of train: would more photos help?"
    ),
    "compare": Command(
        CompareArgs, "bench.cli.results:compare_two", "compare two rows or runs on the same test images"
    ),
    "recommend": Command(
        RecommendArgs, "bench.cli.results:recommend_one", "recommend a model under limits on latency, recall and size"
    ),
    "audit": Command(AuditArgs, "bench.cli.data:show_audit", "list unusable files and duplicates of a data set"),
    "predict": Command(
        PredictArgs, "bench.cli.predict:show_predictions", "predict the classes of photos with exported models"
    ),
    "models": Command(ModelsArgs, "bench.cli.run:show_models", "list the known models"),
    "data": Command(DataArgs, "bench.cli.data:show_datasets", "list the named data sets, or download some"),
}
"""Commands by name."""


def usage() -> str:
    """Return the overview of all commands."""
    lines = [f"  {name:<15} {command.text}" for name, command in COMMANDS.items()]
    flags = [
        "COMMAND --help shows its flags. Other flags: --version, --tyro-print-completion SHELL.",
        "imgcls-bench is the same command.",
    ]
    return "\n".join(["usage: python -m bench COMMAND [FLAGS]", "", *lines, "", *flags])


def version() -> str:
    """Return the version of the package, and the commit if it runs from a checkout."""
    commit, dirty = read_commit()
    code = f" (commit {commit[:8]}{', modified' if dirty else ''})" if commit else ""
    return f"imgcls-bench {importlib.metadata.version('imgcls-bench')}{code}"


def main(arguments: Sequence[str]) -> int:
    """Carry out one command, and return its exit status.

    0 success, 1 a run or a photo failed, 2 wrong arguments or data, or a full disk, 3 no model meets the limits, 130
    interrupted, 141 nobody reads the output.
    """
    try:
        return _carry_out(*arguments)
    except SystemExit as ended:  # tyro has printed its help or its error
        return int(ended.code or 0)
    except UserError as error:
        for mistake in error.errors if isinstance(error, GroupedConfigError) else (error,):
            print(f"error: {visible(' '.join(in_flags(mistake.message).split()))}", file=sys.stderr)  # noqa: T201
        return USER_ERROR_STATUS
    except BrokenPipeError:
        return BROKEN_PIPE_STATUS
    except OSError as error:
        if error.errno not in OF_THE_SYSTEM:
            raise
        # Of a run it is a failed row; here a table, a page or the output itself could not be written.
        print(f"error: {OF_THE_SYSTEM[error.errno]}: {visible(str(error))}", file=sys.stderr)  # noqa: T201
        return USER_ERROR_STATUS
    except KeyboardInterrupt:
        print("interrupted; repeat the command to continue", file=sys.stderr)  # noqa: T201
        return INTERRUPTED_STATUS


def _carry_out(name: str = "", *flags: str) -> int:
    if name in {"", "-h", "--help"}:
        print(usage(), flush=True)  # noqa: T201 - the help is this program's output
        return 0 if name else USER_ERROR_STATUS
    if name == "--version":
        print(version())  # noqa: T201
        return 0
    if name.startswith("--tyro-"):
        return complete({name: command.args for name, command in COMMANDS.items()}, [name, *flags])
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        message = f"unknown command {name!r}{hint}; known: {', '.join(COMMANDS)}"
        raise ConfigError(message)
    command = COMMANDS[name]
    plans = issubclass(command.args, PlanArgs)
    parsed: tuple[Any, ...] = parse_runs(command.args, flags, name) if plans else (parse(command.args, flags, name),)
    from bench.cli.display import new_console, showing_logs  # noqa: PLC0415 - a tenth of a second, not needed by --help

    data_only = isinstance(parsed[0], PredictArgs) and parsed[0].data_only
    with new_console(data_only=data_only) as console, showing_logs(console), terminate_as_interrupt():
        return command.load()(*parsed, console)
