"""The console command, its version and tyro's shell completion."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli.main import COMMANDS, main

COMMAND = Path(sys.executable).parent / "imgcls-bench"
COMPLETE = """
source <({command} --tyro-print-completion bash)
COMP_WORDS=(imgcls-bench {words}); COMP_CWORD={place}; _tyro_imgcls_bench; echo "${{COMPREPLY[@]}}"
"""


def test_the_console_command_is_python_m_bench() -> None:
    usages = [
        subprocess.run([*command, "--help"], check=True, capture_output=True, text=True).stdout
        for command in ([COMMAND], [sys.executable, "-m", "bench"])
    ]
    assert usages[0] == usages[1]


def test_version_names_the_package_and_commit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    name, number, *_ = capsys.readouterr().out.split()
    assert name == "imgcls-bench"
    assert all(part.isdigit() for part in number.split("."))


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(("words", "expected"), [("s", {"select", "sweep"}), ("sweep --tri", {"--trials"})])
def test_bash_completes_commands_and_flags(words: str, expected: set[str]) -> None:
    script = COMPLETE.format(command=COMMAND, words=words, place=len(words.split()))
    done = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True)
    assert set(done.stdout.split()) == expected


def test_completion_is_written_to_a_file(tmp_path: Path) -> None:
    assert main(["--tyro-write-completion", "zsh", str(tmp_path / "complete")]) == 0
    text = (tmp_path / "complete").read_text()
    assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tyro-print-completion"],
        ["--tyro-print-completion", "ksh"],
        ["--tyro-write-completion", "bash"],
        ["--tyro-nothing", "bash"],
    ],
)
def test_a_wrong_completion_flag_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
