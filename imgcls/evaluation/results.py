"""Results of scoring, calibration and export as dataclasses; this module imports no third-party library."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Temperature:
    """What divides logits before the softmax; 1 if val cannot determine it, with the reason."""

    value: float
    uncalibrated_reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """A temperature fitted on val (Guo et al. 2017), and the log loss on test of the logits divided by it.

    Where val cannot determine it, it is 1, and ``uncalibrated_reason`` says why.
    """

    temperature: float
    test_log_loss: float
    uncalibrated_reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Flip:
    """An image whose predicted class differs; ``margin`` is the gap between the trained model's two largest logits."""

    image_id: str
    margin: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """Comparison of a model in some runtime with the trained one on the whole test split, or on synthetic inputs.

    Errors are relative to the largest absolute logit of the trained model. ``only_trained_right`` and
    ``only_runtime_right`` count the images that only one of the two predicts correctly: their difference is that of
    the accuracies. ``batch_rel_error`` is the largest difference between batch sizes 1 and 32, on the first 32 images.
    None: not measured, as in records of older versions, or not defined, as on synthetic inputs, which have no true
    class.
    """

    max_rel_logit_error: float
    top1_agreement: float
    flips: tuple[Flip, ...]
    mean_rel_logit_error: float | None = None
    cosine: float | None = None
    only_trained_right: int | None = None
    only_runtime_right: int | None = None
    batch_rel_error: float | None = None
