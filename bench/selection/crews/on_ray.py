"""Forms on a Ray cluster: each runs on a node; its state returns with it, so that any node can continue it."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from bench.runs.on_ray.ray_cluster import RETRIES, Cluster, parcel_of, read_state, write_state
from bench.runs.on_ray.ray_tasks import Files, NodeError, Parcel, Sent, prepare_there, state_of, streamed, unpacked
from bench.selection import forms
from bench.selection.crews.here import side_by_side
from bench.selection.forms import Form, FormTask, Stage
from bench.selection.racing import Crew

LOGGER = logging.getLogger(__name__)


def train_form(
    parcel: Parcel, weights: bytes | None, state: Files | None, number: int, stage: Stage
) -> Iterator[Sent | Form | Exception]:
    """Train a form in a Ray worker: yield the state of its training, if it has one, and the form or an error last."""
    with unpacked(parcel, weights, state) as task:

        def work(send: Callable[[Sent | Form], None]) -> Sent | Form:
            form = forms.carry_out(FormTask(number=number, task=task, stage=stage), prepare_there(task, parcel.store))
            if files := state_of(task):
                send(Sent(files=files, ended=False))
            return form

        yield from streamed(work, threading.Event())


@contextlib.contextmanager
def crew_there(jobs: int, cluster: Cluster) -> Iterator[Crew]:
    """Train ``jobs`` forms at a time on a cluster; a thread of this process waits for each."""

    def crew(tasks: Iterator[FormTask]) -> Iterator[tuple[FormTask, Form, float]]:
        return side_by_side(tasks, lambda form: _run(form, cluster), jobs)

    yield crew


def _run(form: FormTask, cluster: Cluster) -> Form:
    """Train a form, again from its last state if its worker or node is lost."""
    import ray  # noqa: PLC0415 - optional

    there = cluster.remote(train_form, num_returns="streaming", max_retries=0)
    for attempt in range(RETRIES + 1):
        try:
            return _received(
                form, there.remote(*parcel_of(form.task, cluster), read_state(form.task), form.number, form.stage)
            )
        except ray.exceptions.RayError as error:
            if isinstance(error, ray.exceptions.RayTaskError) or attempt == RETRIES:
                return Form(error=f"lost on the cluster ({type(error).__name__})")
            LOGGER.warning("a form was lost on the cluster (%s); it continues elsewhere", type(error).__name__)
    raise AssertionError


def _received(form: FormTask, events: Any) -> Form:  # noqa: ANN401 - Ray's generator
    import ray  # noqa: PLC0415

    for ref in events:
        event: Sent | Form | Exception = ray.get(ref)
        if isinstance(event, Form):
            return event
        if isinstance(event, Sent):
            write_state(event.files, form.task)
        elif isinstance(event, NodeError):
            LOGGER.error("  failed: %s", event)
            return Form(error=event.neutral)
        else:
            return Form(error=f"{type(event).__name__}: {(str(event).splitlines() or [''])[0]}")
    return Form(error="it ended on the cluster without a result")
