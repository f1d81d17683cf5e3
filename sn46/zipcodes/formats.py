"""The formats that figures come in, each known by its column names (docs/zipcodes.md).

Column names are compared in lower case: Redfin has written them in both.
"""

import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final

from sn46.mechanism.names import ZipCode
from sn46.zipcodes.figures import FileFigures, Quantity, Reason, RejectList, Sink, Source
from sn46.zipcodes.reading import Progress, TextTable
from sn46.zipcodes.table import MasterTable, ZipTableError
from sn46.zipcodes.values import (
    MONTHS,
    half_up,
    is_missing,
    month_end,
    month_number,
    read_count,
    read_day,
    read_dollars,
    read_month,
)

LEAST_MONTHS: Final = 12
"""With less than a year of figures, a season would stand for all of it."""
_WINDOW_MONTHS: Final = 3
_WINDOW_DAYS: Final = range(85, 96)
_TYPICAL_VALUE: Final = 5_000
"""Half of a country's home values are far above so many dollars; a file with less counts something
else. (The other way round, home values taken for sales are more than a ZIP's homes.)"""

_ZIP_COLUMNS: Final = ("zipcode", "zip_code", "zip", "postal_code")
_GEO_COLUMNS: Final = (
    "geo_id",
    "geoid",
    "zcta5",
    "zcta",
    "zip code tabulation area",
    *_ZIP_COLUMNS,
    "name",
)
_CENSUS_COLUMNS: Final[Mapping[str, Quantity]] = {
    "population": Quantity.POPULATION,
    "p1_001n": Quantity.POPULATION,
    "b01003_001e": Quantity.POPULATION,
    "dp05_0001e": Quantity.POPULATION,
    "housing_units": Quantity.PROPERTY_COUNT,
    "h1_001n": Quantity.PROPERTY_COUNT,
    "b25001_001e": Quantity.PROPERTY_COUNT,
    "dp04_0001e": Quantity.PROPERTY_COUNT,
    "median_home_value": Quantity.HOME_VALUE,
    "b25077_001e": Quantity.HOME_VALUE,
    "dp04_0089e": Quantity.HOME_VALUE,
}
_LABEL_ROW: Final = frozenset({"geography", "geographic area name"})
_ZILLOW_COUNTS: Final = re.compile(r"sales?_?counts?", re.IGNORECASE)
_ZILLOW_VALUES: Final = re.compile(r"zhvi", re.IGNORECASE)


def read_figures(
    path: Path,
    base: MasterTable,
    *,
    today: date,
    source: Source | None = None,
    as_of: date | None = None,
    rejects: RejectList | None = None,
    progress: Progress | None = None,
) -> FileFigures:
    """Read a file of any known format, from its first byte to its last.

    Args:
        path: the file, CSV or TSV, gzipped or not.
        base: the ZIPs that are known, with their housing units.
        today: the day of the import.
        source: the file's format; by default the one that its columns show.
        as_of: the day of figures that the file gives none for; ``today`` by default.
        rejects: takes the rows that gave no figure.
        progress: told how far the file has been read.

    Raises:
        ZipTableError: where the file is of no known format, is broken or cut off, or has no row
            that gives a figure.
    """
    rejects = rejects or RejectList()
    sink = Sink(base, today, rejects)
    with TextTable(path, progress) as table:
        known = source or recognise(table.header, path.name)
        if known is None:
            raise ZipTableError(_unknown(table.header, path))
        try:
            _READERS[known](table, sink, as_of or today)
        except _MissingColumn as error:
            raise ZipTableError(
                f"{path} has no column {error}, which the format {known} needs. "
                f"Its columns are {_named(table.header)}."
            ) from error
        digest, size = table.digest(), table.size
    if not sink.figures:
        why = ", ".join(f"{count} {r.words}" for r, count in rejects.counts.most_common(3))
        raise ZipTableError(
            f"{path} was read as {known} and gives no figure in {table.rows} rows"
            f"{': ' + why if why else ''}. Nothing was imported."
        )
    return FileFigures(
        source=known,
        sha256=digest,
        size=size,
        rows=table.rows,
        figures=tuple(sink.figures[key] for key in sorted(sink.figures)),
        repaired=sink.repaired,
        rejected=dict(rejects.counts.most_common()),
        first_rejects=tuple(rejects.first),
        unused=dict(sink.unused.most_common()),
    )


