"""Ten families of timm from made-up pre-trained weights, end to end: one for each way in which networks differ.

``nox -s families`` tries a model of each of timm's modules.
"""

import pytest

from tests.benchmarks.families import Result, results_of

FAMILIES = {
    "test_vit": "position embeddings that are resampled",
    "gmlp_ti16_224": "a fixed size",
    "vit_tiny_patch16_dinov3_qkvb": "no classifier of its own",
    "deit_tiny_distilled_patch16_224": "two heads, and a config of tuples",
    "vit_tiny_patch16_224": "weights of another format",
    "resnetv2_18": "a 1 x 1 convolution as its head",
    "inception_next_atto": "a head of two layers",
    "efficientvim_m1": "logits that are not the mean of linear heads",
    "coat_lite_tiny": "tensors that modules share",
    "repvit_m1": "branches that are merged",
}
"""The mechanism of each model."""


# The fixture trains and exports ten networks, which takes minutes beside other tests.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    waiting = [Result(module="-", model=name, num_params=0) for name in FAMILIES]
    return {result.model: result for result in results_of(waiting)}


@pytest.mark.parametrize("model", FAMILIES)
def test_family_is_trained_exported_checked_predicted_and_frozen(model: str, results: dict[str, Result]) -> None:
    result = results[model]
    assert result.error is None, result.error
    assert list(result.steps) == ["train", "evaluate", "export, check", "predict", "frozen features"]
    # Norms before the heads of EfficientViM are merged, too.
    assert result.merged == (model in {"repvit_m1", "efficientvim_m1"})
    assert result.classifier_fit == ("gradient" if model == "efficientvim_m1" else "linear")
    assert result.image_size == (224 if model == "gmlp_ti16_224" else 96)
    assert bool(result.refused) == (model == "gmlp_ti16_224")
