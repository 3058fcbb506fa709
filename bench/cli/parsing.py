"""Parsing of a command line into the flags of ``arguments`` with tyro, and into run configs."""

import contextlib
import io
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Final, TypeVar, cast, get_args

import tyro

from bench.cli.arguments import PlanArgs, RunAllArgs, RunArgs
from bench.config import DEFAULT_MODELS, FIELDS, RunConfig, value_of, with_values
from bench.recipes import RECIPES, configs_of
from imgcls.config import Imbalance
from imgcls.errors import ConfigError
from imgcls.messages import Message, Setting

Parsed = TypeVar("Parsed")

COMPLETION_FLAGS: Final = {"--tyro-print-completion": 2, "--tyro-write-completion": 3}
"""Tyro's own flags, each with the number of words of the flag and its values."""

SHELLS: Final = ("bash", "zsh", "fish")
"""Tyro has tcsh, too, but only with another package."""

MARKERS: Final = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)


ALIASES: Final = {"--augment": "--augmentation"}
"""Short names of flags."""

CROSSED: Final = {
    # Without balanced softmax, which is logit adjustment (``imgcls.training.losses``).
    ("--imbalance", "all"): tuple(name for name in get_args(Imbalance) if name != "balanced-softmax"),
    # It adjusts the finished training without a technique, which is carried out if there is none.
    ("--imbalance", "post-hoc"): ("none", "post-hoc"),
}
"""Values of flags that stand for several runs."""

AnyPlan = TypeVar("AnyPlan", bound=PlanArgs)


def named_fields(arguments: Sequence[str]) -> list[str]:
    """Return the fields of ``RunConfig`` whose flags are on a command line, whatever their values."""
    # Read from the words, because a parsed value does not show whether it was given: a flag with the recipe's own value
    # is an override too. Fields that are None unless given would show it, but would hide the defaults from --help.
    flags = [word[2:].partition("=")[0].replace("-", "_") for word in arguments if word.startswith("--")]
    return [name for name in dict.fromkeys(flags) if name in FIELDS]


def flag_of(setting: Setting) -> str:
    """Return a setting as a flag: ``--image-size``, ``--image-size 64`` or, for one without a value, ``--force``."""
    flag = f"--{setting.field.replace('_', '-')}"
    return flag if setting.value is None or setting.value is True else f"{flag} {setting.value}"


def in_flags(message: Message) -> str:
    """Return the text of a message, with settings as flags."""
    return "".join(flag_of(part) if isinstance(part, Setting) else part for part in message.parts)


def parse(kind: type[Parsed], arguments: Sequence[str], command: str, *, default: Parsed | None = None) -> Parsed:
    """Parse one command's flags; exits with status 2 and tyro's own message if they cannot be read.

    The given flags are printed first, because tyro's message may name a flag without its value.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed = tyro.cli(
                kind,
                prog=f"python -m bench {command}",
                args=list(arguments),
                default=default,
                config=MARKERS,
            )
            return cast("Parsed", parsed)
    except SystemExit as ended:
        if ended.code not in {0, None}:
            print(f"error: {command} {shlex.join(arguments)}", file=sys.stderr)  # noqa: T201
            sys.stderr.write(complaint.getvalue())
        raise


def complete(kinds: dict[str, type[Any]], arguments: Sequence[str]) -> int:
    """Print or write tyro's completion script of all commands, as tyro's own flags in ``arguments`` request."""
    flag, shell = arguments[0], arguments[1] if len(arguments) > 1 else "nothing"
    if flag not in COMPLETION_FLAGS:
        message = f"unknown flag {flag}; known: {', '.join(COMPLETION_FLAGS)}"
        raise ConfigError(message)
    if shell not in SHELLS or len(arguments) != COMPLETION_FLAGS[flag]:
        message = (
            f"{shlex.join(arguments)}: use {flag} with one of {', '.join(SHELLS)} (--tyro-write-completion: and a file)"
        )
        raise ConfigError(message)
    tyro.extras.subcommand_cli_from_dict(dict(kinds), prog="imgcls-bench", args=list(arguments), config=MARKERS)
    return 0


def parse_runs(kind: type[AnyPlan], arguments: Sequence[str], command: str) -> tuple[AnyPlan, list[RunConfig]]:
    """Parse the flags of a command; return them, and the config of each run, in which they override the recipe."""
    # The default is for --help only: a recipe's config depends on the model, so only flags that were given are read
    # from ``args.run``.
    arguments, techniques = _crossed(kind, arguments)
    # Of a field that is on by default, tyro makes a flag that switches it off: --no-no-hflip.
    help_config = with_values(RECIPES["quick"](DEFAULT_MODELS[0]), {"no_hflip": False})
    args = parse(kind, arguments, command, default=kind(run=help_config))
    overrides = {name: value_of(args.run, name) for name in named_fields(arguments)}
    configs = partial(configs_of, args.planned_models, data=args.data, recipe=args.recipe, seeds=args.seeds)
    return args, [config for technique in techniques for config in configs(overrides=overrides | technique)]


def _aliased(arguments: Sequence[str]) -> list[str]:
    """Return a command line with the flags' own names, and those that may be crossed apart from their values."""
    words = []
    for word in arguments:
        flag, sign, value = word.partition("=")
        flag = ALIASES.get(flag, flag)
        words += [flag, value] if (flag, value) in CROSSED else [f"{flag}{sign}{value}"]
    return words


def _crossed(kind: type[PlanArgs], arguments: Sequence[str]) -> tuple[list[str], list[dict[str, str]]]:
    """Return the words of a command without a flag that stands for several runs, and what each of these overrides."""
    # Here and not in the config, whose field is the technique of one run.
    words = _aliased(arguments)
    for index, pair in enumerate(pairwise(words)):
        names = CROSSED.get(pair, ())
        if names and (issubclass(kind, RunAllArgs) or (kind is RunArgs and "all" not in pair)):
            return words[:index] + words[index + 2 :], [{"imbalance": name} for name in names]
    return words, [{}]
