"""Errors of users: exit status 2, one line that names the error, and no files."""

import errno
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from bench.cli.arguments import PlanArgs, RunAllArgs
from bench.cli.main import COMMANDS, main
from bench.comparison import analysis
from bench.config import RunConfig
from bench.harness import planner
from bench.recipes import configs_of
from bench.tuning import storage
from tests.helpers.commands import without_processes
from tests.helpers.images import MakeFolder

QUICK = ("--recipe", "quick", "--weights", "none", "--image-size", "32")
TINY = (*QUICK, "--models", "test_efficientnet", "--epochs", "1")

SWEEP = ("sweep", "test_efficientnet")
TUNE = ("run-all", "--models", "test_efficientnet")


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str], results: Path) -> str:
    """Run a command that must be refused, and return its line."""
    status = main([*arguments, "--results", str(results)])
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not results.exists()
    return error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "/no/such/folder"], "/no/such/folder: no such folder"),
        (["--data", "cifar11"], "known: digits, digits-uneven, cifar10"),
        (["--models", "resnet5000"], "unknown model 'resnet5000' (did you mean resnet50?); known: resnet50"),
        (["--recipe", "fast"], "--recipe fast: unknown; known: quick, finetune, standard, report"),
        (["--epochs", "0"], "--epochs is 0; use 1 or more"),
        (["--budget", "minutes=0"], "--budget minutes=0: write one of epochs=AMOUNT, images=AMOUNT, minutes=AMOUNT"),
        (["--budget", "10"], "--budget 10: write one of epochs=AMOUNT"),
        (["--budget", "epochs=2.5"], "--budget epochs=2.5: epochs are whole numbers"),
        (["--budget", "epochs=0"], "--budget epochs=0: write one of"),
        (["--budget", "minutes=10", "--epochs", "3"], "--budget minutes=10: not with --epochs"),
        (
            ["--budget", "minutes=10", "--tune-layers", "head"],
            "--budget is minutes=10; with --tune-layers head it has no effect",
        ),
        (["--lr", "-0.1"], "--lr is -0.1; use a positive number"),
        (["--lr", "nan"], "--lr is nan"),
        (["--batch-size", "1"], "--batch-size is 1; use 2 or more"),
        (["--augment", "mixup", "--batch-size", "1"], "--batch-size is 1; use 2 or more"),
        (["--micro-batch", "5"], "--micro-batch is 5; it must divide the batch of 32: use one of 2, 4"),
        (["--micro-batch", "1"], "--micro-batch is 1; it must divide the batch of 32"),
        (["--ema", "1"], "--ema is 1.0; use a number between 0 and 1"),
        (["--ema", "0"], "--ema is 0.0; use a number between 0 and 1"),
        (["--ema", "nan"], "--ema is nan; use a number between 0 and 1"),
        (["--layer-decay", "1.5"], "--layer-decay is 1.5; use a number from 0.01 to 1"),
        (["--warmup", "1"], "--warmup is 1.0; use a share of the steps"),
        (["--warmup", "0.1"], "--warmup is 0.1; with --schedule plateau it has no effect: use --warmup 0"),
        (["--feature-views", "0"], "--feature-views is 0; use 1 or more"),
        (
            ["--tune-layers", "head"],
            "--tune-layers: resnet50 starts from random weights; use all",
        ),
        (["--models", "inception_v3", "--image-size", "74"], "inception_v3; it needs 75 px or more"),
        (["--runtimes", "tpu"], "--runtimes tpu: unknown"),
        (["--weights", "/no/such/weights"], "--weights /no/such/weights: no such folder"),
        (["--weights", "pretrained", "--models", "resnet50"], "cannot be reached"),
        (["--models", "test_vit", "--image-size", "100"], "by patch size (16).); use --image-size 96 px"),
        (["--models", "mobilenetv2_050.in1k"], "has no weights with the tag in1k; known: lamb_in1k"),
        (
            ["--models", "hf-hub:owner/name", "--weights", "none"],
            "names pre-trained weights, which --weights none excludes",
        ),
        (["--seeds"], "need one value or more"),
        (["--seeds", "0", "-1"], "--seeds -1; use 0 to 4294967295"),
        (["--data", "pyproject.toml"], "--data pyproject.toml: a file; give a folder or a table"),
        (["--max-class-ratio", "0.5"], "--max-class-ratio is 0.5"),
        (["--folds", "1"], "--folds is 1; use 2 to 50"),
        (["--fold", "1"], "it needs --folds"),
        (["--folds", "3", "--fold", "3"], "--fold is 3; use 0 to 2"),
        (["--folds", "3", "--tuned"], "has seen the others' test images"),
        (["--group-by", "("], "--group-by (: not a regular expression"),
        (["--group-by", "zzz"], "--group-by zzz: it matches no image id"),
        (["--group-by", "parent"], "class '0' of digits has 178 usable image(s) in 1 group(s) by --group-by parent"),
        (["--data", "hf:someone/pets"], "--data hf:someone/pets: no data set that can be read here"),
        (["--data", "wds:/no/{0..3}.tar"], "--data wds:/no/{0..3}.tar: no such shard: /no/0.tar"),
        (["--data", "ftp://host/pets"], "--data ftp://host/pets: unknown scheme; use one of s3, gs, az"),
        (["--labels", "/no/such.csv"], "--data digits: no such folder"),
        (["--data", "/no/such.csv"], "--data /no/such.csv: no such file"),
    ],
)
def test_invalid_value_is_named_with_a_hint(  # noqa: PLR0913, PLR0917 - the cases, and fixtures
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    digits_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IMGCLS_CACHE", str(digits_cache))
    assert says in complaint(["run-all", *arguments], capsys, tmp_path / "results")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--epochs", "three"],
        ["--nonsense", "1"],
        ["--schedule", "linear"],
        ["--tune-layers", "neck"],
        ["--precision", "fp8"],
    ],
)
def test_unreadable_flags_precede_the_parser(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["run-all", *arguments])
    first, *rest = capsys.readouterr().err.splitlines()
    assert status == 2
    assert first == f"error: run-all {' '.join(arguments)}"
    assert arguments[0] in "".join(rest)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sweep", "resnet5000"], "unknown model 'resnet5000' (did you mean resnet50?); known: resnet50"),
        ([*SWEEP, "--space", "momentum"], "--space momentum: unknown hyperparameter; known: lr, dropout"),
        ([*SWEEP, "--folds", "3"], "--folds 3: a study uses a single seed and split; drop --folds or the extra seeds"),
        ([*SWEEP, "--space", "lr=1e-2:1e-4"], "--space lr=0.01:0.0001: the lower bound exceeds the upper bound"),
        ([*SWEEP, "--trials", "0"], "--trials is 0; use 1 or more"),
        ([*SWEEP, "--minutes", "-1"], "--minutes is -1.0; use a number above 0"),
        ([*SWEEP, "--tmacs", "nan"], "--tmacs is nan"),
        ([*SWEEP, "--jobs", "0"], "--jobs is 0; use 1 or more"),
        ([*SWEEP, "--seeds", "0", "1"], "--seeds 0 1: a study uses a single seed"),
        ([*SWEEP, "--storage", "nonsense"], "--storage nonsense: not a database URL"),
        ([*SWEEP, "--storage", "sqlite:////no/such/folder/studies.db"], "cannot be opened (no such folder)"),
        ([*SWEEP, "--storage", "sqlite://"], "cannot be opened (no such folder)"),
        ([*SWEEP, "--storage", "postgresql+psycopg://me:secret@127.0.0.1:1/db"], "cannot be opened"),
        ([*SWEEP, "--storage", "postgresql+nodriver://127.0.0.1:1/db"], "cannot be opened"),
        ([*SWEEP, "--storage", "oracle://127.0.0.1:1/db"], "known databases: sqlite, postgresql"),
        ([*SWEEP, "--launcher", "slurm"], "--launcher slurm: unknown; known: local, ray"),
        ([*SWEEP, "--ray-address", "127.0.0.1:1"], "--ray-address 127.0.0.1:1: needs --launcher ray"),
        ([*SWEEP, "--launcher", "ray", "--ray-address", "127.0.0.1:1"], "no cluster there"),
        ([*SWEEP, "--launcher", "ray", "--ray-address", "nowhere"], "use HOST:PORT, or auto"),
        ([*TUNE, "--tuned"], "--tuned: no finished study of test_efficientnet on pets, recipe quick; run sweep first"),
        ([*TUNE, "--tuned", "--tune-trials", "3"], "give one of the two"),
        ([*TUNE, "--tune-trials", "0"], "--tune-trials is 0; use 1 or more"),
        ([*TUNE, "--jobs", "2"], "--jobs 2"),
    ],
)
def test_invalid_sweep_or_tune_flag_is_named(
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    make_folder: MakeFolder,
    tmp_path: Path,
) -> None:
    root = make_folder({"cat": 10, "dog": 10})
    flags = ["--data", str(root), *QUICK]
    error = complaint([*arguments, *flags], capsys, tmp_path / "results")
    assert says in error
    assert "secret" not in error


