"""Which test images have a picture in the page."""

from pathlib import Path

import numpy as np
import pytest

from bench.comparison.analysis import read
from bench.report import gallery
from tests.helpers import examples
from tests.helpers.boards import LABELS, NAMES


def test_mistakes_have_pictures_first_and_then_the_least_confident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "PICTURES", 10)
    right = np.ones(240, dtype=bool)
    right[[5, 6, 7]] = False
    sure = np.full(240, 0.9, dtype=np.float32)
    sure[20:40] = np.linspace(0.3, 0.8, 20)
    answered = {"classes": 3, "log_p_predicted": np.log(sure)}
    info = examples.data_of(LABELS, NAMES)
    for model, hits in (("one", right), ("other", right & (np.arange(240) != 200))):
        examples.keep(tmp_path, model, examples.predictions_of(hits, LABELS, **answered), info)
    (found,) = read(tmp_path)
    numbers = [int(image_id.split(".")[0]) for image_id in gallery.pictured(found)]
    assert set(numbers[:3]) == {5, 6, 7}  # wrong by both
    assert numbers[3:] == [200, *range(20, 26)]


def test_failed_rows_choose_no_pictures(tmp_path: Path) -> None:
    predictions = examples.predictions_of(np.ones(240, dtype=bool), LABELS, classes=3)
    examples.keep(tmp_path, "broken", predictions, examples.data_of(LABELS, NAMES), status="failed", outcome=None)
    assert [image for comparison in read(tmp_path) for image in gallery.pictured(comparison)] == []
