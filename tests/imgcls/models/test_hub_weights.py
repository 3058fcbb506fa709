"""Pre-trained weights from the hub and from its cache on this machine: `--weights auto` and `pretrained`."""

import hashlib
import json
import subprocess
import sys
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save

from imgcls.errors import ConfigError
from imgcls.models.registry import weights_policy
from imgcls.models.weights import hub_weights
from tests.helpers.hub import TAG, Fault, commit_of, environment, serve
from tests.helpers.weights import TINY

REPO = f"timm/{TINY}.r160_in1k"

CASES: dict[str, Fault] = {"timm/resnet18.a1_in1k": "gated", "timm/resnet26.bt_in1k": "down"}

# One process, because importing torch and timm takes seconds.
CODE = f"""
import io, json, logging
from huggingface_hub import constants
from imgcls.config import ArchitectureConfig, LoaderConfig
from imgcls.errors import ConfigError
from imgcls.models.building import build_model
from imgcls.models.registry import resolve_spec, weights_policy

stream = io.StringIO()
logging.basicConfig(level="INFO", format="%(levelname)s %(name)s %(message)s", stream=stream)

def use(weights, *names):
    stream.seek(0)
    stream.truncate()
    try:
        policy = weights_policy(weights, names)
        found = [policy(name) for name in names]
    except ConfigError as error:
        return str(error)
    logged = [line for line in stream.getvalue().splitlines() if " imgcls." in line]
    return {{
        "weights": [(each.init, each.tag, each.sha256, each.revision) for each in found], "logged": logged
    }}

answers = {{}}
answers["online"] = use("auto", "{TINY}")
spec = resolve_spec("{TINY}", LoaderConfig(image_size=32), weights_policy("pretrained", ["{TINY}"]))
build_model(spec, ArchitectureConfig(), num_classes=3)
answers["tag"] = use("pretrained@{TAG}", "{TINY}")
answers["unknown"] = use("pretrained@v9", "{TINY}")
answers["pickle"] = use("auto", "resnet34.a1_in1k")
answers["gated"] = use("auto", "resnet18.a1_in1k")
answers["down"] = use("pretrained", "resnet26.bt_in1k")
constants.HF_HUB_OFFLINE = True
answers["cached"] = use("auto", "{TINY}")
answers["partly"] = use("auto", "{TINY}", "resnet18.a1_in1k")
answers["none"] = use("auto", "resnet18.a1_in1k")
answers["offline"] = use("pretrained", "{TINY}", "resnet18.a1_in1k")
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def content() -> bytes:
    torch.manual_seed(5)
    return save(timm.create_model(TINY).state_dict())


@pytest.fixture(scope="module")
def answers(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What ``weights_policy`` gives with a hub, then without one."""
    files = {f"{REPO}/model.safetensors": content, "timm/resnet34.a1_in1k/pytorch_model.bin": b"pickle"}
    files |= {f"{repo}/model.safetensors": content for repo in CASES}
    with serve(files, CASES) as endpoint:
        env = environment(endpoint, tmp_path_factory.mktemp("hub"))
        command = [sys.executable, "-W", "ignore", "-c", CODE]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_hub_weights_have_tag_sha256_and_revision(answers: dict[str, Any], content: bytes) -> None:
    expected = ["pretrained", "r160_in1k", hashlib.sha256(content).hexdigest(), commit_of(REPO)]
    assert answers["online"] == {"weights": [expected], "logged": []}
    assert answers["tag"] == answers["online"]


@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("unknown", f"{REPO} for {TINY}: it has no revision 'v9'; name a branch, tag or commit of "),
        ("pickle", "timm/resnet34.a1_in1k for resnet34.a1_in1k: it has pytorch_model.bin only, a pickle, which could "),
        ("gated", "resnet18.a1_in1k: not in the hub's cache on this machine, and access is gated (403); accept "),
        ("down", "resnet26.bt_in1k: not in the hub's cache on this machine, and the hub has a fault (503); try again"),
        ("offline", "the hub cannot be reached (HF_HUB_OFFLINE is set); check the network"),
    ],
)
def test_fault_is_one_line_that_ends_with_the_other_weights(answers: dict[str, Any], case: str, line: str) -> None:
    assert answers[case].startswith('weights="pretrained": ')
    assert line in answers[case]
    assert answers[case].endswith('; or use weights="none", or a folder')
    assert "\n" not in answers[case]


def test_auto_without_hub_uses_the_cache_if_all_models_are_in_it(answers: dict[str, Any]) -> None:
    assert answers["cached"]["weights"] == answers["online"]["weights"]
    (line,) = answers["cached"]["logged"]
    assert line.startswith("INFO ")
    assert "pretrained weights from its cache on this machine" in line


def test_auto_without_hub_is_random_if_a_model_is_not_in_the_cache(answers: dict[str, Any]) -> None:
    assert [init for init, *_ in answers["partly"]["weights"]] == ["random", "random"]
    (line,) = answers["partly"]["logged"]
    assert line.startswith("WARNING ")
    assert "(HF_HUB_OFFLINE is set), and its cache on this machine lacks resnet18.a1_in1k: every model starts" in line
    assert line.endswith(f'RANDOM weights (init: random); weights="pretrained" starts {TINY} from the cache')
    (line,) = answers["none"]["logged"]
    assert line.endswith("RANDOM weights (init: random)")


def test_auto_without_hub_and_cache_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    policy = weights_policy("auto", ["resnet50.a1_in1k", TINY])
    assert [policy(name).init for name in ("resnet50.a1_in1k", TINY)] == ["random", "random"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"lacks resnet50.a1_in1k, {TINY}: every model starts from RANDOM" in caplog.text


def test_pretrained_without_hub_and_cache_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'cannot be reached \(no route\).*; or use weights="none", or a folder'):
        hub_weights("resnet50.a1_in1k", unreachable="no route")


def test_empty_revision_is_refused() -> None:
    with pytest.raises(ConfigError, match='weights="pretrained@": names no revision; use pretrained@REVISION'):
        weights_policy("pretrained@", [TINY])