def test_silent_storage_is_refused_within_10_s(
    capsys: pytest.CaptureFixture[str], make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here after half a second: a server that never answers shows that the limit ends the command, whatever it is."""
    assert storage.CONNECT_LIMIT_S == 10
    monkeypatch.setattr(storage, "CONNECT_LIMIT_S", 0.5)
    root = make_folder({"cat": 10, "dog": 10})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://127.0.0.1:{silent.getsockname()[1]}/db"
        flags = ["--data", str(root), *QUICK, "--storage", url]
        error = complaint(["sweep", "test_efficientnet", *flags], capsys, tmp_path / "results")
    assert "no answer within 0.5 s" in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_a_device_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    error = complaint(["run-all", *TINY, "--device", "cuda"], capsys, tmp_path / "results")
    assert "--device cuda: no CUDA device here" in error


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ({}, "no images"),
        ({"cat": 5}, "one class only"),
        ({"cat": 5, "dog": 2}, "class 'dog' of pets has 2 usable"),
        ({"train/cat": 3, "train/dog": 3, "val/cat": 2, "val/dog": 2}, "--split generated"),
        (
            {"train/cat": 1, "val/cat": 2, "val/dog": 2, "test/cat": 2, "test/dog": 2},
            "train of pets has 1 usable image(s); 2 or more are needed",
        ),
    ],
)
def test_unusable_data_folder_is_refused(
    counts: dict[str, int],
    says: str,
    make_folder: MakeFolder,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    root = make_folder(counts)
    root.mkdir(exist_ok=True)
    assert says in complaint(["run-all", *TINY, "--data", str(root)], capsys, tmp_path / "results")


def test_results_in_the_folder_of_photos_itself_are_refused(
    make_folder: MakeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder({"cat": 4, "dog": 4})
    for command in (
        ["run-all", "--data", str(root), "--weights", "none", "--models", "test_vit"],
        ["audit", str(root)],
    ):
        assert main([*command, "--results", str(root)]) == 2
        assert f"--results {root}: the folder of the photos" in capsys.readouterr().err


def test_archive_is_called_one(make_folder: MakeFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", make_folder({"cat": 1, "dog": 1}))
    says = complaint(["run-all", "--data", archive], capsys, tmp_path / "results")
    assert "photos.zip: an archive; unpack it, and give the folder" in says


def test_unsuitable_weights_folder_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    home = tmp_path / "weights" / "test_efficientnet"
    home.mkdir(parents=True)
    (home / "config.json").write_text(json.dumps({"architecture": "test_efficientnet", "num_classes": 1000}))
    save_file(timm.create_model("test_resnet").state_dict(), home / "model.safetensors")
    flags = ["--models", "test_efficientnet", "--image-size", "32", "--weights", str(home.parent)]
    assert "the file does not fit test_efficientnet (size mismatch for bn1.weight" in complaint(
        ["run-all", *flags], capsys, tmp_path / "results"
    )


def test_all_models_that_cannot_have_a_size_are_listed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    flags = ["--models", "test_vit", "test_efficientnet", "test_vit2", "--image-size", "100", "--weights", "none"]
    assert main(["run-all", *flags, "--results", str(tmp_path / "results")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" cannot have")[0] for line in lines] == [
        "error: --image-size 100: test_vit",
        "error: --image-size 100: test_vit2",
    ]
    assert not (tmp_path / "results").exists()


def test_unwritable_results_folder_is_refused(
    make_folder: MakeFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    root = make_folder({"cat": 5, "dog": 5})
    error = complaint(["run-all", *TINY, "--data", str(root)], capsys, tmp_path / "file" / "results")
    assert "cannot be written" in error


def test_path_of_results_that_is_not_utf8_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    error = complaint(["run-all", *TINY, "--data", "digits"], capsys, Path(f"{tmp_path}/\udcfc"))
    assert "its path is not UTF-8" in error
    assert "\udcfc" not in error


def without_locks(folder: Path, number: int) -> Callable[[Any, int], None]:
    """Return an ``flock`` that fails with this error in a folder."""
    flock = fcntl.flock

    def locked(file: Any, operation: int) -> None:
        descriptor = getattr(file, "fileno", lambda: file)()
        if str(folder) in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(number, os.strerror(number))
        flock(file, operation)

    return locked


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_file_system_without_locks_is_refused(
    number: int, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise two commands would train the same run at once."""
    # The cache may be elsewhere, on a file system that has locks.
    monkeypatch.setattr(fcntl, "flock", without_locks(tmp_path / "results", number))
    assert main(["run-all", *TINY, "--data", "digits", "--results", str(tmp_path / "results")]) == 2
    assert "its file system has no locks" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "results").rglob("*")] == [".locks"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_cache_without_locks_is_refused(
    number: int, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fcntl, "flock", without_locks(tmp_path / "cache", number))
    assert main(["run-all", *TINY, "--data", "digits", "--results", str(tmp_path / "results")]) == 2
    error = capsys.readouterr().err
    assert "error: a file system without locks, which the results folder and the cache need" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "unknown command 'nonsense'; known: run-all"),
        (["leaderboard", "--results", "/no/such"], "no such folder"),
        (["measure", "--every-run", "--artifacts", "/no/such"], "--every-run: not with --artifacts"),
        (["measure", "--results", "/no/such"], "no finished run of this machine"),
        (["audit", "/no/such"], "no such folder"),
        (["predict", "/no/such.onnx", "a.jpg"], "no such file"),
        (["data", "imagenet21k"], "unknown data set 'imagenet21k'"),
    ],
)
def test_other_commands_refuse_in_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_flags_reach_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[PlanArgs, list[RunConfig]]] = []
    for name in ("run_all", "run_one_model"):
        monkeypatch.setattr(f"bench.cli.run.{name}", lambda args, configs, _: (seen.append((args, configs)), 0)[1])
    flags = ["--force", "--crop", "--recipe", "report", "--lr", "0.01", "--seeds", "0", "1", "--data", "d"]
    assert main(["run-all", "--models", "efficientnet_b0", "resnet50", *flags]) == 0
    args, configs = seen[-1]
    assert isinstance(args, RunAllArgs)
    assert args.force is True
    assert args.data == "d"
    assert [(c.model, c.seed, c.loader.image_size, c.train.epochs) for c in configs] == [
        ("efficientnet_b0", 0, 299, 15),
        ("efficientnet_b0", 1, 299, 15),
        ("resnet50", 0, 224, 20),
        ("resnet50", 1, 224, 20),
    ]
    assert all(config.loader.crop and config.train.lr == 0.01 for config in configs)
    assert main(["run", "resnet50", "--force"]) == 0
    assert [(c.model, c.loader.crop, c.train.epochs) for c in seen[-1][1]] == [("resnet50", False, 3)]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


