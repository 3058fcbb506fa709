"""A record of a finished training, without artifacts, and its measurement."""

from dataclasses import replace
from pathlib import Path

from bench.latency import measure
from bench.records.paths import OUTCOME, Paths
from bench.records.schema import RunRecord
from bench.records.store import read_records, record_path, write_json
from imgcls.config import RuntimeConfig
from tests.helpers.examples import SHORT, record

RUNTIME = RuntimeConfig(runtimes=("onnxruntime-cpu",), threads=1)
PROTOCOL = replace(SHORT, rounds=5, batch_sizes=(), files=False)


def trained(results: Path) -> RunRecord:
    """Write a record and mark its training as finished."""
    made = record(run_id="present", train_id="present", measurements=())
    write_json(made, record_path(results, made))
    folder = results / "artifacts" / made.train_id
    folder.mkdir(parents=True)
    (folder / OUTCOME).touch()
    return made


def measured(made: RunRecord, home: Path) -> bool:
    paths = Paths(results=home, cache=home / "cache")
    known = read_records(home)
    return measure.measure_all([made], paths, protocol=PROTOCOL, runtime=RUNTIME, known=known).ok
