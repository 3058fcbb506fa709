"""Near-duplicate images: found by perceptual hash, confirmed by their pixels, and grouped."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet

HASH_BITS: Final = 64
MAX_HASH_DISTANCE: Final = 4
"""Bits of the 64-bit pHash that may differ; with 10, different images are chained into one group."""
MIN_CORRELATION: Final = 0.94
"""Correlation of two thumbnails' pixels that confirms a pair found by hash, whatever the exposure. Of TrashNet's 29
pairs, inspected one by one, 26 that show the same object reach 0.945, and 3 of different objects are below 0.935."""
FLAT_DIFFERENCE: Final = 12
"""Grey levels by which two thumbnails may differ if one of them is uniform, so that correlation is undefined."""
MAX_GROUP_SHARE: Final = 0.01
"""A group of near-duplicates with more than this share of the images may be a chain; all its pairs are checked."""
MIN_GROUP: Final = 2

Pair = tuple[int, int]


def near_pairs(hashes: NDArray[np.uint64], thumbnails: NDArray[np.uint8]) -> list[tuple[int, Pair]]:
    """Return the pairs within ``MAX_HASH_DISTANCE`` bits that their thumbnails confirm, as (distance, (i, j)).

    ``hashes`` is ``[N]``, ``thumbnails`` is ``[N, S, S, 3]``. The hash is divided into five bands of bits. Two hashes
    that differ in at most four bits are equal in at least one band (Manku, Jain and Das Sarma 2007), so that only
    images that share a band are compared.
    """
    found = {}
    for pair in _sharing_a_band(hashes):
        # A pair may share several bands, and comparing pixels costs more than a look-up.
        distance = int(hashes[pair[0]] ^ hashes[pair[1]]).bit_count()
        if distance <= MAX_HASH_DISTANCE and pair not in found and same_picture(*thumbnails[list(pair)]):
            found[pair] = distance
    return sorted((distance, pair) for pair, distance in found.items())


def _sharing_a_band(hashes: NDArray[np.uint64]) -> Iterator[Pair]:
    bands = MAX_HASH_DISTANCE + 1
    edges = np.linspace(0, HASH_BITS, bands + 1).astype(int)
    values = [int(value) for value in hashes]
    for low, high in pairwise(edges):
        mask = (1 << int(high - low)) - 1
        # Quadratic in the size of a bucket. A band has 12 or 13 bits, so that a bucket holds hundreds of images if the
        # data set has a million.
        buckets: defaultdict[int, list[int]] = defaultdict(list)
        for index, value in enumerate(values):
            bucket = buckets[(value >> int(low)) & mask]
            yield from ((other, index) for other in bucket)
            bucket.append(index)


def same_picture(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> bool:
    """Return whether the pixels of two thumbnails of equal shape agree."""
    # Correlation, not difference: images of one object at two exposures are near-duplicates.
    a, b = first.astype(np.float64).ravel(), second.astype(np.float64).ravel()
    if a.std() == 0 or b.std() == 0:
        return bool(np.abs(a - b).max() <= FLAT_DIFFERENCE)
    return bool(np.corrcoef(a, b)[0, 1] >= MIN_CORRELATION)


def group_pairs(count: int, pairs: Iterable[tuple[int, Pair]], *, largest: int) -> tuple[list[list[int]], int]:
    """Join pairs into groups of two or more images; chains of more than ``largest`` images are divided.

    A divided chain leaves groups in which every pair is confirmed, formed from the nearest pairs first. Returns the
    groups and the number of chains that were divided.
    """
    ordered = [pair for _, pair in sorted(pairs)]
    joined = DisjointSet(range(count))
    for first, second in ordered:
        joined.merge(first, second)
    groups, broken = [], 0
    for members in joined.subsets():
        if len(members) < MIN_GROUP:
            continue
        # Size alone is no criterion: four copies of one photograph exceed 1 % of a small set. A large group is divided
        # only if it is a chain, in which not every pair is confirmed.
        parts = [sorted(members)]
        if len(members) > largest:
            parts = _mutual([pair for pair in ordered if pair[0] in members])
        broken += len(parts) > 1
        groups += parts
    return sorted(groups), broken


def _mutual(ordered: list[Pair]) -> list[list[int]]:
    """Merge the pairs, in order, into groups in which every image is paired with every other."""
    confirmed = {frozenset(pair) for pair in ordered}
    group_of: dict[int, list[int]] = {index: [index] for pair in ordered for index in pair}
    for first, second in ordered:
        one, other = group_of[first], group_of[second]
        if one is not other and all(frozenset((i, j)) in confirmed for i in one for j in other):
            one += other
            group_of.update(dict.fromkeys(other, one))
    # The members of a group share one list, so that its id identifies the group.
    groups = {id(group): sorted(group) for group in group_of.values() if len(group) >= MIN_GROUP}
    return list(groups.values())
