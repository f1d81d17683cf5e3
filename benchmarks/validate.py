"""How fast submissions are validated: ``python -m benchmarks.validate [--json FILE] [--miners M]
[--zips Z] [--rows R]``.

By default 256 miners with 15,000 rows each in 15 files: 3.84 million rows, no two of one home.
They are written as an export, and stored in the S3 server of the local network. Then, each in a
process of its own whose memory is watched with that of all its children:

- bare: ``polars.read_parquet`` of every file, one after the other, with all cores; and once more
  with all files of a submission in one call
- validated: the code that validators and replays run, from the export: every file's hash, footer
  and pages, ranges, duplicates by id and address, completeness, volume; then speed scores, and the
  rows to check deeply
- validated from S3, over presigned addresses

Bare and validated are run in turns, so that a busy machine is busy for both.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import polars as pl

from benchmarks.step import run_step
from benchmarks.submissions import Shape, write_epoch
from sn46.mechanism.assignment import read_assignment
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.epochs import epoch_at
from sn46.mechanism.submission import miner_prefix
from sn46.store.base import Snapshot
from sn46.store.s3 import MINER_BUCKET, RESULTS_BUCKET, S3Access, S3Bucket
from sn46.store.seaweed import SeaweedServer
from sn46.store.setup import prepare_buckets
from sn46.store.snapshot import MINER_DATA, FolderSnapshot, RemoteSnapshot
from sn46.validator.examiner import Examiner
from sn46.validator.folder import ASSIGNMENT, CHAIN, epoch_folder, epochs_in, read_document
from sn46.validator.judging import Judging

EXAMINE_SECONDS = 120
EXAMINE_MEMORY_MB = 3_000
PUTS_AT_ONCE = 32


def files_of(folder: Path) -> dict[str, list[Path]]:
    """The Parquet files of each submission, by its folder."""
    found: dict[str, list[Path]] = {}
    for path in sorted((folder / MINER_DATA).rglob("*.parquet")):
        found.setdefault(str(path.parent.parent), []).append(path)
    return found


def bare(folder: Path, *, together: bool) -> dict[str, Any]:
    rows = 0
    files = files_of(folder)
    began = time.perf_counter()
    for paths in files.values():
        if together:
            rows += pl.read_parquet(paths).height
        else:
            rows += sum(pl.read_parquet(path).height for path in paths)
    return {"seconds": time.perf_counter() - began, "rows": rows}


async def validated(folder: Path, uploads: Snapshot, workers: int) -> dict[str, Any]:
    """The stage that ``EpochRun`` and ``replay`` begin with."""
    place = epoch_folder(folder, epochs_in(folder)[0])
    assignment = read_assignment(read_document(place / ASSIGNMENT), None)
    view = ChainView.from_json(read_document(place / CHAIN))
    examiner = Examiner(seconds=EXAMINE_SECONDS, memory_mb=EXAMINE_MEMORY_MB, workers=workers)
    examined = 0.0

    def report(done: int, of: int) -> None:
        nonlocal examined
        examined = time.perf_counter() - began

    try:
        # A validator's workers are there from its first epoch on.
        await asyncio.gather(
            *(examiner.examine(assignment, view, assignment.api_hotkey, None, {})
              for _ in range(workers))
        )  # fmt: skip
        judging = Judging(assignment, view, uploads, examiner)
        began = time.perf_counter()
        stage = await judging.quick(report)
        seconds = time.perf_counter() - began
    finally:
        examiner.close()
    results = stage.lined_up.results.values()
    return {
        "seconds": seconds,
        "examined_seconds": examined,
        "rows": sum(result.rows or 0 for result in results),
        "rows_kept": sum(result.kept.height for result in results),
        "participants": len(stage.lined_up.standings),
        "rows_to_check": len(stage.plan.rows),
    }


async def validated_remotely(folder: Path, access: S3Access, workers: int) -> dict[str, Any]:
    bucket = S3Bucket(access, MINER_BUCKET)
    epoch_id = epochs_in(folder)[0]
    began = time.perf_counter()
    hotkeys = sorted(path.name for path in (folder / MINER_DATA / "miners").iterdir())
    listed = await asyncio.gather(
        *(bucket.readable(miner_prefix(hotkey, epoch_id), expires_in_seconds=3_600)
          for hotkey in hotkeys)
    )  # fmt: skip
    listing = time.perf_counter() - began
    await bucket.close()
    async with httpx.AsyncClient() as http:
        uploads = RemoteSnapshot(http, (one for some in listed for one in some))
        return {"listing_seconds": listing, **await validated(folder, uploads, workers)}


async def store(folder: Path, access: S3Access) -> None:
    """The export's objects as miners would have uploaded them."""
    await prepare_buckets(access, miner_bucket=MINER_BUCKET, results_bucket=RESULTS_BUCKET)
    bucket = S3Bucket(access, MINER_BUCKET)
    snapshot = FolderSnapshot(folder, MINER_DATA)
    left = iter(snapshot.objects)

    async def put() -> None:
        for info in left:
            await bucket.put(info.key, await snapshot.read(info.key), info.metadata)

    await asyncio.gather(*(put() for _ in range(PUTS_AT_ONCE)))
    await bucket.close()


