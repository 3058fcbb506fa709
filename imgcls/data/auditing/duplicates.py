"""Duplicate images: exact ones by their pixels, near ones by perceptual hash, confirmed by pixels; and their groups."""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import combinations, pairwise
from typing import Final

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASHED_PX: Final = 32
"""Side of the grey images whose perceptual hash is computed."""
HASH_SIDE: Final = 8
HASH_BITS: Final = HASH_SIDE**2
MAX_HASH_DISTANCE: Final = 4
"""Bits of the 64-bit pHash that may differ; with 10, different images are chained into one group."""
MIN_CORRELATION: Final = 0.94
"""Correlation of two thumbnails' pixels that confirms a pair found by hash, whatever the exposure. Of TrashNet's 29
pairs, inspected one by one, 26 that show the same object reach 0.945, and 3 of different objects are below 0.935."""
FLAT_DIFFERENCE: Final = 12
"""Grey levels by which two thumbnails may differ if one of them is uniform, so that correlation is undefined."""
MAX_GROUP_SHARE: Final = 0.01
"""A group of near-duplicates with more than this share of the images may be a chain; all its pairs are checked."""
DENSE: Final = 500
"""If more images share a band of their hashes, most of them show one scene; comparing all pairs would be quadratic."""
MANY: Final = 100_000
"""More images are searched by keys of 27 bits and not of 12: the bits of photographs' hashes are not independent, and
of a million photographs most would share a band with more than ``DENSE`` others that they do not resemble."""
FEW_BANDS: Final = (5, 1)
MANY_BANDS: Final = (7, 3)
"""Number of bands, and how many of them are equal in hashes that differ in at most ``MAX_HASH_DISTANCE`` bits."""
MIN_GROUP: Final = 2

Pair = tuple[int, int]


def pixel_digest(image: Image.Image) -> str:
    """Return a hash of the pixels of an RGB image, 32 hexadecimal digits."""
    # The size is hashed as well, because images of 2 x 8 and 4 x 4 pixels can have the same bytes.
    header = f"{image.width}x{image.height}:".encode()
    return hashlib.sha256(header + image.tobytes()).hexdigest()[:32]


