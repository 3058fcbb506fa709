"""The page in a real headless Chromium: it stands alone, sorts, keeps names as text, and stays small."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from bench.cli.main import main
from bench.records.paths import PLACE
from bench.records.schema import RunRecord
from bench.records.store import write_json
from bench.render.spreadsheet import csv_text
from imgcls.data.audit import audit_dataset
from imgcls.data.sources.registry import load_dataset
from imgcls.data.splits import make_splits
from tests.conftest import MakeFolder
from tests.helpers import examples
from tests.helpers.browser import Visit, needs_chromium, visiting

ODD = ("<script>alert(1)</script>", "$x_1$ & co", "a|b")
LABELS = np.arange(90) % 3


def report(results: Path, *flags: str) -> Path:
    assert main(["report", "--results", str(results), *flags]) == 0
    return results / "report" / "index.html"


def keep(results: Path, model: str, share: float, **changes: object) -> RunRecord:
    right = np.random.default_rng(len(model)).random(90) < share
    return examples.keep(
        results, model, examples.predictions_of(right, LABELS, classes=3), examples.data_of(LABELS, ODD), **changes
    )


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """The page of two models in one table, and a failed one, with odd class names."""
    results = tmp_path / "results"
    keep(results, "net", 0.9)
    keep(results, "netz", 0.7, seed=0)
    keep(results, "netz", 0.7, seed=1)
    keep(results, "broken", 0.5, status="failed", outcome=None, error="Traceback\nMemoryError: <b>full</b>\n")
    return report(results)


@needs_chromium
def test_the_page_stands_alone_and_complains_of_nothing(index: Path) -> None:
    for scheme in ("light", "dark"):
        with visiting(index, color_scheme=scheme) as visit:
            assert visit.complaints == []
            assert [url for url in visit.requests if not url.startswith("data:")] == [index.resolve().as_uri()]
            colours = visit.page.evaluate(
                "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
            )
            light = [sum(map(int, re.findall(r"\d+", colour)[:3])) > 380 for colour in colours]
            assert light == ([False, True] if scheme == "light" else [True, False])


@needs_chromium
def test_nothing_is_a_serious_barrier(index: Path) -> None:
    for scheme in ("light", "dark"):
        # The check injects a script, which the page's own policy forbids.
        with visiting(index, color_scheme=scheme, bypass_csp=True) as visit:
            visit.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
            found = Axe().run(visit.page).response["violations"]
            assert [one["id"] for one in found if one["impact"] in {"serious", "critical"}] == []


@needs_chromium
def test_names_are_text_and_never_markup(index: Path) -> None:
    with visiting(index) as visit:
        for name in ODD:
            assert visit.page.locator("svg.confusions text", has_text=name[:17]).count() >= 1
        assert visit.page.locator(".content script, .content b:has-text('full')").count() == 0
        assert visit.complaints == []


def column(visit: Visit, number: int) -> list[str]:
    return visit.page.locator(f"table.board tbody tr > :nth-child({number})").all_inner_texts()


@needs_chromium
def test_leaderboard_is_sorted_by_any_metric_and_failed_rows_stay_below(index: Path) -> None:
    with visiting(index) as visit:
        for title, order in (("descending", -1), ("ascending", 1)):
            cells = column(visit, 3)
            numbers = [float(cell.split()[0]) for cell in cells if cell[0].isdigit()]
            assert numbers == sorted(numbers, key=lambda value, order=order: order * value)
            assert len(numbers) == 2
            assert cells[-1].startswith("failed: MemoryError: <b>full</b>")
            header = visit.page.locator("table.board th", has_text="Top-1 accuracy")
            assert header.get_attribute("aria-sort") == title
            header.locator("button").click()
        visit.page.get_by_label("Show").first.select_option(label="Parameters")
        assert visit.page.locator("table.board thead th").nth(2).inner_text().startswith("Parameters, M")


@needs_chromium
def test_leaderboard_is_filtered_by_model(index: Path) -> None:
    with visiting(index) as visit:
        visit.page.locator(".leaderboard select").nth(1).select_option("net")
        assert [cell.split("\n")[0].strip() for cell in column(visit, 2)] == ["net"]
        assert visit.page.locator(".leaderboard [role=status]").inner_text().strip() == "1 of 3 rows."


@needs_chromium
def test_a_limit_on_latency_names_the_most_accurate_row_and_how_sure_that_is(index: Path) -> None:
    with visiting(index) as visit:
        limit = visit.page.get_by_label("Latency on pytorch-cpu (p50) at most")
        limit.fill("1000")
        told = visit.page.locator(".leaderboard [role=status]").inner_text()
        assert told.startswith("2 of 3 rows. The most accurate of them is net, ")
        assert told.endswith("; significantly better than each of the others.")
        limit.fill("0.001")
        assert visit.page.locator(".leaderboard [role=status]").inner_text().strip() == "0 of 3 rows."
        assert visit.complaints == []


@needs_chromium
def test_explorer_shows_each_row_and_its_details_to_the_keyboard(index: Path) -> None:
    with visiting(index) as visit:
        points = visit.page.locator(".explorer .point")
        assert points.count() == 2
        points.first.focus()
        assert "best with probability" in visit.page.locator(".explorer .about").inner_text()
        visit.page.get_by_label("Cost").select_option(label="ONNX file")
        assert visit.page.locator(".explorer figcaption").inner_text().startswith("Top-1 accuracy against ONNX file")
        visit.page.get_by_label("logarithmic").uncheck()
        assert points.count() == 2
        with visit.page.expect_download() as waiting:
            visit.page.locator(".explorer").get_by_role("button", name="CSV").click()
        lines = waiting.value.path().read_text().splitlines()
        assert [line.split(",")[0] for line in lines] == ["row", "net", "netz"]
        with visit.page.expect_download() as waiting:
            visit.page.locator(".explorer").get_by_role("button", name="SVG").click()
        assert waiting.value.path().read_text().startswith("<svg")
        assert visit.complaints == []


@needs_chromium
@pytest.mark.parametrize("kind", ["SVG", "CSV"])
def test_every_chart_is_saved(kind: str, index: Path) -> None:
    with visiting(index) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        visit.page.wait_for_selector("#calibration figure svg")
        tools = visit.page.locator(".tools")
        assert tools.count() == visit.page.locator("figure:not(.shot)").count() + 1
        for number in range(tools.count()):
            with visit.page.expect_download() as waiting:
                tools.nth(number).get_by_role("button", name=kind).click()
            text = waiting.value.path().read_text()
            if kind == "SVG":
                picture = ET.fromstring(text)  # noqa: S314 - of our own page
                assert picture.tag == "{http://www.w3.org/2000/svg}svg"
                assert picture[0].text
            else:
                lines = list(csv.reader(text.splitlines()))
                assert {len(line) for line in lines} == {len(lines[0])}
                assert len(lines) > 1
        assert visit.complaints == []


@needs_chromium
def test_a_pair_tells_its_interval_and_p_value(index: Path) -> None:
    with visiting(index) as visit:
        cells = visit.page.locator("table.pairs td button")
        first, second = (float(text) for text in cells.all_inner_texts())
        assert first == -second > 0
        cells.first.focus()
        told = visit.page.locator(".matrix .about").inner_text()
        assert told.startswith(f"net minus netz: +{first} pp (simultaneous 95 % CI ")
        assert "(Holm)" in told


@needs_chromium
def test_a_confusion_opens_the_images_behind_it(index: Path) -> None:
    with visiting(index) as visit:
        counts = visit.page.locator("svg.confusions text.count").all_text_contents()
        assert sum(map(int, counts)) == 90
        visit.page.locator(".confusion ol button").first.click()
        told = visit.page.locator(".images [role=status]").inner_text()
        number = int(told.split()[0])
        assert " taken for " in told
        assert visit.page.locator(".images .shot").count() == min(number, 48)
        visit.page.locator(".confusion").get_by_label("minus").select_option(label="netz, seed 0")
        less = [int(cell) for cell in visit.page.locator("svg.confusions text.count").all_text_contents()]
        assert sum(less) == 0
        assert any(value < 0 for value in less)


@needs_chromium
@pytest.mark.parametrize("kind", ["all", "one", "only", "unsure", "duplicates"])
def test_images_are_filtered(kind: str, index: Path) -> None:
    with visiting(index) as visit:
        visit.page.locator(".images select").first.select_option(kind)
        shots = visit.page.locator(".images .shot")
        number = int(visit.page.locator(".images [role=status]").inner_text().split()[0])
        assert shots.count() == min(number, 48)
        right = np.random.default_rng(3).random(90) < 0.9, np.random.default_rng(4).random(90) < 0.7
        expected = {
            "all": (~right[0] & ~right[1]).sum(),
            "one": (~right[0]).sum(),
            "only": (~right[0] & right[1]).sum(),
            "unsure": 90,
            "duplicates": 0,
        }
        assert number == expected[kind]
        if number:
            shots.first.locator("summary").click()
            assert shots.first.locator("li").count() == 2


@needs_chromium
def test_links_lead_to_sections_and_unfold_them(index: Path) -> None:
    with visiting(index) as visit:
        assert not visit.page.locator("#curves figure").first.is_visible()
        visit.page.get_by_role("link", name="Learning curves").click()
        visit.page.wait_for_selector("#curves figure svg")
        assert visit.page.evaluate("document.querySelector('#curves').getBoundingClientRect().top") < 700
        visit.page.goto(index.resolve().as_uri() + "#calibration")
        visit.page.wait_for_selector("#calibration figure svg")
        assert visit.complaints == []


@needs_chromium
def test_tables_have_nine_columns_and_a_choice_of_others(index: Path) -> None:
    with visiting(index) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        tables = visit.page.locator("#tables table")
        shown = [tables.nth(number).locator("thead th:visible").count() for number in range(tables.count())]
        assert max(shown) == 9
        wide = visit.page.locator(".columns").first
        wide.locator("input:not(:checked)").first.check()
        assert 10 in [tables.nth(number).locator("thead th:visible").count() for number in range(tables.count())]
        header = tables.first.locator("thead th").first
        header.locator("button").click()
        assert header.get_attribute("aria-sort") == "ascending"


def test_the_page_holds_the_rows_of_the_csv(index: Path) -> None:
    page = index.read_text(encoding="utf-8")
    rows = json.loads(re.findall(r'<script type="application/json" id="rows">(.*?)</script>', page)[0])
    assert main(["leaderboard", "--results", str(index.parent.parent)]) == 0
    assert csv_text(rows) == (index.parent.parent / "leaderboard.csv").read_text(encoding="utf-8")


@needs_chromium
def test_a_phone_scrolls_tables_and_not_the_page(index: Path) -> None:
    with visiting(index, viewport={"width": 380, "height": 800}) as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 380
        assert visit.page.locator(".lead").is_visible()


def test_sections_without_data_say_so(index: Path) -> None:
    page = index.read_text(encoding="utf-8")
    assert "The audit is not available: the location of the images of pets is not known here" in page
    assert "2 empty" in page
    assert "MemoryError: &lt;b&gt;full&lt;/b&gt;" in page
    assert [path.name for path in index.parent.iterdir()] == ["index.html"]


BAD: dict[str, tuple[np.ndarray, list[np.ndarray]]] = {
    "two test images": (np.array([0, 1]), [np.array([0, 0]), np.array([1, 1])]),
    "one model": (LABELS, [LABELS]),
    "a class absent from test": (LABELS[LABELS < 2], [LABELS[LABELS < 2], 1 - LABELS[LABELS < 2]]),
    "one class always": (LABELS, [np.zeros(90, dtype=int), np.zeros(90, dtype=int)]),
    "all right and all wrong": (LABELS, [LABELS, (LABELS + 1) % 3]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_poor_test_split_or_model_is_a_page_too(name: str, tmp_path: Path) -> None:
    labels, models = BAD[name]
    info = examples.data_of(labels, ODD)
    for number, predicted in enumerate(models):
        right = predicted == labels
        predictions = examples.predictions_of(right, labels, classes=3, predicted=predicted.astype(np.int32))
        examples.keep(tmp_path, f"net {number}", predictions, info)
    page = report(tmp_path).read_text(encoding="utf-8")
    assert page.count('class="board-of"') == 1
    assert not re.search(r"\b(nan|inf)\b", page, flags=re.IGNORECASE)


def test_nothing_but_failed_runs_is_a_page_too(tmp_path: Path) -> None:
    keep(tmp_path, "broken", 0.5, status="failed", outcome=None, error="MemoryError: full\n")
    page = report(tmp_path).read_text(encoding="utf-8")
    assert "nothing can be compared" in page
    assert "MemoryError: full" in page


@pytest.fixture
def photos(make_folder: MakeFolder, tmp_path: Path) -> Path:
    """Results of a run on real files, one of them twice and one unreadable, with its artifacts' place."""
    root = make_folder({"cat": 20, "dog": 20})
    shutil.copy(root / "cat" / "000.png", root / "cat" / "again.png")
    (root / "dog" / "broken.png").write_bytes(b"nothing")
    audit = audit_dataset(load_dataset(str(root), cache=tmp_path / "cache"), cache=tmp_path / "cache")
    config = examples.record().config.split
    splits = make_splits(audit, config)
    ids = tuple(sorted(audit.images[row].image_id for row in splits.test))
    labels = np.array([audit.class_names.index(image_id.split("/")[0]) for image_id in ids])
    info = examples.data_of(labels, audit.class_names, digest=audit.digest, split_digest=splits.digest)
    predictions = examples.predictions_of(np.zeros(len(ids), dtype=bool), labels, classes=2, image_ids=ids)
    results = tmp_path / "results"
    kept = examples.keep(results, "net", predictions, info)
    write_json({"data": str(root)}, results / "artifacts" / kept.train_id / PLACE)
    return results


