"""The database's tables from one revision to another, within the caller's transaction."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

BASE = "base"
HEAD = "head"


class RevisionError(Exception):
    """A revision that this program does not know, in the database or asked for."""


@dataclass(frozen=True)
class Migration:
    """Where the tables were and are; ``base`` is an empty database."""

    before: str
    after: str


def migrate(connection: Connection, to: str = HEAD) -> Migration:
    """Bring the tables up or down to a revision: ``head`` is this program's own, ``base`` drops
    every table.

    Raises:
        RevisionError: where the database is newer than this program, or there is no such
            revision. Nothing was changed.
    """
    with _migrations(connection) as config:
        known = _line(config)
        before = _position(connection, known)
        target = len(known) - 1 if to == HEAD else _index(known, to)
        if target > before:
            command.upgrade(config, known[target])
        elif target < before:
            command.downgrade(config, known[target])
    return Migration(known[before], known[target])


def pending(connection: Connection) -> Migration:
    """What a start of the server would do, without doing it.

    Raises:
        RevisionError: as ``migrate`` does.
    """
    known = revisions()
    return Migration(known[_position(connection, known)], known[-1])


def revisions() -> Sequence[str]:
    """``base`` and every revision that this program knows, oldest first."""
    with _migrations() as config:
        return _line(config)


@contextmanager
def _migrations(connection: Connection | None = None) -> Generator[Config]:
    with as_file(files("sn46.api") / "migrations") as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.attributes["connection"] = connection
        yield config


def _line(config: Config) -> Sequence[str]:
    newest_first = [s.revision for s in ScriptDirectory.from_config(config).walk_revisions()]
    return [BASE, *reversed(newest_first)]


def _position(connection: Connection, known: Sequence[str]) -> int:
    found = MigrationContext.configure(connection).get_current_revision() or BASE
    if found not in known:
        raise RevisionError(
            f"The database is at revision {found}, and this program knows none after "
            f"{known[-1]}: a newer sn46 has used it, and what it keeps there would be misread. "
            "Nothing was changed. Install that version again, or let it go back first, with "
            f"sn46 api migrate --to {known[-1]}."
        )
    return known.index(found)


def _index(known: Sequence[str], to: str) -> int:
    if to not in known:
        raise RevisionError(
            f"There is no revision {to}; there are {', '.join(known)} and {HEAD}. "
            "Nothing was changed."
        )
    return known.index(to)
