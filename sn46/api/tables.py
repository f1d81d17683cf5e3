"""The ZIP master table: in its file, read again when the file has changed, and as it is kept once
a draw was made from it."""

import asyncio
import gzip
from pathlib import Path

from sn46.zipcodes import MasterTable, ZipTableError, load_table


class TableFile:
    """Imports of fresh figures replace the file; the next draw uses them without a restart."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._table: MasterTable | None = None
        self._lock = asyncio.Lock()

    async def load(self) -> MasterTable:
        """The table as the file has it now.

        Raises:
            ZipTableError: where the file is missing or broken.
        """
        async with self._lock:
            return await asyncio.to_thread(self._load)

    def _load(self) -> MasterTable:
        try:
            stat = self._path.stat()
        except OSError as error:
            raise ZipTableError(
                f"The ZIP table {self._path} cannot be read ({error.strerror}). Set ZIPCODE_TABLE "
                "to a saved master table."
            ) from error
        seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if self._table is None or seen != self._seen:
            table = load_table(self._path)
            # Hash here, in the thread, what the draw will ask for.
            _ = table.version
            self._table, self._seen = table, seen
        return self._table


def packed(document: bytes) -> bytes:
    """A table's document as it is kept: gzip, the same bytes each time."""
    return gzip.compress(document, mtime=0)


def unpacked(kept: bytes) -> bytes:
    """The document of what is kept."""
    return gzip.decompress(kept)
