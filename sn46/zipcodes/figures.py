"""What an imported file says: figures, and the rows that gave none."""

import csv
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TextIO

from sn46.mechanism.names import ZipCode
from sn46.zipcodes.table import MasterTable, ZipTableError
from sn46.zipcodes.values import read_zip

RELEASE_DAYS: Final = 31
"""Monthly figures come out within so many days of their month's end. From then on they age, even
if they are imported later."""
_SHOWN: Final = 20
_LONGEST_VALUE: Final = 80


class Source(StrEnum):
    """Where figures come from; also what ``--format`` takes."""

    OWNER = "owner"
    REDFIN = "redfin"
    ZILLOW = "zillow"
    REALTOR = "realtor"
    ZILLOW_VALUES = "zillow-values"
    CENSUS = "census"


class Quantity(StrEnum):
    """What a figure counts."""

    EXPECTED = "expected"
    """Listings that a complete scrape finds, in the owner's own words."""
    SOLD = "sold"
    """Homes sold in the 36 months that end with ``as_of``."""
    NEW_LISTINGS = "new_listings"
    """Homes put on the market in the 36 months that end with ``as_of``."""
    HOME_VALUE = "home_value"
    """USD."""
    POPULATION = "population"
    PROPERTY_COUNT = "property_count"
    """Housing units."""


MONTHLY: Final = (Quantity.SOLD, Quantity.NEW_LISTINGS)
"""What monthly files count."""


class Reason(StrEnum):
    """Why a row gave no figure."""

    FIELDS = "fields"
    ZIPCODE = "zipcode"
    UNKNOWN_ZIP = "unknown_zip"
    REGION = "region"
    DATE = "date"
    FUTURE = "future"
    PERIOD = "period"
    VALUE = "value"
    ABSURD = "absurd"
    DUPLICATE = "duplicate"
    TOO_FEW_MONTHS = "too_few_months"

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS: Final = {
    Reason.FIELDS: "another number of fields than the header",
    Reason.ZIPCODE: "not a ZIP code",
    Reason.UNKNOWN_ZIP: "ZIPs that are not in the table",
    Reason.REGION: "not about a ZIP",
    Reason.DATE: "not a date",
    Reason.FUTURE: "about days to come",
    Reason.PERIOD: "not a window of three months",
    Reason.VALUE: "negative or not a number",
    Reason.ABSURD: "more than can be",
    Reason.DUPLICATE: "repeats another row's ZIP and time",
    Reason.TOO_FEW_MONTHS: "ZIPs with less than a year of figures",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one ZIP. ``as_of`` is the last day that it counts, ``updated_on`` the day
    from which its age is measured in a draw."""

    zipcode: ZipCode
    quantity: Quantity
    value: int
    as_of: date
    updated_on: date


@dataclass(frozen=True)
class Reject:
    """A row that gave no figure: the line it ends on in the file, and the ``value`` there."""

    line: int
    zipcode: str
    reason: Reason
    value: str


@dataclass(frozen=True)
class FileFigures:
    """All that an imported file says.

    ``rows`` were read; ``rejected`` counts those that could not be used, by reason, and
    ``unused`` those that were not meant to be (other property types, older months). ``repaired``
    ZIPs had lost leading zeros.
    """

    source: Source
    sha256: str
    size: int
    rows: int
    figures: tuple[Figure, ...]
    repaired: int
    rejected: dict[Reason, int]
    first_rejects: tuple[Reject, ...]
    unused: dict[str, int]


class RejectList:
    """Rejected rows: counted, the first ones kept, all of them written to a file if wanted.

    Raises:
        ZipTableError: where the file cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.counts: Counter[Reason] = Counter()
        self.first: list[Reject] = []
        self._path = path
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._file = self._path.open("w", newline="", encoding="utf-8")
            except OSError as error:
                raise self._unwritable(error) from error
            self._write("line", "zipcode", "reason", "value")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as failed:
                if error is None:
                    raise self._unwritable(failed) from failed

    def _unwritable(self, error: OSError) -> ZipTableError:
        return ZipTableError(f"{self._path} cannot be written: {error.strerror}.")

    def add(self, line: int, zipcode: str, reason: Reason, value: str) -> None:
        self.counts[reason] += 1
        reject = Reject(line, zipcode[:_LONGEST_VALUE], reason, value[:_LONGEST_VALUE])
        if len(self.first) < _SHOWN:
            self.first.append(reject)
        self._write(line, reject.zipcode, reason, reject.value)

    def _write(self, *cells: object) -> None:
        if self._file is None:
            return
        try:
            csv.writer(self._file).writerow(cells)
        except OSError as error:
            raise self._unwritable(error) from error


@dataclass
class Sink:
    """Where a format's reader puts what it finds, and what it needs to judge it."""

    base: MasterTable
    today: date
    rejects: RejectList
    figures: dict[tuple[ZipCode, Quantity], Figure] = field(
        default_factory=dict[tuple[ZipCode, Quantity], Figure]
    )
    unused: Counter[str] = field(default_factory=Counter[str])
    _repaired: set[ZipCode] = field(default_factory=set[ZipCode])
    _unknown: set[ZipCode] = field(default_factory=set[ZipCode])

    def zipcode(self, line: int, text: str) -> ZipCode | None:
        """The ZIP of a row, or None, and the row is rejected. An unknown ZIP is counted and listed
        once, whatever the number of its rows."""
        read = read_zip(text)
        if read is None:
            self.rejects.add(line, text, Reason.ZIPCODE, text)
            return None
        if read.zipcode not in self.base.by_zipcode:
            if read.zipcode not in self._unknown:
                self._unknown.add(read.zipcode)
                self.rejects.add(line, read.zipcode, Reason.UNKNOWN_ZIP, text)
            return None
        if read.repaired:
            self._repaired.add(read.zipcode)
        return read.zipcode

    def put(self, line: int, zipcode: ZipCode, quantity: Quantity, value: int, as_of: date) -> None:
        """Keep a figure that can be; reject one that cannot. Of two for the same ZIP the one with
        the later day stands, or the first."""
        if value > self._most(zipcode, quantity):
            self.rejects.add(line, zipcode, Reason.ABSURD, str(value))
            return
        there = self.figures.get((zipcode, quantity))
        if there is not None:
            self.rejects.add(line, zipcode, Reason.DUPLICATE, str(value))
        if there is None or there.as_of < as_of:
            lag = RELEASE_DAYS if quantity in MONTHLY else 0
            updated = min(self.today, as_of + timedelta(days=lag))
            self.figures[zipcode, quantity] = Figure(zipcode, quantity, value, as_of, updated)

    @property
    def repaired(self) -> int:
        return len(self._repaired)

    def _most(self, zipcode: ZipCode, quantity: Quantity) -> int:
        """The largest figure that is believed."""
        if quantity is Quantity.HOME_VALUE:
            return 100_000_000
        if quantity in (Quantity.POPULATION, Quantity.PROPERTY_COUNT):
            return 500_000
        # Twice all homes of the census: a place may have been built up since.
        return max(2_000, 2 * self.base.by_zipcode[zipcode].property_count)
