"""How fast published epochs are read and asked: ``python -m benchmarks.data [--json FILE]
[--epochs E] [--rows R] [--memory MB]``.

By default 300 epochs with 10,000 rows each, published by three validators: 3 million rows of 2.1
million homes, three in ten seen before. Then, each in a process of its own whose memory is watched
with that of all its children:

- read: what a reader does with them once, from an export: reports and rows held against each other,
  decoded, ordered, written to the cache
- bare writing: Polars reads one validator's files and writes them, and nothing else
- homes: put together over all epochs
- questions over ``observations`` and ``listings`` as ``sn46 data query`` asks them, each beside
  bare DuckDB over the same files, in turns, so that a busy machine is busy for both
"""

import argparse
import asyncio
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from benchmarks.step import run_step
from benchmarks.submissions import index_line
from benchmarks.world import hotkeys
from sn46.data.asking import asked
from sn46.data.decoder import Decoder
from sn46.data.homes import made_homes, make_homes, reading
from sn46.data.library import Library
from sn46.data.objects import FolderOrigin
from sn46.mechanism.canonical import hash_json
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.report import PUBLISHED_SCHEMA, data_key, report_key, write_published
from sn46.mechanism.submission import ObjectInfo
from sn46.store.snapshot import VALIDATED_DATA

Way = Callable[[Library, str, int], str]
FIRST = Epoch(datetime(2026, 1, 1, tzinfo=UTC))
SEEN_AGAIN = 0.3
ZIPS = 6_720
ZIPS_OF_AN_EPOCH = 20
QUESTIONS = {
    "count of observations": "SELECT count(*) FROM {observations}",
    "median price by month": "SELECT date_trunc('month', sale_date) AS m, median(sale_price) "
    "FROM {observations} GROUP BY m ORDER BY m",
    "one ZIP's observations": "SELECT * FROM {observations} WHERE zipcode = '10007'",
    "prices by ZIP": "SELECT zipcode, count(*), median(sale_price) FROM {listings} "
    "GROUP BY zipcode ORDER BY zipcode",
    "one ZIP's homes": "SELECT * FROM {listings} WHERE zipcode = '10007'",
    "homes whose price changed": "SELECT count(*) FROM {listings} "
    "WHERE len(list_distinct([h.sale_price FOR h IN history])) > 1",
}


