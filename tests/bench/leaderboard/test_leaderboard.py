"""The leaderboard of made-up results: seeds, folds, ties, small test splits, in tables and in words."""

import ast
import io
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from bench.comparison import analysis, scores
from bench.comparison.analysis import Comparison
from bench.comparison.results.building import table_result
from bench.comparison.results.conditions import count_scorings
from bench.comparison.scores import accuracy_interval, minority_classes, recalls
from bench.config import with_overrides
from bench.leaderboard import page, terminal
from bench.recipes import RECIPES
from bench.records.measurements import Measurement
from bench.records.paths import Paths
from bench.records.store import record_path, write_json
from bench.render.documents import Bullets, Paragraph, Table
from bench.render.spreadsheet import csv_text
from imgcls.config import SplitConfig
from tests.helpers import examples
from tests.helpers.boards import LABELS, NAMES, keep, some_right
from tests.helpers.documents import (
    content_of,
    csv_of,
    markdown_of,
    notes_of,
    summary_of,
    tables_of,
    terminal_of,
)
from tests.helpers.latency_rows import row

ROOT = Path(__file__).parent.parent.parent.parent


def table(results: Path) -> Comparison:
    (comparison,) = analysis.read(results)
    return comparison


def words_of(results: Path) -> str:
    found = table(results)
    return " ".join([*summary_of(found), *notes_of(found)])


def rows(results: Path, number: int = 0) -> dict[str, dict[str, str]]:
    """A table of the page by the model's name: the main one, or the one of what seeds have in common."""
    header, *lines = tables_of(table(results))[number]
    return {line[header.index("Model")]: dict(zip(header, line, strict=True)) for line in lines}


def in_rounds(times_ms: tuple[float, ...], kept: tuple[int, ...]) -> Measurement:
    """A measurement whose rounds have these times and numbers of queries."""
    whole = row("onnxruntime-cpu")
    rounds = tuple(replace(one, kept=number) for one, number in zip(whole.rounds, kept, strict=True))
    samples = tuple(float(time) for time in np.repeat(times_ms, kept))
    return replace(whole, rounds=rounds, num_queries=len(samples), samples_ms=samples)


def test_speed_is_compared_within_rounds(tmp_path: Path) -> None:
    """Pooled medians would favour ``slow``, which had most of its queries in the fast round."""
    slow = in_rounds((10.0, 20.0, 20.0, 20.0, 20.0), (300, 10, 10, 10, 10))
    fast = in_rounds((9.0, 18.0, 18.0, 18.0, 18.0), (40,) * 5)
    keep(tmp_path, "fast", some_right(0.8), measurements=(fast,))
    keep(tmp_path, "slow", some_right(0.8), measurements=(slow,))
    assert "fast is 1.1 x as fast as slow" in words_of(tmp_path)


def test_tables_show_100_runs_and_the_csv_all(tmp_path: Path) -> None:
    for number in range(101):
        timed = (examples.measurement("onnxruntime-cpu"),)
        keep(tmp_path, f"net-{number:03d}", some_right(0.2 if number == 0 else 0.8), measurements=timed)
    found = table(tmp_path)
    parts = page.detail_tables(table_result(found))
    for name, sentence in (
        ("Checkpoints", "The first 100 of 101 checkpoints; leaderboard.csv has all."),
        ("Latency", "The first 100 of 101 runs; leaderboard.csv has all."),
    ):
        lines, words = parts[name]
        assert isinstance(words, Bullets | Paragraph)
        assert sentence == str(words.items[0] if isinstance(words, Bullets) else words.text)
        assert isinstance(lines, Table)
        assert len(lines.rows) == 100
        assert not any("net-000" in str(line[0]) for line in lines.rows)
    assert len(pd.read_csv(io.StringIO(csv_of(found)))) == 101


