"""What a person sees of work in progress: a live bar on a terminal, plain lines elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from imgcls.training.events import EpochResult

Advance = Callable[[int, int], None]
EpochLine = Callable[[EpochResult], None]


@contextlib.contextmanager
def counting(console: Console, title: str) -> Iterator[Advance]:
    """Show (done, total) as a bar on a terminal, and nothing elsewhere."""
    with _bar(console) as bar:
        task = bar.add_task(escape(title), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def waiting(console: Console, title: str) -> Iterator[None]:
    """Show on a terminal that work waits; redrawn once a second, beside what others may be timing."""
    with _bar(console, per_second=1) as bar:
        bar.add_task(escape(title), total=None)
        yield


StepDone = Callable[[str, float], None]
"""Called when a step is done, with its name and the seconds that it was expected to take."""
READ_BACK_S: Final = 0.2
"""A step that took less was not carried out but read back, and tells nothing of the time left."""


@contextlib.contextmanager
def steps(console: Console, title: str, expected_s: float) -> Iterator[StepDone]:
    """Show a bar over expected seconds, with the time left; redrawn once a second, beside what is timed.

    Elsewhere than on a terminal each step is a line.
    """
    last, done, counted_s, took_s = time.perf_counter(), 0.0, 0.0, 0.0
    with _bar(console, per_second=1) as bar:
        task = bar.add_task(escape(title), total=round(expected_s))

        def step(name: str, weight_s: float) -> None:
            nonlocal last, done, counted_s, took_s
            took, last, done = time.perf_counter() - last, time.perf_counter(), done + weight_s
            if took > READ_BACK_S:
                counted_s, took_s = counted_s + weight_s, took_s + took
            bar.update(task, completed=round(done), description=escape(f"{title}: {name}"))
            if not console.is_terminal:
                left_s = (expected_s - done) * (took_s / counted_s if counted_s else 1.0)
                share = f"{100 * done / expected_s:.0f} %"
                console.print(f"  {title} {share}: {name}, {left_s / 60:.0f} min left", markup=False)

        yield step


def _bar(console: Console, *, per_second: int = 10) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        refresh_per_second=per_second,
    )


def epoch_line(result: EpochResult, *, epochs: int, left_s: float) -> str:
    """Return what an epoch gave, its speed, and the time left."""
    speed = result.images / result.train_time_s if result.train_time_s else 0.0
    minutes, seconds = divmod(round(left_s), 60)
    return (
        f"  epoch {result.epoch}/{epochs}  train loss {result.train_loss:.4f}  val loss {result.val_loss:.4f}  "
        f"val top-1 {100 * result.val_top1_accuracy:.2f} %  {speed:.0f} images/s  {minutes}:{seconds:02d} left"
    )


@contextlib.contextmanager
def training(console: Console, title: str, epochs: int) -> Iterator[tuple[Advance, EpochLine]]:
    """Show a run's training: a bar over images on a terminal, and one line an epoch everywhere."""
    began, first = time.perf_counter(), [0]
    with _bar(console) as bar:
        task = bar.add_task(escape(title), total=None)

        def finish(result: EpochResult) -> None:
            first[0] = first[0] or result.epoch
            done = result.epoch - first[0] + 1
            left_s = (time.perf_counter() - began) / done * (epochs - result.epoch)
            console.print(epoch_line(result, epochs=epochs, left_s=left_s), markup=False, highlight=False)

        yield (lambda done, total: bar.update(task, completed=done, total=total)), finish
