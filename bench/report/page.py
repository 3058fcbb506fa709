"""The self-contained HTML page of a results folder: tables, plots, galleries, audit and provenance."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined
from markdown_it import MarkdownIt

from bench.comparison.analysis import Comparison
from bench.comparison.tables import Row
from bench.leaderboard import page as leaderboard
from bench.leaderboard.summary import summary
from bench.records.paths import Paths
from bench.records.schema import RunRecord
from bench.records.store import to_json
from bench.report import gallery, plots
from bench.report.drawing import svg
from bench.runs.images import ImageSource, MissingImagesError, find_source
from imgcls.errors import ConfigError
from imgcls.files import write_text

PAGE: Final = files("bench.report") / "template"

CLASSES_UNFOLDED: Final = 20
"""Number of classes up to which confusion matrices fit on a screen, and are shown unfolded."""

FIGURES: Final = "figures"

PLOTS: Final = {
    "pareto": plots.pareto,
    "recall": plots.recall_bars,
    "learning": plots.learning_curves,
    "latency": plots.latencies,
    "reliability": plots.reliability,
    "risk": plots.risk_coverage,
}
"""Functions that draw a plot of a comparison, by name in the template; they return None if there is no data."""


def write(comparisons: Sequence[Comparison], paths: Paths, folder: Path, *, images: bool) -> Path:
    """Write ``index.html`` and its plots as SVG files into a folder; raises ConfigError if that fails."""
    figures: dict[str, str] = {}
    # Relative, so that the links to studies remain valid when the results folder is moved.
    sweeps = Path(os.path.relpath(paths.sweeps, folder.absolute())).as_posix()
    sources = [_source(one, paths) if images else Source(missing="omitted by --no-images") for one in comparisons]
    tables = [
        # Numbered only if there are several tables, so that the usual file names are short.
        _view(one, source, figures, prefix=f"{number}-" if len(comparisons) > 1 else "", sweeps=sweeps)
        for number, (one, source) in enumerate(zip(comparisons, sources, strict=True), start=1)
    ]
    shots = _thumbnails(tables, sources)
    text = _render(tables, shots, total=sum(len(one.table.records) for one in comparisons))
    try:
        for name, drawn in figures.items():
            write_text(drawn, folder / FIGURES / name)
        write_text(text, folder / "index.html")
    except OSError as error:
        message = f"--to {folder}: cannot be written ({error.strerror}); use a writable folder"
        raise ConfigError(message) from error
    return folder / "index.html"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The images of a table, or the reason why they are not available on this machine."""

    images: ImageSource | None = None
    missing: str = ""


def _render(tables: Sequence[Mapping[str, Any]], shots: Mapping[str, str], *, total: int) -> str:
    # StrictUndefined: a misspelt name in the template is an error and not an empty text.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((PAGE / "index.html.j2").read_text(encoding="utf-8"))
    return template.render(
        tables=tables,
        total=total,
        # A list and indices into it: an image that is shown several times is in the page once.
        thumbnails=list(shots.values()),
        thumbnail_ids={image_id: number for number, image_id in enumerate(shots)},
        style=(PAGE / "page.css").read_text(encoding="utf-8"),
        script=(PAGE / "page.js").read_text(encoding="utf-8"),
    )


def _source(comparison: Comparison, paths: Paths) -> Source:
    """Return the images of a table."""
    # All runs of a table have the same images, but their location is stored for each training, and may be missing.
    reason = "no run of this table has artifacts on this machine"
    for record in comparison.table.records:
        try:
            return Source(images=find_source(record, paths))
        except MissingImagesError as error:
            reason = str(error)
    return Source(missing=reason)


