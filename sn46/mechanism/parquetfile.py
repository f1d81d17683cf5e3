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
    most_decoded,
)
from sn46.mechanism.parquetusual import Layout, layout_of, usual_extent

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
    whole = Extent(0, 0, 0, 0)
    layout = layout_of(tuple(schema.items()))
    for body, most_rows in files:
        try:
            extent = _extent(body, layout, schema, most_rows)
        except (FileSchemaFault, FileSizeFault) as fault:
            found.append(fault)
            continue
        found.append(extent)
        sound.append((body, extent))
        # Held against the limits after each, so that not even the walk goes far beyond them.
        whole = whole + extent
        for what in fields(Limits):
            _check_total(what.name, getattr(whole, what.name), limits)
    frames = iter(_together(sound, limits, schema) or _one_by_one(sound, limits, schema))
    return [next(frames) if isinstance(one, Extent) else one for one in found]


def _extent(
    body: bytes, layout: Layout | None, schema: Mapping[str, pl.DataType], most_rows: int
) -> Extent:
    """As ``check_file``, which files of the layout do not need."""
    usual = usual_extent(body, layout, most_rows) if layout else None
    return usual or check_file(body, schema, most_rows)


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
        text = _text_bytes(frame, schema)
        _check_total("decoded_bytes", text, limits)
        fewest = min(extent.rows for _, extent in files)
        parts: list[pl.DataFrame] = []
        start = 0
        for _, extent in files:
            part = frame.slice(start, extent.rows)
            if text > most_decoded(fewest):
                check_decoded(_text_bytes(part, schema), extent.rows)
            parts.append(part)
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
    texts = [name for name, dtype in types.items() if isinstance(dtype, pl.String)]
    categories = [n for n, t in types.items() if isinstance(t, pl.Categorical | pl.Enum)]
    lengths: list[pl.Expr] = []
    if texts:
        lengths.append(pl.col(texts).str.len_bytes())
    if categories:
        lengths.append(pl.col(categories).cat.len_bytes())
    return sum(frame.select(length.cast(pl.Int64).sum() for length in lengths).row(0))


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
    extent = _extent(body, layout_of(tuple(schema.items())), schema, most_rows)
    frame, _ = _read(body, extent.rows, schema)
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
