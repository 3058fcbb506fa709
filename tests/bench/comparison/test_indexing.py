"""The index of a results folder: it changes no result, misses no change, and saves what has not changed."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cli.main import main
from bench.comparison import analysis, tables
from bench.comparison.analysis import Comparison
from bench.comparison.indexing import file
from bench.comparison.tables import Table
from bench.leaderboard import page
from bench.records.paths import Paths
from bench.records.schema import LATENCY_FILE_VERSION, Latency, LatencyFile, RunRecord
from bench.records.store import record_path, write_json
from tests.helpers import examples
from tests.helpers.boards import LABELS, NAMES, some_right

OTHER = examples.data_of(LABELS, NAMES, name="other")


def add(results: Path, model: str, *, share: float = 0.8, seed: int = 0, other: bool = False) -> RunRecord:
    """Write a run into the one table or the other."""
    predictions = examples.predictions_of(some_right(share, seed=seed), LABELS, classes=3)
    info = OTHER if other else examples.data_of(LABELS, NAMES)
    return examples.keep(results, model, predictions, info, seed=seed)


def same_size_and_time(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file's bytes in a way that its size and time of change do not show."""
    before, data = path.stat(), path.read_bytes()
    path.write_bytes(change(data))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert path.read_bytes() != data


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two tables, the first with two seeds a row."""
    folder = tmp_path / "results"
    for seed in range(2):
        for model, share in (("a", 0.95), ("b", 0.7)):
            add(folder, model, share=share, seed=seed)
    for model in ("a", "c"):
        add(folder, model, other=True)
    return folder


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The data sets of the tables whose statistics were computed."""
    names: list[str] = []
    find = analysis.find

    def counted(table: Table) -> Comparison:
        names.append(table.key.dataset)
        return find(table)

    monkeypatch.setattr(analysis, "find", counted)
    return names


def texts(results: Path) -> dict[str, str]:
    """Write the leaderboard, and return the files that it consists of."""
    page.write(Paths(results=results))
    return {path.name: path.read_text() for path in sorted(results.glob("leaderboard*"))}


def anew(results: Path) -> dict[str, str]:
    """The same files as they are made without an index."""
    made = page.contents(Paths(results=results), use_index=False)
    return {path.name: text for path, text in sorted(made.files.items())}


def test_what_did_not_change_is_not_made_again(results: Path, compared: list[str]) -> None:
    first = texts(results)
    shown = page.write(Paths(results=results))
    assert compared == ["other", "pets"]
    assert first == texts(results) == anew(results)
    assert shown == list(page.contents(Paths(results=results), use_index=False).results)


def test_terminal_prints_the_same(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for _ in range(2):
        assert main(["leaderboard", "--results", str(results)]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def took_back(results: Path) -> None:
    (path,) = [path for path in Paths(results=results).all_records() if '"c"' in path.read_text()]
    path.unlink()


def measured_elsewhere(results: Path) -> None:
    made = add(results, "a", other=True)
    laptop = replace(examples.ENVIRONMENT, machine="laptop")
    found = Latency(environment=laptop, measurements=(examples.measurement(),), checks=())
    whole = LatencyFile(
        schema_version=LATENCY_FILE_VERSION,
        run_id=made.run_id,
        train_id=made.train_id,
        onnx_sha256=made.finished.artifact.sha256,
        latency=found,
    )
    write_json(whole, Paths(results=results).latency_file("laptop", made.run_id))


def lost_predictions(results: Path) -> None:
    record_path(results, add(results, "c", other=True)).with_suffix(".npz").unlink()


@pytest.mark.parametrize(
    "change",
    [
        lambda results: add(results, "d", other=True),
        lambda results: add(results, "c", share=0.5, other=True),
        took_back,
        measured_elsewhere,
        lost_predictions,
    ],
    ids=["added", "changed", "removed", "latency file", "predictions removed"],
)
def test_only_the_table_that_changed_is_made_again(
    change: Callable[[Path], object], results: Path, compared: list[str]
) -> None:
    before = texts(results)
    compared.clear()
    change(results)
    after = texts(results)
    assert compared == ["other"]
    assert after != before
    assert after == anew(results)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b"x" * path.stat().st_size),
        lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
        lambda path: path.write_bytes(b""),
    ],
    ids=["missing", "short", "other", "one bit", "empty"],
)
def test_a_damaged_index_is_made_again(damage: Callable[[Path], object], results: Path, compared: list[str]) -> None:
    before = texts(results)
    index = Paths(results=results).index
    damage(index)
    assert texts(results) == before
    assert compared == ["other", "pets"] * 2
    texts(results)
    assert len(compared) == 4


