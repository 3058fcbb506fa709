"""The regression guard: its decisions, and its comparison of real processes of two source trees."""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from imgcls.data.decode import Resize
from imgcls.errors import ConfigError
from imgcls.inference.card import CARD_KEY, CARD_VERSION, Card
from tests.regression import compare, evidence, judge
from tests.regression.planted import PLANTED, Plant, plant, slower
from tests.regression.versions import ROOT, TrainingFailedError, Version, ask, probe, worktree

PREPROCESS = "preprocess a batch"
PREPROCESS_RETURN = "    return _scaled(pixels.transpose(0, 3, 1, 2), scale=1 / (255 * std), shift=-mean / std)\n"


def noisy(true_ratio: float, seed: int, *, rounds: int = compare.ROUNDS) -> list[float]:
    """Return ratios as measured on a busy machine: one round in ten is off by half, in either direction."""
    rng = np.random.default_rng(seed)
    log_noise = rng.normal(0, 0.08, rounds) + rng.choice([-0.4, 0.4], rounds) * (rng.random(rounds) < 0.1)
    return list(true_ratio * np.exp(log_noise))


@pytest.mark.parametrize(("true_ratio", "least", "most"), [(1.0, 0, 0), (1.05, 2, 22), (1.15, 390, 400)])
def test_alarm_rate_follows_the_slow_down(true_ratio: float, least: int, most: int) -> None:
    assert least <= sum(judge.slower(noisy(true_ratio, seed)) for seed in range(400)) <= most


def test_interval_around_the_limit_is_no_alarm() -> None:
    ratios = [1.02, 1.04, 1.06, 1.08, 1.10, 1.12] * 2
    interval = judge.ratio_interval(ratios)
    assert 1 < interval.low < judge.LIMIT < interval.high
    assert not judge.slower(ratios)


def test_one_outlier_does_not_hide_a_slow_down() -> None:
    assert judge.slower([*[1.14, 1.15, 1.16] * 5, 0.02])


def test_only_significant_losses_are_worse() -> None:
    truth, right = ["a"] * 20, ["a"] * 20
    assert judge.paired(truth, right, ["b"] * 8 + ["a"] * 12).worse
    assert not judge.paired(truth, right, ["b"] * 7 + ["a"] * 13).worse
    assert not judge.paired(truth, ["b"] * 20, right).worse
    assert judge.paired(truth, right, ["b"] * 8 + ["a"] * 12).p == pytest.approx(2 * 0.5**8)
    assert judge.paired(truth, right, right) == judge.Paired(only_base_right=0, only_head_right=0, p=1.0)


def test_changed_counts_are_named() -> None:
    base = {"num_params": 10.0, "gmacs": 0.5} | judge.operators(["Conv", "Conv", "Relu"])
    head = {"num_params": 10.0, "gmacs": 0.6} | judge.operators(["Conv", "Gemm"])
    assert judge.exact_changes(base, head) == [
        "ONNX nodes Conv: 2.0 -> 1.0",
        "ONNX nodes Gemm: 0 -> 1.0",
        "ONNX nodes Relu: 1.0 -> 0",
        "gmacs: 0.5 -> 0.6",
    ]
    assert judge.exact_changes(base, dict(base)) == []


def trained(predicted: tuple[int, ...], image_ids: tuple[str, ...]) -> compare.Trained:
    labels = (0,) * len(image_ids)
    return compare.Trained(record={}, image_ids=image_ids, labels=labels, predicted=predicted, onnx=Path())


def sides(tmp_path: Path, head: compare.Trained | TrainingFailedError) -> compare.Sides:
    """Return both versions; the base has ten test images and an error on the first."""
    version = Version(name="any", tree=ROOT, home=tmp_path)
    base = trained((1, *(0,) * 9), tuple("abcdefghij"))
    return compare.Sides(base=version, head=version, base_trained=base, head_trained=head)


def test_predictions_are_paired_by_image(tmp_path: Path) -> None:
    head = trained((*(0,) * 9, 1, 1), tuple("jihgfedcbaz"))
    assert compare.tested(sides(tmp_path, head)) == judge.Paired(only_base_right=0, only_head_right=0, p=1.0)


def test_predictions_of_other_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no test image"):
        compare.tested(sides(tmp_path, trained((0,), ("elsewhere",))))


def test_failed_training_is_raised_when_asked_for(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailedError, match="ParityError"):
        compare.tested(sides(tmp_path, TrainingFailedError("ParityError: too far off")))


def test_unknown_base_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^--base nosuch: no such revision .*$"), worktree("nosuch"):
        pass


