"""Names of models: tags, deprecated names, repositories of the hub and folders."""

import json
from pathlib import Path

import pytest

from imgcls.config import LoaderConfig
from imgcls.errors import ConfigError
from imgcls.models.model_names import current_name, default_cfg
from imgcls.models.registry import resolve_spec, weights_policy
from imgcls.models.weights import random_weights
from tests.helpers.weights import TINY, write_weights

SMALL = LoaderConfig(image_size=32)


def test_tag_that_does_not_exist_is_refused_with_those_that_do() -> None:
    message = "mobilenetv2_050.in1k: mobilenetv2_050 has no weights with the tag in1k; known: lamb_in1k"
    with pytest.raises(ConfigError, match=message):
        resolve_spec("mobilenetv2_050.in1k", SMALL, random_weights)


def test_tag_of_a_model_without_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no weights with the tag a; known: none"):
        default_cfg("no_model.a")


def test_deprecated_name_is_that_of_its_successor() -> None:
    assert current_name("vit_tiny_patch16_224_in21k") == "vit_tiny_patch16_224.augreg_in21k"
    spec = resolve_spec("vit_tiny_patch16_224_in21k", LoaderConfig(image_size=64), random_weights)
    assert spec.timm_name == "vit_tiny_patch16_224.augreg_in21k"


def test_folder_by_its_path(tmp_path: Path) -> None:
    folder = write_weights(tmp_path) / TINY
    name = f"local-dir:{folder}"
    spec = resolve_spec(name, SMALL, weights_policy("auto", [name]))
    assert (spec.name, spec.timm_name, spec.weights.tag) == (f"local-dir:{TINY}", TINY, "made_up")
    assert spec.weights.init == "pretrained"


def test_named_weights_exclude_random_ones(tmp_path: Path) -> None:
    name = f"local-dir:{write_weights(tmp_path) / TINY}"
    with pytest.raises(ConfigError, match='names pre-trained weights, which weights="none" excludes'):
        resolve_spec(name, SMALL, weights_policy("none", [name]))


def test_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    name = f"local-dir:{tmp_path / 'nothing'}"
    with pytest.raises(ConfigError, match=r"no nothing/config.json there"):
        resolve_spec(name, SMALL, weights_policy("auto", [name]))


def test_another_tag_than_that_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = write_weights(tmp_path)
    policy = weights_policy(str(folder), [])
    message = f"the folder has {TINY}.made_up, not {TINY}.r160_in1k; ask for {TINY}"
    with pytest.raises(ConfigError, match=message):
        resolve_spec(f"{TINY}.r160_in1k", SMALL, policy)
    assert resolve_spec(f"{TINY}.made_up", SMALL, policy).weights.tag == "made_up"


def test_tag_of_a_registered_model_is_not_the_users(tmp_path: Path) -> None:
    """``resnet50`` stands for one tag of the hub, and a folder may have another."""
    folder = write_weights(tmp_path)
    (folder / TINY).rename(folder / "resnet50")
    config = folder / "resnet50" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"architecture": "resnet50"}))
    with pytest.raises(ConfigError, match="the file does not fit resnet50"):
        resolve_spec("resnet50", SMALL, weights_policy(str(folder), []))
