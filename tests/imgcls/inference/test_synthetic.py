"""Synthetic inputs are the same everywhere, and their file is not believed if it is damaged or of other inputs."""

from pathlib import Path

import numpy as np
import pytest

from imgcls.errors import ParityError
from imgcls.inference.synthetic import COUNT, SYNTHETIC, digest_of, draw_inputs, load_synthetic, save_synthetic

LOGITS = np.random.default_rng(0).normal(size=(COUNT, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("size", "digest"),
    [
        (32, "2a5e5008d4670cc6a0f6ba9234bee0ff9b753ace2f13214b095232b2075c3324"),
        (75, "1c91cec4766b068099e984800514355ed033d3dec0110a985e0b0c8cc0e03c44"),
        (224, "10bcbc8498fdf6f19c86acd38a970a0d68ee4ec94543e8892dd9ed090b56936b"),
    ],
)
def test_inputs_are_the_same_everywhere(size: int, digest: str) -> None:
    inputs = draw_inputs(size)
    assert (inputs.shape, inputs.dtype) == ((64, size, size, 3), np.uint8)
    assert digest_of(inputs) == digest


def test_logits_are_read_as_written(tmp_path: Path) -> None:
    save_synthetic(LOGITS, draw_inputs(32), tmp_path)
    inputs, trained = load_synthetic(tmp_path, 32)
    assert digest_of(inputs) == digest_of(draw_inputs(32))
    assert (trained.logits == LOGITS).all()
    assert trained.labels.tolist() == LOGITS.argmax(axis=1).tolist()


def test_other_inputs_are_refused(tmp_path: Path) -> None:
    save_synthetic(LOGITS, draw_inputs(32), tmp_path)
    with pytest.raises(ParityError, match="the synthetic inputs have sha256 1c91cec4766b0680, those of the training"):
        load_synthetic(tmp_path, 75)


@pytest.mark.parametrize("kept", [0, 100, 500])
def test_a_file_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    save_synthetic(LOGITS, draw_inputs(32), tmp_path)
    path = tmp_path / SYNTHETIC
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ParityError, match=r"synthetic\.npz is damaged"):
        load_synthetic(tmp_path, 32)
