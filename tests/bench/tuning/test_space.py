"""Search spaces: checked ranges, and settings that can be repeated by flags."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cli.arguments import RunArgs
from bench.cli.parsing import parse_runs
from bench.config import with_overrides
from bench.recipes import RECIPES, for_weights
from bench.tuning.space import DEFAULT_SPACE, HYPERPARAMETERS, apply, defaults, flags, parse_space
from imgcls.errors import ConfigError

BASE = RECIPES["standard"]("efficientnet_b0")


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("momentum", "--space momentum: unknown hyperparameter; known: lr, dropout, epochs"),
        ("lr=1e-2:1e-4", "--space lr=0.01:0.0001: the lower bound exceeds the upper bound"),
        ("lr=low:high", "not a range; write lr=LOW:HIGH"),
        ("lr=1e-3", "not a range"),
        ("lr=0:1e-2", "starts above 0"),
        ("lr=nan:1", "excludes the default"),
        ("lr=1e-2:1e-1", "excludes the default, 0.001"),
        ("epochs=1.5:10", "whole numbers"),
        ("epochs=0:10", "epochs is 0"),
        ("dropout=0:2", "dropout is 2.0; use 0 to 0.99"),
    ],
)
def test_invalid_space_is_refused(word: str, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        parse_space([word], BASE)


def test_empty_space_is_refused() -> None:
    with pytest.raises(ConfigError, match="one hyperparameter or more"):
        parse_space([], BASE)


def test_default_space() -> None:
    space = parse_space(DEFAULT_SPACE, BASE)
    assert {name: (one.low, one.high, one.log) for name, one in space.items()} == {
        "lr": (1e-5, 1e-2, True),
        "dropout": (0.0, 0.7, False),
        "epochs": (1, BASE.train.epochs, False),
    }


@pytest.mark.parametrize("name", HYPERPARAMETERS)
def test_ranges_contain_the_defaults(name: str) -> None:
    base = with_overrides(BASE, {"ema": 0.99, "optimizer": "adamw"})
    space = parse_space([name], base)
    (value,) = defaults(base, space).values()
    assert space[name].low <= value <= (space[name].high or 0)
    assert apply(base, {name: value}) == apply(base, {})


@pytest.mark.parametrize("name", HYPERPARAMETERS)
def test_ranges_contain_the_defaults_of_fine_tuning(name: str) -> None:
    base = with_overrides(RECIPES["finetune"]("resnet50"), {"ema": 0.99})
    assert parse_space([name], base)[name].low <= defaults(base, HYPERPARAMETERS)[name]


def test_hyperparameter_that_is_off_needs_a_default() -> None:
    with pytest.raises(ConfigError, match="--space ema: the default setting has none; give its value with --ema"):
        parse_space(["ema"], BASE)


def test_batch_sizes_are_not_searched_with_micro_batches() -> None:
    with pytest.raises(ConfigError, match="--space batch_size: not with --micro-batch"):
        parse_space(["batch_size"], with_overrides(BASE, {"micro_batch": 8}))


def test_range_narrows_choices_and_keeps_default() -> None:
    assert parse_space(["image_size=128:256"], BASE)["image_size"].choices == (128, 160, 192, 224, 256)
    odd = replace(BASE, loader=replace(BASE.loader, image_size=150))
    assert 150 in parse_space(["image_size"], odd)["image_size"].choices


def test_trial_uses_cosine_and_its_last_epoch() -> None:
    config = apply(BASE, {"lr": 3e-3, "epochs": 4, "dropout": 0.1, "batch_size": 16})
    assert (config.train.schedule, config.train.select) == ("cosine", "last")
    assert (config.train.lr, config.train.epochs, config.architecture.dropout, config.loader.batch_size) == (
        3e-3,
        4,
        0.1,
        16,
    )


@given(
    lr=st.floats(1e-5, 1e-2),
    dropout=st.floats(0, 0.7),
    epochs=st.integers(1, 10),
    size=st.sampled_from((64, 96, 224)),
)
def test_flags_reproduce_a_setting(lr: float, dropout: float, epochs: int, size: int) -> None:
    config = apply(BASE, {"lr": lr, "dropout": dropout, "epochs": epochs, "image_size": size})
    words = ["efficientnet_b0", "--data", "photos", "--recipe", "standard", *flags(config)]
    _, (again,) = parse_runs(RunArgs, words, "run")
    assert replace(again, dataset=config.dataset, budget=config.budget) == config


def test_flags_reproduce_what_random_weights_replace() -> None:
    config = for_weights(RECIPES["finetune"]("efficientnet_b0"), "random")
    words = ["efficientnet_b0", "--data", "photos", "--recipe", "finetune", *flags(config)]
    _, (again,) = parse_runs(RunArgs, words, "run")
    assert again.overrides == {"tune_layers": "all", "layer_decay": 1.0, "norm": "batch"}
    assert again == config


def test_frozen_features_have_nothing_to_search() -> None:
    with pytest.raises(ConfigError, match="--tune-layers head: its classifier has no hyperparameters to search"):
        parse_space(["lr"], with_overrides(RECIPES["finetune"]("resnet50"), {"tune_layers": "head"}))
