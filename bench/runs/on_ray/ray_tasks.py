"""Tasks of a Ray worker: data are read where the caller reads them, and files return as bytes, epoch by epoch.

The worker shares the data set with the caller, or has a copy of it under the same path, and no other folder.
"""

import contextlib
import platform
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from bench.records import locks
from bench.records.paths import Paths
from bench.runs import failures
from bench.runs.execution import ChangedDataError, prepare
from bench.runs.plan import Task
from bench.runs.recording import run_and_record
from imgcls.config import LoaderConfig, StoreConfig, TrainConfig
from imgcls.data.prepared import Prepared
from imgcls.data.sources.copied.hugging_face import PREFIX
from imgcls.errors import RunError, UserError
from imgcls.files import default_cache
from imgcls.models.registry import ModelSpec
from imgcls.training.checkpoints import BEST_FILES, STATE_FILE
from imgcls.training.precision import Speedup, speedup

# ray.cancel only sets the interrupt flag of the worker's main thread, which a wait without a timeout does not notice.
WAIT_S: Final = 0.1

Event = TypeVar("Event")

Files = dict[str, bytes]
"""Contents of files by their path relative to a results folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """A task for another machine: with the place and the digests of its data, and without pixels and weights.

    ``store`` is where the pixels come from, for that machine to decide.
    """

    task: Task
    store: StoreConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """Files of a run: its state after an epoch or, when it has ended, its record and artifacts."""

    files: Files
    ended: bool


class NodeError(RunError):
    """A node of the cluster does not have the data of a task; its line names the node, which a record must not."""

    def __init__(self, node: str, path: str, reason: str) -> None:
        """Name the node, the place of the data set, and what is wrong there."""
        super().__init__(node, path, reason)
        self.node, self.path, self.reason = node, path, reason

    def __str__(self) -> str:
        """Return one line."""
        return f"node {self.node}: {self.path} {self.reason}"

    @property
    def neutral(self) -> str:
        """The same line for records, which may be published."""
        return f"a node of the cluster: DATA {self.reason}"


@contextlib.contextmanager
def unpacked(parcel: Parcel, weights: bytes | None, state: Files | None = None) -> Iterator[Task]:
    """Yield the task with results in a temporary folder of this machine, and this machine's own cache.

    ``state`` are the files from which its training resumes.
    """
    home = Path(tempfile.mkdtemp(prefix="imgcls-"))
    try:
        spec = parcel.task.spec
        if weights is not None:
            file = home / "weights.safetensors"
            file.write_bytes(weights)
            spec = replace(spec, weights=replace(spec.weights, file=file))
        paths = Paths(results=home / "results", cache=default_cache().absolute())
        for name, content in (state or {}).items():
            (paths.results / name).parent.mkdir(parents=True, exist_ok=True)
            (paths.results / name).write_bytes(content)
        yield replace(parcel.task, spec=spec, paths=paths)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def prepare_there(task: Task, store: StoreConfig) -> Prepared:
    """Read, audit and split the data of a task on this machine; raises NodeError if they are not those of the plan."""
    node = _node()
    for path in (task.data, task.labels or task.data):
        place = Path(path.removeprefix(PREFIX))
        # Others are names of data sets.
        if place.is_absolute() and not place.exists():
            reason = "is not there; every node needs it under this path: a shared folder, or a copy"
            raise NodeError(node, str(place), reason)
    try:
        with locks.machine_shared(purpose="prepare the images"):
            return prepare(task, store)
    except ChangedDataError:
        reason = "has other photos than the caller's; every node needs the same ones: a shared folder, or a copy"
        raise NodeError(node, task.data, reason) from None
    except (UserError, OSError) as error:
        folders = {Path(task.data): "DATA", task.paths.cache: "CACHE"}
        reason = f"cannot be used there: {failures.neutral(str(error), folders)}"
        raise NodeError(node, task.data, reason) from error


def _node() -> str:
    import ray  # noqa: PLC0415 - optional

    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return f"{platform.node()} ({address})"


def measure_speedup(spec: ModelSpec, loader: LoaderConfig, train: TrainConfig) -> Speedup:
    """Return the speed of training steps in a reduced precision over that in fp32, alone on this machine."""
    with locks.machine_alone(purpose="choose a precision"):
        return speedup(spec, loader, train)


def run(parcel: Parcel, weights: bytes | None, state: Files | None) -> Iterator[Sent | Exception]:
    """Train, evaluate and export: yield the state after each epoch, and the record and artifacts, or an error, last."""
    with unpacked(parcel, weights, state) as task:

        def work(send: Callable[[Sent], None]) -> Sent:
            def saved() -> None:
                if files := state_of(task):
                    send(Sent(files=files, ended=False))

            run_and_record(task, prepare_there(task, parcel.store), saved=saved)
            return Sent(files=files_of(task), ended=True)

        yield from streamed(work, threading.Event())


def state_of(task: Task) -> Files:
    """Return the files from which the training can resume; none if it has no epochs but a classifier's fit."""
    folder = task.paths.artifacts(task.train_id)
    found = [folder / STATE_FILE, *folder.glob(BEST_FILES)] if (folder / STATE_FILE).exists() else []
    return _contents(found, task.paths.results)


def files_of(task: Task) -> Files:
    """Return the record and the artifacts of a run that has ended."""
    results = task.paths.results
    found = [path for kind in ("artifacts", "records") for path in (results / kind).rglob("*") if path.is_file()]
    # States are those of a failed run, which the caller has.
    return _contents([path for path in found if path.name != STATE_FILE and not path.match(BEST_FILES)], results)


def _contents(files: list[Path], results: Path) -> Files:
    return {path.relative_to(results).as_posix(): path.read_bytes() for path in files}


def streamed(
    work: Callable[[Callable[[Event], None]], Event], stopped: threading.Event
) -> Generator[Event | Exception, None, None]:
    """Carry out ``work`` in a thread: yield what it sends through its argument, and its result or error last.

    ``stopped`` is set when the generator is closed.
    """
    # ``fit`` reports through a callback, which cannot yield. One event at a time, because a state may be large: the
    # training waits until Ray has taken it.
    events: queue.Queue[tuple[Event | Exception, bool]] = queue.Queue(maxsize=1)

    def put(event: Event | Exception, *, last: bool = False) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                events.put((event, last), timeout=WAIT_S)
                return

    def carry_out() -> None:
        result: Event | Exception
        try:
            result = work(put)
        except Exception as error:  # noqa: BLE001 - the caller fails the run or trial with it
            result = error
        put(result, last=True)

    thread = threading.Thread(target=carry_out, daemon=True)
    thread.start()
    try:
        last = False
        while not last:
            with contextlib.suppress(queue.Empty):
                event, last = events.get(timeout=WAIT_S)
                yield event
    finally:
        stopped.set()
        # The files must not be removed while the thread still uses them.
        thread.join()
