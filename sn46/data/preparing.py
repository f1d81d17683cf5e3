"""Strangers' rows made ours: decoded, held against the report, put in order and written down.

Runs in a process of its own, which can be killed (``decoder``); what it writes is the only thing
that anything else ever reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import polars as pl

from sn46.data.choosing import Report
from sn46.mechanism.addresses import normalize_addresses
from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.errors import MechanismError
from sn46.mechanism.listings import PROPERTY_TYPES, REQUIRED
from sn46.mechanism.names import EpochId
from sn46.mechanism.parquetfile import decode
from sn46.mechanism.quick import MAX_PRICE, MIN_PRICE
from sn46.mechanism.report import PUBLISHED_SCHEMA

STORED_SCHEMA: Final[Mapping[str, pl.DataType]] = {
    **PUBLISHED_SCHEMA,
    "address_key": pl.String(),
    "epoch_start": pl.Datetime("us", "UTC"),
}
"""Columns of the files that are kept, one an epoch."""

_ROWS_OF_A_GROUP: Final = 10_000
_EARLIEST: Final = datetime(1, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC)


class RowsFault(MechanismError):
    """Rows that do not hold what their report says; the message says why."""


@dataclass(frozen=True)
class Prepared:
    """Rows that were written: their digest, which is that of the same rows in any order and
    however they were stored, how many there are, and of how many ZIPs."""

    digest: str
    rows: int
    zipcodes: int


def epoch_start(epoch_id: EpochId) -> datetime:
    """The start that an id names, to the minute."""
    return datetime.strptime(epoch_id, "%Y-%m-%d-%H:%M").replace(tzinfo=UTC)


def prepare(body: bytes, report: Report, epoch_id: EpochId, path: Path) -> Prepared:
    """Decode one validator's rows and write them to ``path`` in STORED_SCHEMA, by ZIP.

    Raises:
        FileSchemaFault, FileSizeFault: where the bytes are no such file.
        RowsFault: where the rows are not what the report says, or no homes.
    """
    frame = decode(body, most_rows=report.rows, schema=PUBLISHED_SCHEMA)
    if frame.height != report.rows:
        raise RowsFault(f"{frame.height} rows are published, the report says {report.rows}")
    ordered = (
        frame.with_columns(
            normalize_addresses(pl.col("address")).alias("address_key"),
            pl.lit(epoch_start(epoch_id), dtype=STORED_SCHEMA["epoch_start"]).alias("epoch_start"),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in STORED_SCHEMA.items())
        .sort("state", "zipcode", "address_key", "listing_id", nulls_last=True)
    )
    _check(ordered, report, epoch_id)
    ordered.write_parquet(path, compression="zstd", row_group_size=_ROWS_OF_A_GROUP)
    digest = sha256_hex(ordered.write_ndjson().encode())
    return Prepared(digest, ordered.height, ordered["zipcode"].n_unique())


def _check(frame: pl.DataFrame, report: Report, epoch_id: EpochId) -> None:
    """Hold rows against the report and against what a published row is (mechanism 5, 6, 10)."""
    rank_of = {hotkey: rank for rank, hotkey in enumerate(report.winners, start=1)}
    right = {
        "a required field is null": ~pl.any_horizontal(pl.col(*REQUIRED).is_null()),
        "a row is of another epoch": pl.col("epoch_id").eq_missing(epoch_id),
        "a row is of no winner, or has another rank": pl.col("miner_hotkey")
        .replace_strict(rank_of, default=None, return_dtype=pl.Int64)
        .eq(pl.col("rank")),
        "a ZIP has not five digits": pl.col("zipcode").str.contains(r"^[0-9]{5}$"),
        "a property type is none": pl.col("property_type").is_in(PROPERTY_TYPES),
        "a price is out of range": pl.col("sale_price").is_between(MIN_PRICE, MAX_PRICE),
        # What readers are written in knows no others.
        "a time is in no year from 1 to 9999": pl.col("sale_date").is_between(date.min, date.max)
        & pl.col("scraped_at").is_between(_EARLIEST, _LATEST),
        "a row is confirmed by nobody": pl.col("confirmations") >= 1,
    }
    wrong = frame.select(
        (~condition.fill_null(False)).sum().alias(fault) for fault, condition in right.items()
    ).row(0, named=True)
    if faults := [f"{fault} ({count} rows)" for fault, count in wrong.items() if count]:
        raise RowsFault("; ".join(faults))
    for columns in (["listing_id"], ["address_key", "zipcode"]):
        if frame.select(columns).is_duplicated().any():
            raise RowsFault(f"two rows have the same {' and '.join(columns)}")
