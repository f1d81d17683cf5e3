"""The published homes as an Apache Iceberg table, ``sn46.listings``, for Spark, Trino, DuckDB and
whatever else reads that format.

An epoch is appended once, as one snapshot whose summary names it (``sn46.epoch-id``). What is in
the table is the only record of what was appended: before an append the table's snapshots are
looked through, and the commit succeeds only if no other one came between (the SQL catalog changes
the table's metadata location only from the one that was read). So an append that was killed at any
moment was either made or was not, and of two that come at once one fails, looks again, and finds
the epoch there.

Source: Apache Iceberg table specification, version 2.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit
from uuid import uuid4

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.io.pyarrow import write_file
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import (
    PartitionField,
    PartitionFieldValue,
    PartitionKey,
    PartitionSpec,
)
from pyiceberg.schema import Schema
from pyiceberg.table import Table, TableProperties, WriteTask
from pyiceberg.table.snapshots import ancestors_of
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.transforms import IdentityTransform, MonthTransform
from pyiceberg.types import (
    DateType,
    DoubleType,
    LongType,
    NestedField,
    PrimitiveType,
    StringType,
    TimestamptzType,
)
from sqlalchemy.exc import IntegrityError, NoSuchModuleError, OperationalError, SQLAlchemyError

from sn46.data.columns import OBSERVATIONS
from sn46.data.errors import RegisterError
from sn46.data.library import KeptEpoch, Library
from sn46.data.preparing import STORED_SCHEMA, epoch_start
from sn46.mechanism.epochs import parse_epoch_id
from sn46.mechanism.errors import EpochError
from sn46.mechanism.listings import REQUIRED
from sn46.mechanism.names import EpochId
from sn46.store.s3 import S3Access

NAMESPACE: Final = "sn46"
TABLE: Final = (NAMESPACE, "listings")
EPOCH_PROPERTY: Final = "sn46.epoch-id"

_ATTEMPTS: Final = 20
_MONTH_FIELD_ID: Final = 1000
_SQLITE_WAIT_SECONDS: Final = 30
_PASSWORD: Final = re.compile(r"(://[^/:@\s]*:)[^/@\s]+@")
_NEVER_NULL: Final = frozenset(
    {*REQUIRED, "miner_hotkey", "rank", "epoch_id", "confirmations", "address_key", "epoch_start"}
)
_PROPERTIES: Final = {
    TableProperties.FORMAT_VERSION: "2",
    # A commit that fails must be looked at, not made again by the library.
    TableProperties.COMMIT_NUM_RETRIES: "0",
    # Readers of some states or ZIPs skip groups of rows by their bounds.
    TableProperties.PARQUET_ROW_GROUP_LIMIT: "2000",
    TableProperties.MANIFEST_MERGE_ENABLED: "true",
    TableProperties.METADATA_DELETE_AFTER_COMMIT_ENABLED: "true",
    TableProperties.METADATA_PREVIOUS_VERSIONS_MAX: "100",
}

Say = Callable[[str], None]


class ListingsTable:
    """The table in its catalog; made where there is none. Enter it, again and again if need be."""

    def __init__(self, catalog_uri: str, warehouse: str, access: S3Access | None = None) -> None:
        """
        Args:
            catalog_uri: of SQLAlchemy, such as ``sqlite:///catalog.db`` or
                ``postgresql+psycopg://user:password@host/database``.
            warehouse: a folder, or ``s3://BUCKET/PREFIX``.
            access: of the store that such a bucket is in.
        """
        self._uri = _patient(catalog_uri)
        self._properties = {"warehouse": _location(warehouse), **_io_properties(access)}
        self._catalog: SqlCatalog | None = None
        self._loaded: Table | None = None
        self._held: set[EpochId] = set()

    def __enter__(self) -> Self:
        """
        Raises:
            RegisterError: where the catalog or the warehouse cannot be used.
        """
        error: Exception | None = None
        for _ in range(_ATTEMPTS):
            # Who makes the same catalog, namespace or table a moment earlier is not in the way.
            try:
                self._open()
                return self
            except (
                IntegrityError,
                NamespaceAlreadyExistsError,
                OperationalError,
                TableAlreadyExistsError,
            ) as busy:
                error = busy
                self._close()
            except (NoSuchModuleError, ModuleNotFoundError, SQLAlchemyError, OSError) as fault:
                self._close()
                raise RegisterError(self._told("be opened", fault)) from fault
        assert error is not None
        raise RegisterError(self._told("be opened", error)) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    @property
    def held(self) -> int:
        """How many epochs are in the table, as far as was looked."""
        return len(self._held)

    @property
    def table(self) -> Table:
        """The table as it was loaded last."""
        assert self._loaded is not None
        return self._loaded

    def append(self, epoch: KeptEpoch, rows: Path) -> bool:
        """Append an epoch's rows, if they are not there. Whether this call did.

        Raises:
            RegisterError: where it cannot be known or done now; the same again is harmless.
        """
        try:
            for _ in range(_ATTEMPTS):
                if epoch.epoch_id in self._held:
                    return False
                try:
                    self._commit(epoch, rows)
                except CommitFailedException:
                    self._load()
                else:
                    self._held.add(epoch.epoch_id)
                    return True
        except (SQLAlchemyError, OSError, NoSuchTableError) as error:
            raise RegisterError(self._told(f"take epoch {epoch.epoch_id}", error)) from error
        raise RegisterError(
            f"Epoch {epoch.epoch_id} could not be appended: others changed the table each time. "
            "Try again."
        )

    def _open(self) -> None:
        self._catalog = SqlCatalog("sn46", uri=self._uri, **self._properties)
        if not self._catalog.namespace_exists(NAMESPACE):
            self._catalog.create_namespace(NAMESPACE)
        try:
            self._load()
        except NoSuchTableError:
            self._catalog.create_table(
                TABLE,
                schema=_schema(),
                partition_spec=_partitions(),
                sort_order=_order(),
                properties=_PROPERTIES,
            )
            self._load()

    def _load(self) -> None:
        """Take the table as it is now, and what it holds."""
        assert self._catalog is not None
        retries = TableProperties.COMMIT_NUM_RETRIES
        table = self._catalog.load_table(TABLE)
        while table.properties.get(retries) != _PROPERTIES[retries]:
            with suppress(CommitFailedException), table.transaction() as change:
                change.set_properties({retries: _PROPERTIES[retries]})
            table = self._catalog.load_table(TABLE)
        self._loaded, self._held = table, _held_epochs(table)

    def _commit(self, epoch: KeptEpoch, rows: Path) -> None:
        """One snapshot with these rows, on top of the one that was loaded.

        Raises:
            CommitFailedException: where another commit came between; nothing is left of this one.
        """
        table = self.table
        written = _write_rows(table, epoch, rows)
        try:
            with table.transaction() as change:
                appending = change.update_snapshot(snapshot_properties=_summary(epoch))
                with appending.merge_append() as snapshot:
                    for file in written:
                        snapshot.append_data_file(file)
        except CommitFailedException:
            for file in written:
                with suppress(OSError):  # Nothing names it; the table's maintenance finds it too.
                    table.io.delete(file.file_path)
            raise

    def _close(self) -> None:
        if self._catalog is not None:
            self._catalog.close()
        self._catalog = self._loaded = None

    def _told(self, what: str, error: Exception) -> str:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        if isinstance(error, ModuleNotFoundError | NoSuchModuleError):
            mend = "Install its driver, for PostgreSQL `pip install psycopg[binary]`."
        else:
            mend = "Check CATALOG_URI and WAREHOUSE, and try again; nothing is appended twice."
        uri = _PASSWORD.sub(r"\1********@", self._uri)
        told = _PASSWORD.sub(r"\1********@", first)
        return f"The table in {uri} could not {what}: {told} {mend}"


def register_epochs(
    table: ListingsTable, library: Library, epoch_seconds: int, *, now: datetime, say: Say
) -> list[EpochId]:
    """Append all kept epochs that are over (nothing can be published on them any more: E + L,
    mechanism 1), oldest first; those that this call appended.

    Raises:
        RegisterError: where an epoch could not be appended, or none is of this length.
    """
    done: list[EpochId] = []
    with library.held(alone=False):
        kept = library.kept()
        over = [epoch for epoch in kept if is_over(epoch.epoch_id, epoch_seconds, now)]
        if kept and not any(_is_of(epoch.epoch_id, epoch_seconds) for epoch in kept):
            raise RegisterError(
                f"No published epoch is one of {epoch_seconds} seconds, such as "
                f"{kept[-1].epoch_id}. Set EPOCH_SECONDS to the length that the API has."
            )
        for epoch in over:
            if epoch.file is not None and table.append(epoch, library.observations / epoch.file):
                say(f"Epoch {epoch.epoch_id}: {epoch.rows} rows appended")
                done.append(epoch.epoch_id)
    return done


def is_over(epoch_id: EpochId, seconds: int, now: datetime) -> bool:
    """Whether nothing can be published on an epoch any more; False for one of another length."""
    try:
        return parse_epoch_id(epoch_id, seconds).results_deadline <= now
    except EpochError:
        return False


def _is_of(epoch_id: EpochId, seconds: int) -> bool:
    try:
        parse_epoch_id(epoch_id, seconds)
    except EpochError:
        return False
    return True


def _held_epochs(table: Table) -> set[EpochId]:
    """The epochs that the table holds: its snapshots name them. Where older snapshots were expired
    (their rows stay), the rows are looked through."""
    found: set[EpochId] = set()
    oldest = None
    for snapshot in ancestors_of(table.current_snapshot(), table.metadata):
        oldest = snapshot
        named = snapshot.summary.get(EPOCH_PROPERTY) if snapshot.summary is not None else None
        if named is not None:
            found.add(EpochId(str(named)))
    # Every snapshot has the next number, those that are gone had theirs.
    if oldest is not None and oldest.sequence_number != 1:
        for batch in table.scan(selected_fields=("epoch_id",)).to_arrow_batch_reader():
            found.update(EpochId(str(name)) for name in batch.column(0).unique().to_pylist())
    return found


def _summary(epoch: KeptEpoch) -> dict[str, str]:
    return {
        EPOCH_PROPERTY: epoch.epoch_id,
        "sn46.consensus-hash": epoch.consensus_hash or "",
        "sn46.rows-sha256": epoch.digest,
        "sn46.validators-agreeing": str(len(epoch.agreeing)),
        "sn46.validators-differing": str(len(epoch.differing)),
    }


def _write_rows(table: Table, epoch: KeptEpoch, rows: Path) -> list[DataFile]:
    """Write an epoch's rows as one data file under a new name; none where it has no rows."""
    if epoch.rows == 0:
        return []
    schema = table.schema()
    read = pq.read_table(rows, schema=_arrow_schema(schema))
    month = MonthTransform[Any]().transform(TimestamptzType())(epoch_start(epoch.epoch_id))
    field = table.spec().fields[0]
    key = PartitionKey([PartitionFieldValue(field, month)], table.spec(), schema)
    task = WriteTask(uuid4(), 0, schema, read.to_batches(), partition_key=key)
    return list(write_file(table.io, table.metadata, iter([task])))