def epoch_rows(number: int, epoch: Epoch, rows: int, winners: list[str]) -> pl.DataFrame:
    """The rows of one epoch: a share of them homes of the epoch twenty before, in its ZIPs."""
    new = int(rows * (1 - SEEN_AGAIN))
    seen = min(rows - new, rows) if number >= 20 else 0
    ids = pl.concat(
        [
            pl.int_range(number * rows, number * rows + rows - seen, eager=True),
            pl.int_range((number - 20) * rows, (number - 20) * rows + seen, eager=True),
        ]
    ).rename("id")
    home = pl.col("id")
    mixed = (home * 2_654_435_761) % 4_294_967_296
    place = (home // rows * ZIPS_OF_AN_EPOCH + home % ZIPS_OF_AN_EPOCH) % ZIPS
    frame = pl.DataFrame({"id": ids}).with_columns(
        listing_id=pl.format("zillow:{}", home),
        source=pl.lit("zillow"),
        source_url=pl.format("https://portal.example/homedetails/{}_zpid/", home),
        address=pl.format("{} {}th Street", home, mixed % 300),
        city=pl.format("City {}", place),
        state=pl.format("S{}", place % 50),
        zipcode=(10_000 + place).cast(pl.String),
        property_type=pl.lit("SINGLE_FAMILY"),
        sale_price=100_000 + mixed % 900_000 + pl.lit(number % 3),
        sale_date=pl.lit(date(2023, 1, 1)) + pl.duration(days=mixed % 1_000),
        scraped_at=pl.lit(epoch.start),
        bedrooms=mixed % 6,
        bathrooms=(mixed % 8) / 2,
        living_area_sqft=600 + mixed % 3_000,
        lot_sqft=1_000 + mixed % 20_000,
        year_built=1_900 + mixed % 120,
        latitude=30 + (mixed % 100_000) / 10_000,
        longitude=-120 + (mixed % 300_000) / 10_000,
        parcel_id=home.cast(pl.String),
        stories=(mixed % 3).cast(pl.Float64),
        miner_hotkey=pl.lit(pl.Series(winners)).gather(home % len(winners)),
        rank=1 + home % len(winners),
        epoch_id=pl.lit(epoch.id),
        confirmations=1 + mixed % 9,
    )
    missing = [pl.lit(None).alias(n) for n in PUBLISHED_SCHEMA if n not in frame.columns]
    return frame.with_columns(missing).select(
        pl.col(name).cast(dtype) for name, dtype in PUBLISHED_SCHEMA.items()
    )


def write_publications(folder: Path, epochs: int, rows: int) -> None:
    """The export: three validators that agree."""
    people = [key.ss58_address for key in hotkeys(6)]
    validators, winners = people[:3], people[3:]
    lines: list[str] = []
    epoch = FIRST
    for number in range(epochs):
        data = write_published(epoch_rows(number, epoch, rows, winners))
        scores, weights = dict.fromkeys(winners, 900_000), dict.fromkeys(winners, 333_333)
        hashed = {"epoch_id": epoch.id, "scores": scores, "weights": weights}
        for validator in validators:
            report = {
                "epoch_id": epoch.id,
                "validator_hotkey": validator,
                "top_3_winners": [{"miner_hotkey": winner} for winner in winners],
                "validation_summary": {"total_listings_validated": rows},
                "miners": {winner: {"final": 900_000} for winner in winners},
                "weights": weights,
                "consensus_hash": hash_json(hashed),
            }
            for key, body in (
                (data_key(validator, epoch.id), data),
                (report_key(validator, epoch.id), json.dumps(report).encode()),
            ):
                path = folder / VALIDATED_DATA / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(body)
                lines.append(index_line(ObjectInfo(key, len(body), epoch.end, {})))
        epoch = epoch.next()
    (folder / f"{VALIDATED_DATA}.index.jsonl").write_text("".join(lines))


def library_of(folder: Path) -> Library:
    return Library(folder / "cache", FolderOrigin(folder).name)


async def read(folder: Path) -> int:
    """As a reader does it; the rows."""
    origin, decoder = FolderOrigin(folder), Decoder()
    try:
        kept = await library_of(folder).refresh(origin, decoder, lambda done, of: None)
    finally:
        decoder.close()
    return sum(epoch.rows for epoch in kept)


def bare_writing(folder: Path) -> int:
    """One validator's files read and written again, with no look at what is in them."""
    first = min((folder / VALIDATED_DATA / "validators").iterdir())
    rows = 0
    for path in sorted(first.rglob("*.parquet")):
        frame = pl.read_parquet(path, hive_partitioning=False)
        frame.write_parquet(folder / "bare.parquet", compression="zstd")
        rows += frame.height
    return rows


def homes(folder: Path, memory_mb: int) -> int:
    """Made from nothing; how many there are."""
    library = library_of(folder)
    with library.held(alone=True):
        make_homes(library, memory_mb)
        files = made_homes(library, library.kept()) or []
    with duckdb.connect() as connection:
        return connection.execute(f"SELECT count(*) FROM {reading(files)}").fetchall()[0][0]


def ask(library: Library, sql: str, memory_mb: int) -> str:
    """As the command asks; the answer's digest."""
    tables = {"observations": "observations", "listings": "listings"}
    with asked(library, sql.format(**tables), memory_mb=memory_mb, say=lambda text: None) as rows:
        return _digest(pl.DataFrame(rows.read_all()))


def bare(library: Library, sql: str, memory_mb: int) -> str:
    """DuckDB alone over the same files."""
    epochs = library.kept()
    files = {"observations": library.files(epochs), "listings": made_homes(library, epochs) or []}
    with duckdb.connect(config={"memory_limit": f"{memory_mb}MiB"}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        named = {name: reading(found) for name, found in files.items()}
        return _digest(pl.DataFrame(connection.sql(sql.format(**named)).to_arrow_table()))


def _digest(answer: pl.DataFrame) -> str:
    lines = sorted(answer.write_ndjson().splitlines())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def questions(folder: Path, memory_mb: int, repeats: int) -> dict[str, Any]:
    """Each question asked both ways in turns; medians in seconds, and their ratio."""
    found: dict[str, Any] = {}
    library = library_of(folder)
    for name, sql in QUESTIONS.items():
        seconds: dict[str, list[float]] = {"asked": [], "bare": []}
        answers: set[str] = set()
        for turn in range(repeats):
            ways: list[tuple[str, Callable[[Path, str, int], str]]] = [
                ("asked", ask),
                ("bare", bare),
            ]
            for way, run in ways if turn % 2 else reversed(ways):
                began = time.perf_counter()
                answers.add(run(library, sql, memory_mb))
                seconds[way].append(time.perf_counter() - began)
        if len(answers) != 1:
            raise SystemExit(f"{name}: the answers differ")
        medians = {way: statistics.median(took) for way, took in seconds.items()}
        found[name] = medians | {"ratio": medians["asked"] / medians["bare"]}
    return found


def child(kind: str, folder: Path, given: dict[str, Any]) -> Any:
    """What one process does."""
    memory, repeats = given["memory"], given["repeats"]
    match kind:
        case "read":
            return asyncio.run(read(folder))
        case "bare writing":
            return bare_writing(folder)
        case "homes":
            return homes(folder, memory)
        case _:
            return questions(folder, memory, repeats)


def run_all(epochs: int, rows: int, memory_mb: int, repeats: int) -> dict[str, Any]:
    given = {"memory": memory_mb, "repeats": repeats}
    figures: dict[str, Any] = {"epochs": epochs, "rows": epochs * rows, "memory_mb": memory_mb}
    with tempfile.TemporaryDirectory(prefix="sn46-data-") as made:
        folder = Path(made)
        write_publications(folder, epochs, rows)
        for kind in ("bare writing", "read", "homes", "questions"):
            step = run_step("benchmarks.data", kind, folder, given)
            figures[kind] = asdict(step)
            if kind != "questions":
                print(f"{kind:13} {step.found:>10,}  {step.seconds:7.1f} s, of processors "
                      f"{step.cpu_seconds:6.1f} s, {step.peak_mb:6.0f} MB",
                      flush=True)  # fmt: skip
        stored = sum(file.stat().st_size for file in (folder / "cache").rglob("*.parquet"))
        figures["stored_bytes"] = stored
    for name, took in figures["questions"]["found"].items():
        print(f"{name:27} asked {took['asked']:6.2f} s, bare DuckDB {took['bare']:6.2f} s, "
              f"ratio {took['ratio']:5.2f}")  # fmt: skip
    print(f"most memory while asking {figures['questions']['peak_mb']:.0f} MB; "
          f"kept on disk {stored / 2**20:.0f} MB")  # fmt: skip
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast published epochs are read and asked.")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--rows", type=int, default=10_000, help="of each epoch")
    parser.add_argument("--memory", type=int, default=1_024, help="of DuckDB, in MB")
    parser.add_argument("--repeats", type=int, default=3, help="of each question")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kind, folder = arguments.child
        print(json.dumps(child(kind, Path(folder), json.load(sys.stdin))))
        return
    print(f"{arguments.epochs} epochs of {arguments.rows:,} rows, on {os.cpu_count()} cores",
          flush=True)  # fmt: skip
    figures = run_all(arguments.epochs, arguments.rows, arguments.memory, arguments.repeats)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