def _view(
    comparison: Comparison, source: Source, figures: dict[str, str], *, prefix: str, sweeps: str
) -> dict[str, Any]:
    """Return the values of a table for the template, and add its plots to ``figures``."""
    first = comparison.table.first
    drawn = {
        name: svg(partial(draw, comparison), name=prefix + name) for name, draw in PLOTS.items() if _any(comparison)
    }
    figures |= {f"{prefix}{name}.svg": text for name, text in drawn.items() if text}
    all_wrong, all_wrong_total = gallery.wrong_by_all(comparison)
    details = leaderboard.detail_tables(comparison, sweeps=sweeps)
    most_confused = details.pop("Most confused classes")
    return {
        "title": leaderboard.heading(comparison),
        "summary": summary(comparison, str),
        "leaderboard": _html(leaderboard.main_table(comparison)),
        "details": [(title, _html(part)) for title, part in details.items() if part],
        "plots": dict.fromkeys(PLOTS) | drawn,
        "files": {name: f"{FIGURES}/{prefix}{name}.svg" for name in PLOTS},
        "names": first.dataset.class_names,
        "most_confused": _html(most_confused),
        "fold_matrix": len(first.dataset.class_names) > CLASSES_UNFOLDED,
        "confusions": _confusions(comparison),
        "confusion_files": _confusion_figures(comparison, figures, prefix=prefix),
        "compared": len(comparison.compared),
        "all_wrong": all_wrong,
        "all_wrong_total": all_wrong_total,
        "mistakes": gallery.mistakes(comparison),
        "audit": gallery.audit_view(source.images) if source.images else None,
        "no_audit": f"The audit is not available: {source.missing}" if source.missing else "",
        "no_pictures": f"No thumbnails: {source.missing}." if source.missing else "",
        "removed": ", ".join(f"{n} {reason}" for reason, n in first.dataset.removed.items()) or "none",
        "runs": [_provenance(record, row) for row in comparison.table.rows for record in row.records],
    }


def _any(comparison: Comparison) -> bool:
    return any(row.checkpoints for row in comparison.table.rows)


def _html(lines: Sequence[str]) -> str:
    """Return Markdown lines as HTML; HTML in them is escaped."""
    html: str = MarkdownIt("js-default", {"html": False}).render("\n".join(lines))
    # Wide tables scroll by themselves, so that a narrow screen does not scroll the whole page.
    return html.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")


def _confusions(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {"title": f"{row.name}, seed {checkpoint.seed}", "counts": checkpoint.confusion.tolist()}
        for row in comparison.table.rows
        for checkpoint in row.checkpoints
    ]


def _confusion_figures(comparison: Comparison, figures: dict[str, str], *, prefix: str) -> list[tuple[str, str]]:
    """Draw the confusion matrix of each row's first seed; return titles and files."""
    listed = []
    names = comparison.table.first.dataset.class_names
    for number, row in enumerate((row for row in comparison.table.rows if row.checkpoints), start=1):
        title, file = f"{row.name}, seed {row.checkpoints[0].seed}", f"{prefix}confusion-{number}.svg"
        text = svg(partial(plots.confusion, row.checkpoints[0], names, title), name=file)
        assert text is not None
        figures[file] = text
        listed.append((title, f"{FIGURES}/{file}"))
    return listed


def _thumbnails(tables: Sequence[Mapping[str, Any]], sources: Sequence[Source]) -> dict[str, str]:
    shots: dict[str, str] = {}
    for table, source in zip(tables, sources, strict=True):
        if source.images:
            wrong = [*table["all_wrong"], *(one for _, each in table["mistakes"] for one in each)]
            ids = [one.image_id for one in wrong] + [one for _, group in table["audit"]["groups"] for one in group]
            ids += [image_id for image_id, _, _ in table["audit"]["removed"]]
            shots |= gallery.thumbnails(source.images.root, ids)
    return shots


def _provenance(record: RunRecord, row: Row) -> dict[str, str]:
    """Return the record of a run as JSON text with a title, without its history, measurements and metrics."""
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
    title = f"{row.name}, seed {record.config.seed}{fold}: {record.status}, run {record.run_id}, code {commit}"
    return {"title": title, "text": to_json(content)}
