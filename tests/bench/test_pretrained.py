"""Commands with weights from the hub: the revision in the record and the leaderboard, and faults of the hub."""

from pathlib import Path

import timm
from safetensors.torch import save

from bench.config import DEFAULT_MODELS
from bench.records.store import read_records
from imgcls.models.registry import MODELS
from tests.helpers.commands import bench
from tests.helpers.hub import TAG, commit_of, environment, serve
from tests.helpers.images import MakeFolder
from tests.helpers.weights import TINY, write_pretrained

REPO = f"timm/{TINY}.r160_in1k"
FLAGS = ("run", TINY, "--recipe", "quick", "--image-size", "32", "--epochs", "1", "--runtimes", "onnxruntime-cpu")


def test_revision_is_recorded_and_shown(tmp_path: Path, make_folder: MakeFolder) -> None:
    weights = ("--weights", f"pretrained@{TAG}")
    flags = (
        *FLAGS,
        *weights,
        "--data",
        str(make_folder({"cat": 20, "dog": 20})),
        "--results",
        str(tmp_path / "results"),
    )
    with serve({f"{REPO}/model.safetensors": save(timm.create_model(TINY).state_dict())}) as endpoint:
        env = environment(endpoint, tmp_path / "hf")
        status, output = bench(*flags, environment=env)
    assert status == 0, output
    (record,) = read_records(tmp_path / "results")
    assert record.outcome is not None
    assert (record.init, record.outcome.model.weights_revision) == ("pretrained", commit_of(REPO))
    assert f", revision {commit_of(REPO)[:16]}" in (tmp_path / "results" / "leaderboard.md").read_text()
    # The hub is gone, and the weights of this revision are in its cache: the run is the same one, and done.
    status, output = bench(*flags, environment=env)
    assert status == 0, output
    assert read_records(tmp_path / "results") == [record]


def test_refusal_of_the_hub_exits_with_2_and_one_line(tmp_path: Path) -> None:
    with serve({f"{REPO}/model.safetensors": b"0" * 1000}, {REPO: "expired"}) as endpoint:
        env = environment(endpoint, tmp_path / "hf") | {"HF_TOKEN": "hf_old"}
        status, output = bench(*FLAGS, "--results", str(tmp_path / "results"), environment=env)
    assert status == 2
    (line,) = [line for line in output.splitlines() if "--weights" in line]
    assert "the hub refuses the token (401: " in line
    assert "Traceback" not in output
    assert not (tmp_path / "results" / "records").exists()


def test_default_models_are_fine_tuned_from_files_of_their_real_shapes(tmp_path: Path, make_folder: MakeFolder) -> None:
    """Names and shapes are those of ImageNet's weights, auxiliary head included; their values are random."""
    files = {}
    for name, row in MODELS.items():
        if name in DEFAULT_MODELS:
            home = write_pretrained(tmp_path / "weights", name) / name
            files[f"timm/{row.timm_name}/model.safetensors"] = home / "model.safetensors"
    flags = ("--image-size", "75", "--epochs", "1", "--batch-size", "8", "--runtimes", "onnxruntime-cpu")
    flags += ("--precision", "fp32")  # "auto" is measured in three more processes, and has tests of its own
    places = ("--data", str(make_folder({"cat": 12, "dog": 12})), "--results", str(tmp_path / "results"))
    with serve(files) as endpoint:
        status, output = bench("run-all", *flags, *places, environment=environment(endpoint, tmp_path / "hf"))
    assert status == 0, output
    records = read_records(tmp_path / "results")
    assert {record.config.model for record in records} == set(DEFAULT_MODELS)
    for record in records:
        assert record.outcome is not None, record.error
        assert record.init == "pretrained"
        assert record.config.recipe == "finetune"
        assert record.config.train.tune_layers == "head-then-all"
        assert record.outcome.model.weights_tag in record.outcome.model.timm_name
        assert record.outcome.artifact.parity.max_rel_logit_error < 1e-4
        assert record.outcome.artifact.parity.top1_agreement == 1
