"""Candidates: the models that names, patterns, files and sizes mean."""

import logging
from pathlib import Path

import pytest
import timm

from bench.selection.candidates import DEFAULTS, candidates_of, models_of
from imgcls.errors import ConfigError
from tests.helpers.weights import write_pretrained


def test_every_default_has_weights_on_the_hub_and_can_be_built_at_the_size_of_a_recipe() -> None:
    assert 28 <= len(DEFAULTS) <= 36
    for name in DEFAULTS:
        cfg = timm.get_pretrained_cfg(name)
        assert cfg is not None
        assert cfg.hf_hub_id, name

    usable = candidates_of(list(DEFAULTS), [160], named=())

    # Only networks whose positions or windows cannot be resampled to 160 px are missing.
    missing = set(DEFAULTS) - {candidate.model for candidate in usable}
    assert len(missing) <= 3, missing


def test_patterns_files_and_names_are_put_together_and_each_model_is_tried_once(tmp_path: Path) -> None:
    listed = tmp_path / "models.txt"
    listed.write_text("# of the phone\nmobilenetv3_small_100  # again\n\nresnet1[48]\n")

    models = models_of(["mobilenetv3_*_100", str(listed), "resnet18"], weights="auto")

    assert models == ("mobilenetv3_large_100", "mobilenetv3_small_100", "resnet18")


def test_without_names_a_folder_of_weights_names_its_models(tmp_path: Path) -> None:
    for name in ("test_vit", "test_efficientnet"):
        write_pretrained(tmp_path, name)

    assert models_of([], weights=str(tmp_path)) == ("test_efficientnet", "test_vit")
    assert models_of([], weights="auto") == tuple(DEFAULTS)


def test_a_limit_of_parameters_counts_what_timm_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    tags = ["test_vit.r160_in1k", "resnet18.a1_in1k", "mobilenetv3_small_100.lamb_in1k", "nonsense.tag"]
    monkeypatch.setattr("bench.selection.candidates.timm.list_models", lambda **_options: tags)
    monkeypatch.setattr("bench.selection.candidates.MODELS", {})

    assert models_of(["all-under-3M"], weights="auto") == ("test_vit", "mobilenetv3_small_100")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["nothing_like_this_*"], "matches none of timm's"),
        (["all-under-ten"], "all-under-10M"),
        (["all-under-1K"], "so few parameters"),
        (["resnet_18"], "resnet_18"),
    ],
)
def test_a_name_that_means_nothing_is_refused(names: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.selection.candidates._parameters", lambda _name: 10**6)

    with pytest.raises(ConfigError, match=message):
        models_of(names, weights="auto")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "models.txt"
    empty.write_text("# none\n")

    with pytest.raises(ConfigError, match="names no model"):
        models_of([str(empty)], weights="auto")


def test_sizes_are_crossed_and_those_that_a_network_cannot_have_are_skipped(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        candidates = candidates_of(["test_efficientnet", "inception_v3"], [32, 96, 96], named=["test_*"])

    assert [str(candidate) for candidate in candidates] == [
        "test_efficientnet, 32 px",
        "test_efficientnet, 96 px",
        "inception_v3, 96 px",
    ]
    assert "inception_v3, 32 px skipped" in caplog.text


def test_a_size_that_a_named_model_cannot_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="too small for inception_v3"):
        candidates_of(["inception_v3", "test_vit"], [32], named=["inception_v3"])


def test_one_candidate_is_no_choice() -> None:
    with pytest.raises(ConfigError, match=r"two or more, and has test_vit, 32 px"):
        candidates_of(["test_vit"], [32], named=["test_vit"])
