"""Comparison of a model in some runtime with the trained one, on every image of a split; without torch."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imgcls.data.stores.files import Pixels
from imgcls.errors import ParityError
from imgcls.evaluation.predictions import Predictions, predict_all
from imgcls.evaluation.results import Flip, Parity
from imgcls.inference.card import Card, preprocess
from imgcls.inference.session import Images, Logits

MAX_REL_ERROR: Final = 1e-4
"""Largest accepted difference of float32 logits, relative to the trained model's largest absolute logit.

The limit holds between runtimes and between batch sizes of one runtime: in both cases different kernels round
differently, by up to 2.3e-5 between batch sizes of a barely trained network.
"""

PARITY_BATCH: Final = 32


def check_parity(  # noqa: PLR0913 - a session, its card and a split
    run: Callable[[Images], Logits],
    card: Card,
    *,
    pixels: Pixels,
    rows: NDArray[np.int64],
    trained: Predictions,
    precision: str = "fp32",
) -> Parity:
    """Compare a session's logits with the trained model's on ``pixels`` uint8 ``[N, S, S, 3]`` at ``rows``.

    Raises ParityError if a logit is not finite; for float32 also if the logits depend on the batch size, if their error
    exceeds the limit, or if it does not explain a changed prediction. Errors of reduced precisions are only reported:
    fp16 and bf16 round coarsely, and between the exact integer kernels of an int8 network float32 ones, such as SiLU,
    round in another way for another batch size, which decides what integer follows.
    """
    # One batch is enough for the comparison of batch sizes: kernels are chosen by shape, not by content.
    together = _logits(run, card, pixels, rows, PARITY_BATCH)
    batch_error = _relative(_logits(run, card, pixels, rows[:PARITY_BATCH], 1), together[:PARITY_BATCH], trained)
    parity = parity_of(together, trained, batch_rel_error=batch_error)
    if precision == "fp32":
        _require(batch_error, "batch 1 and batch 32 differ")
        _require(parity.max_rel_logit_error, "the logits differ from the trained model's")
        # Two logits with an error of at most ``error`` each can change their order only if they differ by twice that.
        error = parity.max_rel_logit_error * _scale(trained)
        if wide := [flip for flip in parity.flips if flip.margin > 2 * error]:
            message = f"the predicted class of {wide[0].image_id} differs, but its margin exceeds twice the logit error"
            raise ParityError(message)
    return parity


def parity_of(logits: Logits, trained: Predictions, *, batch_rel_error: float | None = None) -> Parity:
    """Compare logits float32 ``[N, C]`` with the trained model's; raises ParityError if one is not finite."""
    if not np.isfinite(logits).all() or not np.isfinite(trained.logits).all():
        message = "a logit is not finite"
        raise ParityError(message)
    top_two = np.sort(trained.logits, axis=1)[:, -2:]
    flips = tuple(
        Flip(image_id=trained.image_ids[row], margin=float(top_two[row, 1] - top_two[row, 0]))
        for row in np.flatnonzero(logits.argmax(axis=1) != trained.logits.argmax(axis=1))
    )
    ours, reference = (outputs.ravel().astype(np.float64) for outputs in (logits, trained.logits))
    right, was_right = (outputs.argmax(axis=1) == trained.labels for outputs in (logits, trained.logits))
    return Parity(
        max_rel_logit_error=_relative(logits, trained.logits, trained),
        mean_rel_logit_error=float(np.abs(logits - trained.logits).mean()) / _scale(trained),
        cosine=float(ours @ reference / (np.linalg.norm(ours) * np.linalg.norm(reference) or 1.0)),
        top1_agreement=1 - len(flips) / len(trained.labels),
        flips=flips,
        only_trained_right=int((was_right & ~right).sum()),
        only_runtime_right=int((right & ~was_right).sum()),
        batch_rel_error=batch_rel_error,
    )


def _logits(
    run: Callable[[Images], Logits], card: Card, pixels: Pixels, rows: NDArray[np.int64], batch_size: int
) -> Logits:
    starts = range(0, len(rows), batch_size)
    return predict_all(
        lambda batch: run(preprocess(batch, card)), (pixels[rows[start : start + batch_size]] for start in starts)
    )


def _scale(trained: Predictions) -> float:
    # Errors are relative, because the logits of randomly initialised networks can be huge.
    return float(np.abs(trained.logits).max()) or 1.0


def _relative(logits: Logits, reference: Logits, trained: Predictions) -> float:
    return float(np.abs(logits - reference).max()) / _scale(trained)


def _require(error: float, what: str) -> None:
    if not error <= MAX_REL_ERROR:  # error > limit would be false for NaN
        message = f"{what} by {error:.1e} of the largest absolute logit (limit {MAX_REL_ERROR:.0e})"
        raise ParityError(message)
