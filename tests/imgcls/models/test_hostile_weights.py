"""Weights from strangers: refused in one line, without memory, and without loading what they name."""

import json
import pickle
import resource
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from imgcls.config import ArchitectureConfig, LoaderConfig
from imgcls.errors import ConfigError
from imgcls.models.building import build_model
from imgcls.models.registry import resolve_spec, weights_policy
from imgcls.models.weights import folder_weights
from tests.helpers.weights import TINY, write_weights

ONE: dict[str, Any] = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def file_of(header: object, *, body: bytes = bytes(4), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


FILES: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "not a safetensors file"),
    "header beyond the file": (file_of({"a": ONE}, length=1000), "header"),
    "header of an absurd length": (file_of({"a": ONE}, length=2**63), f"its header has {2**63} bytes, more than"),
    "header of many MB": (file_of({"__metadata__": {"x": "y" * 10_000_000}, "a": ONE}), "bytes, more than 10000000"),
    "deep JSON": (file_of(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "recursion"),
    "no JSON": (file_of(b"\xff" * 30), "not a safetensors file"),
    "a list": (file_of([]), "not a safetensors file"),
    "offsets outside the file": (file_of({"a": ONE | {"shape": [10], "data_offsets": [0, 40]}}), "not fully covered"),
    "offsets between the tensors": (file_of({"a": ONE | {"data_offsets": [4, 8]}}, body=bytes(8)), "invalid offset"),
    "tensors in the same place": (file_of({"a": ONE, "b": ONE}), "invalid offset"),
    "shape of gigabytes": (file_of({"a": ONE | {"shape": [2**40], "data_offsets": [0, 2**42]}}), "not fully covered"),
    "overflowing shape": (file_of({"a": ONE | {"shape": [2**63, 4], "data_offsets": [0, 0]}}, body=b""), "overflow"),
    "huge empty shape": (
        file_of({"a": ONE | {"shape": [2**60, 0], "data_offsets": [0, 0]}}, body=b""),
        "tensor 'a' has an absurd shape",
    ),
    "many dimensions": (file_of({"a": ONE | {"shape": [1] * 1000}}), "tensor 'a' has an absurd shape"),
    "negative shape": (file_of({"a": ONE | {"shape": [-1]}}), "-1"),
    "other shape than size": (file_of({"a": ONE | {"shape": [2]}}), "not a safetensors file"),
    "tensor named twice": (
        file_of(b'{"a":%(one)s,"a":%(one)s}' % {b"one": json.dumps(ONE).encode()}),
        "its header names 'a' twice",
    ),
    "unknown type": (file_of({"a": ONE | {"dtype": "PICKLE"}}), "unknown variant"),
}


@pytest.mark.parametrize(("content", "says"), FILES.values(), ids=FILES)
def test_hostile_safetensors_are_refused(content: bytes, says: str, tmp_path: Path) -> None:
    folder = write_weights(tmp_path)
    (folder / TINY / "model.safetensors").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError, match=f"^weights: {TINY}/model.safetensors is not a safetensors file") as caught:
        folder_weights(TINY, folder)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


class Trap:
    """A pickle that makes a folder when it is read."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.mkdir, (self.sign,)  # type: ignore[return-value]


def test_config_that_names_other_weights_is_refused_or_ignored(tmp_path: Path) -> None:
    folder, sign = write_weights(tmp_path / "w"), tmp_path / "ran"
    trap = tmp_path / "trap.pth"
    trap.write_bytes(pickle.dumps(Trap(sign)))
    file = folder / TINY / "config.json"
    config = json.loads(file.read_text())
    for name in ("checkpoint_path", "pretrained_cfg_overlay"):
        file.write_text(json.dumps(config | {"model_args": {name: str(trap)}}))
        with pytest.raises(ConfigError, match=rf"{TINY}/config.json has model_args {name}, which no network has"):
            folder_weights(TINY, folder)
    sources = {
        "file": str(trap),
        "url": trap.as_uri(),
        "custom_load": True,
        "source": "local-dir",
        "state_dict": {"a": 1},
    }
    file.write_text(json.dumps(config | {"pretrained_cfg": config["pretrained_cfg"] | sources}))
    spec = resolve_spec(TINY, LoaderConfig(image_size=32), weights_policy(str(folder), [TINY]))
    state = build_model(spec, ArchitectureConfig(), num_classes=4).state_dict()
    del config["pretrained_cfg"]["tag"]
    file.write_text(json.dumps(config))
    plain = resolve_spec(TINY, LoaderConfig(image_size=32), weights_policy(str(folder), [TINY]))
    expected = build_model(plain, ArchitectureConfig(), num_classes=4).state_dict()
    assert all(torch.equal(state[key], expected[key]) for key in state if not key.startswith("classifier"))
    assert not sign.exists()
