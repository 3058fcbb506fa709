"""The probe of the hub, and single files of it: each fault of a hub, its network and this machine's disk."""

import hashlib
import json
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import huggingface_hub
import pytest
from huggingface_hub import constants

from imgcls import hub
from tests.helpers.hub import SITE, Fault, commit_of, environment, serve

NAME = "model.safetensors"
DATA = bytes(range(256)) * 400  # 0.1 MB

# One process for all faults, because the library reads its endpoint when it is imported; in threads, because some of
# its retries and the deadlines take seconds.
ASK_ALL = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from imgcls import hub

hub.ANSWER_S = 8

def ask(repo):
    try:
        file = hub.fetch(repo, "model.safetensors")
    except Exception as error:
        answer = {"error": type(error).__name__, "line": str(error)}
    else:
        answer = {"path": str(file.path), "sha256": file.sha256, "revision": file.revision}
    return repo, answer

with ThreadPoolExecutor(32) as pool:
    print(json.dumps(dict(pool.map(ask, sys.argv[1:]))))
"""


def run(
    code: str, *arguments: str, env: dict[str, str], before: tuple[str, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    command = [*before, sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=100)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def answers(cache: Path) -> Any:
    """What ``fetch`` returns or raises for a repository with each fault, ``hub/FAULT``."""
    faults: dict[str, Fault] = {f"hub/{fault}": fault for fault in get_args(Fault)}
    files = {f"{repo}/{NAME}": DATA for repo in [*faults, "hub/good"]} | {"hub/pickle/pytorch_model.bin": DATA}
    with serve(files, faults) as endpoint:
        env = environment(endpoint, cache) | {"HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "2"}
        done = run(ASK_ALL, *faults, "hub/good", "hub/pickle", "hub/nothing", env=env)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # what the library logs is in the errors
    return json.loads(done.stdout)


def test_file_has_commit_and_sha256(answers: dict[str, Any]) -> None:
    for repo in ("hub/good", "hub/plain"):
        answer = answers[repo]
        assert Path(answer["path"]).read_bytes() == DATA
        assert answer["revision"] == commit_of(repo)
        assert answer["sha256"] == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize(
    ("repo", "cause", "advice"),
    [
        ("unauthorized", "does not exist or needs a login (401: Invalid username or password.)", "hf auth login"),
        ("nothing", "does not exist or needs a login (401)", "hf auth login"),
        ("expired", '(401: User Access Token "ci" is expired)', "hf auth login"),
        ("gated", "access is gated (403)", "accept its conditions at http://127.0.0.1:"),
        ("gated-401", "access is gated (401)", "accept its conditions at http://127.0.0.1:"),
        ("forbidden", "the hub refuses access (403: Forbidden by policy)", "check the permissions"),
        ("busy", "too many requests for the hub (429)", "try again in 41 s, or log in"),
        ("busy-content", "too many requests for the hub (429)", "try again in 0 s, or log in"),
        ("down", "the hub has a fault (503)", "try again later"),
        ("down-content", "the hub has a fault (503)", "try again later"),
        ("portal", "is not the hub (no commit or ETag), perhaps the login page of a network", "log in with a browser"),
        ("portal-redirect", "is not the hub (no commit or ETag)", "log in with a browser"),
        ("cut", f"the download of {NAME} failed (", "try again"),
        ("short", f"the download of {NAME} failed (Consistency check failed", "try again"),
        ("wrong", f"{NAME} is not what the hub says it is (SHA-256 ", "it was deleted; try again"),
        ("silent-content", f"the download of {NAME} failed (", "try again"),
        ("drip", f"the download of {NAME} failed (no end within 10 s)", "try again"),
        ("pickle", f"it has no file {NAME} at revision main", ""),
    ],
)
def test_refusal_has_one_line_with_cause_and_advice(
    answers: dict[str, Any], repo: str, cause: str, advice: str
) -> None:
    line = answers[f"hub/{repo}"]["line"]
    assert cause in line
    assert advice in line.partition(cause)[2]
    assert "\n" not in line
    assert "reached" not in line


def test_silent_hub_is_not_reached(answers: dict[str, Any]) -> None:
    line = answers["hub/silent"]["line"]
    assert "the hub cannot be reached (" in line
    # The limit of the HTTP library, two seconds, and not the deadline of the question.
    assert "timed out" in line


def test_only_a_download_without_end_needs_its_deadline(answers: dict[str, Any]) -> None:
    """All others end by themselves, before it; ``nox -s perf`` measures their seconds."""
    assert len(answers) == len(get_args(Fault)) + 3
    late = {repo for repo, answer in answers.items() if "no end within" in answer.get("line", "")}
    # The library tries again after a silence of a second, for about as long as the deadline.
    assert {"hub/drip"} <= late <= {"hub/drip", "hub/silent-content"}


@pytest.mark.usefixtures("answers")
def test_what_failed_leaves_no_file_in_the_cache(cache: Path) -> None:
    # The two of the deadline are still being written when their process ends.
    unfinished = {"drip", "silent-content"}
    stored = {path for path in cache.glob("hub/models--hub--*/*/**/*") if path.is_symlink() or path.is_file()}
    names = {
        path.relative_to(cache).parts[1].removeprefix("models--hub--") for path in stored if "refs" not in path.parts
    }
    assert names - unfinished == {"good", "plain"}


TWICE = """
import json, os, sys
from huggingface_hub import constants
from imgcls import hub

def ask(**how):
    try:
        file = hub.fetch("hub/good", "model.safetensors", **how)
    except hub.HubError as error:
        return f"{type(error).__name__}: {error}"
    return file.revision