def test_an_index_of_other_code_is_made_again(
    results: Path, compared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.comparison.indexing.file.code_version", lambda: "before")
    monkeypatch.setattr("bench.comparison.indexing.reuse.code_version", lambda: "before")
    texts(results)
    monkeypatch.undo()
    assert file.read_index(Paths(results=results).index) == file.NO_INDEX
    compared.clear()
    texts(results)
    assert file.read_index(Paths(results=results).index) != file.NO_INDEX


def test_edits_that_keep_size_and_time_are_noticed(results: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One of a record and one of predictions, with the index of both."""
    record, other = (record_path(results, add(results, model, other=True)) for model in ("a", "c"))
    texts(results)
    assert not caplog.messages
    same_size_and_time(record, lambda data: data.replace(b'"top1_accuracy": 0', b'"top1_accuracy": 9', 1))
    same_size_and_time(other.with_suffix(".npz"), lambda data: bytes(len(data)))
    for _ in range(2):
        caplog.clear()
        assert texts(results) == anew(results)
        told = caplog.messages[: len(caplog.messages) // 2]
        assert [line.partition(":")[0] for line in told] == [
            f"skipped records/{record.parent.name}/{record.name}",
            "excluded c, seed 0",
        ]


def test_what_changes_while_it_is_read_is_not_kept(
    results: Path, compared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = analysis.find

    def slow(table: Table) -> Comparison:
        if table.key.dataset == "other" and len(table.rows) == 2:
            add(results, "c", share=0.4, other=True)
        return find(table)

    monkeypatch.setattr(analysis, "find", slow)
    texts(results)
    compared.clear()
    assert texts(results) == anew(results)
    assert compared.count("other") == 2  # the second is ``anew``


def test_two_commands_at_once(results: Path) -> None:
    command = [sys.executable, "-m", "bench", "leaderboard", "--results", str(results)]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate()[1] for process in both] == [b"", b""]
    assert [process.returncode for process in both] == [0, 0]
    assert file.read_index(Paths(results=results).index) != file.NO_INDEX
    assert texts(results) == anew(results)


def test_the_leaderboard_is_written_where_the_index_cannot_be(
    results: Path, caplog: pytest.LogCaptureFixture, compared: list[str]
) -> None:
    Paths(results=results).index.mkdir()
    assert texts(results) == anew(results)
    assert "the index .index cannot be written" in caplog.text
    assert compared == ["other", "pets"] * 2


def test_verify_does_not_trust_the_index(results: Path, compared: list[str]) -> None:
    texts(results)
    compared.clear()
    assert main(["verify", "--results", str(results)]) == 0
    assert compared == ["other", "pets"]


class TestSelection:
    """Commands on one table read the files of that table."""

    def test_compare_reads_the_tables_that_have_the_names(self, results: Path, compared: list[str]) -> None:
        texts(results)
        compared.clear()
        assert main(["compare", "a", "b", "--results", str(results)]) == 0  # a is in both tables
        assert main(["compare", "c", "c", "--results", str(results)]) == 0
        assert compared == ["other", "pets", "other"]

    def test_compare_finds_what_was_added_since(self, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        texts(results)
        add(results, "new", share=0.5)
        assert main(["compare", "new", "b", "--results", str(results)]) == 0
        assert main(["compare", "missing", "b", "--results", str(results)]) == 2
        assert "unknown row or run 'missing'; available rows: a, b, c, new" in capsys.readouterr().err

    def test_recommend_names_the_tables_without_comparing(
        self, results: Path, compared: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["recommend", "--results", str(results)]) == 2
        assert "holds 2 tables" in capsys.readouterr().err
        assert main(["recommend", "--data", "other", "--results", str(results)]) in {0, 3}
        assert compared == ["other"]


@pytest.fixture
def two_at_most(results: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first table has two rows, the second three, and two are the most."""
    add(results, "d", other=True)
    monkeypatch.setattr(tables, "MOST_ROWS", 2)
    return results


REASON = "of other is refused: it has 3 rows, and at most 2 are compared"


def test_a_table_of_too_many_rows_is_refused_and_the_others_are_written(
    two_at_most: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # the second time by the index
        assert main(["leaderboard", "--results", str(two_at_most)]) == 0
        said = " ".join("".join(capsys.readouterr()).split())
        assert said.count(REASON) == 1
        assert "give it by --results" in said
    written = (two_at_most / "leaderboard.md").read_text()
    assert REASON in written
    assert "`pets`" in written
    assert {line["dataset"] for line in csv_lines(two_at_most)} == {"pets"}
    assert main(["report", "--no-images", "--results", str(two_at_most)]) == 0
    assert "pets" in (two_at_most / "report" / "index.html").read_text()


def csv_lines(results: Path) -> list[dict[str, str]]:
    header, *lines = (results / "leaderboard.csv").read_text().splitlines()
    return [dict(zip(header.split(","), line.split(","), strict=False)) for line in lines]


@pytest.mark.parametrize(
    "command", [("report", "--no-images"), ("compare", "a", "c"), ("recommend",)], ids=lambda parts: parts[0]
)
def test_commands_on_the_refused_table_say_why(
    command: tuple[str, ...], two_at_most: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--data", "other", "--results", str(two_at_most)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: table ")
    assert REASON in error
    assert error.count("\n") == 1


def test_a_record_in_another_place_is_skipped_again(results: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = add(results, "a")
    path = record_path(results, made)
    path.with_name("elsewhere.json").write_bytes(path.read_bytes())
    for _ in range(2):
        caplog.clear()
        texts(results)
        assert [line.partition(":")[0] for line in caplog.messages] == [
            f"skipped records/{path.parent.name}/elsewhere.json"
        ]