@needs_chromium
def test_mistakes_and_duplicates_are_shown_as_pictures(photos: Path) -> None:
    with visiting(report(photos)) as visit:
        assert visit.page.locator(".images .shot img").count() == 4
        visit.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        visit.page.evaluate("Promise.allSettled([...document.images].map(image => image.decode()))")
        widths = visit.page.evaluate("[...document.images].map(one => one.naturalWidth)")
        assert len(widths) >= 4 + 2
        assert min(widths) > 0
        assert visit.page.get_by_text("dog/broken.png").count() == 1
        assert visit.page.get_by_text("cat/again.png").count() == 1
        assert visit.complaints == []


def test_no_images_leaves_every_picture_of_the_data_out(photos: Path) -> None:
    with_pictures = report(photos).read_text(encoding="utf-8")
    without = report(photos, "--no-images").read_text(encoding="utf-8")
    assert "data:image/jpeg" in with_pictures
    assert "data:image/" not in without
    assert "omitted by --no-images" in without


def test_images_that_are_on_every_machine_need_no_artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("IMGCLS_CACHE", str(cache))
    audit = audit_dataset(load_dataset("digits-uneven", cache=cache), cache=cache)
    splits = make_splits(audit, examples.record().config.split)
    ids = tuple(sorted(audit.images[row].image_id for row in splits.test))
    labels = np.array([audit.class_names.index(image_id.split("/")[1]) for image_id in ids])
    info = examples.data_of(labels, audit.class_names, digest=audit.digest, split_digest=splits.digest)
    predictions = examples.predictions_of(np.zeros(len(ids), dtype=bool), labels, classes=10, image_ids=ids)
    examples.keep(tmp_path, "net", predictions, replace(info, name="digits-uneven"))
    assert report(tmp_path).read_text(encoding="utf-8").count("data:image/png") == len(ids)


