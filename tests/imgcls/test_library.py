"""The public names of the library, and what ``fine_tune`` refuses; ``tests/test_docs.py`` runs a whole session."""

import subprocess
import sys
from pathlib import Path

import pytest

import imgcls
from imgcls.config import LoaderConfig, TrainConfig
from tests.helpers.commands import ROOT
from tests.helpers.images import MakeFolder

TINY = {"loader": LoaderConfig(image_size=32, batch_size=8), "weights": "none"}


def test_public_names_can_be_imported() -> None:
    assert all(getattr(imgcls, name).__name__ == name for name in imgcls.__all__)
    assert set(dir(imgcls)) == set(imgcls.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = imgcls.nothing


def test_a_deprecated_name_warns() -> None:
    with pytest.warns(DeprecationWarning, match=r"imgcls\.Answer is now imgcls\.PhotoPrediction"):
        assert imgcls.Answer is imgcls.PhotoPrediction


def test_importing_loads_no_other_package() -> None:
    """So that it takes a few milliseconds, which ``nox -s perf`` measures."""
    # Without site, whose hooks for editable installations load packages of their own.
    code = "import sys; before = set(sys.modules); import imgcls; print(*set(sys.modules) - before)"
    command = [sys.executable, "-S", "-c", code]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.split()
    assert {name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names} == {"imgcls"}


def test_a_folder_belongs_to_one_training(make_folder: MakeFolder, tmp_path: Path) -> None:
    dataset = imgcls.load_dataset(str(make_folder({"cat": 20, "dog": 20})))
    audit = imgcls.audit_dataset(dataset)
    splits = imgcls.make_splits(audit)

    def fine_tune(epochs: int) -> imgcls.FineTuned:
        return imgcls.fine_tune(
            "test_efficientnet", dataset, audit, splits, folder=tmp_path, train=TrainConfig(epochs=epochs), **TINY
        )

    first = fine_tune(1)
    scores = imgcls.evaluate(first, "val")
    assert scores["top1_accuracy"] == pytest.approx(first.training.history[0].val_top1_accuracy)
    assert fine_tune(1).training.history == first.training.history
    with pytest.raises(imgcls.ConfigError, match="another folder"):
        fine_tune(2)
