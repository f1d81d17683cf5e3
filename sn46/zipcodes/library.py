"""The library beside a saved table: the figures of each source, and every version of the table.

For ``zipcodes.parquet`` it is the folder ``zipcodes.library``::

    library.sqlite              figures, imports, choices, and the list of versions
    base.parquet                every ZIP with its place and the census figures
    versions/VERSION.parquet            a version of the table, as it was published
    versions/VERSION.sources.parquet    where its expected listings came from

A change is made in this order: the new version's two files, then one transaction of the database,
then the published table takes the place of the old one. A process that dies in between leaves the
old table or the new one, whole; the next change finishes what the database says was done.
"""

import fcntl
import gc
import os
import shutil
import sqlite3
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import polars as pl

from sn46.clock import Clock
from sn46.mechanism.names import ZipCode
from sn46.zipcodes import database
from sn46.zipcodes.bundled import load_bundled_table
from sn46.zipcodes.composing import ESTIMATE, Composing, Composition, StandingFigure, compose
from sn46.zipcodes.database import Ages, Changes, VersionRecord
from sn46.zipcodes.figures import Figure, FileFigures, Quantity, RejectList, Source
from sn46.zipcodes.files import (
    load_table,
    save_table,
    saved_version,
    temporary_prefix,
    write_whole,
)
from sn46.zipcodes.formats import read_figures
from sn46.zipcodes.reading import Progress
from sn46.zipcodes.table import MasterTable, ZipTableError

T = TypeVar("T")
_DATABASE: Final = "library.sqlite"
_BASE: Final = "base.parquet"


@dataclass(frozen=True)
class ImportResult:
    """What an import did.

    Of the file's figures ``taken`` are new to their source, ``same`` were there already, and
    ``older`` gave way to newer ones of the same source. ``record`` is the version that it made;
    None where the table stayed as it was. ``imported_before`` is set where the same file had been
    imported, and nothing was done.
    """

    file: FileFigures
    taken: int
    same: int
    older: int
    changes: Changes
    record: VersionRecord | None
    imported_before: datetime | None


