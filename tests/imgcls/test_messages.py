"""Errors of the library name settings as a notebook does, and carry them as data."""

import ast
import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest

from imgcls.config import LoaderConfig, TrainConfig, parse_budget
from imgcls.data.sources.registry import load_dataset
from imgcls.errors import ConfigError, DataError, GroupedConfigError, ImageSizeError, UserError
from imgcls.messages import Message, Setting
from tests.helpers.audits import audit_of

LIBRARY = Path(__file__).parents[2] / "imgcls"


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (Setting("image_size"), "image_size"),
        (Setting("image_size", 64), "image_size=64"),
        (Setting("weights", "none"), 'weights="none"'),
        (Setting("group_by", r"(\d+)"), r'group_by="(\\d+)"'),
        (Setting("drop_leaks", value=True), "drop_leaks=True"),
    ],
)
def test_setting_is_written_as_a_keyword_argument(setting: Setting, text: str) -> None:
    assert str(Message(("use ", setting, "!"))) == f"use {text}!"


def test_out_of_range_value_is_named_by_its_field() -> None:
    with pytest.raises(ConfigError) as raised:
        LoaderConfig(image_size=5000)
    assert str(raised.value) == "image_size is 5000; use 8 to 4096 pixels"
    assert (raised.value.field, raised.value.value) == ("image_size", 5000)


def test_value_without_effect_is_named_by_both_fields() -> None:
    with pytest.raises(ConfigError) as raised:
        TrainConfig(warmup=0.1)
    assert str(raised.value) == 'warmup is 0.1; with schedule="plateau" it has no effect: use warmup=0'
    assert (raised.value.field, raised.value.value) == ("warmup", 0.1)


def test_field_and_value_are_those_with_which_the_message_begins() -> None:
    with pytest.raises(ConfigError, match=r'^budget="10": write one of epochs=AMOUNT') as raised:
        parse_budget("10")
    assert (raised.value.field, raised.value.value) == ("budget", "10")
    with pytest.raises(DataError, match=r'^data="nowhere": no such folder') as missing:
        load_dataset("nowhere")
    assert (missing.value.field, missing.value.value) == ("data", "nowhere")


def test_message_about_no_single_field_has_none() -> None:
    error = ConfigError("photos: holds a training with other settings")
    assert (str(error), error.field, error.value) == ("photos: holds a training with other settings", None, None)


def test_grouped_errors_are_joined() -> None:
    errors = [ConfigError(Setting("lr"), " is 0"), ConfigError("no model")]
    assert str(GroupedConfigError(errors)) == "lr is 0; no model"


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("plain"),
        ConfigError(Setting("lr"), " is 0.0", value=0.0),
        DataError(Setting("data", "pets"), ": gone"),
        ImageSizeError("vit", 100, "not divisible", 112),
        GroupedConfigError([ConfigError(Setting("lr"), " is 0")]),
    ],
)
def test_errors_can_be_sent_to_another_process(error: UserError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - written here
    assert type(copy) is type(error)
    assert (copy.message, copy.field, copy.value) == (error.message, error.field, error.value)


def test_audit_of_similar_images_names_settings() -> None:
    audit = audit_of([[0, 0], [1]])
    audit = replace(audit, near_duplicates=(tuple(image.image_id for image in audit.images),))
    assert str(audit).endswith('consider group_by, for different objects under a fixed camera near_duplicates="keep"')


def test_the_library_writes_no_flags() -> None:
    """A notebook has none; ``bench.cli.parsing`` writes the settings of messages as flags."""
    strings = [
        (file.name, node.value)
        for file in LIBRARY.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert len(strings) > 1000
    # At the end too: the text before a name in an f-string.
    assert [string for string in strings if re.search(r"(?<![-\w])--([a-z]|$)", string[1])] == []