def recognise(header: Sequence[str], file_name: str) -> Source | None:
    """The format that column names (in lower case) show, or None.

    Zillow's files of sale counts and of home values (ZHVI) have the same columns: the file's name
    tells them apart.
    """
    columns = set(header)
    if {"period_end", "region", "property_type", "homes_sold"} <= columns:
        return Source.REDFIN
    if {"month_date_yyyymm", "postal_code"} <= columns:
        return Source.REALTOR
    if "regionname" in columns and any(_is_month(name) for name in header):
        if _ZILLOW_COUNTS.search(file_name):
            return Source.ZILLOW
        return Source.ZILLOW_VALUES if _ZILLOW_VALUES.search(file_name) else None
    if "expected_listings" in columns and columns & set(_ZIP_COLUMNS):
        return Source.OWNER
    if columns & set(_GEO_COLUMNS) and columns & set(_CENSUS_COLUMNS):
        return Source.CENSUS
    return None


def _unknown(header: Sequence[str], path: Path) -> str:
    if "regionname" in header and any(_is_month(name) for name in header):
        return (
            f"{path.name} has Zillow's columns, which are the same for sale counts and for home "
            "values, and its name has neither 'sales_count' nor 'zhvi' in it. Say which it is with "
            "--format zillow (homes sold a month) or --format zillow-values (dollars). Other "
            "Zillow files (rents, inventory, forecasts) give no figure for the table."
        )
    return (
        f"{path.name} is of no known format: its columns are {_named(header)}. Known are Redfin's "
        "ZIP tracker (region, period_end, property_type, homes_sold), Zillow Research (RegionName "
        "and months), Realtor.com (month_date_yyyymm, postal_code, new_listing_count), the Census "
        "(GEO_ID or zipcode with population, housing_units) and zipcode,expected_listings[,as_of]."
    )


def _named(header: Sequence[str]) -> str:
    shown = ", ".join(name[:40] or "''" for name in header[:8])
    return f"{shown} and {len(header) - 8} more" if len(header) > 8 else shown


class Recent:
    """The figures of one ZIP for the 36 months up to the newest one that was put, in whatever
    order they come. It takes the same memory for a series of any length."""

    __slots__ = ("line", "newest", "values")

    def __init__(self) -> None:
        self.newest = -1
        self.line = 0
        self.values = array("i", [-1]) * MONTHS

    def put(self, month: int, value: int, line: int) -> bool | None:
        """Keep a month's figure. True where it was kept, False where the month has one already,
        None where it is older than the window."""
        if month > self.newest:
            moved = min(MONTHS, month - self.newest)
            self.values = self.values[moved:] + array("i", [-1]) * moved
            self.newest, self.line = month, line
        place = MONTHS - 1 - (self.newest - month)
        if place < 0:
            return None
        if self.values[place] >= 0:
            return False
        self.values[place] = value
        return True

    def total(self, step: int = 1) -> int | None:
        """The sum over the window, from every ``step``-th month back from the newest; months
        without a figure count as much as the others on average. None with less than a year."""
        taken = [v for v in self.values[MONTHS - 1 :: -step] if v >= 0]
        if len(taken) * step < LEAST_MONTHS:
            return None
        return half_up(sum(taken) * MONTHS, len(taken) * step)


class _MissingColumn(Exception):
    """A column that the format needs."""


def _place(table: TextTable, *names: str) -> int:
    for name in names:
        if name in table.header:
            return table.header.index(name)
    raise _MissingColumn(names[0])


def _rows(table: TextTable, sink: Sink) -> Iterable[tuple[int, list[str]]]:
    """The rows that have as many fields as the header."""
    width = len(table.header)
    for line, row in table:
        if len(row) == width:
            yield line, row
        else:
            sink.rejects.add(line, row[0], Reason.FIELDS, f"{len(row)} of {width} fields")


def _series(
    series: Mapping[ZipCode, Recent], sink: Sink, quantity: Quantity, step: int = 1
) -> None:
    """Turn the series of months into figures."""
    for zipcode, recent in series.items():
        total = recent.total(step)
        if total is None:
            sink.rejects.add(recent.line, zipcode, Reason.TOO_FEW_MONTHS, "")
        else:
            sink.put(recent.line, zipcode, quantity, total, month_end(recent.newest))


