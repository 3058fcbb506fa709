"""One run on several devices of a Ray cluster: Ray Train starts its processes, the first of which sends its states."""

import datetime as dt
import logging
import shutil
import tempfile
import threading
from dataclasses import dataclass
from typing import Any, Final

from bench.records.schema import RunRecord
from bench.runs import local
from bench.runs.distributed import END
from bench.runs.execution import assist, run_and_record
from bench.runs.on_ray import ray_cluster, ray_tasks
from bench.runs.on_ray.ray_cluster import RETRIES, Cluster
from bench.runs.on_ray.ray_tasks import Sent
from bench.runs.plan import Task
from imgcls.errors import RunError
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
    """Carry out a run as one of its processes, on the node that Ray has chosen; the first one sends all results."""
    import ray  # noqa: PLC0415 - optional

    order = config["order"]
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
        record, reason = _attempt(task, cluster)
        if record is not None:
            return record
    return local.write_failed(task, f"RunError: lost on the cluster ({reason})", started)


def _attempt(task: Task, cluster: Cluster) -> tuple[RunRecord | None, str]:
    """Return the record of a run, or None and why it was lost; its states are stored as they arrive."""
    import ray  # noqa: PLC0415
    from ray.util.queue import Empty, Queue  # noqa: PLC0415
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

    # On this node, which outlives the others.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    outbox = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    parcel, weights = ray_cluster.parcel_of(task, cluster)
    order = Order(parcel=parcel, weights=weights, state=ray.put(ray_cluster.read_state(task)), outbox=outbox)
    errors, folder = list[Exception](), tempfile.mkdtemp(prefix="imgcls-")
    trainer = _trainer(task, cluster, order, folder)

    def fit() -> None:
        try:
            trainer.fit()
        except Exception as error:  # noqa: BLE001 - a lost node, or an error of any process
            errors.append(error)

    training = threading.Thread(target=fit, daemon=True)
    training.start()
    record = None
    try:
        while training.is_alive() or not outbox.empty():
            try:
                sent: Sent = outbox.get(timeout=WAIT_S)
            except Empty:
                continue
            if sent.ended:
                record = ray_cluster.collected(task, sent.files)
            else:
                ray_cluster.write_state(sent.files, task)
    finally:
        outbox.shutdown(force=True)
        shutil.rmtree(folder, ignore_errors=True)
    return record, (str(errors[0]).splitlines() or [""])[0] if errors else "no result"


def _trainer(task: Task, cluster: Cluster, order: Order, folder: str) -> Any:  # noqa: ANN401 - Ray's trainer
    from ray.train import FailureConfig, RunConfig, ScalingConfig  # noqa: PLC0415 - optional
    from ray.train.torch import TorchConfig, TorchTrainer  # noqa: PLC0415

    devices = task.config.train.devices
    assert devices != "auto", "resolve_train replaces it"

    return TorchTrainer(
        take_part,
        train_loop_config={"order": order},
        torch_config=TorchConfig(timeout_s=int(ranks.WAIT.total_seconds())),
        scaling_config=ScalingConfig(
            num_workers=devices,
            use_gpu=cluster.gpus > 0,
            resources_per_worker={"CPU": task.config.train.threads_per_device},
        ),
        # Repeated by ``train``, as only the caller has the last state.
        run_config=RunConfig(storage_path=folder, failure_config=FailureConfig(max_failures=0)),
    )
