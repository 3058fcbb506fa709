"""GMACs of records that an older method counted: counted anew where the network can be built, else lower bounds."""

import csv
import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm

from bench.comparison import analysis
from bench.comparison.costs import cost_to_accuracy
from bench.recipes import RECIPES
from bench.records.schema import RunRecord
from bench.records.store import record_path, write_json
from imgcls.models import complexity
from imgcls.models.operators import COUNTING
from tests.helpers import examples
from tests.helpers.boards import LABELS, NAMES, some_right
from tests.helpers.documents import csv_of, markdown_of, tables_of

FUSED = {"aten::scaled_dot_product_attention": 6, "aten::softmax": 1}
OLD_GMACS = 0.001


def keep(results: Path, *, seed: int = 0, model: str = "test_vit", **changes: Any) -> RunRecord:
    """Write the record of a ViT of three classes at 96 px that was counted without its attention."""
    predictions = examples.predictions_of(some_right(0.9, seed), LABELS, classes=3)
    config = replace(RECIPES["quick"](model), model=model)
    kept = examples.keep(results, model, predictions, examples.data_of(LABELS, NAMES), seed=seed, config=config)
    assert kept.outcome is not None
    info = replace(
        kept.outcome.model,
        name=model,
        timm_name="test_vit.r160_in1k",
        image_size=96,
        num_params=network().num_params,
        gmacs=OLD_GMACS,
        uncounted_operators=FUSED,
    )
    training = replace(kept.outcome.training, history=(replace(examples.EPOCH, val_top1_accuracy=0.95),))
    whole = replace(kept, outcome=replace(kept.outcome, model=replace(info, **changes), training=training))
    write_json(whole, record_path(results, whole))
    return whole


def network() -> complexity.Complexity:
    return complexity.count(timm.create_model("test_vit", num_classes=3, img_size=96), 96)


def shown(results: Path) -> tuple[list[str], list[dict[str, str]], str]:
    """The cells of the GMACs in the main table, the lines of the CSV, and the whole page."""
    found = analysis.read(results)
    text = markdown_of(*found)
    (_, *rows) = tables_of(*found)[0]
    lines = list(csv.DictReader(io.StringIO(csv_of(*found))))
    return [row[6] for row in rows[:-1]], lines, text


def test_old_count_is_made_anew_at_reading(tmp_path: Path) -> None:
    record = keep(tmp_path)
    before = record_path(tmp_path, record).read_bytes()
    gmacs = network().gmacs
    assert gmacs > 2 * OLD_GMACS
    cells, lines, text = shown(tmp_path)
    assert cells == [f"{gmacs:.3f}"]
    assert [float(line["gmacs"]) for line in lines] == [gmacs]
    assert "lower bound" not in text
    (found,) = analysis.read(tmp_path)
    images = examples.EPOCH.images
    assert cost_to_accuracy(found.table.rows[0], 0.5).tmacs == pytest.approx(3 * images * gmacs / 1e3)
    assert record_path(tmp_path, record).read_bytes() == before


def test_each_network_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[Any]()

    def counted(*network_of: Any) -> complexity.Complexity:
        asked.append(network_of)
        return network()

    monkeypatch.setattr(complexity, "count_named", counted)
    for seed in range(3):
        keep(tmp_path, seed=seed)
    keep(tmp_path, seed=4, model="other", image_size=64)
    assert len(set(shown(tmp_path)[0])) == 1
    assert sorted(asked) == [("test_vit.r160_in1k", 64, 3), ("test_vit.r160_in1k", 96, 3)]


@pytest.mark.parametrize(
    "change",
    [{"timm_name": "no_such_network"}, {"image_size": 97}, {"num_params": 1}],
    ids=["unknown", "impossible size", "another network"],
)
def test_network_that_cannot_be_built_has_a_lower_bound(change: dict[str, Any], tmp_path: Path) -> None:
    keep(tmp_path, gmacs=1.0804, **change)
    cells, lines, text = shown(tmp_path)
    assert cells == ["≥ 1.080"]
    assert [(line["gmacs"], line["gmacs_lack"]) for line in lines] == [("1.0804", "aten::scaled_dot_product_attention")]
    (sentence,) = [line for line in text.splitlines() if "lower bound" in line]
    assert "`test_vit`" in sentence
    assert "cannot be built again" in sentence
    assert "≥ 1.08" in text.split("Pareto fronts")[1]
    assert " min, ≥ " in text.split("Cost to accuracy")[1]


def test_present_count_without_some_products_is_a_lower_bound_too(tmp_path: Path) -> None:
    keep(tmp_path, uncounted_operators={"aten::cdist": 1}, counting=COUNTING)
    cells, _, text = shown(tmp_path)
    assert cells == [f"≥ {OLD_GMACS:.3f}"]
    assert "`aten::cdist`" in text
    assert "cannot be built again" not in text


def test_uncounted_elementwise_operators_are_not_shown(tmp_path: Path) -> None:
    keep(tmp_path, uncounted_operators={"aten::softmax": 12})
    cells, lines, _ = shown(tmp_path)
    assert cells == [f"{OLD_GMACS:.3f}"]
    assert "gmacs_lack" not in lines[0]


@pytest.mark.parametrize(("operators", "loaded"), [({"aten::softmax": 1}, False), (FUSED, True)])
def test_torch_is_loaded_only_to_count(operators: dict[str, int], loaded: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter of the test
    keep(tmp_path, uncounted_operators=operators)
    code = (
        "import sys; from bench.cli.main import main\n"
        "assert main(['leaderboard', '--results', sys.argv[1]]) == 0; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == str(loaded)
