"""Which test images have a picture in the page."""

import base64
from pathlib import Path

import numpy as np
import pytest

from bench.cli.main import main
from bench.comparison.analysis import read
from bench.report import gallery
from tests.helpers import examples
from tests.helpers.boards import LABELS, NAMES
from tests.helpers.documents import content_of


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


def test_a_page_of_many_images_lists_some_and_counts_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = np.arange(240) % 10 > 0
    for model in ("one", "other"):
        examples.keep(
            tmp_path, model, examples.predictions_of(right, LABELS, classes=3), examples.data_of(LABELS, NAMES)
        )
    (found,) = read(tmp_path)
    whole = content_of(found)["predictions"]
    assert len(whole["ids"]) == 240
    assert "counts" not in whole["rows"][0]
    monkeypatch.setattr(gallery, "LISTED", 30)
    part = content_of(found)["predictions"]
    # The 24 that both misclassify, and six others; in the order of the images.
    assert {image_id for image_id, hit in zip(whole["ids"], right, strict=True) if not hit} < {*part["ids"]}
    assert len(part["ids"]) == 30
    assert part["ids"] == sorted(part["ids"])
    listed = [whole["ids"].index(image_id) for image_id in part["ids"]]
    labels = np.frombuffer(base64.b64decode(part["labels"]), dtype="<u2")
    assert labels.tolist() == LABELS[listed].tolist()
    for row in part["rows"]:
        assert len(base64.b64decode(row["p"])) == 30
        assert np.sum(row["counts"]) == 240
        assert np.trace(row["counts"]) == right.sum()
    assert main(["report", "--no-images", "--results", str(tmp_path)]) == 0
    text = (tmp_path / "report" / "index.html").read_text()
    assert "The page lists the 30 test images of 240 that most rows misclassify" in text


def test_failed_rows_choose_no_pictures(tmp_path: Path) -> None:
    predictions = examples.predictions_of(np.ones(240, dtype=bool), LABELS, classes=3)
    examples.keep(tmp_path, "broken", predictions, examples.data_of(LABELS, NAMES), status="failed", outcome=None)
    assert [image for comparison in read(tmp_path) for image in gallery.pictured(comparison)] == []