class Library:
    """The figures behind one saved table. Any number of processes may use it at once: changes wait
    for one another.

    Args:
        table: where the table is published, ZIPCODE_TABLE of the API.
        clock: the day of an import, and the time of a version.
    """

    def __init__(self, table: Path, clock: Clock) -> None:
        self.table = table
        self.folder = table.with_name(f"{table.stem}.library")
        self._clock = clock

    @property
    def exists(self) -> bool:
        """Whether the library has been made."""
        return self._read(database.format_of, 0) != 0

    def import_file(
        self,
        path: Path,
        *,
        source: Source | None = None,
        as_of: date | None = None,
        rejects: Path | None = None,
        progress: Progress | None = None,
        dry_run: bool = False,
    ) -> ImportResult:
        """Read a file of figures and publish the table that follows from it.

        The first import makes the library, from the table that is there or else from the bundled
        one. A file is imported whole or not at all.

        Args:
            path: CSV or TSV of a known format, gzipped or not.
            source: its format; by default the one that its columns show.
            as_of: the day of figures that the file gives none for; today by default.
            rejects: a file for the rows that gave no figure.
            progress: told how far the file has been read.
            dry_run: only say what would happen.

        Raises:
            ZipTableError: where the file is of no known format, broken, cut off or without any
                figure, or the table or library cannot be used; then nothing has changed.
        """
        today = self._clock.now().date()
        if as_of is not None and as_of > today:
            raise ZipTableError(f"Figures cannot be as of {as_of}: today is {today}.")
        if rejects is not None and rejects.exists() and path.exists() and rejects.samefile(path):
            raise ZipTableError(f"{path} is the file to import: the rejects need one of their own.")
        with _collector_paused():
            base = self._known_base()
        with RejectList(rejects) as rejected:
            file = read_figures(
                path,
                base,
                today=today,
                source=source,
                as_of=as_of,
                rejects=rejected,
                progress=progress,
            )
        with _collector_paused(), self._changing(dry_run, base) as change:
            return change.take(path.name, file, as_of)

    def initialise(
        self, *, lookback_days: int | None = None, draw_estimates: bool | None = None
    ) -> VersionRecord | None:
        """Make the library where there is none, settle the choices that are given, and publish.
        Returns the version that this made, or None where the table stayed as it was.

        Raises:
            ZipTableError: where the table or library cannot be used.
        """
        if lookback_days is not None and lookback_days < 1:
            raise ZipTableError("LOOKBACK_DAYS must be at least 1.")
        with self._changing() as change:
            return change.choose(lookback_days, draw_estimates)

    def confirm(self) -> VersionRecord | None:
        """Date monthly figures today, but at most ``RELEASE_DAYS`` after their month's end: while
        the next month is not out, they are the newest there are. Returns the version that this
        made, or None where the table stayed as it was.

        Raises:
            ZipTableError: where there is no library, or it cannot be used.
        """
        if not self.exists:
            raise ZipTableError(f"There is no library beside {self.table}: nothing to confirm.")
        with self._changing() as change:
            return change.confirm()

    def undo(self) -> VersionRecord | None:
        """Take the last import back, and publish the table without it.

        Raises:
            ZipTableError: where there is none to take back.
        """
        if not self.exists:
            raise ZipTableError(f"There is no library beside {self.table}: nothing to undo.")
        with self._changing() as change:
            return change.undo()

    def history(self) -> list[VersionRecord]:
        """Every version of the table, the newest first."""
        return self._read(lambda db: list(database.history(db)), [])

    def ages(self) -> list[Ages]:
        """How old the figures of each source are."""
        return self._read(database.ages, [])

    def choices(self) -> Composing:
        """How the table is composed."""
        return self._read(database.choices, Composing())

    def figures_of(self, zipcode: ZipCode) -> list[StandingFigure]:
        """All that the sources say about one ZIP."""
        return self._read(lambda db: list(database.standing(db, zipcode)), [])

    def load_version(self, version: str) -> MasterTable:
        """An earlier version of the table, by the beginning of its name.

        Raises:
            ZipTableError: where the library has none, or several, of that name.
        """
        matching = sorted({r.version for r in self.history() if r.version.startswith(version)})
        if len(matching) != 1:
            count = "no version" if not matching else f"{len(matching)} versions"
            raise ZipTableError(f"The library has {count} whose name begins with {version!r}.")
        return load_table(self.version_file(matching[0]))

    def origins(self, version: str) -> Mapping[ZipCode, str]:
        """Where the expected listings of a version come from: a source, or ``estimate``. Empty
        where the library does not know the version."""
        path = self.sources_file(version)
        if not path.exists():
            return {}
        return dict(pl.read_parquet(path, memory_map=False).iter_rows())

    def version_file(self, version: str) -> Path:
        """Where a version of the table is kept."""
        return self.folder / "versions" / f"{version}.parquet"

    def sources_file(self, version: str) -> Path:
        """Where the origins of a version's figures are kept."""
        return self.folder / "versions" / f"{version}.sources.parquet"

    def _known_base(self) -> MasterTable:
        """The ZIPs that figures can be for, whether or not the library is there yet."""
        return load_table(self.folder / _BASE) if self.exists else _first_base(self.table)[0]

    def _read(self, read: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        if not (self.folder / _DATABASE).exists():
            return nothing
        try:
            with database.connected(self.folder / _DATABASE) as db:
                return read(db) if database.format_of(db) else nothing
        except sqlite3.Error as error:
            raise _unusable(self.folder, error) from error

    @contextmanager
    def _changing(
        self, dry_run: bool = False, base: MasterTable | None = None
    ) -> "Generator[_Change]":
        """The library, locked and settled. What is done to it stays only without an error.
        ``base`` is its base table where that has been read."""
        if dry_run and not self.exists:
            with database.connected(Path(":memory:")) as db:
                db.execute("BEGIN")
                made = _create(db, self.table, base)
                yield _Change(self, db, made, self._clock.now(), dry_run)
            return
        with self._locked():
            try:
                with database.connected(self.folder / _DATABASE) as db:
                    known = self._opened(db, base)
                    self._settle(db)
                    db.execute("BEGIN IMMEDIATE")
                    yield _Change(self, db, known, self._clock.now(), dry_run)
                    if dry_run:
                        db.execute("ROLLBACK")
                        return
                    db.execute("COMMIT")
                    self._settle(db)
            except sqlite3.Error as error:
                raise _unusable(self.folder, error) from error

    @contextmanager
    def _locked(self) -> Generator[None]:
        try:
            (self.folder / "versions").mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise ZipTableError(f"{self.folder} cannot be written: {error.strerror}.") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _opened(self, db: sqlite3.Connection, base: MasterTable | None) -> MasterTable:
        """The base table, of a library that is made where there is none."""
        if not database.format_of(db):
            db.execute("BEGIN IMMEDIATE")
            made = _create(db, self.table, base)
            save_table(made, self.folder / _BASE)
            db.execute("COMMIT")
            return made
        if database.format_of(db) != database.FORMAT:
            raise ZipTableError(
                f"The library {self.folder} was made by a newer sn46; its database has format "
                f"{database.format_of(db)}. Upgrade sn46."
            )
        return base or load_table(self.folder / _BASE)

    def _settle(self, db: sqlite3.Connection) -> None:
        """Publish the newest version where that has not been done.

        Raises:
            ZipTableError: where the published table is none of this library.
        """
        every_version = self.version_file("*")
        for place in (self.table, self.folder / _BASE, every_version):
            for left in place.parent.glob(f"{temporary_prefix(place)}*"):
                left.unlink(missing_ok=True)
        newest = database.newest_version(db)
        published = _version_at(self.table)
        if published is not None and not database.is_known(db, published):
            raise ZipTableError(
                f"{self.table} holds a table (version {published[:12]}…) that its library "
                f"{self.folder} did not make and would overwrite. Remove the table to go on "
                "with the library's, or the library to begin one from this table."
            )
        if newest is not None and newest.version != published:
            source = self.version_file(newest.version)

            def copy(target: BinaryIO) -> None:
                with source.open("rb") as file:
                    shutil.copyfileobj(file, target)

            write_whole(self.table, copy)


class _Change:
    """One change of a library, inside its transaction."""

    def __init__(
        self,
        library: Library,
        db: sqlite3.Connection,
        base: MasterTable,
        now: datetime,
        dry_run: bool,
    ) -> None:
        self._library = library
        self._db = db
        self._base = base
        self._now = now
        self._dry_run = dry_run

    def take(self, name: str, file: FileFigures, as_of: date | None) -> ImportResult:
        before = database.imported_before(self._db, file, as_of)
        newest = database.newest_version(self._db)
        if before is not None and newest is not None:
            unchanged = replace(newest.changes, new=0, changed=0, dropped=0)
            return ImportResult(file, 0, len(file.figures), 0, unchanged, None, before)
        number = database.add_import(self._db, name, file, as_of, self._now)
        taken, same = database.store(self._db, file.source, file.figures)
        older = len(file.figures) - taken - same
        changes, record = self._compose(f"{file.source} {name}", number, file.sha256)
        return ImportResult(file, taken, same, older, changes, record, None)

    def choose(
        self, lookback_days: int | None, draw_estimates: bool | None
    ) -> VersionRecord | None:
        if lookback_days is not None:
            database.set_value(self._db, "lookback_days", str(lookback_days))
        if draw_estimates is not None:
            database.set_value(self._db, "draw_estimates", str(int(draw_estimates)))
        choices = database.choices(self._db)
        estimates = "drawn" if choices.draw_estimates else "not drawn"
        what = f"init, lookback {choices.lookback_days} days, estimates {estimates}"
        return self._compose(what)[1]

    def confirm(self) -> VersionRecord | None:
        database.confirm(self._db, self._now.date())
        return self._compose("confirmed")[1]

    def undo(self) -> VersionRecord | None:
        what = database.undo_import(self._db)
        if what is None:
            raise ZipTableError(
                "There is no import to undo: only the last one can be, and only once."
            )
        return self._compose(f"undo of {what}")[1]

    def _compose(
        self, what: str, import_id: int | None = None, sha256: str | None = None
    ) -> tuple[Changes, VersionRecord | None]:
        composition = compose(self._base, database.standing(self._db), database.choices(self._db))
        newest = database.newest_version(self._db)
        changes = self._changes(composition, newest and newest.version)
        version = composition.table.version
        if newest is not None and newest.version == version:
            return changes, None
        if not self._dry_run:
            self._keep(composition)
        record = VersionRecord(version, self._now, what, sha256, changes)
        database.add_version(self._db, record, import_id)
        return changes, record

    def _keep(self, composition: Composition) -> None:
        version = composition.table.version
        origins = pl.DataFrame(
            sorted(composition.origins.items()),
            schema={"zipcode": pl.String(), "source": pl.String()},
            orient="row",
        )

        def write(file: BinaryIO) -> None:
            origins.write_parquet(file)

        library = self._library
        write_whole(library.sources_file(version), write)
        save_table(composition.table, library.version_file(version))

    def _changes(self, composition: Composition, before: str | None) -> Changes:
        old: dict[ZipCode, int] = {}
        if before is not None:
            path = self._library.version_file(before)
            origins = self._library.origins(before)
            frame = pl.read_parquet(path, columns=["zipcode", "expected_listings"])
            old = {z: e for z, e in frame.iter_rows() if origins.get(z, ESTIMATE) != ESTIMATE}
        now = {
            row.zipcode: row.expected_listings
            for row in composition.table.rows
            if composition.origins.get(row.zipcode, ESTIMATE) != ESTIMATE
        }
        return Changes(
            figures=len(now),
            estimates=len(composition.origins) - len(now),
            new=len(now.keys() - old.keys()),
            changed=sum(old[zipcode] != now[zipcode] for zipcode in now.keys() & old.keys()),
            dropped=len(old.keys() - now.keys()),
        )


def _first_base(table: Path) -> tuple[MasterTable, MasterTable | None]:
    """The ZIPs of a library that is to be made, and the table that it is made from, if any."""
    if not table.exists():
        return load_bundled_table(), None
    adopted = load_table(table)
    bare = (replace(row, expected_listings=None, updated_on=None) for row in adopted.rows)
    return MasterTable(tuple(bare)), adopted


def _create(db: sqlite3.Connection, table: Path, known: MasterTable | None) -> MasterTable:
    """Set up an empty database, with the figures of the table that is there as the owner's.
    Returns the base table, ``known`` where there is no table."""
    database.set_up(db)
    base, adopted = (known, None) if known and not table.exists() else _first_base(table)
    if adopted is not None:
        database.set_value(db, database.ADOPTED, adopted.version)
        figures = [
            Figure(
                row.zipcode,
                Quantity.EXPECTED,
                row.expected_listings,
                row.updated_on,
                row.updated_on,
            )
            for row in adopted.rows
            if row.expected_listings is not None and row.updated_on is not None
        ]
        database.store(db, Source.OWNER, figures)
    return base


def _version_at(table: Path) -> str | None:
    """The version of the table in a file; None where there is no file."""
    if not table.exists():
        return None
    return saved_version(table) or load_table(table).version


@contextmanager
def _collector_paused() -> Generator[None]:
    """Without the collector of cyclic garbage, which would walk the same 40,000 rows again and
    again while they are made: a fifth of the time, and there are no cycles to find."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _unusable(folder: Path, error: sqlite3.Error) -> ZipTableError:
    return ZipTableError(
        f"The library {folder} cannot be used ({error}). Its versions are whole files; to begin "
        "again, move the folder away and import into a new one."
    )
