"""Reading a Parquet file that a stranger made (mechanism 5 and 6; lessons: files that lie).

Footer and page headers are held against the schema and the limits before a page is decoded
(``parquetfooter``); then the pages are, and what their texts come to is held against the limits
before anything else sees it. All faults are one of two errors.

Memory that runs out is neither: whether it does depends on the machine, so it is a MemoryError,
or the end of the process, and whoever set the limit decides what that means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

import polars as pl

from sn46.mechanism.listings import SCHEMA
from sn46.mechanism.parquetfooter import (
    Extent,
    FileSchemaFault,
    FileSizeFault,
    check_decoded,
    check_file,
)

__all__ = ["Decoded", "FileSchemaFault", "FileSizeFault", "Limits", "decode", "decode_all"]

# Pages that contradict their headers make the decoder panic now and then, which is no Exception.
_FAULTS: Final = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    OSError,
    ValueError,
    TypeError,
    OverflowError,
)


Decoded = pl.DataFrame | FileSchemaFault | FileSizeFault


@dataclass(frozen=True)
class Limits:
    """What the files of one sender may hold together (docs/decisions/0060)."""

    rows: int
    pages: int
    footer_bytes: int
    decoded_bytes: int


def decode_all(
    files: Sequence[tuple[bytes, int]],
    limits: Limits,
    *,
    schema: Mapping[str, pl.DataType] = SCHEMA,
) -> list[Decoded]:
    """As ``decode``, for several files of one sender: each one's rows, or its fault.

    Args:
        files: each file's bytes and how many rows it may have.
        limits: for all of them together.
        schema: the columns in their order.

    Raises:
        FileSizeFault: where they hold more than that together.
    """
    found: list[Extent | FileSchemaFault | FileSizeFault] = []
    sound: list[tuple[bytes, Extent]] = []
    for body, most_rows in files:
        try:
            extent = check_file(body, schema, most_rows)
        except (FileSchemaFault, FileSizeFault) as fault:
            found.append(fault)
            continue
        found.append(extent)
        sound.append((body, extent))
        # Held against the limits after each, so that not even the walk goes far beyond them.
        _check_together([extent for _, extent in sound], limits)
    frames = iter(_together(sound, limits, schema) or _one_by_one(sound, limits, schema))
    return [next(frames) if isinstance(one, Extent) else one for one in found]


def _check_together(extents: Sequence[Extent], limits: Limits) -> None:
    for what in fields(Limits):
        total = sum(getattr(extent, what.name) for extent in extents)
        _check_total(what.name, total, limits)


def _check_total(name: str, total: int, limits: Limits) -> None:
    most = getattr(limits, name)
    if total > most:
        words = name.replace("_", " ")
        raise FileSizeFault(f"over {most} {words} in all files together; so many are allowed")


def _together(
    files: Sequence[tuple[bytes, Extent]], limits: Limits, schema: Mapping[str, pl.DataType]
) -> list[pl.DataFrame] | None:
    """All files in one go, which takes half the time; None where there is anything wrong, to be
    found out one by one."""
    if not files:
        return None
    try:
        frame = pl.read_parquet(
            [body for body, _ in files], schema=dict(schema), hive_partitioning=False
        )
        if frame.height != sum(extent.rows for _, extent in files):
            return None
        texts = [pl.col(n).str.len_bytes() for n, t in schema.items() if isinstance(t, pl.String)]
        lengths = frame.select(pl.sum_horizontal(t.cast(pl.Int64) for t in texts)).to_series()
        _check_total("decoded_bytes", int(lengths.sum()), limits)
        parts: list[pl.DataFrame] = []
        start = 0
        for _, extent in files:
            check_decoded(int(lengths.slice(start, extent.rows).sum()), extent.rows)
            parts.append(frame.slice(start, extent.rows))
            start += extent.rows
    except (*_FAULTS, FileSizeFault):
        return None
    return parts


def _one_by_one(
    files: Sequence[tuple[bytes, Extent]], limits: Limits, schema: Mapping[str, pl.DataType]
) -> list[Decoded]:
    decoded: list[Decoded] = []
    texts = 0
    for body, extent in files:
        try:
            frame, text = _read(body, extent.rows, schema)
        except (FileSchemaFault, FileSizeFault) as fault:
            decoded.append(fault)
            continue
        decoded.append(frame)
        texts += text
        _check_total("decoded_bytes", texts, limits)
    return decoded


def _text_bytes(frame: pl.DataFrame, types: Mapping[str, pl.DataType]) -> int:
    """How many bytes the frame's texts are once each row has its own: a dictionary's long text
    may stand for every row of the file."""
    lengths = [
        pl.col(name).cat.len_bytes()
        if isinstance(dtype, pl.Categorical | pl.Enum)
        else pl.col(name).str.len_bytes()
        for name, dtype in types.items()
        if isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
    ]
    if not lengths:
        return 0
    return sum(frame.select(length.sum().cast(pl.Int64) for length in lengths).row(0))


def decode(
    body: bytes, *, most_rows: int, schema: Mapping[str, pl.DataType] = SCHEMA
) -> pl.DataFrame:
    """Decode one file, refusing whatever is not exactly in ``schema``.

    Args:
        body: the file's bytes.
        most_rows: more rows than this in the footer are refused before anything is decoded.
        schema: the columns in their order.

    Raises:
        FileSchemaFault: other columns or types, corrupt pages, text that is not UTF-8.
        FileSizeFault: more rows, row groups or decoded bytes than allowed.
    """
    frame, _ = _read(body, check_file(body, schema, most_rows).rows, schema)
    return frame


def _read(body: bytes, rows: int, schema: Mapping[str, pl.DataType]) -> tuple[pl.DataFrame, int]:
    """The rows, and how many bytes their texts have."""
    try:
        frame = pl.read_parquet(body, hive_partitioning=False)
        types = dict(frame.schema)
        if frame.height != rows or list(types) != list(schema):
            raise FileSchemaFault("the pages hold other rows or columns than the footer says")
        text = _text_bytes(frame, types)
        check_decoded(text, rows)
        # A writer may have noted types of its own for the same stored values, such as categories
        # for texts or another zone for times.
        others = [pl.col(name).cast(t) for name, t in schema.items() if types[name] != t]
        return (frame.with_columns(others) if others else frame), text
    except _FAULTS as error:
        # In words of ours: the decoder's differ from run to run, and reasons are compared.
        raise FileSchemaFault("the pages cannot be decoded") from error
