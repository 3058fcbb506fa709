"""CUDA devices: which one a process sees, and why PyTorch cannot use it. Without a GPU, by stand-ins."""

import pytest
import torch

from imgcls.config import TrainConfig
from imgcls.devices import unusable_gpu, usable_cuda, visible_gpu, without_tf32
from imgcls.errors import ConfigError
from imgcls.training.plan import resolve_train
from tests.helpers.gpus import UUID, Machine, usable_by_torch


def test_visible_gpu_has_the_uuid_of_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine().install(monkeypatch)
    gpu = visible_gpu()
    assert gpu is not None
    assert (gpu.name, gpu.uuid, gpu.driver) == ("NVIDIA H200", f"GPU-{UUID}", "580.65.06")


def test_slices_of_a_gpu_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(prefix="MIG-")
    machine.install(monkeypatch)
    gpu = visible_gpu()
    assert gpu is not None
    assert (gpu.name, gpu.uuid) == ("NVIDIA H200 MIG 1g.10gb", f"MIG-{UUID}")
    machine.name = "NVIDIA H200 MIG 2g.35gb"
    named = visible_gpu()
    assert named is not None
    assert named.name == machine.name
    machine.name, machine.refused = "NVIDIA H200", {"nvmlDeviceGetAttributes"}
    unnamed = visible_gpu()
    assert unnamed is not None
    assert unnamed.name == "NVIDIA H200 MIG"


@pytest.mark.parametrize("refused", ["nvmlInit", "nvmlDeviceGetHandleByUUID"])
def test_gpu_that_nvml_does_not_know_has_its_name(refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(refused={refused}).install(monkeypatch)
    gpu = visible_gpu()
    assert gpu is not None
    assert (gpu.name, gpu.uuid) == ("NVIDIA H200", None)


def test_hidden_gpu_is_not_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(visible=0).install(monkeypatch)
    assert visible_gpu() is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_no_driver_is_no_gpu() -> None:
    assert visible_gpu() is None
    assert unusable_gpu() is None
    assert not usable_cuda()


def test_gpu_that_torch_can_use_has_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine().install(monkeypatch)
    usable_by_torch(monkeypatch)
    assert usable_cuda()
    assert unusable_gpu() is None


# 8.9 runs the code for 8.0, and 12.1 the intermediate code for 12.0; nothing runs on 7.0, nor on 11.0.
@pytest.mark.parametrize(("capability", "usable"), [((8, 9), True), ((12, 1), True), ((7, 0), False), ((11, 0), False)])
def test_code_for_a_device(capability: tuple[int, int], usable: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    Machine().install(monkeypatch)
    usable_by_torch(monkeypatch, capability=capability)
    assert usable_cuda() == usable
    if not usable:
        major, minor = capability
        assert f"has no code for the NVIDIA H200 (sm_{major}{minor}; it has sm_75, " in str(unusable_gpu())


def test_reasons_name_the_driver_and_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(driver="470.82.01").install(monkeypatch)
    usable_by_torch(monkeypatch, usable=False)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    reason = f"PyTorch {torch.__version__} (CUDA 13.0) cannot use the GPU of this machine with driver 470.82.01"
    assert unusable_gpu() == reason
    with pytest.raises(ConfigError, match=r'device="cuda": PyTorch .* with driver 470.82.01; use device="cpu" or auto'):
        resolve_train(TrainConfig(device="cuda"), cuda=False, unusable=reason)
    monkeypatch.setattr("torch.version.cuda", None)
    assert "is built without CUDA" in str(unusable_gpu())


def test_hiding_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(visible=0).install(monkeypatch)
    usable_by_torch(monkeypatch, usable=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert unusable_gpu() == "CUDA_VISIBLE_DEVICES=-1 shows no GPU to this process"


def test_float32_has_no_tf32_within(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with without_tf32():
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32
