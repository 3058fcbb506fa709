"""Nox sessions: ``nox`` without arguments runs what CI runs."""

import importlib.metadata
import json
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from typing import Any

import nox
from nox.command import CommandFailed

nox.options.sessions = ["lint", "typing", "tests", "leaderboard", "smoke"]
# In the environment of nox itself, because installing torch once per session takes longer than all checks.
nox.options.default_venv_backend = "none"
PYTHON = (sys.executable, "-m")
TYPESCRIPT = ("--package", "typescript@5.9", "tsc")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and the import order of packages, and the types of the page's JavaScript if there is npm."""
    session.run(*PYTHON, "ruff", "check", ".")
    session.run(*PYTHON, "ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache", external=True)
    npx = shutil.which("npx")
    if npx is None or subprocess.run([npx, "--yes", *TYPESCRIPT, "--version"], check=False).returncode:
        session.warn("TypeScript cannot be installed here: the types of the page's JavaScript are not checked")
        return
    session.run(npx, "--yes", *TYPESCRIPT, "--project", "bench/report/template/js", external=True)


@nox.session
def typing(session: nox.Session) -> None:
    """Check types with mypy in strict mode."""
    session.run(*PYTHON, "mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, two files at a time; arguments are passed to pytest."""
    # Two, because many tests wait for processes that import torch. By file, because some fixtures train models.
    # In the order of their names: in that of their numbers of tests, a worker would end with the few tests that take
    # minutes, while the other one has nothing left to do.
    # One thread each, so that the two do not wait for each other's cores; the commands that they start have their own.
    environment = {"OMP_NUM_THREADS": "1"}
    options = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
    session.run(*PYTHON, "pytest", *options, *session.posargs, env=environment)


@nox.session
def leaderboard(session: nox.Session) -> None:
    """Write every published leaderboard again from its records, and fail if one differs; verify one of the folders."""
    for example in sorted(pathlib.Path("results/examples").iterdir()):
        session.run(*PYTHON, "bench", "leaderboard", "--results", str(example), silent=True)
    session.run("git", "diff", "--exit-code", "--stat", "--", "results/examples", external=True)
    session.run(*PYTHON, "bench", "verify", "--results", "results/examples/digits")


@nox.session
def smoke(session: nox.Session) -> None:
    """Run the main command with a tiny model, into a temporary folder."""
    results = session.create_tmp()
    models = ("--models", "test_efficientnet", "--weights", "none", "--epochs", "1")
    session.run(*PYTHON, "bench", "run-all", *models, "--results", results, "--force")


@nox.session
def perf(session: nox.Session) -> None:
    """Measure speed, without limits to pass: read the ratios in extra_info. Not part of CI."""
    session.run(
        *PYTHON, "pytest", "tests/benchmarks", "--benchmark-only", "--benchmark-columns=median,rounds", *session.posargs
    )


@nox.session
def pruning(session: nox.Session) -> None:
    """Measure the benefit of pruning and write docs/pruning.md, in eight minutes on two cores. Not part of CI."""
    session.run(*PYTHON, "tests.benchmarks.pruning")


@nox.session
def families(session: nox.Session) -> None:
    """Try a model of each of timm's modules end to end, and write docs/models.md; resumable, up to three hours.

    ``-- --only NAME ...`` tries some models and writes nothing. Not part of CI.
    """
    session.run(*PYTHON, "tests.benchmarks.families", ".nox/families", *session.posargs)


@nox.session
def gpu(session: nox.Session) -> None:
    """Check everything that computes on CUDA, and write .nox/gpu/gpu.json and gpu.md. Not part of CI.

    Planned for ten minutes, resumable. Without a device it says so and succeeds.
    """
    session.run(*PYTHON, "tests.benchmarks.gpu", ".nox/gpu", *session.posargs)


@nox.session
def cluster(session: nox.Session) -> None:
    """Run the tests on Ray clusters of which a worker or a node is killed; four minutes. Not part of CI."""
    session.run(*PYTHON, "pytest", "tests/bench/runs/test_ray.py", "-m", "cluster", *session.posargs)


@nox.session
def rehearsal(session: nox.Session) -> None:
    """Carry out all checks of the session ``gpu`` on the CPU, with a tiny model; two minutes. Not part of CI."""
    session.run(*PYTHON, "pytest", "tests/benchmarks/test_gpu.py", "-m", "rehearsal", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Inject faults into real commands, and write the table of docs/reliability.md; resumable, up to two hours.

    ``-- --only NAME ...`` injects some. Not part of CI, where tests/faults/test_faults.py has a short form.
    """
    document = () if "--only" in session.posargs else ("--document", "docs/reliability.md")
    session.run(*PYTHON, "tests.faults", ".nox/faults", *document, *session.posargs)


@nox.session
def growth(session: nox.Session) -> None:
    """Measure how time and memory grow, and write the tables of docs/performance.md. Not part of CI.

    With up to a million photos, 10,000 records, and a million test predictions. Resumable, about an hour and 11 GB of
    disk; ``-- --kinds records`` measures one kind, and ``-- --kinds photos --counts 10000`` takes a minute.
    """
    document = () if "--counts" in session.posargs else ("--document", "docs/performance.md")
    session.run(*PYTHON, "tests.growth", ".nox/growth", *document, *session.posargs)


@nox.session
def regression(session: nox.Session) -> None:
    """Compare the working tree with a base revision, ``-- --base main``, in at most four minutes. Not part of CI."""
    base = () if any(argument.startswith("--base") for argument in session.posargs) else ("--base", "main")
    options = ("-o", "addopts=--strict-markers --strict-config --import-mode=importlib -ra")  # without --benchmark-skip
    options += ("-o", "junit_family=xunit1", "--benchmark-columns=median,rounds")
    session.run(*PYTHON, "pytest", "tests/regression", *options, *base, *session.posargs)


@nox.session(venv_backend="venv")
def lower_bounds(session: nox.Session) -> None:
    """Install the lowest versions that pyproject.toml allows, and run tests of the library. A separate job in CI."""
    project = tomllib.loads(pathlib.Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    bounds = [f"{name}=={version}{marker}" for name, version, marker in map(_lower_bound, required) if version]
    constraints = pathlib.Path(session.create_tmp()) / "constraints.txt"
    constraints.write_text("\n".join(bounds) + "\n", encoding="utf-8")
    session.install("--constraint", str(constraints), "--editable", ".[dev]")
    session.run(
        "python", "-m", "pytest", "tests/imgcls", "tests/bench/stats", "tests/bench/leaderboard", *session.posargs
    )


def _lower_bound(requirement: str) -> tuple[str, str, str]:
    """Return name, lowest version ("" if it has no bound) and marker of a requirement."""
    found = re.fullmatch(r"([\w-]+)(?:\[[^]]*\])?(?:>=([^;\s]+))?\s*(;.*)?", requirement)
    assert found is not None, requirement
    return found[1], found[2] or "", found[3] or ""


@nox.session
def fuzz(session: nox.Session) -> None:
    """Decode mutated files of every format for half a minute each. Not in CI, which does so for a second each."""
    session.run(*PYTHON, "pytest", "tests/imgcls/data/test_fuzz.py", env={"FUZZ_S": "30"})


@nox.session(venv_backend="venv")
def security(session: nox.Session) -> None:
    """List the licences of all installed packages, and look for known vulnerabilities in them. Not part of CI.

    Fails if there are any. Where no package can be looked up, offline for example, it says so and succeeds.
    """
    for package in sorted(importlib.metadata.distributions(), key=lambda package: package.name.lower()):
        session.log(f"{package.name} {package.version}: {_licence(package.metadata)}")
    # Of the environment of nox itself, as in the other sessions; pip-audit is not part of it.
    report = pathlib.Path(session.create_tmp()) / "audit.json"
    report.unlink(missing_ok=True)
    command = ["-m", "pip_audit", "--path", sysconfig.get_path("purelib"), "--format", "json", "--output", str(report)]
    try:
        session.install("--quiet", "pip-audit", silent=True)
        # 1: there are vulnerabilities, or the service cannot be reached, which the report tells apart.
        session.run(
            "python", *command, "--timeout", "5", "--progress-spinner", "off", success_codes=[0, 1], silent=True
        )
    except CommandFailed:
        session.warn("pip-audit cannot be installed or run here: no package was audited")
        return
    _judge(session, json.loads(report.read_text(encoding="utf-8"))["dependencies"] if report.exists() else [])


def _judge(session: nox.Session, packages: list[dict[str, Any]]) -> None:
    """Fail if a package has a known vulnerability; say how many could not be looked up."""
    audited = [package for package in packages if "vulns" in package]
    if not audited:
        session.warn("the vulnerability service cannot be reached here: no package was audited")
        return
    # A service that knows few packages must not look as if all were safe.
    session.log(f"{len(audited)} of {len(packages)} packages audited")
    found = [f"{package['name']} {package['version']}: {row['id']}" for package in audited for row in package["vulns"]]
    if found:
        session.error(f"known vulnerabilities: {'; '.join(found)}")


def _licence(metadata: importlib.metadata.PackageMetadata) -> str:
    """Return the licence of a package: its expression, else its classifiers, else the first line of its text."""
    marks = [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier") or [] if line.startswith("License")]
    texts = [metadata.get("License-Expression"), ", ".join(marks), (metadata.get("License") or "").partition("\n")[0]]
    return next((text for text in texts if text), "unknown")
