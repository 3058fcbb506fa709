"""The command line writes the settings of messages as flags."""

import ast
from dataclasses import fields
from pathlib import Path

import pytest

from bench.cli.main import COMMANDS
from bench.cli.parsing import in_flags
from bench.config import FIELDS
from imgcls.config import LoaderConfig, StoreConfig, TrainConfig
from imgcls.errors import ConfigError, ImageSizeError, UserError
from imgcls.messages import Message, Setting

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (Setting("image_size"), "--image-size"),
        (Setting("image_size", 64), "--image-size 64"),
        (Setting("group_by", r"(\d+)"), r"--group-by (\d+)"),
        (Setting("drop_leaks", value=True), "--drop-leaks"),
    ],
)
def test_setting_is_written_as_a_flag(setting: Setting, text: str) -> None:
    assert in_flags(Message(("use ", setting, "!"))) == f"use {text}!"


def test_same_error_has_fields_in_the_library_and_flags_on_the_command_line() -> None:
    error = ImageSizeError("vit", 100, "not divisible by 16", 112)
    assert str(error) == "image_size=100: vit cannot have this size (not divisible by 16); use image_size=112 px"
    text = "--image-size 100: vit cannot have this size (not divisible by 16); use --image-size 112 px"
    assert in_flags(error.message) == text
    with pytest.raises(ConfigError, match=r"^batch_size is 1; use 2 or more") as raised:
        LoaderConfig(batch_size=1)
    assert in_flags(raised.value.message).startswith("--batch-size is 1; use 2 or more")
    with pytest.raises(ConfigError) as raised:
        TrainConfig(budget="minutes=10", tune_layers="head")
    text = "--budget is minutes=10; with --tune-layers head it has no effect: use --budget epochs=1"
    assert in_flags(raised.value.message) == text


def test_error_of_plain_text_stays_as_it_is() -> None:
    assert in_flags(UserError("--space momentum: unknown").message) == "--space momentum: unknown"


def test_settings_that_messages_name_are_flags() -> None:
    argument_classes = [StoreConfig, *(command.args for command in COMMANDS.values())]
    flags = set(FIELDS).union(*({field.name for field in fields(args)} for args in argument_classes))
    files = [file for package in ("imgcls", "bench") for file in (ROOT / package).rglob("*.py")]
    calls = [
        node
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Setting"
    ]
    names = {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}
    assert len(names) > 20
    assert names <= flags
