"""Flags that stand for several runs, and short names of flags."""

import pytest

from bench.cli.arguments import RunAllArgs, RunArgs, SweepArgs
from bench.cli.parsing import parse_runs
from bench.config import OF_THE_TABLE
from bench.recipes import budget_text


@pytest.mark.parametrize("flag", [["--imbalance", "all"], ["--imbalance=all"]])
def test_all_techniques_are_crossed_with_models_and_seeds(flag: list[str]) -> None:
    arguments = ["--models", "resnet50", "efficientnet_b0", *flag, "--seeds", "0", "1", "2", "--lr", "0.01"]
    args, configs = parse_runs(RunAllArgs, arguments, "run-all")
    techniques = ("none", "undersample", "class-weights", "balanced-sampler", "focal", "logit-adjustment", "post-hoc")
    found = [(config.train.imbalance, config.model, config.seed) for config in configs]
    wanted = [(name, model, seed) for name in techniques for model in args.models for seed in (0, 1, 2)]
    assert found == wanted
    assert {config.train.lr for config in configs} == {0.01}
    # The recipe's own is no deviation from it.
    assert configs[0].overrides == {"lr": 0.01}
    assert configs[-1].overrides == {"lr": 0.01, "imbalance": "post-hoc"}


def test_post_hoc_brings_the_training_that_it_adjusts() -> None:
    _, configs = parse_runs(RunArgs, ["resnet50", "--imbalance", "post-hoc"], "run")
    assert [config.train.imbalance for config in configs] == ["none", "post-hoc"]


@pytest.mark.parametrize("kind", [RunArgs, SweepArgs])
def test_one_run_has_one_technique(kind: type, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_runs(kind, ["resnet50", "--imbalance", "all"], "run")
    assert ended.value.code == 2
    assert "class-weights" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--augment", "cutmix"], ["--augment=cutmix"], ["--augmentation", "cutmix"]])
def test_augment_is_short_for_augmentation(words: list[str]) -> None:
    _, (config,) = parse_runs(RunArgs, ["resnet50", "--data", "photos", *words], "run")
    assert config.train.augmentation == "cutmix"
    assert config.overrides == {"augmentation": "cutmix"}


@pytest.mark.parametrize("recipe", ["quick", "finetune", "standard", "report"])
def test_digits_are_never_mirrored(recipe: str) -> None:
    _, (config,) = parse_runs(RunArgs, ["resnet50", "--recipe", recipe], "run")
    assert config.train.no_hflip


def test_photos_are_mirrored_unless_the_user_says_otherwise() -> None:
    for words, expected in (([], False), (["--no-hflip"], True)):
        _, (config,) = parse_runs(RunArgs, ["resnet50", "--data", "photos", *words], "run")
        assert config.train.no_hflip == expected


@pytest.mark.parametrize(
    ("text", "heading"),
    [
        ("minutes=10", "10 minutes of training, 64 px (Inception V3: 75 px)"),
        ("images=50000", "50,000 images, 64 px (Inception V3: 75 px)"),
        ("tmacs=2.5", "2.5 TMACs of training, 64 px (Inception V3: 75 px)"),
        ("epochs=20", "20 epochs, 64 px (Inception V3: 75 px)"),
    ],
)
def test_budget_is_that_of_the_table_and_no_setting(text: str, heading: str) -> None:
    _, configs = parse_runs(RunAllArgs, ["--models", "resnet50", "efficientnet_b0", "--budget", text], "run-all")
    assert {budget_text(config.budget) for config in configs} == {heading}
    assert all(set(config.overrides) <= OF_THE_TABLE for config in configs)


def test_budget_of_epochs_is_the_flag_of_epochs() -> None:
    first, second = (
        parse_runs(RunArgs, ["resnet50", *words], "run")[1] for words in (["--budget", "epochs=7"], ["--epochs", "7"])
    )
    assert first == second
