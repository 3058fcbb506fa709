"""Results of training, scoring and export as plain data; importing it loads no library."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScore:
    """One class on one split; a ratio without a denominator is None, not 0."""

    class_name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """A temperature fitted on val (Guo et al. 2017), and what test shows when the logits are divided by it."""

    temperature: float
    test_log_loss: float
    test_ece: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Flip:
    """An image whose top class the export changed; ``margin`` is its top-2 logit difference before."""

    image_id: str
    margin: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """A model in some runtime against the trained one on the whole test split.

    Errors are relative to the largest absolute logit of the trained model. ``only_trained_right`` and
    ``only_runtime_right`` count the images that one of the two gets right and the other wrong. ``batch_rel_error`` is
    the largest difference between batch 1 and batch 32. None where an older version did not ask.
    """

    max_rel_logit_error: float
    top1_agreement: float
    flips: tuple[Flip, ...]
    test_top1_accuracy: float
    mean_rel_logit_error: float | None = None
    cosine: float | None = None
    only_trained_right: int | None = None
    only_runtime_right: int | None = None
    batch_rel_error: float | None = None
