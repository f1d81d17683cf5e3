"""The file that is the local chain: every change of state with the block it belongs to.

State is a map of (item, key) to a JSON value; a row says what it became at a block, so any older
block can be read as it was. A change is written for the block after the newest one: what a block
showed once, it shows for ever. SQLite in WAL mode carries some twenty processes, and one that is
killed in the middle of a change leaves no trace of it.
"""

import json
import secrets
import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from sn46.chain.local.blocks import FINALITY_LAG, BlockRule
from sn46.chain.local.errors import LocalChainError
from sn46.clock import Clock

T = TypeVar("T")

_FORMAT = "sn46-local-chain-1"
_BUSY_SECONDS = 30.0
_ATTEMPTS = 50

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE changes (
    item TEXT NOT NULL, key TEXT NOT NULL, block INTEGER NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (item, key, block)
) WITHOUT ROWID;
CREATE INDEX changes_by_block ON changes (block);
CREATE TABLE extrinsics (
    block INTEGER NOT NULL, position INTEGER NOT NULL, hash TEXT NOT NULL UNIQUE,
    signer TEXT NOT NULL, nonce INTEGER NOT NULL, body TEXT NOT NULL, error TEXT,
    events TEXT NOT NULL, PRIMARY KEY (block, position), UNIQUE (signer, nonce)
);
CREATE TABLE faults (number INTEGER PRIMARY KEY, kind TEXT NOT NULL, hotkey TEXT);
"""


class Writer:
    """One change of state, all of it for one block, inside a transaction."""

    def __init__(self, connection: sqlite3.Connection, block: int) -> None:
        self.connection = connection
        self.block = block

    def items(self, item: str) -> dict[str, Any]:
        return _items(self.connection, item, self.block)

    def value(self, item: str, key: str) -> Any:
        return _value(self.connection, item, key, self.block)

    def put(self, item: str, key: str, value: Any) -> None:
        self.connection.execute(
            "INSERT OR REPLACE INTO changes (item, key, block, value) VALUES (?, ?, ?, ?)",
            (item, key, self.block, json.dumps(value)),
        )


class ChainFile:
    """One process's handle on the file. Safe to use from several threads.

    Raises:
        LocalChainError: where the path holds no local chain.
    """

    def __init__(self, path: str | Path, clock: Clock) -> None:
        self.path = Path(path)
        self.clock = clock
        if not self.path.is_file():
            raise LocalChainError(
                f"There is no local chain at {self.path}. Create one first, or correct the path."
            )
        self._lock = threading.Lock()
        try:
            self._reader = self._open()
            meta = self._meta()
        except sqlite3.DatabaseError as error:
            raise LocalChainError(f"{self.path} is not a local chain: {error}.") from error
        self.netuid = int(meta["netuid"])
        self.tempo = int(meta["tempo"])
        self.blocks = BlockRule(
            int(meta["genesis_ms"]), int(meta["block_ms"]), bytes.fromhex(meta["secret"])
        )

    @property
    def outage_marker(self) -> Path:
        """While this file is there, the chain's node plays dead."""
        return self.path.with_name(self.path.name + ".outage")

    def head(self) -> int:
        return self.blocks.head_at(self.clock.now())

    def finalized(self) -> int:
        return max(0, self.head() - FINALITY_LAG)

    def items(self, item: str, block: int) -> dict[str, Any]:
        """All keys of an item as of a block, deleted ones left out."""
        with self._lock:
            return _items(self._reader, item, block)

    def value(self, item: str, key: str, block: int) -> Any:
        """One value as of a block, None where it is not there."""
        with self._lock:
            return _value(self._reader, item, key, block)

    def rows(self, query: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._reader.execute(query, parameters).fetchall()

    def write(self, change: Callable[[Writer], T]) -> T:
        """Apply a change for the next block and return what it returned.

        The block is taken once the file is locked, and looked at again before the commit: if it
        was produced in the meantime (a machine under load), everything is done anew for a later
        one, so that no reader sees a block change.
        """
        with closing(self._open()) as connection:
            for _ in range(_ATTEMPTS):
                connection.execute("BEGIN IMMEDIATE")
                try:
                    block = max(self.head() + 1, _newest(connection))
                    result = change(Writer(connection, block))
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                if self.head() < block:
                    connection.execute("COMMIT")
                    return result
                connection.execute("ROLLBACK")
        raise LocalChainError(
            f"This machine is too busy to write within a block of {self.blocks.block_ms} ms. "
            "Create the local chain with longer blocks."
        )

    def close(self) -> None:
        with self._lock:
            self._reader.close()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _meta(self) -> dict[str, str]:
        meta = dict(self._reader.execute("SELECT name, value FROM meta").fetchall())
        if meta.get("format") != _FORMAT:
            raise LocalChainError(
                f"{self.path} is a local chain of format {meta.get('format')!r}, and this version "
                f"reads {_FORMAT!r}. Create the local chain anew."
            )
        return meta


def create_file(
    path: Path,
    *,
    netuid: int,
    tempo: int,
    genesis_ms: int,
    block_ms: int,
    state: Mapping[tuple[str, str], Any],
) -> None:
    """Write a chain with its state at block 0. It appears under ``path`` whole or not at all.

    Raises:
        LocalChainError: where something is at ``path`` already.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.draft")
    meta = {
        "format": _FORMAT,
        "netuid": netuid,
        "tempo": tempo,
        "genesis_ms": genesis_ms,
        "block_ms": block_ms,
        "secret": secrets.token_hex(32),
    }
    try:
        with closing(sqlite3.connect(draft)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
            connection.executemany(
                "INSERT INTO meta (name, value) VALUES (?, ?)",
                [(name, str(value)) for name, value in meta.items()],
            )
            connection.executemany(
                "INSERT INTO changes (item, key, block, value) VALUES (?, ?, 0, ?)",
                [(item, key, json.dumps(value)) for (item, key), value in state.items()],
            )
            connection.commit()
        # A link, unlike a rename, never replaces a chain that another process created meanwhile.
        path.hardlink_to(draft)
    except FileExistsError as error:
        raise LocalChainError(
            f"There is something at {path} already. Remove it, or choose another path."
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def _items(connection: sqlite3.Connection, item: str, block: int) -> dict[str, Any]:
    # SQLite takes the bare column from the row that MAX chose, which is what is wanted here.
    rows = connection.execute(
        "SELECT key, value, MAX(block) FROM changes WHERE item = ? AND block <= ? GROUP BY key",
        (item, block),
    )
    return {key: value for key, text, _ in rows if (value := json.loads(text)) is not None}


def _value(connection: sqlite3.Connection, item: str, key: str, block: int) -> Any:
    row = connection.execute(
        "SELECT value FROM changes WHERE item = ? AND key = ? AND block <= ?"
        " ORDER BY block DESC LIMIT 1",
        (item, key, block),
    ).fetchone()
    return json.loads(row[0]) if row else None


def _newest(connection: sqlite3.Connection) -> int:
    """The newest block that holds anything: a clock that was set back must not write before it."""
    changed = connection.execute("SELECT MAX(block) FROM changes").fetchone()[0]
    included = connection.execute("SELECT MAX(block) FROM extrinsics").fetchone()[0]
    return max(changed or 0, included or 0)
