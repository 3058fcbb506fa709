"""Simulated races: ``python -m tests.benchmarks.races`` prints the table of docs/selection.md.

The best candidate leads all others, which are equal, by 2 or 5 pp. The races are the command's, of made-up forms.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.selection.racing import run_race
from tests.bench.selection.made_up import STAGES, World, whole_s

BEST: Final = 0.92

LEADS: Final = (0.02, 0.05)

CANDIDATES: Final = (10, 30, 50)

RACES: Final = 100

PART: Final = 0.5
"""Part of the time of training all candidates that a race has."""

FINALISTS: Final = 5


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The worlds of a line of the table."""

    candidates: int
    lead: float
    images: int
    cluster: int

    def world(self, seed: int) -> World:
        accuracies = np.full(self.candidates, BEST - self.lead)
        # Not always the same number, by which equal candidates are ordered.
        accuracies[seed % self.candidates] = BEST
        return World(accuracies=accuracies, images=self.images, cluster=self.cluster, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Result:
    """Shares of races in which the best is a finalist, and would be after training all; mean regrets in pp."""

    kept: float
    ceiling: float
    regrets: dict[str, float]
    falsely_worse: float

    @property
    def ratio(self) -> float:
        return self.kept / self.ceiling


def cells() -> Iterator[Cell]:
    for candidates in CANDIDATES:
        for lead in LEADS:
            for images in (250, 1000):
                for cluster in (1, 4):
                    yield Cell(candidates=candidates, lead=lead, images=images, cluster=cluster)


def simulate(cell: Cell, *, races: int = RACES, part: float = PART, finalists: int = FINALISTS) -> Result:
    """Return the results of races of a cell; worlds are numbered, so that all rivals have the same ones."""
    kept, ceiling, falsely = [], [], []
    regrets: dict[str, list[float]] = {name: [] for name in ("race", *RIVALS)}
    for seed in range(races):
        world = cell.world(seed)
        limit_s = part * whole_s(world)
        race = world.race(limit_s, finalists=finalists)
        chosen = [finalist.number for finalist in run_race(race)]
        best = int(np.argmax(world.accuracies))
        ranked = sorted(range(cell.candidates), key=lambda number: -world.final(number))
        kept.append(best in chosen)
        ceiling.append(best in ranked[:finalists])
        left = race.ledger.entrants[best].left
        falsely.append(left is not None and left.reason == "significantly worse")
        picks = {"race": chosen[0]} | {name: pick(cell.world(seed), limit_s) for name, pick in RIVALS.items()}
        for name, pick in picks.items():
            regrets[name].append(100 * (BEST - float(world.accuracies[pick])))
    return Result(
        kept=float(np.mean(kept)),
        ceiling=float(np.mean(ceiling)),
        regrets={name: float(np.mean(values)) for name, values in regrets.items()},
        falsely_worse=float(np.mean(falsely)),
    )


def _best(world: World, numbers: list[int], index: int) -> int:
    return max(numbers, key=lambda number: world.right(number, index).mean())


def by_features(world: World, _limit_s: float) -> int:
    """Return the best candidate by frozen features alone."""
    return _best(world, list(range(len(world.accuracies))), 0)


def uniformly(world: World, limit_s: float) -> int:
    """Return the best candidate of the longest form that all candidates can have in the time."""
    costs, entrant = world.race(1.0).costs, world.entrants()[0]
    numbers = list(range(len(world.accuracies)))
    spent_s, reached = 0.0, 0
    for index in range(len(STAGES)):
        spent_s += len(numbers) * costs.stage_s(entrant, index)
        if spent_s > limit_s:
            break
        reached = index
    return _best(world, numbers, reached)


def by_halving(world: World, limit_s: float) -> int:
    """Return the winner of plain successive halving over the forms: the best half goes on, whatever the time."""
    del limit_s
    numbers = list(range(len(world.accuracies)))
    for index in range(len(STAGES)):
        numbers.sort(key=lambda number: -world.right(number, index).mean())
        numbers = numbers[: max(1, len(numbers) // 2)]
    return numbers[0]


RIVALS: Final[dict[str, Callable[[World, float], int]]] = {
    "uniform": uniformly,
    "halving": by_halving,
    "features": by_features,
}


HEAD: Final = """\
| Candidates | Lead, pp | Val images | Kept | Ceiling | Ratio | Regret, pp: race | uniform | halving | features |
|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"""


def main(part: float = PART, races: int = RACES) -> None:
    """Print the table."""
    _print(f"{races} races a line, {part:.0%} of the time of training all, {FINALISTS} finalists\n{HEAD}")
    for cell in cells():
        result = simulate(cell, part=part, races=races)
        images = f"{cell.images:,}" + (f" in groups of {cell.cluster}" if cell.cluster > 1 else "")
        regrets = " | ".join(f"{value:.2f}" for value in result.regrets.values())
        shares = f"{result.kept:.2f} | {result.ceiling:.2f} | {result.ratio:.2f}"
        _print(f"| {cell.candidates} | {100 * cell.lead:.0f} | {images} | {shares} | {regrets} |")


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]), *map(int, sys.argv[2:]))
