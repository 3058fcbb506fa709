"""The time of a race: what each form and each finalist is expected to take, and what fits into the minutes."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.latency.protocol import QUICK
from bench.selection.forms import Stage
from bench.selection.records import Entrant

FEATURES_SHARE: Final = 0.5
"""Share of train whose frozen features the first round uses."""

PARTS_OF_EPOCHS: Final = (0.2, 0.6, 1.0)
"""Share of a training's epochs after which each further round compares."""

BACKWARD: Final = 3.0
"""Forward passes that a training step of an image costs, until the race has measured it."""

START_S: Final = 3.0
"""Seconds for which a process opens the data and builds a network."""

FINISH_S: Final = 15.0
"""Seconds for which a finalist is exported, compared and counted."""

MEASURE_S: Final = 2 * (QUICK.model_s + 1.0)
"""Seconds for which a finalist is measured in two runtimes."""

PAGE_S: Final = 20.0
"""Seconds for the processes of the measurement, the tables and the page."""

NEXT_PART: Final = 0.6
"""Part of the remaining time that a round of training may take before the last one; chosen by simulation."""

LAST_PART: Final = 0.8
"""Part of the time that the last round may take; the rest is for further seeds of the finalists."""


def stages_of(epochs: int) -> tuple[Stage, ...]:
    """Return the rounds of a race whose trainings have a number of epochs."""
    ends = dict.fromkeys(max(1, round(part * epochs)) for part in PARTS_OF_EPOCHS)
    return Stage(share=FEATURES_SHARE), *(Stage(epochs=end, of_epochs=epochs) for end in ends)


@dataclass(frozen=True, kw_only=True, slots=True)
class Images:
    """Numbers of images of each split."""

    train: int
    val: int
    test: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """Expected seconds; ``prefit`` is whether a training begins with the fit of its classifier."""

    stages: tuple[Stage, ...]
    images: Images
    prefit: bool

    def stage_s(self, entrant: Entrant, index: int, entrants: Sequence[Entrant] = ()) -> float:
        """Return the seconds of a round for a candidate that has finished those before it.

        They are corrected by what the forms of ``entrants`` took, in rounds of the same kind.
        """
        return self._modelled_s(entrant, index) * self._correction(self.stages[index].trains, entrants)

    def rest_s(self, entrant: Entrant, index: int, entrants: Sequence[Entrant] = ()) -> float:
        """Return the seconds of a candidate from a round to the last one."""
        return sum(self.stage_s(entrant, later, entrants) for later in range(index, len(self.stages)))

    def finish_s(self, entrant: Entrant) -> float:
        """Return the seconds for which the run of a finalist is evaluated, exported and checked."""
        images = self.images
        passes = 2 * images.val + min(images.train, images.val) + 3 * images.test
        return FINISH_S + entrant.forward_s * passes

    def seed_s(self, entrant: Entrant, entrants: Sequence[Entrant] = ()) -> float:
        """Return the seconds of a whole further run."""
        trained = next(index for index, stage in enumerate(self.stages) if stage.trains)
        return self.rest_s(entrant, trained, entrants) + self.finish_s(entrant)

    def end_s(self, finalists: Sequence[Entrant]) -> float:
        """Return the seconds from the last round to the page, if the finalists have one seed each."""
        return PAGE_S + sum(self.finish_s(entrant) + MEASURE_S for entrant in finalists)

    def least_s(self, entrants: Sequence[Entrant]) -> float:
        """Return the seconds in which all candidates finish the first round, and the cheapest one becomes a row."""
        first = sum(self.stage_s(entrant, 0) for entrant in entrants)
        return first + min(self.rest_s(entrant, 1) + self.end_s([entrant]) for entrant in entrants)

    def _modelled_s(self, entrant: Entrant, index: int) -> float:
        stage, images = self.stages[index], self.images
        # Val once more, by the selected weights.
        if not stage.trains:
            return START_S + entrant.forward_s * (stage.share * images.train + 2 * images.val)
        before = self.stages[index - 1]
        epochs = stage.epochs - before.epochs
        fitted = images.train + images.val if self.prefit and not before.trains else 0
        return START_S + entrant.forward_s * (BACKWARD * images.train * epochs + images.val * (epochs + 1) + fitted)

    def _correction(self, trains: bool, entrants: Sequence[Entrant]) -> float:  # noqa: FBT001 - a kind of round
        ratios = [
            scored.seconds / self._modelled_s(entrant, scored.round)
            for entrant in entrants
            for scored in entrant.scores
            if self.stages[scored.round].trains == trains
        ]
        return statistics.median(ratios) if ratios else 1.0