def test_rows_are_sorted_and_ranked(tmp_path: Path) -> None:
    right = some_right(0.9)
    nearly = right.copy()
    nearly[:3] = ~nearly[:3]
    slow, fast = (replace(examples.measurement(), samples_ms=(time,) * 100) for time in (20.0, 5.0))
    keep(tmp_path, "best", right | nearly, measurements=(slow,))
    keep(tmp_path, "next", nearly, measurements=(fast,))
    keep(tmp_path, "poor", some_right(0.5), measurements=(fast,))
    assert [(name, row["Rank"]) for name, row in rows(tmp_path).items()] == [
        ("best", "1-2"),
        ("next", "1-2"),
        ("poor", "3"),
        ("majority-class baseline (cat)", "-"),
    ]
    words = words_of(tmp_path)
    assert re.search(
        r"best has the highest accuracy, 8\d\.\d % of 240 test images; no significant difference to next \(p = ", words
    )
    assert re.search(r"best is significantly more accurate than poor \(\+\d\d\.\d pp, ", words)
    assert "Batch-1 p50 latency on pytorch-cpu: next 5.00 ms, best 20.0 ms (quick run, not validated)." in words


def test_rank_intervals_may_overlap(tmp_path: Path) -> None:
    """As on TrashNet: only the first and the third row differ significantly."""
    first = some_right(0.85)
    for name, lost in (("first", 0), ("second", 14), ("third", 28)):
        right = first.copy()
        right[np.flatnonzero(first)[:lost]] = False
        right[np.flatnonzero(~first)[: lost // 3]] = True
        keep(tmp_path, name, right)
    found = table(tmp_path)
    apart = found.pairwise.apart
    assert [bool(apart[i, j]) for i, j in ((0, 1), (1, 2), (0, 2))] == [False, False, True]
    assert [str(found.ranks[row.row_id]) for row in found.compared] == ["1-2", "1-3", "2-3"]


def test_a_tie_is_reported_as_one(tmp_path: Path) -> None:
    keep(tmp_path, "best", some_right(0.95))
    keep(tmp_path, "poor", some_right(0.6, seed=1))
    assert "no significant difference" not in words_of(tmp_path)
    keep(tmp_path, "twin", some_right(0.95, seed=2))
    assert "no significant difference to " in words_of(tmp_path)


def test_a_sentence_lists_at_most_five_names(tmp_path: Path) -> None:
    keep(tmp_path, "best", np.ones(240, dtype=bool))
    for number in range(8):
        keep(tmp_path, f"poor {number}", some_right(0.4, seed=number))
    (sentence,) = [one for one in summary_of(table(tmp_path)) if "significantly more accurate" in one]
    assert sentence.count("poor") == 5
    assert "and 3 more" in sentence


def test_a_summary_has_at_most_four_sentences(tmp_path: Path) -> None:
    for number, init in enumerate(("random", "pretrained", "pretrained")):
        keep(tmp_path, f"net {number}", some_right(0.9 - 0.2 * number, seed=number), init=init)
    found = table(tmp_path)
    short, rest = summary_of(found), notes_of(found)
    assert len(short) == 4
    assert short[-1].startswith("Initialisation differs")
    assert any(sentence.startswith("Conclusions hold for these checkpoints") for sentence in rest)
    assert not set(short) & set(rest)
    page_text, console = markdown_of(found), terminal_of(found)
    for sentence in short:
        assert sentence in console
        assert f"- {sentence}" in page_text.replace("`", "")
    assert f"- {rest[0]}" in page_text.replace("`", "")
    assert rest[0] not in console


def test_seeds_share_a_row_with_their_mean(tmp_path: Path) -> None:
    shares = [some_right(share, seed=number) for number, share in enumerate((0.6, 0.7, 0.8))]
    for seed, right in enumerate(shares):
        keep(tmp_path, "net", right, seed=seed)
    keep(tmp_path, "other", some_right(0.4, seed=9))
    comparison = table(tmp_path)
    row, other = (next(row for row in comparison.table.rows if row.name == name) for name in ("net", "other"))
    score = comparison.accuracy(row)
    assert score.value == pytest.approx(np.mean([right.mean() for right in shares]))
    least, most = min(right.mean() for right in shares), max(right.mean() for right in shares)
    assert rows(tmp_path)["net"]["Top-1 % (95 % CI)"].startswith(f"{100 * score.value:.1f} (")
    assert score.interval.low < least
    # Of one seed too: the others show how far the next one may be.
    assert comparison.seeds is not None
    alone, checkpoint = comparison.accuracy(other).interval, accuracy_interval(other.checkpoints[0])
    assert alone.low < checkpoint.low < checkpoint.high < alone.high
    assert comparison.macro_f1(row).interval.low < min(one.macro_scores[0] for one in row.checkpoints)
    assert "Intervals of accuracy are of the expected accuracy over test images and seeds." in words_of(tmp_path)
    over_seeds = rows(tmp_path, 1)["net"]
    assert over_seeds["Seeds"] == "0, 1, 2"
    assert over_seeds["Seeds' top-1 %"] == f"{100 * least:.1f} to {100 * most:.1f}"


def test_rows_of_one_seed_have_the_intervals_of_their_checkpoints(tmp_path: Path) -> None:
    keep(tmp_path, "net", some_right(0.7, seed=0))
    comparison = table(tmp_path)
    row = comparison.table.rows[0]
    assert comparison.accuracy(row).interval == accuracy_interval(row.checkpoints[0])
    assert "of these checkpoints over test images: no row has several seeds" in words_of(tmp_path)


def test_five_seeds_allow_conclusions_on_models(tmp_path: Path) -> None:
    for seed in range(4):
        keep(tmp_path, "good", some_right(0.95, seed=seed), seed=seed)
        keep(tmp_path, "poor", some_right(0.5, seed=seed + 50), seed=seed)
    assert "Conclusions hold for these checkpoints" in words_of(tmp_path)
    for model, share in (("good", 0.95), ("poor", 0.5)):
        keep(tmp_path, model, some_right(share, seed=99), seed=4)
    words = words_of(tmp_path)
    assert "Conclusions hold for the models, over 5 seeds or more." in words
    assert "checkpoints" not in words


def test_folds_are_pooled(tmp_path: Path) -> None:
    """Also one that was trained by itself, by ``--fold``."""
    right, parts = some_right(0.8), np.array_split(np.random.default_rng(0).permutation(240), 3)
    whole = examples.predictions_of(right, LABELS, classes=3)
    for fold, part in enumerate(parts):
        ids = tuple(whole.image_ids[row] for row in part)
        predictions = examples.predictions_of(right[part], LABELS[part], classes=3, image_ids=ids)
        info = examples.data_of(LABELS[part], NAMES, split_digest=f"{fold}" * 16, folds_digest="f" * 16)
        config = with_overrides(RECIPES["quick"]("net"), {"folds": 3} | ({"fold": 2} if fold == 2 else {}))
        examples.keep(tmp_path, "net", predictions, info, config=config, split=SplitConfig(folds=3, fold=fold))
    found = table(tmp_path)
    (entry,) = found.table.rows
    assert entry.checkpoints[0].predictions is not None
    assert entry.checkpoints[0].predictions.image_ids == whole.image_ids
    assert entry.accuracy == pytest.approx(right.mean())
    assert "3 folds, every image tested once" in markdown_of(found)
    assert found.number == 240


def fold_of_three(results: Path, model: str, fold: int, seed: int = 0) -> None:
    info = examples.data_of(LABELS, NAMES, split_digest=f"{fold}" * 16, folds_digest="f" * 16)
    ids = tuple(f"{fold}-{image:03d}" for image in range(len(LABELS)))
    predictions = examples.predictions_of(some_right(0.8, seed=seed), LABELS, classes=3, image_ids=ids)
    examples.keep(results, model, predictions, info, split=SplitConfig(folds=3, fold=fold))


def test_a_seed_without_a_fold_of_the_other_rows_is_incomplete(tmp_path: Path) -> None:
    fold_of_three(tmp_path, "net", 0)
    for fold in range(3):
        fold_of_three(tmp_path, "whole", fold)
    text = markdown_of(table(tmp_path))
    assert "Incomplete, so not compared: `net`, seed 0: 1 of 3 folds" in text
    assert "incomplete: seed 0: 1 of 3 folds" in text
    assert [row.name for row in table(tmp_path).compared] == ["whole"]


def test_a_fold_that_all_rows_have_is_compared_and_named(tmp_path: Path) -> None:
    fold_of_three(tmp_path, "net", 1)
    fold_of_three(tmp_path, "other", 1, seed=1)
    found = table(tmp_path)
    assert len(found.compared) == 2
    assert found.number == len(LABELS)
    text = markdown_of(found)
    assert "(split: 1 of 3 folds; sizes of the first" in text
    assert "(1 seed each, pooled over 1 of 3 folds)" in text


def test_a_failed_seed_keeps_the_other_seeds(tmp_path: Path) -> None:
    keep(tmp_path, "net", some_right(0.8), seed=0)
    keep(
        tmp_path, "net", some_right(0.8), seed=1, status="failed", outcome=None, error="Traceback\nMemoryError: full\n"
    )
    found = table(tmp_path)
    assert [checkpoint.seed for checkpoint in found.table.rows[0].checkpoints] == [0]
    assert "- `net` (seed 1): `MemoryError: full`" in markdown_of(found)


def test_a_row_without_predictions_is_not_compared(tmp_path: Path) -> None:
    keep(tmp_path, "net", some_right(0.8))
    lost = keep(tmp_path, "lost", some_right(0.4))
    record_path(tmp_path, lost).with_suffix(".npz").unlink()
    found = rows(tmp_path)
    assert found["lost"]["Rank"] == "-"
    assert "predictions missing" in found["lost"]["Top-1 % (95 % CI)"]
    assert found["net"]["Rank"] == "1"
    assert "net is the only row with predictions" in words_of(tmp_path)


def test_a_single_row_is_not_compared(tmp_path: Path) -> None:
    keep(tmp_path, "net", some_right(0.8))
    assert "net is the only row" in words_of(tmp_path)
    assert "power" not in words_of(tmp_path)


def test_two_test_images_decide_nothing(tmp_path: Path) -> None:
    labels = np.array([0, 1])
    info = examples.data_of(labels, ("cat", "dog"))
    for model, right in (("good", [True, True]), ("poor", [False, False])):
        examples.keep(tmp_path, model, examples.predictions_of(np.array(right), labels, classes=2), info)
    (found,) = analysis.read(tmp_path)
    words = words_of(tmp_path)
    assert "no significant difference to poor" in words
    assert "No difference, however large, is detectable at 80 % power (one pair, 2 test images)." in words
    markdown_of(found)


def test_an_absent_class_has_no_recall(tmp_path: Path) -> None:
    labels = np.arange(60) % 2
    info = examples.data_of(labels, NAMES)
    examples.keep(tmp_path, "net", examples.predictions_of(some_right(0.8, labels=labels), labels, classes=2), info)
    (found,) = analysis.read(tmp_path)
    assert recalls(found.table.rows[0])[2] is None
    assert "| `eel` | 0 | - |" in markdown_of(found)


def test_a_constant_answer_is_no_better_than_majority(tmp_path: Path) -> None:
    predictions = examples.predictions_of(LABELS == 0, LABELS, classes=3, predicted=np.zeros(240, dtype=np.int32))
    examples.keep(tmp_path, "stuck", predictions, examples.data_of(LABELS, NAMES))
    assert "Not significantly better than the majority-class baseline (cat): stuck." in words_of(tmp_path)
    assert rows(tmp_path, 1)["stuck"]["Worst class % (simultaneous 95 % CI)"].startswith("dog: 0.0")


def test_small_classes_and_initialisation_are_noted(tmp_path: Path) -> None:
    labels = np.repeat([0, 1, 2], [100, 100, 14])
    info = examples.data_of(labels, NAMES)
    for model, init in (("a", "random"), ("b", "pretrained")):
        right = some_right(0.7, labels=labels, seed=ord(model))
        examples.keep(tmp_path, model, examples.predictions_of(right, labels, classes=3), info, init=init)
    words = words_of(tmp_path)
    assert "Classes with fewer than 30 test images have wide intervals: eel (14)." in words
    assert "Initialisation differs (pretrained, random)" in words


def test_minority_classes_are_tested_separately(tmp_path: Path) -> None:
    labels = np.repeat([0, 1, 2], [100, 90, 40])
    info = examples.data_of(labels, NAMES)
    good = some_right(0.7, labels=labels)
    examples.keep(tmp_path, "a", examples.predictions_of(good | (labels == 2), labels, classes=3), info)
    examples.keep(tmp_path, "b", examples.predictions_of(good & (labels != 2), labels, classes=3), info)
    (found,) = analysis.read(tmp_path)
    assert minority_classes(found.table) == [2]
    compared = found.minority
    assert compared is not None
    assert compared[1] == 40
    assert "On the 40 test images of minority classes (eel), a is significantly better than b." in words_of(tmp_path)


def test_minority_classes_are_those_of_train_where_test_is_even(tmp_path: Path) -> None:
    labels = np.repeat([0, 1, 2], 60)
    counts = {"train": (100, 90, 10), "val": (20, 18, 2), "test": (60, 60, 60)}
    info = replace(examples.data_of(labels, NAMES), counts=counts)
    examples.keep(tmp_path, "a", examples.predictions_of(some_right(0.7, labels=labels), labels, classes=3), info)
    assert minority_classes(table(tmp_path).table) == [2]


def test_scorings_of_test_are_counted(tmp_path: Path) -> None:
    keep(tmp_path, "a", some_right(0.8), test_scorings=3)
    keep(tmp_path, "b", some_right(0.8))
    assert count_scorings(table(tmp_path).table) == (2, 4)
    assert "scored 4 times for 2 trainings, 2 of them repetitions by `--force`" in markdown_of(table(tmp_path))


def test_the_terminal_breaks_settings_and_not_names(tmp_path: Path) -> None:
    tag = "a_rather_long_tag_of_weights"
    for lr in (None, 0.1):
        config = RECIPES["quick"]("net") if lr is None else with_overrides(RECIPES["quick"]("net"), {"lr": lr})
        made = keep(tmp_path, "tf_efficientnetv2_b0", some_right(0.8), config=config, init="pretrained")
        assert made.outcome is not None
        model = replace(made.outcome.model, weights_tag=tag)
        write_json(replace(made, outcome=replace(made.outcome, model=model)), record_path(tmp_path, made))
    lines = terminal_of(table(tmp_path)).splitlines()
    assert sum("tf_efficientnetv2_b0 " in line for line in lines) >= 3
    # Once below, as all rows of the model share it.
    assert [line for line in lines if tag in line] == [f"weights={tag}: tf_efficientnetv2_b0"]


def test_the_terminal_table_fits_80_columns(tmp_path: Path) -> None:
    for seed in range(2):
        keep(tmp_path, "net", some_right(0.8, seed=seed), seed=seed)
    keep(tmp_path, "bad [b]", some_right(0.4))
    text = terminal_of(table(tmp_path))
    title, header, rule, *_ = lines = text.splitlines()
    assert re.split(r"\s{2,}", header.strip()) == ["Rank", "Model", "Setting", "Top-1 % (95 % CI)", "ONNX ms"]
    assert len(rule) <= 80
    assert all(len(line) <= 80 for line in lines[: lines.index(next(line for line in lines if "highest" in line))])
    assert "bad [b]" in text
    assert table(tmp_path).table.key.id in title
    assert "Minimum detectable difference at 80 % power" in " ".join(text.split())


def test_two_settings_are_two_rows(tmp_path: Path) -> None:
    config = with_overrides(RECIPES["quick"]("resnet50"), {"schedule": "cosine"})
    keep(tmp_path, "resnet50", some_right(0.8), init="pretrained")
    keep(tmp_path, "resnet50", some_right(0.6), init="pretrained", config=replace(config, dataset="pets"))
    first, second = table(tmp_path).ordered
    assert first.row_id != second.row_id
    assert (first.name, second.name) == ("resnet50", "resnet50 (schedule=cosine)")
    assert (first.setting, second.setting) == (("weights=random",), ("schedule=cosine", "weights=random"))
    assert {row["id"] for row in content_of(table(tmp_path))["rows"]} == {first.row_id, second.row_id}


def said_of_speed(results: Path, slow: Measurement, fast: Measurement) -> str:
    right = some_right(0.9)
    keep(results, "best", right, measurements=(slow,))
    keep(results, "next", right, measurements=(fast,))
    return words_of(results)


def test_a_speed_ratio_needs_common_rounds(tmp_path: Path) -> None:
    slow = row("pytorch-cpu", speed=20.0)
    said = said_of_speed(tmp_path / "a", slow, row("pytorch-cpu", speed=10.0))
    assert "On pytorch-cpu, next is 2.0 x as fast as best (95 % CI 2.0 to 2.0)." in said
    elsewhen = row("pytorch-cpu", speed=10.0, session_id="another")
    assert "measured in different sessions" in said_of_speed(tmp_path / "c", slow, elsewhen)
    alike = row("pytorch-cpu", speed=20.0)
    swapped = replace(alike, samples_ms=alike.samples_ms[80:] + alike.samples_ms[:80])
    assert "no significant difference in latency" in said_of_speed(tmp_path / "d", slow, swapped)


def test_speeds_with_other_threads_are_not_compared(tmp_path: Path) -> None:
    said = said_of_speed(tmp_path, row("pytorch-cpu", speed=20.0), row("pytorch-cpu", speed=10.0, num_threads=2))
    assert "as fast" not in said
    assert "p50 latency" not in said


def count_calls(monkeypatch: pytest.MonkeyPatch, *names: str) -> Counter[str]:
    """Count what is worked out from now on, by the name of the function that does."""
    calls: Counter[str] = Counter()

    def counted(place: ModuleType, name: str) -> Callable[..., object]:
        work = getattr(place, name)

        def count(*arguments: object, **options: object) -> object:
            calls[name] += 1
            return work(*arguments, **options)

        return count

    for name in names:
        # Where it is called: the statistics of single rows, or those of a table.
        (place,) = (module for module in (analysis, scores) if hasattr(module, name))
        monkeypatch.setattr(place, name, counted(place, name))
    return calls


def test_page_and_terminal_compute_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(2):
        for model, share in (("a", 0.9), ("b", 0.5)):
            keep(tmp_path, model, some_right(share, seed=seed), seed=seed)
    names = ("compare_pair", "power_of", "fronts", "macro_intervals", "calibrated_ece")
    calls = count_calls(monkeypatch, *names)
    found = page.write(Paths(results=tmp_path))
    assert list(terminal.tables(found))
    assert page.document(found)
    assert calls == dict(zip(names, (1, 1, 1, 4, 4), strict=True))


def test_reading_tables_computes_nothing_that_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tmp_path, "a", some_right(0.9))
    calls = count_calls(monkeypatch, "fronts", "macro_intervals", "calibrated_ece")
    assert table(tmp_path).compared
    assert not calls


def test_no_module_has_a_hidden_cache() -> None:
    """What is worked out lives in a value; a cache of a function of numbers holds no results."""
    hidden = []
    for path in sorted((ROOT / "bench").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                cached = any("cache" in ast.unparse(one) for one in node.decorator_list)
                if cached and {ast.unparse(one.annotation) for one in node.args.args if one.annotation} - {
                    "int",
                    "float",
                }:
                    hidden.append(f"{path.name}: {node.name}")
            elif isinstance(node, ast.Assign | ast.AnnAssign) and ast.unparse(node.value or node) in {
                "{}",
                "[]",
                "dict()",
            }:
                hidden.append(f"{path.name}: {ast.unparse(node)}")
    assert not hidden


def test_the_csv_equals_that_of_pandas() -> None:
    rows: list[dict[str, object]] = [
        {"name": 'a "b", c', "whole": 3, "gap": 1, "part": 0.1, "none": None, "mixed": 2},
        {"name": None, "whole": 4, "gap": None, "part": 1e-07, "none": None, "mixed": 0.5, "late": 10**15},
    ]
    assert csv_text(rows) == pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")
    assert csv_text([]) == pd.DataFrame([]).to_csv(index=False, lineterminator="\n")


def test_many_checkpoints_have_fewer_resamples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their intervals are those of more resamples, up to the error of drawing."""
    for seed in range(6):
        keep(tmp_path, "a", some_right(0.8, seed=seed), seed=seed)
    macros, eces = (found := table(tmp_path)).macros, found.expected_eces
    monkeypatch.setattr(scores, "MANY_CHECKPOINTS", 5)
    fewer = table(tmp_path)
    assert fewer.macros != macros
    for key, intervals in macros.items():
        exact, drawn = intervals.macro_f1, fewer.macros[key].macro_f1
        assert (drawn.low, drawn.high) == pytest.approx((exact.low, exact.high), abs=0.01)
    assert fewer.expected_eces != eces
    for key, ece in eces.items():
        assert fewer.expected_eces[key] == pytest.approx(ece, rel=0.1)