def _collect(
    series: dict[ZipCode, Recent], sink: Sink, line: int, zipcode: ZipCode, month: int, text: str
) -> None:
    """Put a month's count into its ZIP's series."""
    if is_missing(text):
        sink.unused["without a count"] += 1
        return
    count = read_count(text)
    if count is None:
        sink.rejects.add(line, zipcode, Reason.VALUE, text)
    elif count > 100_000:
        sink.rejects.add(line, zipcode, Reason.ABSURD, text)
    else:
        recent = series.get(zipcode)
        if recent is None:
            recent = series[zipcode] = Recent()
        kept = recent.put(month, count, line)
        if kept is None:
            sink.unused["older than three years"] += 1
        elif not kept:
            sink.rejects.add(line, zipcode, Reason.DUPLICATE, text)


def _read_redfin(table: TextTable, sink: Sink, _as_of: date) -> None:
    """Rolling windows of three months, one ending with each month."""
    region, kind = _place(table, "region"), _place(table, "property_type")
    end, sold = _place(table, "period_end"), _place(table, "homes_sold")
    begin, level = _place(table, "period_begin"), _place(table, "region_type")
    adjusted = _place(table, "is_seasonally_adjusted")
    series: dict[ZipCode, Recent] = {}
    unused = sink.unused
    for line, row in _rows(table, sink):
        if row[kind] != "All Residential":
            unused["other property types"] += 1
        elif row[adjusted].lower() in ("t", "true", "1"):
            unused["seasonally adjusted"] += 1
        elif row[level].lower() not in ("zip code", "zip"):
            sink.rejects.add(line, row[region], Reason.REGION, row[level])
        elif (zipcode := sink.zipcode(line, row[region])) is not None:
            last, first = read_day(row[end]), read_day(row[begin])
            if last is None or first is None:
                sink.rejects.add(line, zipcode, Reason.DATE, f"{row[begin]} to {row[end]}")
            elif last > sink.today:
                sink.rejects.add(line, zipcode, Reason.FUTURE, row[end])
            elif (last - first).days + 1 not in _WINDOW_DAYS:
                sink.rejects.add(line, zipcode, Reason.PERIOD, f"{row[begin]} to {row[end]}")
            else:
                _collect(series, sink, line, zipcode, month_number(last), row[sold])
    _series(series, sink, Quantity.SOLD, step=_WINDOW_MONTHS)


def _read_realtor(table: TextTable, sink: Sink, _as_of: date) -> None:
    """One row a ZIP and month; a note stands in the last row."""
    zips, months = _place(table, "postal_code"), _place(table, "month_date_yyyymm")
    new = _place(table, "new_listing_count")
    series: dict[ZipCode, Recent] = {}
    for line, row in _rows(table, sink):
        zipcode = sink.zipcode(line, row[zips])
        if zipcode is None:
            continue
        month = read_month(row[months])
        if month is None:
            sink.rejects.add(line, zipcode, Reason.DATE, row[months])
        elif month > sink.today:
            sink.rejects.add(line, zipcode, Reason.FUTURE, row[months])
        else:
            _collect(series, sink, line, zipcode, month_number(month), row[new])
    _series(series, sink, Quantity.NEW_LISTINGS)


def _is_month(name: str) -> bool:
    return name[:2] in ("19", "20") and read_month(name) is not None


def _zillow_rows(
    table: TextTable, sink: Sink
) -> Iterable[tuple[int, ZipCode, list[tuple[int, str]]]]:
    """Line, ZIP and the (month, cell) that are filled, of three years up to the newest filled
    one, which comes first. Each ZIP once."""
    name = _place(table, "regionname")
    level = table.header.index("regiontype") if "regiontype" in table.header else None
    months = sorted(
        (
            (month_number(month), place)
            for place, column in enumerate(table.header)
            if _is_month(column) and (month := read_month(column)) and month <= sink.today
        ),
        reverse=True,
    )
    if not months:
        raise _MissingColumn("of a month, such as 2026-10-31")
    seen: set[ZipCode] = set()
    for line, row in _rows(table, sink):
        if level is not None and row[level].lower() != "zip":
            sink.rejects.add(line, row[name], Reason.REGION, row[level])
        elif (zipcode := sink.zipcode(line, row[name])) is not None:
            if zipcode in seen:
                sink.rejects.add(line, zipcode, Reason.DUPLICATE, row[name])
                continue
            seen.add(zipcode)
            yield line, zipcode, _newest_cells(row, months)


def _newest_cells(row: Sequence[str], months: Iterable[tuple[int, int]]) -> list[tuple[int, str]]:
    cells: list[tuple[int, str]] = []
    for month, place in months:
        if cells and month <= cells[0][0] - MONTHS:
            break
        if row[place] and not is_missing(row[place]):
            cells.append((month, row[place]))
    return cells


