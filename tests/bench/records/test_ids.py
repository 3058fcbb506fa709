"""Ids of runs: hashes of the requested settings that differ from the frozen defaults."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config import PARTS, RunConfig, with_overrides, with_values
from bench.recipes import RECIPES
from bench.records.ids import FROZEN_DEFAULTS, hash_of, identity
from bench.records.store import read_records
from bench.runs.plan import Source, ids_of
from imgcls.config import LoaderConfig, TrainConfig

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, kw_only=True, slots=True)
class LaterTrainConfig(TrainConfig):
    """The config of a later version, with one more optional field."""

    dummy: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LaterRunConfig(RunConfig):
    train: TrainConfig = field(default_factory=LaterTrainConfig)
    dummy: int = 3


def later(config: RunConfig, **changes: object) -> LaterRunConfig:
    """Return the config as a later version would have it."""
    values = {each.name: getattr(config, each.name) for each in fields(config)}
    train = {each.name: getattr(config.train, each.name) for each in fields(config.train)}
    return LaterRunConfig(**(values | {"train": LaterTrainConfig(**train)} | changes))


@given(
    recipe=st.sampled_from(sorted(RECIPES)),
    model=st.sampled_from(["resnet50", "efficientnet_b0", "inception_v3"]),
    epochs=st.integers(1, 30),
    lr=st.floats(1e-6, 1.0),
)
def test_new_optional_field_keeps_ids(recipe: str, model: str, epochs: int, lr: float) -> None:
    config = RECIPES[recipe](model)
    config = replace(config, train=replace(config.train, epochs=epochs, lr=lr))
    assert hash_of(identity(later(config))) == hash_of(identity(config))
    assert hash_of(identity(later(config, dummy=4))) != hash_of(identity(config))


@pytest.mark.parametrize("change", [{"lr": 0.01}, {"epochs": 4}, {"schedule": "cosine"}, {"train_threads": 2}])
def test_requested_settings_change_the_id(change: dict[str, object]) -> None:
    config = RunConfig()
    assert hash_of(identity(replace(config, train=replace(config.train, **change)))) != hash_of(identity(config))


def test_frozen_defaults_match_the_configs() -> None:
    """If a default changes, its frozen value stays, and this test must exclude that field."""
    now = {
        each.name: getattr(getattr(RunConfig(), part), each.name)
        for part in PARTS
        for each in fields(getattr(RunConfig(), part))
    }
    assert now == FROZEN_DEFAULTS


def test_ids_of_this_version_are_pinned() -> None:
    """If these changed, no finished training would be found again."""
    assert hash_of(identity(LoaderConfig())) == hash_of({})
    # The recipe itself has changed since: it mirrors no images.
    assert hash_of(identity(with_values(RECIPES["quick"]("resnet50"), {"no_hflip": False}))) == "125199794c3d2839"
    assert hash_of(identity(RECIPES["report"]("inception_v3"))) == "8d320d931958d254"


def test_ids_of_published_records_are_computed_again_from_what_was_read() -> None:
    """A repetition of a command finds its runs by these: the text of a value must survive reading, too."""
    records = [
        record
        for folder in sorted((ROOT / "results" / "examples").iterdir())
        for record in read_records(folder)
        # Ensembles have ids of their own.
        if record.outcome is not None and record.ensemble is None
    ]
    assert len(records) > 100
    for record in records:
        assert record.outcome is not None
        model, data = record.outcome.model, record.dataset
        source: Source = [
            [model.timm_name, record.init, model.weights_tag, model.weights_sha256],
            [data.digest, data.split_digest],
        ]
        run_id, train_id = ids_of(record.config, source, record.environment.machine, record.tuning)
        assert (run_id, train_id) == (record.run_id, record.train_id)


def test_former_name_of_a_value_is_read_and_keeps_the_id() -> None:
    former, present = (with_overrides(RECIPES["quick"]("resnet50"), {"split": word}) for word in ("ours", "generated"))
    assert former.split == present.split
    content = identity(present)
    assert content["split"] == {"split": "ours"}
    assert content["overrides"]["split"] == "ours"
    assert hash_of(identity(former)) == hash_of(content)
