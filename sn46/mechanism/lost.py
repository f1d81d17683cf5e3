"""Where points of completeness and volume are lost: by field and by ZIP (mechanism 6)."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.listings import OPTIONAL
from sn46.mechanism.names import PPM, Ppm, ZipCode
from sn46.mechanism.quick import counted_rows, filled_fields, is_filled


@dataclass(frozen=True)
class FieldFill:
    """An optional field over the rows that completeness is taken of: in how many it is filled, what
    the others cost (ppm of the completeness score), and the listing id of one of them."""

    name: str
    filled: int
    rows: int
    lost: Ppm
    example: str | None


@dataclass(frozen=True)
class ZipVolume:
    """A ZIP: how many rows count, how many are expected, at how many its share is full, what is
    lost (ppm of the volume score), and why, where that is known."""

    zipcode: ZipCode
    rows: int
    expected: int
    cap: int
    lost: Ppm
    why: str = ""


def field_fills(assignment: Assignment, kept: pl.DataFrame) -> tuple[FieldFill, ...]:
    """Every optional field, the most costly first; none where no row counts.

    Args:
        assignment: what was asked for.
        kept: the rows that count, with all columns of a listing.
    """
    counted = counted_rows(assignment, kept.with_columns(filled_fields(kept)))
    rows = counted.height
    found: list[FieldFill] = []
    for name in OPTIONAL if rows else ():
        lacking = counted.filter(~is_filled(name))["listing_id"]
        found.append(
            FieldFill(
                name=name,
                filled=rows - len(lacking),
                rows=rows,
                lost=Ppm(len(lacking) * PPM // (rows * len(OPTIONAL))),
                example=str(lacking[0]) if len(lacking) else None,
            )
        )
    return tuple(sorted(found, key=lambda fill: (-fill.lost, fill.name)))


def zip_volumes(assignment: Assignment, kept: pl.DataFrame) -> tuple[ZipVolume, ...]:
    """Every assigned ZIP, the most costly first.

    Args:
        kept: the rows that count; their ``zipcode`` is all that is looked at.
    """
    counts: Mapping[str, int] = dict(kept.group_by("zipcode").len().iter_rows())
    total = assignment.total_expected_listings
    found: list[ZipVolume] = []
    for zip_ in assignment.zipcodes:
        rows, cap = counts.get(zip_.zipcode, 0), assignment.cap_of(zip_)
        missing = PPM - min(rows * PPM // cap, PPM)
        lost = Ppm(zip_.expected_listings * missing // total)
        found.append(ZipVolume(zip_.zipcode, rows, zip_.expected_listings, cap, lost))
    return tuple(sorted(found, key=lambda volume: (-volume.lost, volume.zipcode)))
