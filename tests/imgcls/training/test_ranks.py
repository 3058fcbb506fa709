"""Two processes that train one model, started by torchrun, against one process at the same batch."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgcls.config import TrainConfig
from imgcls.data.loaders import Share
from imgcls.errors import ConfigError
from imgcls.parallel import usable_cores
from imgcls.training import fitting
from imgcls.training.plan import resolve_train
from tests.helpers.ranks import CASES, Finished, finish, plan_of

ROOT = Path(__file__).parents[3]
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tests.helpers.ranks")
TOLERANCE = 1e-4
"""Of the scale of the logits, after two epochs: sums of gradients in another order."""

Results = tuple[dict[str, Finished], dict[str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which two processes have carried out all cases."""
    home = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, *LAUNCHER, str(home)], check=True, timeout=300, env=environment, cwd=ROOT)
    return home


def results_of(folder: Path, rank: int) -> Results:
    return msgspec.json.decode((folder / f"{rank}.json").read_bytes(), type=Results)


def assert_equal(several: Finished, alone: Finished) -> None:
    assert several.images == alone.images
    assert several.lr == pytest.approx(alone.lr)
    assert several.train_loss == pytest.approx(alone.train_loss, rel=TOLERANCE)
    assert several.val_loss == pytest.approx(alone.val_loss, rel=TOLERANCE)
    scale = np.abs(alone.logits).max()
    assert np.abs(np.subtract(several.logits, alone.logits)).max() <= TOLERANCE * scale


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one(name: str, folder: Path, tmp_path: Path) -> None:
    assert_equal(results_of(folder, 0)[0][name], finish(plan_of(name, tmp_path, devices=1)))


def test_all_processes_end_with_the_same_result(folder: Path) -> None:
    first, second = (results_of(folder, rank)[0] for rank in (0, 1))
    assert {name: result.logits for name, result in first.items()} == {
        name: result.logits for name, result in second.items()
    }


def test_stopped_training_stops_everywhere_and_is_resumed(folder: Path, tmp_path: Path) -> None:
    (first, errors), (_, of_second) = (results_of(folder, rank) for rank in (0, 1))
    assert errors["stopped"].startswith("Stop")
    assert of_second["stopped"] == "StoppedError: the first process of this training has stopped it"
    whole = finish(plan_of("plain", tmp_path / "whole", devices=1))
    assert first["resumed"].resumed_from == [1]
    assert_equal(first["resumed"], whole)
    # Also by another number of processes.
    fewer = finish(plan_of("plain", folder / "with fewer", devices=1))
    assert fewer.resumed_from == [1]
    assert_equal(fewer, whole)


def test_loss_that_is_not_finite_in_one_process_ends_all(folder: Path) -> None:
    messages = {results_of(folder, rank)[1]["nan"] for rank in (0, 1)}
    assert messages == {
        "NonFiniteLossError: the loss is nan at epoch 1, step 3; a lower learning rate may help",
    }


def test_process_that_is_not_one_of_several_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^devices=2: this process is one of 1; torchrun starts as many"):
        fitting.fit(plan_of("plain", tmp_path, devices=2))
    monkeypatch.setenv("WORLD_SIZE", "2")
    finish(plan_of("plain", tmp_path / "alone", devices=1))  # of a scheduler, which did not start torchrun
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(ConfigError, match=r"^devices=1: this process is one of 2"):
        fitting.fit(plan_of("plain", tmp_path, devices=1))


def test_devices_that_there_are_not_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    more = usable_cores() + 1
    with pytest.raises(ConfigError, match=f"^devices={more}: there are {more - 1} CPU core"):
        resolve_train(TrainConfig(device="cpu", devices=more), cuda=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"^devices=3: there are 2 GPU\(s\) where it trains; use at most 2"):
        resolve_train(TrainConfig(device="cuda", devices=3), cuda=True)
    assert resolve_train(TrainConfig(device="cuda", devices="auto"), cuda=True).devices == 2
    assert resolve_train(TrainConfig(device="cpu", devices="auto"), cuda=False).devices == 1
    with pytest.raises(ConfigError, match="devices=2: a batch of 3 has fewer than 2 images for each; use at most dev"):
        resolve_train(TrainConfig(device="cuda", devices=2), cuda=True, batch_size=3)


@given(world=st.integers(1, 9), size=st.integers(2, 80))
def test_shares_are_the_whole_batch_and_nearly_equal(world: int, size: int) -> None:
    batch = np.arange(size)
    parts = [Share(rank=rank, world=world).of(batch) for rank in range(world)]
    if Share(world=world).divides(size):
        assert np.concatenate(parts).tolist() == batch.tolist()
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    else:
        assert all(part.tolist() == batch.tolist() for part in parts)
    assert min(map(len, parts)) >= 2
