"""The library's database: figures of each source, imports, choices and the list of versions."""

import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final

from sn46.mechanism.names import ZipCode
from sn46.zipcodes.composing import Composing, StandingFigure
from sn46.zipcodes.figures import MONTHLY, RELEASE_DAYS, Figure, FileFigures, Quantity, Source

FORMAT: Final = 1
ADOPTED: Final = "adopted"
"""Names the value with the version of the table that the library began with."""
_UNDOABLE: Final = "undoable"
_SCHEMA: Final = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE imports (
        id INTEGER PRIMARY KEY, source TEXT NOT NULL, file TEXT NOT NULL, sha256 TEXT NOT NULL,
        size INTEGER NOT NULL, as_of TEXT NOT NULL, imported_at TEXT NOT NULL,
        rows INTEGER NOT NULL, figures INTEGER NOT NULL, rejected INTEGER NOT NULL,
        undone INTEGER NOT NULL DEFAULT 0)""",
    """CREATE TABLE figures (
        source TEXT NOT NULL, quantity TEXT NOT NULL, zipcode TEXT NOT NULL,
        value INTEGER NOT NULL, as_of TEXT NOT NULL, updated_on TEXT NOT NULL,
        PRIMARY KEY (source, quantity, zipcode)) WITHOUT ROWID""",
    # What the last import replaced; value is null where there was nothing.
    """CREATE TABLE displaced (
        source TEXT NOT NULL, quantity TEXT NOT NULL, zipcode TEXT NOT NULL,
        value INTEGER, as_of TEXT, updated_on TEXT,
        PRIMARY KEY (source, quantity, zipcode)) WITHOUT ROWID""",
    """CREATE TABLE versions (
        id INTEGER PRIMARY KEY, version TEXT NOT NULL, made_at TEXT NOT NULL, what TEXT NOT NULL,
        import_id INTEGER REFERENCES imports, figures INTEGER NOT NULL, estimates INTEGER NOT NULL,
        new INTEGER NOT NULL, changed INTEGER NOT NULL, dropped INTEGER NOT NULL)""",
)


@dataclass(frozen=True)
class Changes:
    """How a version differs from the one before it, in ZIPs with figures (estimates are none)."""

    figures: int
    estimates: int
    new: int
    changed: int
    dropped: int


@dataclass(frozen=True)
class VersionRecord:
    """One version of the table in the library's history."""

    version: str
    made_at: datetime
    what: str
    file_sha256: str | None
    changes: Changes


@dataclass(frozen=True)
class Ages:
    """How many figures a source gives that were updated on one day."""

    source: Source
    quantity: Quantity
    updated_on: date
    count: int


@contextmanager
def connected(path: Path) -> Generator[sqlite3.Connection]:
    """The database in a file, closed at the end; what is not committed then is undone."""
    db = sqlite3.connect(path, isolation_level=None, timeout=60)
    try:
        db.execute("PRAGMA synchronous = FULL")
        yield db
    finally:
        db.close()


def set_up(db: sqlite3.Connection) -> None:
    """Make the tables of an empty database."""
    for statement in _SCHEMA:
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {FORMAT}")


def imported_before(
    db: sqlite3.Connection, file: FileFigures, as_of: date | None
) -> datetime | None:
    """When the same file was imported in the same way, and not taken back."""
    row = db.execute(
        "SELECT imported_at FROM imports WHERE sha256 = ? AND source = ? AND as_of = ? "
        "AND NOT undone",
        (file.sha256, file.source, day_text(as_of)),
    ).fetchone()
    return None if row is None else datetime.fromisoformat(row[0])


def add_import(
    db: sqlite3.Connection, name: str, file: FileFigures, as_of: date | None, now: datetime
) -> int | None:
    """Note an import, as the one that can be undone; returns its number."""
    number = db.execute(
        "INSERT INTO imports (source, file, sha256, size, as_of, imported_at, rows, figures,"
        " rejected) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            file.source,
            name,
            file.sha256,
            file.size,
            day_text(as_of),
            now.isoformat(),
            file.rows,
            len(file.figures),
            sum(file.rejected.values()),
        ),
    ).lastrowid
    set_value(db, _UNDOABLE, str(number))
    return number


def undo_import(db: sqlite3.Connection) -> str | None:
    """Put back what the last import replaced; returns what it was, None where there is none."""
    found = db.execute(
        "SELECT id, source, file FROM imports WHERE id = "
        "(SELECT CAST(value AS INTEGER) FROM meta WHERE name = ?)",
        (_UNDOABLE,),
    ).fetchone()
    if found is None:
        return None
    number, source, name = found
    db.execute(
        "DELETE FROM figures WHERE (source, quantity, zipcode) IN "
        "(SELECT source, quantity, zipcode FROM displaced)"
    )
    db.execute("INSERT INTO figures SELECT * FROM displaced WHERE value IS NOT NULL")
    db.execute("DELETE FROM displaced")
    db.execute("DELETE FROM meta WHERE name = ?", (_UNDOABLE,))
    db.execute("UPDATE imports SET undone = 1 WHERE id = ?", (number,))
    return f"{source} {name}"


