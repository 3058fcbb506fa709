"""Benchmark harness: many runs under one budget and one protocol, stored as records, compared in a leaderboard.

``docs/architecture.md`` describes the packages; commands start in ``cli.main``. ``bench.run_all`` is the command
``run-all`` as a function; it is imported when it is first used, as it loads torch.
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