HELP_OF_ALL = """
import contextlib, io, json, sys
from bench.cli.main import COMMANDS, main

helps = {}
for command in COMMANDS:
    with contextlib.redirect_stdout(io.StringIO()) as text:
        status = main([command, "--help"])
    helps[command] = status, text.getvalue(), "torch" in sys.modules
print(json.dumps(helps))
"""


@pytest.fixture(scope="module")
def helps() -> dict[str, tuple[int, str, bool]]:
    """Status, text and whether torch is loaded after the help of each command, of one process."""
    done = subprocess.run([sys.executable, "-c", HELP_OF_ALL], capture_output=True, text=True, check=True)
    helps: dict[str, tuple[int, str, bool]] = json.loads(done.stdout)
    return helps


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_command_help_does_not_import_torch(command: str, helps: dict[str, tuple[int, str, bool]]) -> None:
    status, text, torch_is_loaded = helps[command]
    assert status == 0
    assert not torch_is_loaded
    assert f"python -m bench {command}" in text


def test_audit_prints_findings_and_writes_json(
    make_folder: MakeFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = make_folder({"cat": 4, "[bold]dog": 4})
    (root / "cat" / "broken.jpg").write_text("x")
    assert main(["audit", str(root), "--results", str(tmp_path / "results")]) == 0
    out = capsys.readouterr().out
    assert "[bold]dog" in out
    assert "cat/broken.jpg" in out
    (report,) = (tmp_path / "results" / "audits").glob("*.json")
    removed = json.loads(report.read_text())["removed"]
    assert removed == [{"image_id": "cat/broken.jpg", "label": 1, "reason": "not an image"}]


@pytest.fixture
def table(make_folder: MakeFolder) -> Path:
    """A table of 24 images with splits, groups and sources; one row has no label."""
    root = make_folder({"all": 24})
    splits = ["train"] * 12 + ["val"] * 4 + ["test"] * 8
    rows = [f"all/{n:03d}.png,{'ab'[n % 2]},{splits[n]},g{n // 3},{'ns'[n // 12]}" for n in range(23)]
    file = root / "labels.csv"
    file.write_text("\n".join(["path,label,split,group,source", *rows, "all/023.png,,test,g7,n"]), encoding="utf-8")
    return file


def test_audit_counts_splits_sources_and_groups(
    table: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["audit", str(table), "--group-by", "group", "--results", str(tmp_path / "results")]) == 0
    lines = [" ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()]
    assert "--group-by group: 23 images in 8 groups; the largest has 3, 0 images are alone" in lines
    assert {"a 6 2 4 12 0", "b 6 2 3 11 0", "(no valid label) 1"} <= {*lines}
    assert {"n 6 6", "s 6 5"} <= {*lines}
    assert "all/023.png blank label" in lines


def test_unused_group_column_is_a_warning(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    configs = configs_of(["test_efficientnet"], recipe="quick", seeds=[0], overrides={})
    planner(configs, data=str(table), weights="none", results=table.parent / "results")
    assert "the label table has a 'group' column that is not used; add group_by=\"group\"" in caplog.text
    caplog.clear()
    grouped = configs_of(["test_efficientnet"], recipe="quick", seeds=[0], overrides={"group_by": "group"})
    planner(grouped, data=str(table), weights="none", results=table.parent / "results")
    assert "'group' column" not in caplog.text


@pytest.mark.parametrize("name", ["Digits", "DIGITS-UNEVEN", "digits"])
def test_named_set_has_its_recipe_and_is_not_mirrored_in_any_case(name: str) -> None:
    (config,) = configs_of(["resnet50"], data=name, recipe=None, seeds=[0], overrides={})
    assert config.train.no_hflip
    assert config.recipe == ("quick" if name.lower() == "digits" else "finetune")


def test_results_among_the_photos_are_no_class(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after ``cd photos; run-all --data .``, also with a folder of an older version."""
    root = make_folder({"cat": 8, "dog": 8})
    monkeypatch.chdir(root)
    (root / "results" / "artifacts").mkdir(parents=True)
    (root / "results" / "leaderboard.md").touch()
    words = ["--data", ".", "--weights", "none", "--epochs", "1", "--image-size", "32", "--recipe", "quick"]
    for _ in range(2):
        with without_processes():
            assert main(["run-all", "--models", "test_efficientnet", "test_resnet", *words]) == 0
    (comparison,) = analysis.read(root / "results")
    assert comparison.table.first.dataset.class_names == ("cat", "dog")
    assert (comparison.table.first.dataset.name, len(comparison.table.rows)) == (root.name, 2)
    assert main(["audit", "."]) == 0


def test_terminal_of_another_encoding_does_not_end_a_command(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"猫": 4, "dog": 4})
    (root / "猫" / "空.png").touch()
    done = subprocess.run(
        [sys.executable, "-m", "bench", "audit", str(root), "--results", str(tmp_path / "results")],
        check=False,
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
    )
    assert done.returncode == 0, done.stderr
    assert rb"\u732b" in done.stdout


def test_models_and_data_list_known_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    assert "efficientnet_b4.ra2_in1k" in capsys.readouterr().out
    assert main(["data"]) == 0
    assert "imagenette" in capsys.readouterr().out