def child(kind: str, folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    """What a child process measures."""
    workers = given["workers"]
    if kind == "validated":
        snapshot = FolderSnapshot(folder, MINER_DATA)
        return asyncio.run(validated(folder, snapshot, workers))
    if kind == "remote":
        return asyncio.run(validated_remotely(folder, S3Access(**given["access"]), workers))
    return bare(folder, together=kind == "bare together")


def measured(kind: str, folder: Path, **given: Any) -> dict[str, Any]:
    """A measurement in a process of its own, timed by itself."""
    step = run_step("benchmarks.validate", kind, folder, given)
    return {**step.found, "peak_mb": step.peak_mb, "cpu_seconds": step.cpu_seconds}


def median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run in the middle, by time."""
    return sorted(runs, key=lambda run: run["seconds"])[len(runs) // 2]


def told(name: str, run: dict[str, Any]) -> None:
    rate = run["rows"] / run["seconds"]
    print(
        f"{name:34} {run['seconds']:7.1f} s {rate:12,.0f} rows/s {run['peak_mb']:8,.0f} MB "
        f"{run['cpu_seconds']:7.1f} s of processor time",
        flush=True,
    )


def run_all(shape: Shape, workers: int, repeats: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, SeaweedServer(Path(name) / "s3") as s3:
        folder = Path(name) / "export"
        # Of a day's length, so that what is stored now is in time.
        write_epoch(folder, shape, epoch_at(datetime.now(UTC), 86_400))
        asyncio.run(store(folder, s3.access))
        kinds = ("bare", "bare together", "validated")
        runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
        for _ in range(repeats):
            for kind in kinds:
                runs[kind].append(measured(kind, folder, workers=workers))
        figures: dict[str, Any] = {kind: median(of_kind) for kind, of_kind in runs.items()}
        ratios = [v["seconds"] / b["seconds"]
                  for v, b in zip(runs["validated"], runs["bare"], strict=True)]  # fmt: skip
        figures["ratio"] = statistics.median(ratios)
        told("read_parquet, file by file", figures["bare"])
        told("read_parquet, a submission a call", figures["bare together"])
        told("validated, from the export", figures["validated"])
        figures["remote"] = measured("remote", folder, workers=workers, access=asdict(s3.access))
        told("validated, through S3", figures["remote"])
        print(f"validated / read_parquet file by file: {figures['ratio']:.2f}")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast submissions are validated.")
    parser.add_argument("--miners", type=int, default=256)
    parser.add_argument("--zips", type=int, default=15, help="of the assignment, up to 70")
    parser.add_argument("--rows", type=int, default=15_000, help="of each miner")
    parser.add_argument("--workers", type=int, default=2, help="that examine at a time")
    parser.add_argument("--repeats", type=int, default=3, help="of each measurement but S3's")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kind, folder = arguments.child
        print(json.dumps(child(kind, Path(folder), json.load(sys.stdin))))
        return
    shape = Shape(arguments.miners, arguments.zips, arguments.rows)
    print(f"{shape.all_rows:,} rows of {shape.miners} miners in {shape.zips} files each, "
          f"on {os.cpu_count()} cores", flush=True)  # fmt: skip
    figures = {"rows": shape.all_rows, **run_all(shape, arguments.workers, arguments.repeats)}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
