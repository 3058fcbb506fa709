"""The rows of ensembles are found by ids: names of rows change when others are added."""

from pathlib import Path

from bench.comparison import analysis
from bench.comparison.analysis import Comparison
from bench.comparison.decisions.members import against_members
from bench.comparison.rows import Row
from bench.config import with_overrides
from bench.recipes import RECIPES
from bench.records.schema import Ensemble, Member, RunRecord
from tests.helpers import boards
from tests.helpers.documents import content_of


def keep(
    results: Path, model: str, share: float, *, lr: float | None = None, seed: int = 0, **changes: object
) -> RunRecord:
    config = RECIPES["quick"]("resnet50")
    config = config if lr is None else with_overrides(config, {"lr": lr})
    made = boards.keep(results, model, boards.some_right(share, seed=seed), config=config, seed=seed, **changes)
    assert isinstance(made, RunRecord)
    return made


def read(results: Path) -> Comparison:
    (found,) = analysis.read(results)
    return found


def combined(results: Path, members: list[RunRecord], *, seed: int = 0) -> None:
    """Keep the soft ensemble of the rows of some runs."""
    found = read(results)
    rows = [next(row for row in found.table.rows if member in row.records) for member in members]
    parts = tuple(Member(run_id=run.run_id, train_id=run.train_id, weight=1 / len(members)) for run in members)
    rule = Ensemble(
        rule="soft",
        candidates=tuple(row.name for row in rows),
        members=parts,
        candidate_ids=tuple(row.row_id for row in rows),
    )
    keep(results, "ensemble", 0.92, seed=seed, ensemble=rule)


def row_of(found: Comparison, model: str, *, parts: int = 0) -> Row:
    return next(row for row in found.table.rows if row.first.config.model == model and len(row.setting) > parts - 1)


def test_row_that_takes_the_name_of_a_member_is_no_member(tmp_path: Path) -> None:
    members = [keep(tmp_path, "net", 0.8, lr=0.1), keep(tmp_path, "other", 0.7)]
    combined(tmp_path, members)
    before = read(tmp_path)
    assert "soft, net + other" in ", ".join(row_of(before, "ensemble").setting)
    keep(tmp_path, "net", 0.9)
    found = read(tmp_path)
    assert sorted(row.name for row in found.table.rows if row.first.config.model == "net") == ["net", "net (lr=0.1)"]
    ensemble = row_of(found, "ensemble")
    assert "net (lr=0.1) + other" in ensemble.setting
    (against,) = against_members({record.run_id for record in ensemble.records}, [found])
    assert against.member == "net (lr=0.1)"
    rows = {row["name"]: row for row in content_of(found)["rows"]}
    ids = {row["id"]: name for name, row in rows.items()}
    assert {ids[row_id] for row_id in rows[ensemble.name]["from"]} == {"net (lr=0.1)", "other"}


def test_seeds_of_an_ensemble_share_a_row_after_names_have_changed(tmp_path: Path) -> None:
    first = [keep(tmp_path, "net", 0.8, lr=0.1), keep(tmp_path, "other", 0.7)]
    combined(tmp_path, first)
    second = [keep(tmp_path, "net", 0.8, lr=0.1, seed=1), keep(tmp_path, "other", 0.7, seed=1)]
    keep(tmp_path, "net", 0.9)
    combined(tmp_path, second, seed=1)
    ensembles = [row for row in read(tmp_path).table.rows if row.first.ensemble]
    assert [len(row.checkpoints) for row in ensembles] == [2]


def test_ensemble_of_an_older_record_has_its_members_too(tmp_path: Path) -> None:
    members = [keep(tmp_path, "net", 0.8), keep(tmp_path, "other", 0.7)]
    parts = tuple(Member(run_id=run.run_id, train_id=run.train_id, weight=0.5) for run in members)
    keep(tmp_path, "ensemble", 0.92, ensemble=Ensemble(rule="soft", candidates=("net", "other"), members=parts))
    found = read(tmp_path)
    assert row_of(found, "ensemble").setting[:2] == ("soft", "net + other")
    (against,) = against_members({row_of(found, "ensemble").records[0].run_id}, [found])
    assert against.member == "net"
