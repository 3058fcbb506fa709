"""Two versions side by side: rounds of the same work in turn, the same photos labelled, the same model counted."""

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.stats.intervals import Interval
from tests.regression import judge
from tests.regression.versions import (
    Probe,
    Trained,
    TrainingFailedError,
    Version,
    ask,
    probe,
    receive,
    send,
    snapshot,
    train,
    worktree,
)

ROUNDS: Final = 36
PADDING: Final = 1040
"""Bytes of environment between the layouts of two pairs: 16 more than a kibibyte."""
PAIRS: Final = 4
"""Processes of each version, used in turn: two processes of one version may differ by where their memory lies."""
REQUEST_S: Final = 0.04
"""CPU time of one request, in seconds."""
CLOCKS: Final = ("cpu_s", "wall_s")
"""CPU time is the steadier on a busy machine; the clock on the wall also sees what only waits."""

Pair = tuple[Probe, Probe]
Ratio = dict[str, float]
"""Head over base in one round, for each clock."""


class NotInBaseError(Exception):
    """The base does not have what a case calls."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sides:
    """Base and head, each trained by its own code; a head that cannot train is an alarm, not the end."""

    base: Version
    head: Version
    base_trained: Trained
    head_trained: Trained | TrainingFailedError


@contextlib.contextmanager
def two_trees(base: Path, head: Path) -> Iterator[tuple[Version, Version]]:
    """Return both versions empty folders to write in."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder).resolve()
        yield Version(name="base", tree=base, home=home / "base"), Version(name="head", tree=head, home=home / "head")


@contextlib.contextmanager
def two_versions(revision: str) -> Iterator[Sides]:
    """Train a revision and the code as it is here; raises ConfigError for a revision that git does not know."""
    with worktree(revision) as tree, snapshot() as copy, two_trees(tree, copy) as (base, head):
        with ThreadPoolExecutor() as pool:  # one core each
            of_head = pool.submit(train_or_error, head)
            of_base = train(base)
        yield Sides(base=base, head=head, base_trained=of_base, head_trained=of_head.result())


def train_or_error(version: Version) -> Trained | TrainingFailedError:
    """Return what a training left, or why it left nothing."""
    try:
        return train(version)
    except TrainingFailedError as error:
        return error


def both_trained(sides: Sides) -> tuple[Trained, Trained]:
    """Return what both trainings left; raises TrainingFailedError where the head's failed."""
    if isinstance(sides.head_trained, TrainingFailedError):
        raise sides.head_trained
    return sides.base_trained, sides.head_trained


@contextlib.contextmanager
def fresh_pairs(base: Version, head: Version, model: Path, count: int = PAIRS) -> Iterator[list[Pair]]:
    """Start processes of both versions."""
    with contextlib.ExitStack() as stack:
        yield [
            (stack.enter_context(probe(base, model, padding)), stack.enter_context(probe(head, model, padding)))
            for padding in (PADDING * number for number in range(count))
        ]


def repetitions(pairs: list[Pair], case: str) -> int:
    """Warm up, and say how often the work is done in a request; raises NotInBaseError, and RuntimeError for head."""
    for process in itertools.chain(*pairs):
        send(process, {"prepare": case})
    answers = [[receive(process).get("not_there") for process in pair] for pair in pairs]
    lacks = [next(filter(None, side), None) for side in zip(*answers, strict=True)]
    if lacks[0]:
        raise NotInBaseError(lacks[0])
    if lacks[1]:
        message = f"{case}: the base has it, the head does not ({lacks[1]})"
        raise RuntimeError(message)
    few = 3
    once_s = ask(pairs[0][0], {"case": case, "repetitions": few})["cpu_s"] / few
    return max(1, round(REQUEST_S / once_s))


def one_round(pairs: list[Pair], case: str, count: int, number: int) -> Ratio:
    """Let both versions of a pair do the same work; who is first, and which pair, changes from round to round."""
    base, head = pairs[number % len(pairs)]
    order = (base, head) if number // len(pairs) % 2 else (head, base)
    answers = {process.pid: ask(process, {"case": case, "repetitions": count}) for process in order}
    return {clock: answers[head.pid][clock] / answers[base.pid][clock] for clock in CLOCKS}


def rounds(pairs: list[Pair], case: str, number: int = ROUNDS) -> list[Ratio]:
    """Time a case in pairs that are not warm yet."""
    count = repetitions(pairs, case)
    return [one_round(pairs, case, count, turn) for turn in range(number)]


def intervals(ratios: list[Ratio]) -> dict[str, Interval]:
    """95 % interval of head over base for each clock."""
    return {clock: judge.ratio_interval([ratio[clock] for ratio in ratios]) for clock in CLOCKS}


def slower_clocks(ratios: list[Ratio]) -> set[str]:
    """Name the clocks by which the head is slower."""
    return {clock for clock in CLOCKS if judge.slower([ratio[clock] for ratio in ratios])}


def label_both(pair: Pair, photos: list[Path]) -> tuple[list[str], list[str]]:
    """Let base and head label the same photos with the same model, each through its own code."""
    base, head = (ask(process, {"label": [str(photo) for photo in photos]})["labels"] for process in pair)
    return base, head


def photos_of(version: Version) -> list[Path]:
    """All images of the embedded set, as this version wrote them; the folder's name is the class."""
    return sorted((version.home / "cache" / "datasets" / "digits").glob("*/*.png"))


def counts(trained: Trained) -> dict[str, float]:
    """Return what must not change unnoticed: parameters, GMACs, and ONNX nodes by type."""
    model: dict[str, Any] = trained.record["outcome"]["model"]
    return {name: model[name] for name in ("num_params", "gmacs")} | judge.operators(trained.operators)


def tested(sides: Sides) -> judge.Paired:
    """Compare what the two trained models say of the test images that both have; raises ValueError for none."""
    base, head = both_trained(sides)
    of_head = dict(zip(head.image_ids, head.predicted, strict=True))
    rows = zip(base.image_ids, base.labels, base.predicted, strict=True)
    shared = [(label, said, of_head[image]) for image, label, said in rows if image in of_head]
    if not shared:
        message = "base and head share no test image, so their predictions cannot be compared"
        raise ValueError(message)
    return judge.paired(*zip(*shared, strict=True))
