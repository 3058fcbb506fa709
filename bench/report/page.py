"""The self-contained HTML page of a results folder: charts, tables, images, audit and provenance."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from bench.comparison.analysis import Comparison
from bench.comparison.results.building import table_result
from bench.comparison.results.runs import flat_runs, provenance
from bench.comparison.results.values import TableResult
from bench.leaderboard import page as leaderboard
from bench.leaderboard.selection import selections
from bench.leaderboard.summary import summary
from bench.recipes import budget_text
from bench.render.escaping import visible
from bench.render.html import html, inline
from bench.report import gallery
from bench.report.content import content_of
from bench.runs.images import ImageSource, MissingImagesError, find_source
from imgcls.errors import ConfigError
from imgcls.files import write_text

if TYPE_CHECKING:
    from bench.records.paths import Paths

PAGE: Final = files("bench.report") / "template"

MODULES: Final = (
    "elements",
    "looks",
    "chart",
    "pairs",
    "board",
    "explorer",
    "images",
    "confusion",
    "curves",
    "tables",
    "page",
)
"""Modules of the page's script, each after those that it imports from."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page: its title, and its charts by their keys in ``template/js/page.js``."""

    title: str
    charts: tuple[str, ...] = ()
    unfolded: bool = False


SECTIONS: Final = {
    "leaderboard": Section("Leaderboard", ("leaderboard",), unfolded=True),
    "explorer": Section("Accuracy against cost", ("explorer",), unfolded=True),
    "pairs": Section("Pairs", ("pairs",), unfolded=True),
    "confusion": Section("Confusions", ("confusion",), unfolded=True),
    "images": Section("Images", ("images",), unfolded=True),
    "curves": Section("Learning curves and cost", ("learning", "cost")),
    "latency": Section("Latency", ("latency",)),
    "calibration": Section("Calibration", ("calibration",)),
    "tables": Section("Tables"),
    "audit": Section("Audit"),
    "provenance": Section("Provenance"),
}
"""Sections of a table by their place in the page's address."""


def write(comparisons: Sequence[Comparison], paths: "Paths", folder: Path, *, images: bool) -> Path:
    """Write ``index.html`` into a folder; raises ConfigError if that fails."""
    # Relative, so that the links to studies remain valid when the results folder is moved.
    sweeps = Path(os.path.relpath(paths.sweeps, folder.absolute())).as_posix()
    sources = [
        _source(comparison, paths) if images else Source(missing="omitted by --no-images") for comparison in comparisons
    ]
    tables = [_view(comparison, source, sweeps=sweeps) for comparison, source in zip(comparisons, sources, strict=True)]
    shots = _thumbnails(comparisons, tables, sources)
    rows = flat_runs(comparisons)
    text = _render(tables, shots, rows, total=sum(len(comparison.table.records) for comparison in comparisons))
    try:
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


def _render(
    tables: Sequence[dict[str, Any]],
    shots: Mapping[str, str],
    rows: Sequence[Mapping[str, object]],
    *,
    total: int,
) -> str:
    # A list and indices into it: an image that is shown several times is in the page once.
    thumbnail_ids = {image_id: number for number, image_id in enumerate(shots)}
    for table in tables:
        content = table["content"]
        content["thumbnails"] = {
            image_id: thumbnail_ids[image_id] for image_id in content["predictions"]["ids"] if image_id in thumbnail_ids
        }
    # StrictUndefined: a misspelt name in the template is an error and not an empty text.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    environment.filters["shown"] = _shown
    # In the order of the CSV, and not sorted by name.
    environment.policies["json.dumps_kwargs"] = {}
    template = environment.from_string((PAGE / "index.html.j2").read_text(encoding="utf-8"))
    return template.render(
        tables=tables,
        sections=list(SECTIONS.items()),
        total=total,
        rows=rows,
        thumbnails=list(shots.values()),
        thumbnail_ids=thumbnail_ids,
        style=(PAGE / "page.css").read_text(encoding="utf-8"),
        script=bundle(),
    )


