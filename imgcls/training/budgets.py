"""The budget of a training: how much of it is spent, and whether it ends."""

from dataclasses import dataclass

from imgcls.config import parse_budget
from imgcls.training.setup import TrainingSetup


@dataclass(kw_only=True, slots=True)
class Spent:
    """What a training has spent: steps, and seconds of steps and of the classifier's own fit, without evaluation.

    A resumed training starts with what its finished epochs have spent.
    """

    setup: TrainingSetup
    steps: int = 0
    seconds: float = 0.0

    @property
    def fraction(self) -> float:
        """The share of the budget that is spent, 0 to 1."""
        total = self.setup.total_steps
        share = self.seconds / limit_s(self.setup) if total is None else self.steps / total
        return min(share, 1.0)

    @property
    def ended(self) -> bool:
        """Whether the budget is spent."""
        return self.fraction >= 1


def limit_s(setup: TrainingSetup) -> float:
    """Return the seconds of a budget of minutes."""
    assert setup.train.budget is not None
    quantity, amount = parse_budget(setup.train.budget)
    assert quantity == "minutes"
    return 60 * amount
