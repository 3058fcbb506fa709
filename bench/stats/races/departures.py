"""Who leaves a race: the levels of its tests, and which candidates are significantly worse than another one.

``right`` ``[K, N]`` is whether each of K candidates is correct on each of N val images, and ``groups`` ``[N]`` the
group of each image; None: all images are independent.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.stats.groups import Groups
from bench.stats.pairs import ALPHA, Right, compare_all


def levels_of(rounds: Sequence[bool]) -> tuple[float, ...]:
    """Return the level of the tests after each round; they sum to 0.05.

    ``rounds`` states which rounds train all layers; the others, of frozen features, have none. A union bound: rounds
    share their images, so that neither alpha spending for independent increments nor anytime-valid tests apply.
    """
    # A candidate whose frozen features are significantly worse need not be worse when it is fine-tuned, and with many
    # val images nearly all are (docs/selection.md): such a round orders candidates, and excludes none by a test.
    tested = sum(rounds)
    return tuple(ALPHA / tested if trained else 0.0 for trained in rounds)


def least_groups(level: float, candidates: int) -> int:
    """Return how many independent images val needs for one of these candidates to be significantly worse.

    The smallest p value of an exact test of n independent images is ``2**(1 - n)``; Holm's first step multiplies it by
    the number of pairs.
    """
    assert level > 0
    assert candidates > 1
    pairs = candidates * (candidates - 1) / 2
    return int(np.ceil(1 + np.log2(pairs / level)))


def significantly_worse(right: Right, groups: Groups | None, level: float) -> NDArray[np.bool_]:
    """Return which candidates are significantly worse than another one ``[K]``, by Holm over all pairs at ``level``.

    The tests are those of a table: exact McNemar, or sign flips of the groups' sums.
    """
    if level == 0 or len(right) < 2:  # noqa: PLR2004 - a pair
        return np.zeros(len(right), dtype=bool)
    tests = compare_all(list(right[:, None, :]), groups)
    return np.asarray(((tests.holm <= level) & (tests.differences < 0)).any(axis=1))
