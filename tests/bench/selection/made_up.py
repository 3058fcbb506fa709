"""Races of made-up forms, whose scores are drawn: no network is trained, and the clock is counted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from bench.runs.plan import Task
from bench.selection.forms import Form, FormTask, packed
from bench.selection.racing import Race
from bench.selection.records import Entrant, Ledger
from bench.selection.schedule import Costs, Images, stages_of

STAGES = stages_of(5)

FORM_ERROR = (0.02, 0.01, 0.007, 0.003)
"""Standard deviation, as a fraction of accuracy, of what a form's expected accuracy says of the full training's."""


@dataclass(kw_only=True)
class World:
    """Candidates with known accuracies after a full training, and the time that has passed."""

    accuracies: NDArray[np.float64]
    images: int = 250
    cluster: int = 1
    seed: int = 0
    forward_s: NDArray[np.float64] | None = None
    now_s: float = 0.0
    trained: list[tuple[int, int]] = field(default_factory=list)
    errors: dict[tuple[int, int], str] = field(default_factory=dict)
    form_error: tuple[float, ...] = FORM_ERROR

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        count = len(self.accuracies)
        hard = self._images(rng)
        # As in ``tests.helpers.correlated``: most of an image's difficulty is shared by all models.
        self._ease = np.stack([np.sqrt(0.6) * hard + np.sqrt(0.2) * self._images(rng) for _ in range(count)])
        self._rng = rng
        # Differences between forms and the full training: relative to each other, as all forms improve together.
        self._shift = np.stack([rng.normal(0, error, count) for error in self.form_error], axis=1)
        self._noise = [np.stack([self._images(rng) for _ in range(count)]) for _ in self.form_error]

    def _images(self, rng: np.random.Generator) -> NDArray[np.float64]:
        if self.cluster == 1:
            return rng.normal(size=self.images)
        together = rng.normal(size=-(-self.images // self.cluster)).repeat(self.cluster)[: self.images]
        return np.sqrt(0.8) * together + np.sqrt(0.2) * rng.normal(size=self.images)

    @property
    def groups(self) -> NDArray[np.int64] | None:
        return None if self.cluster == 1 else np.arange(self.images) // self.cluster

    def right(self, number: int, index: int) -> NDArray[np.bool_]:
        accuracy = np.clip(self.accuracies[number] + self._shift[number, index], 0.01, 0.999)
        # Unit variance, so that the threshold is that of the accuracy.
        return self._ease[number] + np.sqrt(0.2) * self._noise[index][number] < norm.ppf(accuracy)

    def final(self, number: int) -> float:
        return float(self.right(number, len(STAGES) - 1).mean())

    def entrants(self) -> list[Entrant]:
        forward_s = np.ones(len(self.accuracies)) / 100 if self.forward_s is None else self.forward_s
        return [
            Entrant(number=number, model=f"net{number}", image_size=64, forward_s=float(seconds))
            for number, seconds in enumerate(forward_s)
        ]

    def crew(self, costs: Costs, *, stop_after: int | None = None) -> Callable[..., Iterator[Any]]:
        by_number = {entrant.number: entrant for entrant in self.entrants()}

        def train(forms: Iterator[FormTask]) -> Iterator[tuple[FormTask, Form, float]]:
            for form in forms:
                if stop_after is not None and len(self.trained) >= stop_after:
                    raise KeyboardInterrupt
                index = STAGES.index(form.stage)
                seconds = costs.stage_s(by_number[form.number], index)
                self.now_s += seconds
                self.trained.append((form.number, index))
                if error := self.errors.get((form.number, index)):
                    yield form, Form(error=error), seconds
                else:
                    yield form, Form(right=packed(self.right(form.number, index))), seconds

        return train

    def race(
        self, limit_s: float, *, finalists: int = 3, ledger: Ledger | None = None, stop_after: int | None = None
    ) -> Race:
        costs = Costs(stages=STAGES, images=Images(train=1000, val=self.images, test=250), prefit=True)
        return Race(
            ledger=ledger or Ledger(self.entrants()),
            tasks={number: cast("Task", SimpleNamespace()) for number in range(len(self.accuracies))},
            stages=STAGES,
            costs=costs,
            crew=self.crew(costs, stop_after=stop_after),
            val_images=self.images,
            val_groups=self.groups,
            finalists=finalists,
            limit_s=limit_s,
            clock=lambda: self.now_s,
        )


def whole_s(world: World) -> float:
    """Return the seconds that training all candidates fully takes, with their first round and the finals."""
    race = world.race(1.0)
    entrants = world.entrants()
    return sum(race.costs.rest_s(entrant, 0) for entrant in entrants) + race.costs.end_s(entrants[:3])
