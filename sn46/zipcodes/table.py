"""The master table itself: rows sorted by ZIP, and a version that names its content."""

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from operator import attrgetter
from typing import Any, Final

import polars as pl

from sn46.mechanism.canonical import hash_json
from sn46.mechanism.draw import ZipRow
from sn46.mechanism.names import ZipCode

ZIP_FORM: Final = re.compile(r"[0-9]{5}")

TABLE_SCHEMA: Final[Mapping[str, pl.DataType]] = {
    "zipcode": pl.String(),
    "expected_listings": pl.Int64(),
    "state": pl.String(),
    "city": pl.String(),
    "county": pl.String(),
    "latitude": pl.Float64(),
    "longitude": pl.Float64(),
    "population": pl.Int64(),
    "property_count": pl.Int64(),
    "home_value": pl.Int64(),
    "updated_on": pl.Date(),
}
"""The columns of a table in a frame or a file: the fields of ``ZipRow``, in its order."""


_COUNTS: Final = ("expected_listings", "population", "property_count", "home_value")
_VALUES: Final = attrgetter(*TABLE_SCHEMA)


class ZipTableError(Exception):
    """A master table, or figures for one, that cannot be used."""


@dataclass(frozen=True)
class MasterTable:
    """All ZIPs, sorted by ZIP, each once, whatever order they were given in.

    ``repaired`` counts the ZIPs whose lost leading zeros were put back when the table was read;
    it is no part of the content.

    Raises:
        ZipTableError: where a ZIP is not five digits or stands twice, or a figure cannot be.
    """

    rows: tuple[ZipRow, ...]
    repaired: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.rows, key=lambda row: row.zipcode))
        for row in ordered:
            _check_row(row)
        for before, after in itertools.pairwise(ordered):
            if before.zipcode == after.zipcode:
                raise ZipTableError(
                    f"ZIP {after.zipcode} stands in the table more than once; keep one row of it."
                )
        object.__setattr__(self, "rows", ordered)

    @cached_property
    def version(self) -> str:
        """SHA-256 over the canonical JSON of the rows as lists (``TABLE_SCHEMA``'s order, dates
        as ``YYYY-MM-DD``) sorted by ZIP. Equal content has an equal version on every machine."""
        return hash_json([canonical_row(row) for row in self.rows])

    @cached_property
    def by_zipcode(self) -> Mapping[ZipCode, ZipRow]:
        return {row.zipcode: row for row in self.rows}

    def __len__(self) -> int:
        return len(self.rows)

    def to_frame(self) -> pl.DataFrame:
        """The rows as a frame in ``TABLE_SCHEMA``."""
        return pl.DataFrame(
            [_VALUES(row) for row in self.rows], schema=dict(TABLE_SCHEMA), orient="row"
        )


def table_from_frame(frame: pl.DataFrame, repaired: int = 0) -> MasterTable:
    """A table from a frame in ``TABLE_SCHEMA``.

    Raises:
        ZipTableError: as ``MasterTable``.
    """
    ordered = frame.select(list(TABLE_SCHEMA))
    return MasterTable(tuple(ZipRow(*values) for values in ordered.iter_rows()), repaired)


def with_expected(table: MasterTable, counts: Mapping[ZipCode, int], as_of: date) -> MasterTable:
    """The table with new figures of how many listings a complete scrape finds.

    ZIPs that ``counts`` does not name keep what they had.

    Args:
        counts: listings by ZIP.
        as_of: the day the figures were taken, from which ``MAX_DATA_AGE_DAYS`` counts.

    Raises:
        ZipTableError: where a ZIP is not in the table or a count is negative.
    """
    unknown = sorted(set(counts) - set(table.by_zipcode))
    if unknown:
        raise ZipTableError(
            f"{len(unknown)} ZIPs with figures are not in the master table, such as "
            f"{', '.join(map(repr, unknown[:3]))}. ZIPs are texts: '08701', not 8701."
        )
    return MasterTable(
        tuple(
            replace(row, expected_listings=counts[row.zipcode], updated_on=as_of)
            if row.zipcode in counts
            else row
            for row in table.rows
        ),
        table.repaired,
    )


def _check_row(row: ZipRow) -> None:
    if not ZIP_FORM.fullmatch(row.zipcode):
        raise ZipTableError(f"{row.zipcode!r} is not a ZIP code: five digits are needed.")
    if not (math.isfinite(row.latitude) and abs(row.latitude) <= 90):
        raise ZipTableError(f"ZIP {row.zipcode} has latitude {row.latitude}, which cannot be.")
    if not (math.isfinite(row.longitude) and abs(row.longitude) <= 180):
        raise ZipTableError(f"ZIP {row.zipcode} has longitude {row.longitude}, which cannot be.")
    counts = (row.expected_listings, row.population, row.property_count, row.home_value)
    for name, value in zip(_COUNTS, counts, strict=True):
        if value is not None and value < 0:
            raise ZipTableError(f"ZIP {row.zipcode} has {name} {value}; it cannot be negative.")


def canonical_row(row: ZipRow) -> list[Any]:
    """A row as ``MasterTable.version`` sees it."""
    return [
        row.zipcode,
        row.expected_listings,
        row.state,
        row.city,
        row.county,
        float(row.latitude),
        float(row.longitude),
        row.population,
        row.property_count,
        row.home_value,
        row.updated_on.isoformat() if row.updated_on else None,
    ]
