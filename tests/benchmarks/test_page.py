"""The page of a large table in headless Chromium: its size, the time to its first paint, and that of each control."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.cli.main import main
from bench.records.paths import PLACE
from bench.records.store import write_json
from imgcls.data.audit import audit_dataset
from imgcls.data.sources.registry import load_dataset
from imgcls.data.splits import make_splits
from tests.helpers import examples
from tests.helpers.browser import needs_chromium, visiting

MODELS, CLASSES, IMAGES = 20, 100, 10_000
ROUNDS = 5

CONTROLS = {
    "sort": "document.querySelector('table.board thead button').click()",
    "metric": "choose('.leaderboard select', 3)",
    "filter": "choose('.leaderboard select:nth-of-type(1)', 1)",
    "axis": "choose('.explorer select', 1)",
    "confusion of another row": "choose('.confusion select', 1)",
    "difference of two rows": "choose('.confusion label:nth-of-type(2) select', 3)",
    "images of a cell": "document.querySelector('svg.confusions rect[fill]').dispatchEvent(new MouseEvent('click'))",
    "images of a filter": "choose('.images select', 3)",
    "limit": "limit('.leaderboard input', 1)",
    "pair": "document.querySelector('table.pairs td button').focus()",
}
"""What a user does, by a name, as a script in the page."""

CHOOSE = """() => {
  window.choose = (place, number) => {
    const select = document.querySelector(place);
    select.selectedIndex = number % select.options.length;
    select.dispatchEvent(new Event('change'));
  };
  window.limit = (place, value) => {
    const box = document.querySelector(place);
    box.value = value;
    box.dispatchEvent(new Event('input'));
  };
}"""
TIMED = """script => new Promise(done => {
  const started = performance.now();
  eval(script);
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - started)));
})"""


def large(folder: Path) -> Path:
    """Return the results of 20 models with 100 classes and 10,000 test images, which exist as files."""
    rng = np.random.default_rng(0)
    root, labels = folder / "photos", np.repeat(np.arange(CLASSES), IMAGES // CLASSES)
    for split, number in (("train", 2), ("val", 2), ("test", IMAGES // CLASSES)):
        for label in range(CLASSES):
            place = root / split / f"class-{label:03d}"
            place.mkdir(parents=True)
            for image in range(number):
                Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(place / f"{image:03d}.png")
    cache = folder / "cache"
    audit = audit_dataset(load_dataset(str(root), cache=cache), cache=cache)
    splits = make_splits(audit, examples.record().config.split)
    ids = tuple(sorted(audit.images[row].image_id for row in splits.test))
    info = examples.data_of(labels, audit.class_names, digest=audit.digest, split_digest=splits.digest)
    for model in range(MODELS):
        right = rng.random(IMAGES) < 0.6 + model / 60
        predicted = np.where(right, labels, rng.integers(0, CLASSES, IMAGES)).astype(np.int32)
        confidence = np.log(rng.uniform(0.2, 1, IMAGES)).astype(np.float32)
        predictions = examples.predictions_of(
            right, labels, classes=CLASSES, predicted=predicted, log_p_predicted=confidence, image_ids=ids
        )
        kept = examples.keep(folder / "results", f"model{model:02d}", predictions, info)
        write_json({"data": str(root)}, folder / "results" / "artifacts" / kept.train_id / PLACE)
    return folder / "results"


@needs_chromium
@pytest.mark.benchmark
@pytest.mark.timeout(1200)
def test_page_of_a_large_table(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Megabytes, milliseconds to the first paint, and from each control to the next frame; medians of five."""
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path / "cache"))
    results = large(tmp_path)
    assert main(["report", "--results", str(results)]) == 0
    index = results / "report" / "index.html"
    paints: list[float] = []
    took: dict[str, list[float]] = {name: [] for name in CONTROLS}

    def visit() -> None:
        with visiting(index, viewport={"width": 1280, "height": 800}, bypass_csp=True) as seen:
            paints.append(seen.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
            seen.page.evaluate(CHOOSE)
            for name, script in CONTROLS.items():
                took[name].append(seen.page.evaluate(TIMED, script))

    benchmark.pedantic(visit, rounds=ROUNDS)
    benchmark.extra_info["MB"] = round(index.stat().st_size / 1e6, 1)
    benchmark.extra_info["first paint, ms"] = round(statistics.median(paints))
    benchmark.extra_info["controls, ms"] = {name: round(statistics.median(each)) for name, each in took.items()}
    print(benchmark.extra_info)  # noqa: T201
