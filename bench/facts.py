"""Under which conditions the runs of a board were made: data, budget, machine, software, and what to know."""

from bench.boards import Board
from bench.cells import text_cell
from bench.findings import count_scorings
from bench.recipes import epochs_text, sizes_text
from bench.records import RunRecord


def facts(board: Board) -> list[str]:
    """Give a markdown list."""
    table = board.records
    first, data = table[0], table[0].dataset
    sizes = ", ".join(f"{name} {sum(counts):,}" for name, counts in data.counts.items())
    folds = first.config.split.folds
    split = f"{folds} folds, every image tested once; sizes of the first" if folds else text_cell(data.split_source)
    removed = ", ".join(f"{number} {text_cell(reason)}" for reason, number in data.removed.items()) or "none"
    environment = first.environment
    gpu = environment.gpu_name or "none, so CUDA is not measured"
    memory = f"{environment.ram_bytes / 2**30:.0f} GiB"
    digests = f"data digest {data.digest}, split digest {data.folds_digest or data.split_digest}"
    left_out = f"files left out: {removed}; {data.undersampled} undersampled"
    lines = [
        f"- Data: {len(data.class_names)} classes; images: {sizes} (split: {split}; {digests})",
        f"- Cleaning: {left_out}; {data.duplicate_groups} group(s) of duplicates, each kept in one split",
        f"- Budget: {epochs_text(board.key.budget)}",
        f"- Image size: {sizes_text(board.key.budget)}",
        f"- Machine: {environment.cpu_model}, {environment.cpu_count} cores, {memory}; GPU: {gpu}",
        f"- Software: {_software(table)}",
    ]
    return lines + [f"- Note: {text_cell(note)}" for note in _notes(table)]


def _notes(table: list[RunRecord]) -> list[str]:
    """Say what a reader must know before comparing rows."""
    data = table[0].dataset
    notes = list(dict.fromkeys(note for record in table for note in record.dataset.missing))
    if data.duplicates_across_splits:
        notes.append(f"{data.duplicates_across_splits} group(s) of duplicates lie across the given splits")
    inits = sorted({record.init for record in table})
    if len(inits) > 1:
        notes.append(f"rows start from unlike weights ({', '.join(inits)}): they compare more than architectures")
    notes += [
        f"{record.config.model}, seed {record.config.seed}, was trained on {record.outcome.environment.machine}"
        for record in table
        if record.outcome is not None and record.outcome.environment.machine != record.environment.machine
    ]
    models = {record.outcome.model.name: record.outcome.model for record in table if record.outcome is not None}
    for model in models.values():
        notes += [f"{model.name}: {note}" for note in model.notes]
        if model.weights_sha256:
            notes.append(f"{model.name} starts from weights {model.weights_tag}, sha256 {model.weights_sha256[:16]}")
    return notes


def _software(table: list[RunRecord]) -> str:
    seen = {
        f"Python {record.environment.python_version}, torch {record.environment.packages.get('torch')}, "
        f"timm {record.environment.packages.get('timm')}, onnxruntime {_onnxruntime(record)}, "
        f"code {(record.environment.git_commit or 'unknown')[:8]}{'+' if record.environment.git_dirty else ''}"
        for record in table
    }
    return "; ".join(sorted(seen))


def _onnxruntime(record: RunRecord) -> str | None:
    packages = record.environment.packages
    return packages.get("onnxruntime-gpu") or packages.get("onnxruntime")


def scorings(board: Board) -> str:
    """Say how often test was looked at: the more often, the more the best row is flattered."""
    trainings, times = count_scorings(board)
    again = f", {times - trainings} of them again by --force" if times > trainings else ""
    return f"scored {times} time(s), {trainings} training(s){again}; sweeps never open it"
