"""Benchmark harness: many runs under one budget and one protocol, stored as records, compared in a leaderboard.

Start with ``cli.main``, or with ``harness.run_all``, which is the command ``run-all`` as a function. It is exported
here, and imported when it is first used, as it loads torch. ``docs/architecture.md`` describes the packages.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.harness import run_all

__all__ = ["run_all"]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in __all__:
        message = f"module 'bench' has no attribute {name!r}"
        raise AttributeError(message)
    from bench import harness  # noqa: PLC0415 - loads torch

    return getattr(harness, name)