def _arrow_schema(schema: Schema) -> pa.Schema:
    return schema.as_arrow()


_ICEBERG_TYPES: Final[dict[pl.DataType, PrimitiveType]] = {
    pl.String(): StringType(),
    pl.Int64(): LongType(),
    pl.Float64(): DoubleType(),
    pl.Date(): DateType(),
    pl.Datetime("us", "UTC"): TimestamptzType(),
}


def _schema() -> Schema:
    return Schema(
        *(
            NestedField(
                field_id=number,
                name=column.name,
                field_type=_ICEBERG_TYPES[STORED_SCHEMA[column.name]],
                required=column.name in _NEVER_NULL,
                doc=column.meaning,
            )
            for number, column in enumerate(OBSERVATIONS, start=1)
        )
    )


def _partitions() -> PartitionSpec:
    """By month of the epoch: one file an epoch, and what is asked of a time reads its months."""
    source = _schema().find_field("epoch_start").field_id
    return PartitionSpec(
        PartitionField(
            source_id=source,
            field_id=_MONTH_FIELD_ID,
            transform=MonthTransform(),
            name="epoch_month",
        )
    )


def _order() -> SortOrder:
    """As the rows are kept, so that within a file a ZIP's rows lie together."""
    schema = _schema()
    return SortOrder(
        *(
            SortField(source_id=schema.find_field(name).field_id, transform=IdentityTransform())
            for name in ("state", "zipcode", "address_key")
        )
    )


def _location(warehouse: str) -> str:
    if "://" in warehouse:
        return warehouse.rstrip("/")
    return f"file://{Path(warehouse).expanduser().resolve()}"


def _io_properties(access: S3Access | None) -> dict[str, str]:
    if access is None:
        return {}
    return {
        "s3.endpoint": access.address,
        "s3.region": access.region,
        "s3.access-key-id": access.access_key,
        "s3.secret-access-key": access.secret_key,
        "s3.force-virtual-addressing": str(not access.uses_path_style).lower(),
    }


def _patient(uri: str) -> str:
    """An SQLite catalog is waited for while another process commits to it."""
    if not uri.startswith("sqlite") or "timeout=" in urlsplit(uri).query:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}timeout={_SQLITE_WAIT_SECONDS}"
