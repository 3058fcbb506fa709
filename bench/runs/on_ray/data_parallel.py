"""One run on several devices of a Ray cluster: Ray Train starts its processes, the first of which sends its states."""

import contextlib
import datetime as dt
import logging
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from bench.records.schema import RunRecord
from bench.runs import local
from bench.runs.distributed import END
from bench.runs.execution import assist
from bench.runs.on_ray import ray_cluster, ray_tasks
from bench.runs.on_ray.ray_cluster import RETRIES, Cluster
from bench.runs.on_ray.ray_tasks import Sent
from bench.runs.plan import Task
from bench.runs.recording import run_and_record
from imgcls.errors import NonFiniteLossError, RunError
from imgcls.training import ranks

LOGGER = logging.getLogger(__name__)

WAIT_S: Final = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What every process of a run receives; ``weights`` and ``state`` are references to Ray's objects."""

    parcel: ray_tasks.Parcel
    weights: Any
    state: Any
    outbox: Any


class FailedRunError(RunError):
    """The first process has sent a failed record; raised to end the others, which may wait within the training."""


def take_part(config: dict[str, Order]) -> None:
    """Carry out a run as one of its processes, on the node that Ray has chosen.

    The first one sends all results, and each the error that ends it.
    """
    order = config["order"]
    try:
        # A lost node is no reason of this process: the caller continues the run on others.
        with ranks.named_loss():
            _carry_out(order)
    except (FailedRunError, NonFiniteLossError, ranks.PeerLostError, ranks.StoppedError):
        raise
    except Exception as error:
        order.outbox.put(error)
        raise


def _carry_out(order: Order) -> None:
    import ray  # noqa: PLC0415 - optional

    state: ray_tasks.Files | None = ray.get(order.state)
    # Each process has a folder of its own, and resumes from the same state.
    with ray_tasks.unpacked(order.parcel, ray.get(order.weights), state) as task, ranks.joined(task.config.train):
        prepared = ray_tasks.prepare_there(task, order.parcel.store)
        if not ranks.leads():
            assist(task, prepared)
            return

        def saved() -> None:
            order.outbox.put(Sent(files=ray_tasks.state_of(task), ended=False))

        record = run_and_record(task, prepared, saved=saved)
        order.outbox.put(Sent(files=ray_tasks.files_of(task), ended=True))
        if record.status != "ok":
            raise FailedRunError
        ranks.of_first(END)


def train(task: Task, *, cluster: Cluster, started: dt.datetime) -> RunRecord:
    """Carry out a run on several devices; if one of its nodes is lost, continue on others from the last epoch."""
    reason = ""
    for attempt in range(1 + RETRIES):
        if attempt:
            LOGGER.warning("%s: lost on the cluster (%s); it continues elsewhere", local.title_of(task), reason)
        record, reason = _attempt(task, cluster, started)
        if record is not None:
            return record
    return local.write_failed(task, f"RunError: lost on the cluster ({reason})", started)


def _attempt(task: Task, cluster: Cluster, started: dt.datetime) -> tuple[RunRecord | None, str]:
    """Return the record of a run, or None and why it was lost; its states are stored as they arrive."""
    import ray  # noqa: PLC0415
    from ray.util.queue import Empty  # noqa: PLC0415

    devices = task.config.train.devices
    assert devices != "auto", "resolve_train replaces it"
    parcel, weights = ray_cluster.parcel_of(task, cluster)
    state = ray.put(ray_cluster.read_state(task))
    errors, record = list[Exception](), None
    with _outbox() as outbox, tempfile.TemporaryDirectory(prefix="imgcls-", ignore_cleanup_errors=True) as folder:
        order = Order(parcel=parcel, weights=weights, state=state, outbox=outbox)
        trainer = _trainer(order, folder, devices=devices, cluster=cluster)
        training = threading.Thread(target=_fit, args=(trainer, errors), daemon=True)
        training.start()
        while training.is_alive() or not outbox.empty():
            with contextlib.suppress(Empty):
                sent: Sent | Exception = outbox.get(timeout=WAIT_S)
                # Once a record has arrived, the other processes fail because one has.
                record = record or ray_cluster.received(sent, task, started)
    return record, (str(errors[0]).splitlines() or [""])[0] if errors else "no result"


@contextlib.contextmanager
def _outbox() -> Iterator[Any]:
    """Yield a queue of Ray on this node, which outlives the others."""
    import ray  # noqa: PLC0415
    from ray.util.queue import Queue  # noqa: PLC0415
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    outbox = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    try:
        yield outbox
    finally:
        outbox.shutdown(force=True)


def _fit(trainer: Any, errors: list[Exception]) -> None:  # noqa: ANN401 - Ray's trainer
    try:
        trainer.fit()
    except Exception as error:  # noqa: BLE001 - a lost node, or an error of any process
        errors.append(error)


def _trainer(order: Order, folder: str, *, devices: int, cluster: Cluster) -> Any:  # noqa: ANN401 - Ray's trainer
    from ray.train import FailureConfig, RunConfig, ScalingConfig  # noqa: PLC0415 - optional
    from ray.train.torch import TorchConfig, TorchTrainer  # noqa: PLC0415

    return TorchTrainer(
        take_part,
        train_loop_config={"order": order},
        torch_config=TorchConfig(timeout_s=int(ranks.WAIT.total_seconds())),
        scaling_config=ScalingConfig(
            num_workers=devices,
            use_gpu=cluster.gpus > 0,
            resources_per_worker={"CPU": order.parcel.task.config.train.threads_per_device},
        ),
        # Repeated by ``train``, as only the caller has the last state.
        run_config=RunConfig(storage_path=folder, failure_config=FailureConfig(max_failures=0)),
    )
