"""What the galleries of the report select."""

from pathlib import Path

import numpy as np

from bench.comparison.analysis import read
from bench.report import gallery
from tests.helpers import examples
from tests.helpers.boards import LABELS, NAMES, some_right


def test_errors_of_all_models_are_the_most_confident_ones(tmp_path: Path) -> None:
    right = some_right(0.9)
    right[:3] = False
    sure = np.full(240, 0.6, dtype=np.float32)
    sure[2] = 0.9
    answered = {"classes": 3, "log_p_predicted": np.log(sure)}
    info = examples.data_of(LABELS, NAMES)
    for model, hits in (("good", right), ("useless", some_right(0.2, seed=1) & right)):
        examples.keep(tmp_path, model, examples.answered(hits, LABELS, **answered), info)
    (found,) = read(tmp_path)
    assert [row.name for row in found.no_better_than_majority] == ["useless"]
    shown, total = gallery.wrong_by_all(found)
    assert total == int((~right).sum())
    assert shown[0].image_id == "000002.png"
    title, listed = gallery.mistakes(found)[0]
    assert title == f"good, seed 0: {total} misclassified, the 24 most confident"
    assert listed[0].image_id == "000002.png"
