"""What a validator would refuse is left out before it is uploaded: the miner's check of itself.

The rows are judged by the very code that validators run (``sn46.mechanism.quick``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.listings import COLUMNS, listings_frame
from sn46.mechanism.names import ZipCode
from sn46.mechanism.quick import judge_rows, most_rows
from sn46.miner.faults import RowFault, merged_faults, row_faults

Frames = Mapping[ZipCode, pl.DataFrame]
"""Rows in the listing schema by the ZIP whose folder they go into."""

MOST_TEXT_BYTES: Final = 2_048
"""Of all texts of a row together; a usual row has 300."""


@dataclass(frozen=True)
class Cleaned:
    """The rows that a validator would keep, how many were left out, and in ``faults`` why."""

    frames: Frames
    wrong_zip: int
    out_of_range: int
    duplicates: int
    faults: tuple[RowFault, ...]

    @property
    def rows(self) -> int:
        return sum(frame.height for frame in self.frames.values())

    @property
    def dropped(self) -> int:
        return self.wrong_zip + self.out_of_range + self.duplicates


def clean(assignment: Assignment, frames: Frames) -> Cleaned:
    """Drop rows of another ZIP than their folder, out of range, or repeated, in the order in
    which validators read them, so that of two equal rows the same one stays. ZIPs that are not
    assigned, and rows beyond what a file may hold, are left out too."""
    in_order: Sequence[tuple[ZipCode, pl.DataFrame]] = sorted(
        frames.items(), key=lambda item: item[0]
    )
    judged = judge_rows(assignment, in_order)
    # Strays are taken out first: a home that two folders hold is a duplicate only within its own.
    strays = judged["wrong_zip"]
    faults: list[RowFault] = []
    if strays.any():
        faults.extend(row_faults(assignment, judged.filter("wrong_zip")))
        home = judged.filter(~pl.col("wrong_zip"))
        in_order = [
            (zipcode, home.filter(pl.col("folder") == zipcode).select(COLUMNS))
            for zipcode, _ in in_order
        ]
        judged = judge_rows(assignment, in_order)
    kept = judged.filter(pl.col("in_range") & ~pl.col("duplicate"))
    if kept.height < judged.height:
        faults.extend(row_faults(assignment, judged))
    most = {zip_.zipcode: most_rows(zip_) for zip_ in assignment.zipcodes}
    return Cleaned(
        frames={
            zipcode: kept.filter(pl.col("folder") == zipcode).select(COLUMNS).head(most[zipcode])
            for zipcode, _ in in_order
            if zipcode in most
        },
        wrong_zip=int(strays.sum()),
        out_of_range=judged.height - int(judged["in_range"].sum()),
        duplicates=int(judged["duplicate"].sum()),
        faults=merged_faults(faults),
    )


def fitting_rows(rows: Sequence[Mapping[str, Any]]) -> tuple[pl.DataFrame, int]:
    """The rows that fit the listing schema's types, with texts of ``MOST_TEXT_BYTES`` at most, as
    a frame, and how many do not.

    One value of another type must not cost a ZIP all its rows, and one endless text not the whole
    submission, which validators would take for a bomb (docs/decisions/0060).
    """
    try:
        frame = listings_frame([dict(row) for row in rows])
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
        frame = listings_frame([dict(row) for row in rows if _fits(row)])
    text = pl.sum_horizontal(pl.selectors.string().str.len_bytes().fill_null(0))
    frame = frame.filter(text <= MOST_TEXT_BYTES)
    return frame, len(rows) - frame.height


def _fits(row: Mapping[str, Any]) -> bool:
    try:
        listings_frame([dict(row)])
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError):
        return False
    return True
