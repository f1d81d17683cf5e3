"""Files of figures in the shapes of real ones, made by hand, and a small table to take them."""

import csv
import gzip
import io
from calendar import monthrange
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from sn46.mechanism.draw import ZipRow
from sn46.mechanism.names import ZipCode
from sn46.zipcodes import Library, MasterTable, save_table

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
TODAY = NOW.date()
NEWEST = date(2026, 10, 31)


class SetClock:
    """A clock that stands where it is put."""

    def __init__(self, now: datetime = NOW) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def pass_days(self, days: int) -> None:
        self._now += timedelta(days=days)

    async def sleep(self, duration: timedelta) -> None:
        self._now += duration


def zip_row(zipcode: str, **fields: object) -> ZipRow:
    values: dict[str, object] = {
        "zipcode": ZipCode(zipcode),
        "expected_listings": None,
        "state": "NJ",
        "city": "Lakewood",
        "county": "Ocean County",
        "latitude": 40.08,
        "longitude": -74.2,
        "population": 9_000,
        "property_count": 4_000,
        "home_value": 300_000,
        "updated_on": None,
    }
    return ZipRow(**(values | fields))  # type: ignore[arg-type]


SMALL = MasterTable(
    (
        zip_row("08701"),
        zip_row("07030", city="Hoboken", county="Hudson County", property_count=2_000),
        zip_row("00501", state="NY", city="Holtsville", population=0, property_count=0),
        zip_row("98103", state="WA", city="Seattle", county="King County"),
        zip_row("11211", state="NY", city="Brooklyn", property_count=37_180),
    )
)


def small_library(folder: Path, clock: SetClock | None = None) -> Library:
    """A library over five ZIPs, so that what happens can be counted by hand."""
    table = folder / "zipcodes.parquet"
    save_table(SMALL, table)
    return Library(table, clock or SetClock())


def month_before(months: int, newest: date = NEWEST) -> date:
    """The last day of the month so many months before the newest."""
    year, month = divmod(newest.year * 12 + newest.month - 1 - months, 12)
    return date(year, month + 1, monthrange(year, month + 1)[1])


def as_csv(rows: Iterable[Sequence[object]], delimiter: str = ",", quoting: int = 0) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerows(rows)  # type: ignore[arg-type]
    return text.getvalue()


_METRICS = (
    "median_sale_price",
    "median_list_price",
    "median_ppsf",
    "median_list_ppsf",
    "homes_sold",
    "pending_sales",
    "new_listings",
    "inventory",
    "months_of_supply",
    "median_dom",
    "avg_sale_to_list",
    "sold_above_list",
    "price_drops",
    "off_market_in_two_weeks",
)
REDFIN_COLUMNS = (
    "period_begin",
    "period_end",
    "period_duration",
    "region_type",
    "region_type_id",
    "table_id",
    "is_seasonally_adjusted",
    "region",
    "city",
    "state",
    "state_code",
    "property_type",
    "property_type_id",
    *(name + end for name in _METRICS for end in ("", "_mom", "_yoy")),
    "parent_metro_region",
    "parent_metro_region_metro_code",
    "last_updated",
)


def redfin_row(zipcode: str, months_ago: int, sold: object, **fields: object) -> list[object]:
    """A rolling window of three months that ends so many months before the newest one."""
    end = month_before(months_ago)
    values: dict[str, object] = {
        "period_begin": month_before(months_ago + 3) + timedelta(days=1),
        "period_end": end,
        "period_duration": 90,
        "region_type": "zip code",
        "region_type_id": 2,
        "table_id": 11,
        "is_seasonally_adjusted": "f",
        "region": f"Zip Code: {zipcode}",
        "city": "",
        "state": "New Jersey",
        "state_code": "NJ",
        "property_type": "All Residential",
        "property_type_id": -1,
        "median_sale_price": "412500.0",
        "median_sale_price_mom": "-0.0123456789",
        "homes_sold": sold,
        "inventory": "",
        "parent_metro_region": "New York, NY",
        "last_updated": "2026-11-16 14:31:02.000 Z",
    }
    return [(values | fields).get(column, "") for column in REDFIN_COLUMNS]


def redfin_windows(zipcode: str, sold: int, months: int = 36) -> list[list[object]]:
    """The rows of a ZIP with as many sales in every window of three months."""
    return [redfin_row(zipcode, ago, sold) for ago in reversed(range(months))]


def write_redfin(path: Path, rows: Iterable[Sequence[object]], *, upper: bool = False) -> Path:
    header = [c.upper() if upper else c for c in REDFIN_COLUMNS]
    text = as_csv([header, *rows], "\t", csv.QUOTE_NONNUMERIC)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


ZILLOW_PLACE = (
    "RegionID",
    "SizeRank",
    "RegionName",
    "RegionType",
    "StateName",
    "State",
    "City",
    "Metro",
    "CountyName",
)


def zillow_place(zipcode: object, kind: str = "zip") -> list[object]:
    metro = "New York-Newark-Jersey City, NY-NJ-PA"
    return [61148, 2, zipcode, kind, "NJ", "NJ", "", metro, "Ocean County"]


def write_zillow(
    path: Path, months: Sequence[date], rows: Iterable[tuple[object, Sequence[object]]]
) -> Path:
    lines = [zillow_place(zipcode) + list(cells) for zipcode, cells in rows]
    text = as_csv([[*ZILLOW_PLACE, *months], *lines])
    path.write_text("\ufeff" + text, encoding="utf-8")
    return path


REALTOR_COLUMNS = (
    "month_date_yyyymm",
    "postal_code",
    "zip_name",
    "median_listing_price",
    "median_listing_price_mm",
    "active_listing_count",
    "new_listing_count",
    "new_listing_count_mm",
    "pending_listing_count",
    "total_listing_count",
    "pending_ratio",
    "quality_flag",
)


def write_realtor(path: Path, counts: Mapping[str, Sequence[object]]) -> Path:
    """New listings by ZIP, from the newest month back, with the note that ends such files."""
    rows: list[Sequence[object]] = [REALTOR_COLUMNS]
    for zipcode, values in counts.items():
        for ago, new in enumerate(values):
            month = f"{month_before(ago):%Y%m}"
            rows.append(
                [month, zipcode, "lakewood, nj", 5e5, 0.01, 44.0, new, "", 12.0, 56.0, 0.27, 0]
            )
    rows.append(["quality_flag = 1:  year-over-year figures may be impacted"])
    path.write_text(as_csv(rows))
    return path


def write_owner(path: Path, *lines: str, header: str = "zipcode,expected_listings,as_of") -> Path:
    path.write_text("\n".join((header, *lines)) + "\n")
    return path