def perceptual_hashes(grey: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the pHash of grey images ``[N, 32, 32]``: which of the 8 x 8 lowest frequencies exceed their median.

    Equal to ``imagehash.phash`` to the bit, and many times as fast for a batch.
    """
    low = scipy.fft.dct(scipy.fft.dct(grey.astype(np.float64), axis=1), axis=2)[:, :HASH_SIDE, :HASH_SIDE]
    flat = low.reshape(len(grey), HASH_BITS)
    bits = flat > np.median(flat, axis=1, keepdims=True)
    hashes: NDArray[np.uint64] = np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)
    return hashes


def first_of_each(size: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first image of each image's group, ``[size]``, where ``pairs``, ``[P, 2]``, are in one group each."""
    links = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    number, group = connected_components(links, directed=False)
    first: NDArray[np.int64] = np.full(number, size, dtype=np.int64)
    np.minimum.at(first, group, np.arange(size))
    of_image: NDArray[np.int64] = first[group]
    return of_image


def pairs_of(groups: Iterable[list[int]]) -> NDArray[np.int64]:
    """Return pairs that join the members of each group, ``[P, 2]``."""
    pairs = [(first, other) for first, *others in groups for other in others]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def members_of(keys: NDArray[np.generic]) -> list[list[int]]:
    """Return the positions of each key that occurs more than once, in the order of their first one."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(keys) else order
    sizes = np.diff(np.r_[starts, len(keys)])
    several = sizes >= MIN_GROUP
    return sorted(
        order[start : start + size].tolist() for start, size in zip(starts[several], sizes[several], strict=True)
    )


def near_groups(
    hashes: NDArray[np.uint64], thumbnails: NDArray[np.uint8], *, largest: int
) -> tuple[list[list[int]], int]:
    """Return groups of near-duplicates, as indices, and the number of chains that were divided.

    ``hashes`` is ``[N]``, ``thumbnails`` is ``[N, S, S, 3]``. Images that hardly differ, such as frames of a fixed
    camera, are first grouped around leaders, in nearly linear time; a leader then stands for its group when all other
    images are compared in pairs.
    """
    crowded = [bucket for bucket in _buckets(hashes) if len(bucket) > DENSE]
    dense = np.unique(np.concatenate(crowded)) if crowded else np.zeros(0, dtype=np.int64)
    clusters = _around_leaders(hashes, thumbnails, dense)
    followers = [index for cluster in clusters.values() for index in cluster[1:]]
    rest = np.setdiff1d(np.arange(len(hashes)), np.array(followers, dtype=np.int64))
    pairs = near_pairs(hashes[rest], thumbnails[rest])
    groups, broken = group_pairs(len(rest), pairs, largest=largest)
    paired = [[int(rest[position]) for position in group] for group in groups]
    alone = set(clusters) - {index for group in paired for index in group}
    whole = [sorted({member for index in group for member in clusters.get(index, [index])}) for group in paired]
    return sorted([*whole, *(clusters[leader] for leader in alone if len(clusters[leader]) >= MIN_GROUP)]), broken


def near_pairs(hashes: NDArray[np.uint64], thumbnails: NDArray[np.uint8]) -> list[tuple[int, Pair]]:
    """Return the pairs within ``MAX_HASH_DISTANCE`` bits that their thumbnails confirm, as (distance, (i, j)).

    The hash is divided into five bands of bits. Two hashes that differ in at most four bits are equal in at least one
    band (Manku, Jain and Das Sarma 2007), so that only images that share a band are compared; of seven bands, three
    are equal. Bands that more than ``DENSE`` images share are skipped: see ``near_groups``.
    """
    distances: dict[Pair, int] = {}
    for bucket in _buckets(hashes):
        if len(bucket) <= DENSE:
            bits = np.bitwise_count(hashes[bucket][:, None] ^ hashes[bucket][None, :])
            for first, second in zip(*np.nonzero(np.triu(bits <= MAX_HASH_DISTANCE, 1)), strict=True):
                distances[int(bucket[first]), int(bucket[second])] = int(bits[first, second])
    return sorted((distance, pair) for pair, distance in distances.items() if same_picture(*thumbnails[list(pair)]))


def _buckets(hashes: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """Yield the images of each set whose hashes agree in so many bands of bits, two images or more, in order."""
    bands, equal = FEW_BANDS if len(hashes) <= MANY else MANY_BANDS
    edges = np.linspace(0, HASH_BITS, bands + 1).astype(int).tolist()
    masks = [(1 << high) - (1 << low) for low, high in pairwise(edges)]
    for chosen in combinations(masks, equal):
        yield from map(np.array, members_of(hashes & np.uint64(sum(chosen))))


def _around_leaders(
    hashes: NDArray[np.uint64], thumbnails: NDArray[np.uint8], indices: NDArray[np.int64]
) -> dict[int, list[int]]:
    """Return groups of images by their leaders: each image joins the nearest earlier leader that it resembles.

    An image without one becomes a leader. Every image is compared with leaders only, so that the time grows with the
    number of groups and not with that of pairs.
    """
    leaders: list[int] = []
    members: dict[int, list[int]] = {}
    leader_hashes = np.zeros(len(indices), dtype=np.uint64)
    for index in indices.tolist():
        bits = np.bitwise_count(leader_hashes[: len(leaders)] ^ hashes[index])
        near = np.flatnonzero(bits <= MAX_HASH_DISTANCE)
        by_distance = (leaders[position] for position in near[np.argsort(bits[near], kind="stable")])
        leader = next(
            (candidate for candidate in by_distance if same_picture(thumbnails[candidate], thumbnails[index])), None
        )
        if leader is None:
            leader_hashes[len(leaders)] = hashes[index]
            leaders.append(index)
            leader = index
        members.setdefault(leader, []).append(index)
    return members


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
    groups, broken = [], 0
    for members in members_of(first_of_each(count, np.array(ordered, dtype=np.int64).reshape(-1, 2))):
        # Size alone is no criterion: four copies of one photograph exceed 1 % of a small set. A large group is divided
        # only if it is a chain, in which not every pair is confirmed.
        parts = [members]
        if len(members) > largest:
            inside = set(members)
            parts = _mutual([pair for pair in ordered if pair[0] in inside])
        broken += len(parts) > 1
        groups += parts
    return sorted(groups), broken


def _mutual(ordered: list[Pair]) -> list[list[int]]:
    """Merge the pairs, in order, into groups in which every image is paired with every other."""
    confirmed = {frozenset(pair) for pair in ordered}
    group_of: dict[int, list[int]] = {index: [index] for pair in ordered for index in pair}
    for first, second in ordered:
        group, other = group_of[first], group_of[second]
        if group is not other and all(frozenset((i, j)) in confirmed for i in group for j in other):
            group += other
            group_of.update(dict.fromkeys(other, group))
    # The members of a group share one list, so that its id identifies the group.
    groups = {id(group): sorted(group) for group in group_of.values() if len(group) >= MIN_GROUP}
    return list(groups.values())