def test_base_tree_is_removed_on_failure() -> None:
    with contextlib.suppress(KeyError), worktree("HEAD") as tree:
        assert (tree / "imgcls" / "files.py").is_file()
        raise KeyError
    known = subprocess.run(["git", "worktree", "list"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not tree.exists()
    assert str(tree) not in known


def test_default_run_skips_the_comparison() -> None:
    command = [sys.executable, "-m", "pytest", "tests/regression", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "10 skipped" in done.stdout.splitlines()[-1]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of two classes that depends on whether the mean of a normalised image is above 0."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("Mul", ["column", "signs"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 64, 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("signs", TensorProto.FLOAT, [1, 2], [-1.0, 1.0]),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    card = Card(
        version=CARD_VERSION,
        model="brightness",
        weights_tag="none",
        class_names=("dark", "light"),
        resize=Resize(size=64, interpolation="bilinear"),
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
    )
    helper.set_model_props(proto, {CARD_KEY: msgspec.json.encode(card).decode()})
    onnx.save(proto, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def copy_with(change: Plant, folder: Path) -> Path:
    for package in ("imgcls", "bench"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    plant(change, folder)
    return folder


def two(base: Path, head: Path, home: Path) -> tuple[Version, Version]:
    return Version(name="base", tree=base, home=home / "b"), Version(name="head", tree=head, home=home / "h")


def test_planted_slow_down_is_found(tmp_path: Path, model: Path) -> None:
    """30 % is found on a busy machine, too; tests.regression.evidence tries 15 %."""
    changed = copy_with(slower("imgcls/inference/card.py", PREPROCESS_RETURN, 0.3), tmp_path / "changed")
    with compare.fresh_pairs(*two(ROOT, changed, tmp_path), model) as pairs:
        ratios = compare.rounds(pairs, PREPROCESS)
    assert "cpu_s" in compare.slower_clocks(ratios), compare.intervals(ratios)


def test_planted_wrong_normalisation_is_found(tmp_path: Path, model: Path) -> None:
    photos = []
    for number in range(20):
        grey = 40 + number if number % 2 else 200 + number
        photos.append(tmp_path / f"{number}.png")
        Image.new("RGB", (64, 64), (grey, grey, grey)).save(photos[-1])
    truth = ["dark" if number % 2 else "light" for number in range(20)]
    changed = copy_with(PLANTED["wrong-normalisation-everywhere"], tmp_path / "changed")
    with compare.fresh_pairs(*two(ROOT, changed, tmp_path), model, 1) as (pair,):
        base, head = compare.label_both(pair, photos)
    assert base == truth
    assert judge.paired(truth, base, head).worse


def test_functions_missing_in_one_version(tmp_path: Path, model: Path) -> None:
    gone = Plant(what="no preprocess", edits=(("imgcls/inference/card.py", "def preprocess(", "def prepare("),))
    lacking = copy_with(gone, tmp_path / "lacking")
    with compare.fresh_pairs(*two(lacking, ROOT, tmp_path), model, 1) as pairs:
        with pytest.raises(compare.NotInBaseError, match="preprocess"):
            compare.repetitions(pairs, PREPROCESS)
        with pytest.raises(RuntimeError, match="the head does not"):
            compare.repetitions([pairs[0][::-1]], PREPROCESS)


def test_process_with_foreign_imports_ends(tmp_path: Path, model: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    version = Version(name="base", tree=empty, home=tmp_path / "home")
    with probe(version, model) as process, pytest.raises(RuntimeError, match="ended with status 1"):
        ask(process, {"prepare": PREPROCESS})


@pytest.mark.parametrize("name", PLANTED)
def test_planted_changes_still_apply(tmp_path: Path, name: str) -> None:
    copy_with(PLANTED[name], tmp_path)
    for file, _, _ in PLANTED[name].edits:
        compile((tmp_path / file).read_text(encoding="utf-8"), file, "exec")


def test_evidence_page_lists_bounds_and_alarms(tmp_path: Path) -> None:
    report = """<testsuites><testsuite time="61.5">
    <testcase name="test_t[decode]"><properties><property name="head/base cpu_s" value="{} to 1.2"/>
    <property name="head/base wall_s" value="0.9 to 1.1"/></properties>{}</testcase></testsuite></testsuites>"""
    for name, low, failure in (("a", "1.01", ""), ("b", "1.03", '<failure message="too slow&#10;more"/>')):
        (tmp_path / name).write_text(report.format(low, failure))
    text = evidence.page([tmp_path / "a", tmp_path / "b"], {"slower-by-15-percent": tmp_path / "b"})
    assert "2 runs on unchanged code: 1 with an alarm.** The longest took 62 s." in text
    assert "| decode | 1.030 | 1.030 to 1.200 | 0.900 | 0.900 to 1.100 | 0 |" in text
    assert "- test_t[decode]: too slow\n" in text
