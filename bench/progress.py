"""Progress events: typed messages that are sent through ``logging`` and drawn by a handler.

A module logs an event instead of a text, as in ``LOGGER.debug(Count(...))`` ("Using arbitrary objects as messages" in
the logging documentation of Python). ``str(event)`` is its plain line, ``event.__rich__()`` its drawing on a terminal.
"""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from imgcls.training.events import EpochResult, HeadFit, Report, Rung, Step

if TYPE_CHECKING:
    from rich.console import RenderableType

    from imgcls.parallel import OnProgress

LOGGER = logging.getLogger(__name__)

LOGGERS: Final = ("bench", "imgcls")
"""Loggers whose records are shown. Not the root logger, which also receives the records of libraries."""

READ_BACK_S: Final = 0.2
"""A shorter step was read from an interrupted measurement, and is not used to estimate the remaining time."""

BAR_WIDTH: Final = 30


class Count(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """``done`` of ``total`` items; logged at DEBUG, because there are too many of these events for a line each."""

    title: str
    done: int
    total: int
    left_s: float

    def __str__(self) -> str:
        """Return the plain line."""
        return f"{self.title}: {self.done:,} of {self.total:,}"

    def __rich__(self) -> "RenderableType":
        """Return a bar with the time left."""
        return _bar(str(self), self.done, self.total, self.left_s)

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to draw."""
        return self.done >= self.total


class Epoch(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The result of an epoch; ``left_s`` is the estimated time until the last epoch ends.

    ``epochs`` is None if the budget is a time.
    """

    result: EpochResult
    epochs: int | None
    left_s: float

    def __str__(self) -> str:
        """Return the plain line."""
        result = self.result
        speed = result.images / result.train_time_s if result.train_time_s else 0.0
        return (
            f"  epoch {_of(result.epoch, self.epochs, '/')}: loss {result.train_loss:.3f}, val {result.val_loss:.3f}; "
            f"val top-1 {100 * result.val_top1_accuracy:.1f} %; {speed:.0f} images/s; {clock_text(self.left_s)} left"
        )


class Timing(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The last finished step of a measurement, and its progress in expected seconds."""

    step: str
    done_s: float
    expected_s: float
    left_s: float

    def __str__(self) -> str:
        """Return the plain line."""
        share = f"{100 * self.done_s / self.expected_s:.0f} %"
        return f"  measuring {share}: {self.step}, {self.left_s / 60:.0f} min left"

    def __rich__(self) -> "RenderableType":
        """Return a bar with the time left."""
        return _bar(f"measuring: {self.step}", self.done_s, self.expected_s, self.left_s)

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to draw."""
        return self.done_s >= self.expected_s


# msgspec structs with tags, so that an event keeps its type on the way through JSON.
Event = Count | Epoch | Timing
"""The events that a worker process forwards to its caller."""


def _bar(text: str, done: float, total: float, left_s: float) -> "RenderableType":
    # Imported here, because measuring processes import this module and must not load what they do not time.
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    row = Table.grid(padding=(0, 1))
    row.add_row(text, ProgressBar(total=total, completed=done, width=BAR_WIDTH), clock_text(left_s))
    return row


def clock_text(seconds: float) -> str:
    """Return a duration as minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def counting(title: str) -> "OnProgress":
    """Return a callback that logs how many items are done."""
    began = time.perf_counter()

    def count(done: int, total: int) -> None:
        left_s = (time.perf_counter() - began) / max(done, 1) * (total - done)
        LOGGER.debug(Count(title=title, done=done, total=total, left_s=left_s))

    return count


def training(title: str) -> Report:
    """Return a callback that logs the steps and epochs of a training."""
    began = time.perf_counter()
    steps: list[Step] = []
    first_s = 0.0

    def report(event: Step | Rung | EpochResult | HeadFit) -> None:
        nonlocal first_s
        if isinstance(event, Step):
            # The first, for what had been done before a resumption, and the last.
            first_s = first_s or time.perf_counter() - began
            steps[1:] = [event]
            left_s = event.train_time_s / event.images * (event.total_images - event.images)
            LOGGER.debug(
                Count(
                    title=f"{title}, epoch {_of(event.epoch, event.epochs, ' of ')}",
                    done=event.images,
                    total=event.total_images,
                    left_s=left_s,
                )
            )
        elif isinstance(event, EpochResult):
            # Without steps it is the fit of the classifier alone, which is the whole training.
            epochs, first, last = (steps[-1].epochs, steps[0].fraction, steps[-1].fraction) if steps else (1, 0.0, 1.0)
            elapsed_s = time.perf_counter() - began
            # From the first step on or, if it is the only one, as if the training had begun with it.
            spent_s, done = (elapsed_s - first_s, last - first) if last > first else (elapsed_s, last)
            left_s = spent_s * (1 - last) / done
            LOGGER.info(Epoch(result=event, epochs=epochs, left_s=left_s))

    return report


def _of(epoch: int, epochs: int | None, between: str) -> str:
    """Return the number of an epoch, and of all epochs if that is known."""
    return str(epoch) if epochs is None else f"{epoch}{between}{epochs}"


StepDone = Callable[[str, float], None]
"""Receives the name of a finished step and its expected duration in seconds."""


def timing(expected_s: float) -> StepDone:
    """Return a callback that logs the steps of a measurement; ``expected_s`` is the expected duration of all steps."""
    last, done, counted_s, took_s = time.perf_counter(), 0.0, 0.0, 0.0

    def step(name: str, weight_s: float) -> None:
        nonlocal last, done, counted_s, took_s
        took, last, done = time.perf_counter() - last, time.perf_counter(), done + weight_s
        if took > READ_BACK_S:
            counted_s, took_s = counted_s + weight_s, took_s + took
        # Corrected by the ratio of actual to expected durations so far, as machines differ in speed.
        left_s = (expected_s - done) * (took_s / counted_s if counted_s else 1.0)
        LOGGER.info(Timing(step=name, done_s=done, expected_s=expected_s, left_s=left_s))

    return step