def _shown(value: Any) -> Any:  # noqa: ANN401 - whatever the template has
    """Return a value, or the values of a structure, with control characters of text written as ``visible`` does."""
    match value:
        case Markup():
            return Markup(visible(value))  # noqa: S704 - it was markup before
        case str():
            return visible(value)
        case dict():
            return {_shown(key): _shown(item) for key, item in value.items()}
        case list() | tuple():
            return [_shown(item) for item in value]
    return value


def bundle() -> str:
    """Return the modules of the page as one script, each in a function of its own, which returns what it exports."""
    # A page without network cannot import files, and its policy forbids modules from data and blob addresses.
    return "\n".join(_module(name) for name in MODULES)


def _module(name: str) -> str:
    text = (PAGE / "js" / f"{name}.js").read_text(encoding="utf-8")
    exported = re.findall(r"^export (?:function|const) (\w+)", text, flags=re.MULTILINE)
    text = re.sub(r'^import (\{[^}]*\}) from "./(\w+).js";', r"const \1 = \2_js;", text, flags=re.MULTILINE)
    text = re.sub(r"^export ", "", text, flags=re.MULTILINE)
    return f"const {name}_js = (() => {{\n{text}\nreturn {{ {', '.join(exported)} }};\n}})();"


def _source(comparison: Comparison, paths: "Paths") -> Source:
    """Return the images of a table."""
    # All runs of a table have the same images, but their location is stored for each training, and may be missing.
    reason = "no run of this table has artifacts on this machine"
    for record in comparison.table.records:
        try:
            return Source(images=find_source(record, paths))
        except MissingImagesError as error:
            reason = str(error)
    return Source(missing=reason)


def _view(comparison: Comparison, source: Source, *, sweeps: str) -> dict[str, Any]:
    """Return the values of a table for the template."""
    results = table_result(comparison, all_intervals=True)
    key, removed = results.key, results.conditions.removed
    details = leaderboard.detail_tables(results, sweeps=sweeps)
    content = content_of(results, comparison)
    content["duplicates"] = sorted(gallery.across_splits(source.images)) if source.images else []
    content["missing"] = " ".join(
        [*_omitted(results), *([f"No pictures: {source.missing}."] if source.missing else [])]
    )
    return {
        "name": key.dataset,
        "title": str(leaderboard.heading(key)),
        "held": f"Equal for all rows: {budget_text(key.budget)}. Trained on {key.machine}; table {key.id}.",
        "summary": [inline(sentence) for sentence in (*summary(results), *selections(results))],
        "leaderboard": html(leaderboard.main_table(results)),
        "details": [(title, html(blocks)) for title, blocks in details.items() if blocks],
        "content": content,
        "pictures": _pictures(results, source),
        "audit": gallery.audit_view(source.images) if source.images else None,
        "no_audit": f"The audit is not available: {source.missing}" if source.missing else "",
        "removed": ", ".join(f"{number} {reason}" for reason, number in removed.items()) or "none",
        "runs": [provenance(record, row) for row in comparison.table.rows for record in row.records],
    }


def _omitted(results: TableResult) -> list[str]:
    """Return which test images the page lists, if not all."""
    if results.images <= gallery.LISTED:
        return []
    which = f"The page lists the {gallery.LISTED:,} test images of {results.images:,} that most rows misclassify"
    return [f"{which}, and then the least confident."]


def _pictures(results: TableResult, source: Source) -> str:
    """Return which test images have a picture in the page."""
    if source.images is None:
        return ""
    number = results.images
    if number <= gallery.PICTURES:
        return "Every test image has a picture."
    return (
        f"{gallery.PICTURES:,} of {number:,} test images have a picture: those that most rows misclassify, and then "
        "the least confident; the others are listed by id."
    )


def _thumbnails(
    comparisons: Sequence[Comparison], tables: Sequence[Mapping[str, Any]], sources: Sequence[Source]
) -> dict[str, str]:
    shots: dict[str, str] = {}
    for comparison, table, source in zip(comparisons, tables, sources, strict=True):
        if source.images:
            ids = [*gallery.pictured(comparison)]
            ids += [image_id for _, group in table["audit"]["groups"] for image_id in group]
            ids += [image_id for image_id, _, _ in table["audit"]["removed"]]
            shots |= gallery.thumbnails(source.images, [image_id for image_id in ids if image_id not in shots])
    return shots