def _read_zillow(table: TextTable, sink: Sink, _as_of: date) -> None:
    """Homes sold, a column a month."""
    for line, zipcode, cells in _zillow_rows(table, sink):
        counts: list[int] = []
        for _, text in cells:
            count = read_count(text)
            if count is None:
                sink.rejects.add(line, zipcode, Reason.VALUE, text)
            else:
                counts.append(count)
        if len(counts) < LEAST_MONTHS:
            sink.rejects.add(line, zipcode, Reason.TOO_FEW_MONTHS, "")
        else:
            total = half_up(sum(counts) * MONTHS, len(counts))
            sink.put(line, zipcode, Quantity.SOLD, total, month_end(cells[0][0]))


def _read_zillow_values(table: TextTable, sink: Sink, _as_of: date) -> None:
    """Dollars, a column a month, of which the newest filled one counts."""
    for line, zipcode, cells in _zillow_rows(table, sink):
        if not cells:
            sink.unused["without a value"] += 1
            continue
        month, text = cells[0]
        _put_dollars(sink, line, zipcode, text, month_end(month))
    values = sorted(figure.value for figure in sink.figures.values())
    if values and values[len(values) // 2] < _TYPICAL_VALUE:
        raise ZipTableError(
            f"{table.path.name} was read as dollars, but a typical figure in it is "
            f"{values[len(values) // 2]}. If it counts homes sold, say --format zillow. Nothing "
            "was imported."
        )


def _put_dollars(sink: Sink, line: int, zipcode: ZipCode, text: str, as_of: date) -> None:
    dollars = read_dollars(text)
    if dollars is None or dollars == 0:
        sink.rejects.add(line, zipcode, Reason.VALUE, text)
    else:
        sink.put(line, zipcode, Quantity.HOME_VALUE, dollars, as_of)


def _read_census(table: TextTable, sink: Sink, as_of: date) -> None:
    """Population, housing units and median home value, whichever of them the file has."""
    geo = _place(table, *_GEO_COLUMNS)
    columns = {
        place: _CENSUS_COLUMNS[name]
        for place, name in enumerate(table.header)
        if name in _CENSUS_COLUMNS
    }
    if not columns:
        raise _MissingColumn("population, housing_units or median_home_value")
    for line, row in _rows(table, sink):
        if row[geo].strip().lower() in _LABEL_ROW:
            sink.unused["a line of labels"] += 1
            continue
        zipcode = sink.zipcode(line, row[geo])
        if zipcode is None:
            continue
        for place, quantity in columns.items():
            if is_missing(row[place]):
                sink.unused["without a value"] += 1
            elif quantity is Quantity.HOME_VALUE:
                _put_dollars(sink, line, zipcode, row[place], as_of)
            elif (count := read_count(row[place])) is None:
                sink.rejects.add(line, zipcode, Reason.VALUE, row[place])
            else:
                sink.put(line, zipcode, quantity, count, as_of)


def _read_owner(table: TextTable, sink: Sink, as_of: date) -> None:
    """The owner's own figures. Rows that an export of the table marks as estimates are left out,
    so that an export can be edited and imported."""
    zips, expected = _place(table, *_ZIP_COLUMNS), _place(table, "expected_listings")
    days = [table.header.index(name) for name in ("as_of", "updated_on") if name in table.header]
    origin = table.header.index("source") if "source" in table.header else None
    for line, row in _rows(table, sink):
        if origin is not None and row[origin] == "estimate":
            sink.unused["estimates"] += 1
        elif is_missing(row[expected]):
            sink.unused["without a figure"] += 1
        elif (zipcode := sink.zipcode(line, row[zips])) is not None:
            day = as_of
            if days and row[days[0]].strip():
                given = read_day(row[days[0]])
                if given is None:
                    sink.rejects.add(line, zipcode, Reason.DATE, row[days[0]])
                    continue
                day = given
            count = read_count(row[expected])
            if day > sink.today:
                sink.rejects.add(line, zipcode, Reason.FUTURE, str(day))
            elif count is None:
                sink.rejects.add(line, zipcode, Reason.VALUE, row[expected])
            else:
                sink.put(line, zipcode, Quantity.EXPECTED, count, day)


_READERS: Final[Mapping[Source, Callable[[TextTable, Sink, date], None]]] = {
    Source.OWNER: _read_owner,
    Source.REDFIN: _read_redfin,
    Source.ZILLOW: _read_zillow,
    Source.REALTOR: _read_realtor,
    Source.ZILLOW_VALUES: _read_zillow_values,
    Source.CENSUS: _read_census,
}
