"""Seconds until each fault of a hub is an error, with short limits; ``nox -s perf``."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.helpers.hub import Fault, environment, serve

DATA = bytes(range(256)) * 400  # 0.1 MB

ASK_ALL = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from imgcls import hub

hub.ANSWER_S = 8

def ask(repo):
    began = time.perf_counter()
    try:
        hub.fetch(repo, "model.safetensors")
    except Exception:
        pass
    return repo, round(time.perf_counter() - began, 1)

with ThreadPoolExecutor(32) as pool:
    print(json.dumps(dict(pool.map(ask, sys.argv[1:]))))
"""


@pytest.mark.benchmark
def test_faults_of_a_hub(benchmark: Any, tmp_path: Path) -> None:
    """The deadlines are 8 s for a question and 10 s for the download; the library's own limits are 2 s and 1 s."""
    faults: dict[str, Fault] = {f"hub/{fault}": fault for fault in get_args(Fault)}
    took_s: dict[str, float] = {}

    def ask_all() -> None:
        with serve({f"{repo}/model.safetensors": DATA for repo in faults}, faults) as endpoint:
            limits = {"HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "2"}
            env = environment(endpoint, tmp_path) | limits
            command = [sys.executable, "-c", ASK_ALL, *faults]
            took_s.update(json.loads(subprocess.run(command, env=env, check=True, capture_output=True).stdout))

    benchmark.pedantic(ask_all, rounds=1)
    benchmark.extra_info["s"] = {repo.removeprefix("hub/"): took for repo, took in took_s.items() if took >= 1}
    benchmark.extra_info["the longest, s"] = max(took_s.values())
    print(benchmark.name, benchmark.extra_info)  # noqa: T201
