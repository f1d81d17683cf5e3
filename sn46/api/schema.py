"""The tables of the database: what must outlive the process."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
    text,
)


class UtcTime(TypeDecorator[datetime]):
    """An aware time in UTC; SQLite, which knows no zones, keeps it naive."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData()

_REFUSED = text("status >= 400")

# `document` is what is served, byte for byte: signing again would give another signature.
epochs = Table(
    "epochs",
    metadata,
    Column("epoch_id", String(20), primary_key=True),
    Column("start", UtcTime, nullable=False, unique=True),
    Column("end", UtcTime, nullable=False),
    Column("seconds", Integer, nullable=False),
    Column("seed", String(64), nullable=False),
    Column("nonce", String(64), nullable=False),
    Column("assignment_hash", String(64), nullable=False),
    Column("table_version", String(64), nullable=False),
    Column("target_listings", Integer, nullable=False),
    Column("total_listings", Integer, nullable=False),
    Column("eligible", Integer, nullable=False),
    Column("relaxed", JSON, nullable=False),
    Column("draw_rules", JSON, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("revealed_document", LargeBinary),
    Column("drawn_at", UtcTime, nullable=False),
)

draws = Table(
    "draws",
    metadata,
    Column("epoch_id", String(20), primary_key=True),
    Column("zipcode", String(5), primary_key=True),
    Column("start", UtcTime, nullable=False),
    Column("expected_listings", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("market_tier", String(16), nullable=False),
    Index("draws_by_zipcode", "zipcode", "start"),
    Index("draws_by_start", "start"),
)

# `document` is the table's canonical JSON, compressed; `first_start` the start of the first epoch
# that was drawn from it.
zip_tables = Table(
    "zip_tables",
    metadata,
    Column("version", String(64), primary_key=True),
    Column("first_start", UtcTime, nullable=False),
    Column("document", LargeBinary, nullable=False),
)

statuses = Table(
    "statuses",
    metadata,
    Column("epoch_id", String(20), primary_key=True),
    Column("hotkey", String(64), primary_key=True),
    Column("status", String(16), nullable=False),
    Column("listings_found", Integer, nullable=False),
    Column("zipcodes_completed", Integer),
    Column("s3_upload_complete", Integer, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

# The policy itself is not kept: signing it again with `issued_at` gives the same one. What follows
# `issued_at` says which request it was issued to; rows from before revision 0002 do not know.
credentials = Table(
    "credentials",
    metadata,
    Column("epoch_id", String(20), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("hotkey", String(64), primary_key=True),
    Column("issued_at", UtcTime, nullable=False),
    Column("request_id", String(64)),
    Column("address", String(64)),
    Column("way", String(16)),
    Index("credentials_by_hotkey", "hotkey", "issued_at"),
    Index("credentials_by_time", "issued_at"),
    Index("credentials_by_request", "request_id"),
)

reports = Table(
    "reports",
    metadata,
    Column("epoch_id", String(20), primary_key=True),
    Column("validator_hotkey", String(64), primary_key=True),
    Column("start", UtcTime, nullable=False),
    Column("consensus_hash", String(64), nullable=False),
    Column("assignment_hash", String(64), nullable=False),
    Column("top_3", JSON, nullable=False),
    Column("participants", Integer, nullable=False),
    Column("reached_95", Integer, nullable=False),
    Column("announced_at", UtcTime, nullable=False),
    Column("request_id", String(64)),
    Column("address", String(64)),
    Column("way", String(16)),
    Index("reports_by_start", "start"),
    Index("reports_by_time", "announced_at"),
    Index("reports_by_request", "request_id"),
)

# `hotkey` and `way` are empty where the caller is not known. A row whose `count` is over 1 stands
# for so many requests that were refused alike, the last of them `at`.
requests = Table(
    "requests",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", UtcTime, nullable=False, index=True),
    Column("request_id", String(64), nullable=False),
    Column("hotkey", String(64), nullable=False),
    Column("way", String(16), nullable=False),
    Column("method", String(8), nullable=False),
    Column("path", String(200), nullable=False),
    Column("status", Integer, nullable=False),
    Column("code", String(40)),
    Column("address", String(64), nullable=False),
    Column("epoch_id", String(20)),
    Column("count", Integer, nullable=False, server_default="1"),
    Index("requests_by_hotkey", "hotkey", "at"),
    Index("requests_by_request", "request_id"),
    Index("requests_refused", "at", sqlite_where=_REFUSED, postgresql_where=_REFUSED),
)
