"""One self-contained page of what a results folder shows: tables, plots, galleries, audit, provenance."""

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined
from markdown_it import MarkdownIt
from rich.console import Console

from bench.comparison.analysis import Findings
from bench.comparison.tables import Entry
from bench.leaderboard import page
from bench.leaderboard.summary import paragraph, power_line
from bench.records.paths import Paths
from bench.records.schema import RunRecord
from bench.records.store import to_json, write_text
from bench.report import gallery, plots
from bench.report.drawing import svg
from bench.runs.images import Images, find_images
from imgcls.errors import ConfigError

PAGE: Final = files("bench.report") / "template"

FIGURES: Final = "figures"

PLOTS: Final = {
    "pareto": plots.pareto,
    "recall": plots.recall_bars,
    "learning": plots.learning_curves,
    "latency": plots.latencies,
    "reliability": plots.reliability,
    "risk": plots.risk_coverage,
}
"""The page's plots by name, each from what a board shows."""


def write(found: Sequence[Findings], paths: Paths, folder: Path, *, images: bool, console: Console) -> Path:
    """Write ``index.html`` and its plots as SVG files into a folder; raises ConfigError where it cannot be written."""
    figures: dict[str, str] = {}
    known = [_images(one, paths, console) if images else "left out by --no-images" for one in found]
    boards = [
        _board(one, place, figures, prefix=f"{number}-" if len(found) > 1 else "")
        for number, (one, place) in enumerate(zip(found, known, strict=True), start=1)
    ]
    shots = _thumbnails(boards, known)
    text = _render(boards, shots, total=sum(len(one.board.records) for one in found))
    try:
        for name, drawn in figures.items():
            write_text(drawn, folder / FIGURES / name)
        write_text(text, folder / "index.html")
    except OSError as error:
        message = f"--to {folder}: cannot be written ({error.strerror}); give a folder that can"
        raise ConfigError(message) from error
    return folder / "index.html"


def _render(boards: Sequence[Mapping[str, Any]], shots: Mapping[str, str], *, total: int) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((PAGE / "index.html.j2").read_text(encoding="utf-8"))
    return template.render(
        boards=boards,
        total=total,
        thumbnails=list(shots.values()),
        thumbnail_ids={image_id: number for number, image_id in enumerate(shots)},
        style=(PAGE / "page.css").read_text(encoding="utf-8"),
        script=(PAGE / "page.js").read_text(encoding="utf-8"),
    )


def _images(found: Findings, paths: Paths, console: Console) -> Images | str:
    """Find the images of a board by any of its runs, or say why not."""
    reason = "no run here has artifacts"
    for record in found.board.records:
        place = find_images(record, paths, console)
        if isinstance(place, Images):
            return place
        reason = place
    return reason


def _board(found: Findings, place: Images | str, figures: dict[str, str], *, prefix: str) -> dict[str, Any]:
    """Give what the template shows of a board, and put its plots among the figures."""
    first = found.board.first
    drawn = {name: svg(partial(draw, found), name=prefix + name) for name, draw in PLOTS.items() if _any(found)}
    figures |= {f"{prefix}{name}.svg": text for name, text in drawn.items() if text}
    audit = gallery.audit_view(place) if isinstance(place, Images) else None
    all_wrong, all_wrong_total = gallery.wrong_by_all(found)
    return {
        "title": f"{first.dataset.name}, recipe {first.config.recipe}, {first.environment.machine}",
        "paragraph": paragraph(found),
        "power": power_line(found),
        "leaderboard": _html(page.main_table(found)),
        "details": [(title, _html(part)) for title, part in page.detail_tables(found).items() if part],
        "plots": dict.fromkeys(PLOTS) | drawn,
        "files": {name: f"{FIGURES}/{prefix}{name}.svg" for name in PLOTS},
        "names": first.dataset.class_names,
        "confusions": _confusions(found),
        "confusion_files": _confusion_figures(found, figures, prefix=prefix),
        "compared": len(found.compared),
        "all_wrong": all_wrong,
        "all_wrong_total": all_wrong_total,
        "mistakes": gallery.mistakes(found),
        "audit": audit,
        "no_audit": f"The audit's list is not at hand: {place}" if isinstance(place, str) else "",
        "no_pictures": f"No pictures: {place}." if isinstance(place, str) else "",
        "removed": ", ".join(f"{n} {reason}" for reason, n in first.dataset.removed.items()) or "nothing was left out",
        "runs": [_provenance(record, entry) for entry in found.board.entries for record in entry.records],
    }


def _any(found: Findings) -> bool:
    return any(entry.checkpoints for entry in found.board.entries)


def _html(lines: Sequence[str]) -> str:
    """Render markdown; what looks like HTML in it stays text."""
    text = "\n".join(lines).replace("](sweeps/", "](../sweeps/")
    html: str = MarkdownIt("js-default", {"html": False}).render(text)
    return html.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")


def _confusions(found: Findings) -> dict[str, list[list[int]]]:
    return {
        f"{entry.name}, seed {checkpoint.seed}": checkpoint.confusion.tolist()
        for entry in found.board.entries
        for checkpoint in entry.checkpoints
    }


def _confusion_figures(found: Findings, figures: dict[str, str], *, prefix: str) -> list[tuple[str, str]]:
    """Draw every entry's first seed."""
    listed = []
    names = found.board.first.dataset.class_names
    for number, entry in enumerate((entry for entry in found.board.entries if entry.checkpoints), start=1):
        title, file = f"{entry.name}, seed {entry.checkpoints[0].seed}", f"{prefix}confusion-{number}.svg"
        text = svg(partial(plots.confusion, entry.checkpoints[0], names, title), name=file)
        assert text is not None
        figures[file] = text
        listed.append((title, f"{FIGURES}/{file}"))
    return listed


def _thumbnails(boards: Sequence[Mapping[str, Any]], known: Sequence[Images | str]) -> dict[str, str]:
    shots: dict[str, str] = {}
    for board, place in zip(boards, known, strict=True):
        if isinstance(place, Images):
            wrong = [*board["all_wrong"], *(one for each in board["mistakes"].values() for one in each)]
            ids = [one.image_id for one in wrong] + [one for _, group in board["audit"]["groups"] for one in group]
            ids += [image_id for image_id, _, _ in board["audit"]["removed"]]
            shots |= gallery.thumbnails(place.root, ids)
    return shots


def _provenance(record: RunRecord, entry: Entry) -> dict[str, str]:
    """Give what a run was: everything but its history, figures and images."""
    model = record.outcome.model if record.outcome else None
    content = {
        "run_id": record.run_id,
        "train_id": record.train_id,
        "started_at": record.started_at,
        "duration_s": record.duration_s,
        "error": record.error,
        "config": record.config,
        "environment": record.environment,
        "trained_in": record.outcome.environment if record.outcome else None,
        "dataset": record.dataset,
        "model": model,
        "onnx_sha256": record.outcome.artifact.sha256 if record.outcome else None,
    }
    commit = (record.environment.git_commit or "unknown")[:8]
    fold = "" if record.config.split.fold is None else f", fold {record.config.split.fold}"
    title = f"{entry.name}, seed {record.config.seed}{fold}: {record.status}, run {record.run_id}, code {commit}"
    return {"title": title, "text": to_json(content)}
