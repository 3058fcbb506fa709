"""Many runs under one budget, measured by one protocol, kept as records, compared in a leaderboard and a report.

``docs/architecture.md`` says where things go; ``cli.main`` is where a command starts. ``bench.run_all`` is the command
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