print(ask(revision="nine"))
print(ask(unreachable="no network"))
print(ask(revision="v1"))
print(ask())
print(ask(revision=sys.argv[1]))
os.environ["HF_TOKEN"] = "hf_old"
print(ask(unreachable="no network"))
file = hub.find_cached("hub/good", "model.safetensors")
os.chmod(file.resolve(), 0o644)
file.resolve().write_bytes(b"other")
print(ask())
print(hub.find_cached("hub/good", "model.safetensors"), file.is_symlink())
print(ask())
"""


def test_revisions_and_the_cache(tmp_path: Path) -> None:
    commit = commit_of("hub/good")
    with serve({f"hub/good/{NAME}": DATA}) as endpoint:
        done = run(TWICE, commit, env=environment(endpoint, tmp_path))
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0].startswith("MissingError: it has no revision 'nine'; name a branch, tag or commit of http")
    assert lines[1].startswith(
        "HubError: not in the hub's cache on this machine, and the hub cannot be reached (no network)"
    )
    assert lines[2:6] == [commit] * 4
    # A file that was changed in the cache is deleted, and then downloaded again.
    assert lines[6].startswith(f"HubError: {NAME} is not what the hub says it is")
    assert lines[7:] == ["None False", commit]


FALLBACK = """
import logging, os, sys
from imgcls import hub

logging.basicConfig(level="INFO", format="%(levelname)s %(message)s", stream=sys.stdout)
logging.getLogger("httpx2").setLevel("ERROR")
for token in (None, "hf_old"):
    if token:
        os.environ["HF_TOKEN"] = token
    try:
        print(hub.fetch("hub/good", "model.safetensors").revision)
    except hub.HubError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("down", "the hub has a fault (503)"),
        ("expired", "the hub refuses the token (401"),
        ("portal", "is not the hub"),
    ],
)
def test_cache_is_used_with_a_warning_if_the_hub_has_a_fault(tmp_path: Path, fault: Fault, cause: str) -> None:
    files = {f"hub/good/{NAME}": DATA}
    with serve(files) as endpoint:
        run(FALLBACK, env=environment(endpoint, tmp_path))
    with serve(files, {"hub/good": fault}) as endpoint:
        *_, warning, revision = run(FALLBACK, env=environment(endpoint, tmp_path)).stdout.splitlines()
    assert revision == commit_of("hub/good")
    assert warning.startswith("WARNING hub/good: ")
    assert cause in warning


@pytest.mark.parametrize(
    "before", [(), ("unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=64k none "$HF_HOME" && "$@"', "-")]
)
def test_full_disk_is_named(tmp_path: Path, before: tuple[str, ...]) -> None:
    # In the first case the limit of a file's size stands in for the size of the disk.
    limit = "" if before else "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
    with serve({f"hub/good/{NAME}": DATA}) as endpoint:
        done = run(limit + FALLBACK, env=environment(endpoint, tmp_path), before=before)
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip("this machine lets nobody mount a file system")
    line = done.stdout.splitlines()[0]
    assert line.startswith(f"cannot write 0.1 MB into {tmp_path}/hub (")
    assert line.endswith("; free space there, or set HF_HOME to a folder on another disk")
    assert ("No space left on device" if before else "File too large") in line
    assert not list(tmp_path.rglob("*.incomplete"))


PROBE = """
from imgcls import hub
reason = hub.why_unreachable()
print(hub.hub_answers(), reason)
"""


@pytest.mark.parametrize("fault", [None, "unauthorized", "gated", "busy", "down", "portal"])
def test_hub_that_refuses_is_reached(tmp_path: Path, fault: Fault | None) -> None:
    with serve({}, {} if fault is None else {SITE: fault}) as endpoint:
        done = run(PROBE, env=environment(endpoint, tmp_path))
    assert done.stdout.split() == ["True", "None"]


def test_refused_connection_is_no_hub(tmp_path: Path) -> None:
    with serve({}) as endpoint:
        pass
    done = run(PROBE, env=environment(endpoint, tmp_path))
    assert done.stdout.startswith("False ")
    assert "Connection refused" in done.stdout


def test_hub_that_never_answers_is_abandoned(tmp_path: Path) -> None:
    with serve({}, {SITE: "silent"}) as endpoint:
        done = run(PROBE, env=environment(endpoint, tmp_path) | {"HF_HUB_ETAG_TIMEOUT": "1"})
    answers, reason = done.stdout.split(maxsplit=1)
    assert answers == "False"
    assert "timed out" in reason  # the limit of a second; the deadline of 30 s would say "no end within 30 s"


def test_look_up_of_the_name_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub.ANSWER_S == 30
    end, ended = threading.Event(), []
    # A look-up of the name has no timeout.
    session = SimpleNamespace(head=lambda *_args, **_kwargs: ended.append(end.wait(60)))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: session)
    monkeypatch.setattr(hub, "ANSWER_S", 1.0)
    assert hub.why_unreachable() == "no end within 1 s"
    assert not ended, "the look-up was awaited"
    end.set()


class XetError(Exception):
    """Neither an OSError nor one of the HTTP library, like those of hf_xet."""


def test_error_of_another_library_has_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        message = "CAS client error\n  caused by: 403"
        raise XetError(message)

    metadata = SimpleNamespace(commit_hash="0" * 40, etag="1" * 64, size=10)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_args, **_kwargs: metadata)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(
        hub.HubError, match=r"^the download of x failed \(CAS client error caused by: 403\); try again$"
    ):
        hub.fetch("hub/good", "x")
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fail)
    with pytest.raises(hub.HubError, match=r"the hub cannot be reached \(CAS client error caused by: 403\)"):
        hub.fetch("hub/good", "x")


def test_hub_is_not_asked_in_offline_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.why_unreachable() == "HF_HUB_OFFLINE is set"
    assert not hub.hub_answers()
