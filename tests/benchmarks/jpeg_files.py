"""Random access to many JPEGs from several processes, by the ways to store them: ``DATA FOLDER`` (of class folders).

Also the bytes of a stored image, and the images a second that one process decodes from the user's files and from JPEGs.
"""

import io
import multiprocessing
import os
import statistics
import sys
import tarfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from imgcls.data.audit import Audit, audit_dataset
from imgcls.data.decode import Resize
from imgcls.data.sources.folder import Dataset
from imgcls.data.sources.registry import load_dataset
from imgcls.data.stores.choice import names_of
from imgcls.data.stores.files import FileStore
from imgcls.data.stores.jpeg import BATCH, build_jpegs

COUNT: Final = 20_000
READS: Final = 20_000
PROCESSES: Final = (1, 2, 8)
ROUNDS: Final = 5
SIZES: Final = (160, 224)

Read = Callable[[int], object]


def single_files(folder: Path) -> Read:
    return lambda row: (folder / "files" / f"{row}.jpg").read_bytes()


def tar(folder: Path) -> Read:
    places = np.load(folder / "tar.npy").tolist()
    file = os.open(folder / "images.tar", os.O_RDONLY)
    return lambda row: os.pread(file, places[row][1], places[row][0])


def arrow(folder: Path) -> Read:
    reader = pa.ipc.open_file(pa.memory_map(str(folder / "images.arrow")))
    batches = [reader.get_batch(place).column(0) for place in range(reader.num_record_batches)]
    return lambda row: bytes(batches[row // BATCH][row % BATCH].as_buffer())


def litdata(folder: Path) -> Read:
    from litdata import StreamingDataset

    dataset = StreamingDataset(str(folder / "litdata"))
    return lambda row: dataset[row]


WAYS: Final = {"single files": single_files, "tar, by offset": tar, "Arrow file, memory-mapped": arrow} | (
    {"LitData": litdata} if find_spec("litdata") else {}
)


def write(folder: Path, jpegs: list[bytes]) -> None:
    """Write all images in every way."""
    (folder / "files").mkdir(parents=True)
    places, batches = [], [jpegs[start : start + BATCH] for start in range(0, len(jpegs), BATCH)]
    with tarfile.open(folder / "images.tar", "w") as archive:
        for row, jpeg in enumerate(jpegs):
            (folder / "files" / f"{row}.jpg").write_bytes(jpeg)
            member = tarfile.TarInfo(f"{row}.jpg")
            member.size = len(jpeg)
            places.append((archive.offset + tarfile.BLOCKSIZE, len(jpeg)))
            archive.addfile(member, io.BytesIO(jpeg))
    np.save(folder / "tar.npy", np.array(places))
    schema = pa.schema([("jpeg", pa.binary())])
    with pa.OSFile(str(folder / "images.arrow"), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for batch in batches:
            writer.write_batch(pa.record_batch([pa.array(batch, pa.binary())], schema=schema))
    if "LitData" in WAYS:
        from litdata.streaming.writer import BinaryWriter

        (folder / "litdata").mkdir()
        chunks = BinaryWriter(str(folder / "litdata"), chunk_bytes="64MB")
        for row, jpeg in enumerate(jpegs):
            chunks[row] = jpeg
        chunks.done()
        chunks.merge()


def rate(job: tuple[str, Path, int, int]) -> float:
    """Return the reads a second of one process."""
    way, folder, seed, number = job
    read, rows = WAYS[way](folder), np.random.default_rng(seed).integers(COUNT, size=number).tolist()
    read(rows[0])
    began = time.perf_counter()
    for row in rows:
        read(row)
    return number / (time.perf_counter() - began)


def sizes(dataset: Dataset, audit: Audit, cache: Path) -> tuple[list[str], list[bytes]]:
    """Return a table of sizes and of decoding, and the JPEGs of the first size."""
    lines, jpegs = (
        ["| size | bytes of a JPEG | of its pixels | images/s from files | from JPEGs |", "|---|---|---|---|---|"],
        [],
    )
    for size in SIZES:
        exact = FileStore(root=dataset.root, names=names_of(audit), resize=Resize(size=size, interpolation="bicubic"))
        stored = build_jpegs(audit, exact, cache=cache)
        mean = sum(path.stat().st_size for path in stored.shards) / len(audit.images)
        rows = np.random.default_rng(0).permutation(len(audit.images))[:400]
        rates: dict[int, list[float]] = {0: [], 1: []}
        for _ in range(ROUNDS):
            for number, load in enumerate((exact.load, stored.load)):
                began = time.perf_counter()
                load(rows)
                rates[number].append(len(rows) / (time.perf_counter() - began))
        per_s = " | ".join(f"{statistics.median(each):,.0f}" for each in rates.values())
        lines.append(f"| {size} px | {mean:,.0f} | {size**2 * 3:,} | {per_s} |")
        if not jpegs:
            reader = pa.ipc.open_file(pa.memory_map(str(stored.shards[0])))
            jpegs = [
                jpeg for place in range(reader.num_record_batches) for jpeg in reader.get_batch(place)[0].to_pylist()
            ]
    return lines, jpegs


def reads(folder: Path) -> list[str]:
    """Return a table of reads a second by way and number of processes, the medians of interleaved rounds."""
    rates: dict[tuple[str, int], list[float]] = {}
    for _ in range(ROUNDS):
        for way in WAYS:
            for count in PROCESSES:
                jobs = [(way, folder, seed, READS // count // (20 if way == "LitData" else 1)) for seed in range(count)]
                with multiprocessing.get_context("spawn").Pool(count) as pool:
                    rates.setdefault((way, count), []).append(sum(pool.map(rate, jobs, chunksize=1)))
    titles = " | ".join(f"{count} process{'es' * (count > 1)}" for count in PROCESSES)
    lines = [f"| reads/s of {COUNT:,} JPEGs of {SIZES[0]} px | {titles} |", f"|---|{'---|' * len(PROCESSES)}"]
    medians = {way: [f"{statistics.median(rates[way, count]):,.0f}" for count in PROCESSES] for way in WAYS}
    return [*lines, *(f"| {way} | {' | '.join(texts)} |" for way, texts in medians.items())]


def main(data: str, home: str) -> None:
    """Print both tables as Markdown."""
    dataset = load_dataset(data)
    lines, jpegs = sizes(dataset, audit_dataset(dataset), Path(home) / "cache")
    write(Path(home), [jpegs[row % len(jpegs)] for row in range(COUNT)])
    print("\n".join([*lines, "", *reads(Path(home))]))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
