"""What the search of one ZIP has learnt by now, on disk before its next request.

A file of lines, each ``{CRC-32 as 8 hex digits} {JSON of [name, value]}``, appended and synced one
by one. A line that a crash cut short does not count, and is cut off before the next is written.
"""

import asyncio
import json
import os
import threading
import zlib
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, cast

from sn46.durable import sync_folder
from sn46.miner.disk import read_bytes, writing

_DIGITS: Final = 8
_DAY: Final = "$date"
_TIME: Final = "$time"


class PartLog:
    """A ``SearchMemory`` on disk. Opened where there is none, it is empty, and no file is made
    before something is kept.

    ``used`` tells whether a source has made use of it since it was opened.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            SpoolError: where the file is there and cannot be read.
        """
        self._path = path
        self._lock = threading.Lock()
        self._file: int | None = None
        self._is_closed = False
        self._places: dict[str, tuple[int, int]] = {}
        self._size = 0
        self.used = False
        for line in _lines(read_bytes(path) or b""):
            read = _entry(line)
            # A damaged line has a place and no name.
            self._place(read[0] if read else None, line)

    def __len__(self) -> int:
        """How many answers are kept."""
        return len(self._places)

    async def recall(self, name: str) -> Any:
        """See ``SearchMemory.recall``.

        Raises:
            SpoolError: where the file cannot be read any more.
        """
        self.used = True
        place = self._places.get(name)
        if place is None:
            return None
        with writing(self._path), self._path.open("rb") as stream:
            stream.seek(place[0])
            read = _entry(stream.read(place[1]))
        return read[1] if read else None

    async def keep(self, name: str, value: Any) -> None:
        """See ``SearchMemory.keep``. No name in ``value`` begins with ``$``.

        Raises:
            SpoolError: where the disk is full or not writable; nothing is kept then.
        """
        self.used = True
        await self.note(name, value)

    async def note(self, name: str, value: Any) -> None:
        """As :meth:`keep`, for whoever keeps rows of a source that does not."""
        text = json.dumps([name, value], default=_tagged).encode()
        line = b"%08x %s\n" % (zlib.crc32(text), text)
        await asyncio.to_thread(self._append, name, line)

    def entries(self) -> Iterator[tuple[str, Any]]:
        """All that is kept, as name and value, oldest first.

        Raises:
            SpoolError: where the file cannot be read.
        """
        for line in _lines(read_bytes(self._path) or b""):
            read = _entry(line)
            if read is not None:
                yield read

    def close(self) -> None:
        """Leave the file as it is for good: what is still to be written is not."""
        with self._lock:
            self._is_closed = True
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def remove(self) -> None:
        """Forget all of it, for good.

        Raises:
            SpoolError: where the disk refuses.
        """
        self.close()
        self._places.clear()
        self._size = 0
        with writing(self._path):
            self._path.unlink(missing_ok=True)

    def _append(self, name: str, line: bytes) -> None:
        with self._lock, writing(self._path):
            if self._is_closed:
                return  # whoever asked was cancelled, and the next search may write here now
            if self._file is None:
                self._file = self._opened()
            try:
                _write_all(self._file, line)
                os.fsync(self._file)
            except OSError:
                # What was written of the line would spoil the next one.
                os.ftruncate(self._file, self._size)
                raise
            self._place(name, line)

    def _opened(self) -> int:
        self._path.parent.mkdir(exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.ftruncate(descriptor, self._size)
        sync_folder(self._path.parent)
        return descriptor

    def _place(self, name: str | None, line: bytes) -> None:
        """Know where the next line is."""
        if name is not None:
            self._places[name] = (self._size, len(line))
        self._size += len(line)


def _write_all(descriptor: int, body: bytes) -> None:
    view = memoryview(body)
    while view:
        view = view[os.write(descriptor, view) :]


def _lines(body: bytes) -> Iterator[bytes]:
    """The lines that are whole, each with its end."""
    begin = 0
    while (end := body.find(b"\n", begin) + 1) > 0:
        yield body[begin:end]
        begin = end


def _entry(line: bytes) -> tuple[str, Any] | None:
    """A line's name and value; None where it is damaged."""
    text = line.rstrip(b"\n")[_DIGITS + 1 :]
    if line[: _DIGITS + 1] != b"%08x " % zlib.crc32(text):
        return None
    name, value = cast(tuple[str, Any], json.loads(text, object_hook=_untagged))
    return name, value


def _tagged(value: object) -> object:
    if isinstance(value, datetime):
        return {_TIME: value.isoformat()}
    if isinstance(value, date):
        return {_DAY: value.isoformat()}
    return str(value)  # no value of a listing, which its column's type will tell


def _untagged(value: dict[str, Any]) -> Any:
    if _DAY in value:
        return date.fromisoformat(value[_DAY])
    if _TIME in value:
        return datetime.fromisoformat(value[_TIME])
    return value