def confirm(db: sqlite3.Connection, today: date) -> None:
    """Date the monthly figures anew, as if their files were imported today."""
    updated = f"min(?, date(as_of, '+{RELEASE_DAYS} days'))"
    places = ", ".join("?" * len(MONTHLY))
    db.execute(
        f"UPDATE figures SET updated_on = {updated} "
        f"WHERE quantity IN ({places}) AND updated_on < {updated}",
        (today.isoformat(), *MONTHLY, today.isoformat()),
    )


def add_version(db: sqlite3.Connection, record: VersionRecord, import_id: int | None) -> None:
    """Note a version as the newest one."""
    made = record.changes
    db.execute(
        "INSERT INTO versions (version, made_at, what, import_id, figures, estimates, new,"
        " changed, dropped) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.version,
            record.made_at.isoformat(),
            record.what,
            import_id,
            made.figures,
            made.estimates,
            made.new,
            made.changed,
            made.dropped,
        ),
    )


def newest_version(db: sqlite3.Connection) -> VersionRecord | None:
    return next(iter(history(db, 1)), None)


def is_known(db: sqlite3.Connection, version: str) -> bool:
    """Whether a table is one of the library's, or the one that it began with."""
    row = db.execute(
        "SELECT 1 FROM versions WHERE version = ? UNION "
        "SELECT 1 FROM meta WHERE name = ? AND value = ?",
        (version, ADOPTED, version),
    ).fetchone()
    return row is not None


def store(db: sqlite3.Connection, source: Source, figures: Iterable[Figure]) -> tuple[int, int]:
    """Keep the figures that are news; returns how many are, and how many were there already."""
    db.execute(
        "CREATE TEMP TABLE incoming (source TEXT, quantity TEXT, zipcode TEXT, value INTEGER,"
        " as_of TEXT, updated_on TEXT)"
    )
    db.executemany(
        "INSERT INTO incoming VALUES (?, ?, ?, ?, ?, ?)",
        (
            (source, f.quantity, f.zipcode, f.value, f.as_of.isoformat(), f.updated_on.isoformat())
            for f in figures
        ),
    )
    same = db.execute(
        "SELECT count(*) FROM incoming i JOIN figures f USING (source, quantity, zipcode) "
        "WHERE i.as_of = f.as_of AND i.value = f.value"
    ).fetchone()[0]
    db.execute("DELETE FROM displaced")
    db.execute(
        "INSERT INTO displaced SELECT i.source, i.quantity, i.zipcode, f.value, f.as_of,"
        " f.updated_on FROM incoming i LEFT JOIN figures f USING (source, quantity, zipcode) "
        "WHERE f.value IS NULL OR i.as_of > f.as_of OR (i.as_of = f.as_of AND i.value != f.value)"
    )
    taken = db.execute(
        "INSERT OR REPLACE INTO figures SELECT i.* FROM incoming i "
        "JOIN displaced USING (source, quantity, zipcode)"
    ).rowcount
    db.execute("DROP TABLE incoming")
    return taken, same


def standing(db: sqlite3.Connection, zipcode: str | None = None) -> Iterator[StandingFigure]:
    """The figures of every source, of all ZIPs or of one."""
    where = "" if zipcode is None else " WHERE zipcode = ?"
    rows = db.execute(
        f"SELECT source, zipcode, quantity, value, as_of, updated_on FROM figures{where}",
        () if zipcode is None else (zipcode,),
    )
    for source, place, quantity, value, as_of, updated in rows:
        yield StandingFigure(
            Source(source),
            Figure(
                ZipCode(place),
                Quantity(quantity),
                value,
                date.fromisoformat(as_of),
                date.fromisoformat(updated),
            ),
        )


def history(db: sqlite3.Connection, limit: int = -1) -> Iterator[VersionRecord]:
    """The versions, the newest first; all of them by default."""
    rows = db.execute(
        "SELECT version, made_at, what, sha256, v.figures, estimates, new, changed, dropped "
        "FROM versions v LEFT JOIN imports i ON i.id = v.import_id ORDER BY v.id DESC "
        "LIMIT ?",
        (limit,),
    )
    for version, made, what, sha256, *counts in rows:
        changes = Changes(*counts)
        yield VersionRecord(version, datetime.fromisoformat(made), what, sha256, changes)


def ages(db: sqlite3.Connection) -> list[Ages]:
    """How old the figures of each source are, the newest first."""
    rows = db.execute(
        "SELECT source, quantity, updated_on, count(*) FROM figures "
        "GROUP BY source, quantity, updated_on ORDER BY source, quantity, updated_on DESC"
    )
    return [
        Ages(Source(source), Quantity(quantity), date.fromisoformat(day), count)
        for source, quantity, day, count in rows
    ]


def choices(db: sqlite3.Connection) -> Composing:
    """The owner's choices of how to compose."""
    found = dict(db.execute("SELECT name, value FROM meta").fetchall())
    default = Composing()
    return Composing(
        lookback_days=int(found.get("lookback_days", default.lookback_days)),
        draw_estimates=bool(int(found.get("draw_estimates", default.draw_estimates))),
    )


def set_value(db: sqlite3.Connection, name: str, value: str) -> None:
    """Keep a value of the library itself under a name."""
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def format_of(db: sqlite3.Connection) -> int:
    """The format that a database was made in; 0 for an empty one."""
    return db.execute("PRAGMA user_version").fetchone()[0]


def day_text(day: date | None) -> str:
    return "" if day is None else day.isoformat()