def test_changed_images_are_not_shown_for_those_of_the_run(photos: Path, make_folder: MakeFolder) -> None:
    make_folder({"cat": 1}, start=999)
    page = report(photos).read_text(encoding="utf-8")
    assert "data:image/jpeg" not in page
    assert "have changed since the run" in page


FIRST_PAINT = """new Promise(done => new PerformanceObserver(
    list => { if (list.getEntriesByName("first-contentful-paint").length) { done(); } }
).observe({type: "paint", buffered: true}))"""


@needs_chromium
def test_twenty_models_a_hundred_classes_and_ten_thousand_images_stay_small_and_open(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(100), 100)
    names = tuple(f"class number {number}" for number in range(100))
    info = examples.data_of(labels, names)
    for model in range(20):
        right = rng.random(10_000) < 0.6 + model / 60
        predicted = np.where(right, labels, rng.integers(0, 100, 10_000)).astype(np.int32)
        confidence = rng.uniform(0.2, 1, 10_000).astype(np.float32)
        predictions = examples.predictions_of(
            right, labels, classes=100, predicted=predicted, log_p_predicted=np.log(confidence)
        )
        examples.keep(tmp_path, f"model-{model:02d}", predictions, info)
    page = report(tmp_path)
    assert page.stat().st_size < 15e6
    with visiting(page) as visit:
        # How fast, measures nox -s perf. A promise and not `wait_for_function`: that polls by `eval`, which the page's
        # policy refuses whenever its first look comes too early.
        visit.page.evaluate(FIRST_PAINT)
        assert visit.complaints == []
        assert visit.page.locator("table.board tbody tr").count() == 20
        assert visit.page.locator("svg.confusions rect[fill]").count() > 500


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path, "net", 0.9)
    (tmp_path / "taken").write_text("a file")
    assert main(["report", "--results", str(tmp_path), "--to", str(tmp_path / "taken")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_the_page_made_again_is_the_same_to_the_byte(index: Path) -> None:
    first = index.read_bytes()
    assert report(index.parent.parent).read_bytes() == first


def test_control_characters_of_names_are_shown(tmp_path: Path) -> None:
    """In the title, the headings, the records and the content of the page."""
    labels = np.arange(200) % 2
    predictions = examples.predictions_of(np.arange(200) < 150, labels, classes=2)
    info = examples.data_of(labels, ("cat\x1b[31m", "dog\u202e"), name="pets\x1b[2J\x07")
    examples.keep(tmp_path, "net", predictions, info)
    assert main(["report", "--no-images", "--results", str(tmp_path)]) == 0
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert not {"\x1b", "\x07", "\u202e"} & set(page)
    content = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert content
    assert not re.findall(r"(?<!\\)(?:\\\\)*\\u(?:001b|0007|202e)", "".join(content))
    assert "<h1>pets\\x1b[2J\\x07</h1>" in page
