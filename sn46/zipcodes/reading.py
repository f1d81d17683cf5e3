"""Reading the text tables that figures come in: CSV and TSV, plain or gzipped, of any size.

A file streams through: memory does not grow with its length. What is hashed and counted is the file
as it lies on disk.
"""

import csv
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self, cast

from sn46.zipcodes.table import ZipTableError

Progress = Callable[[int, int], None]
"""Told now and then how many bytes of how many have been read."""

_BUFFER: Final = 1 << 20
_LONGEST_HEADER: Final = 1 << 20
_LONGEST_LINE: Final = 1 << 22
_DELIMITERS: Final = ("\t", ",", ";", "|")
_OTHER_FORMATS: Final = {
    b"PK\x03\x04": "a ZIP archive or a spreadsheet; unpack it, or save it as CSV",
    b"PAR1": "a Parquet file; figures are imported from CSV or TSV",
    b"%PDF": "a PDF",
}


class TextTable:
    """A file of separated values, opened: its header, then its rows, each once.

    Use it as a context manager. Gzip is known by its content and not by the file's name; so are the
    separator, and UTF-16 as spreadsheets write it. A byte order mark is no part of the first
    column's name. Bytes that are not UTF-8 (older files hold Latin-1 names) are replaced.

    Raises:
        ZipTableError: where the file is missing, is something else, or ends or breaks in the
            middle; then nothing that was read of it should be used.
    """

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        self.path = path
        self.rows = 0
        self._line = 1
        try:
            self._counted = _Counted(path, progress)
        except OSError as error:
            raise ZipTableError(f"{path} cannot be read: {error.strerror}.") from error
        try:
            self.header, self._reader = self._begin()
        except BaseException:
            self._counted.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._counted.close()

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """The rows that are not blank, each with the number of the line that it ends on."""
        try:
            for row in self._reader:
                if row:
                    self.rows += 1
                    # The header's line was taken off before the reader began to count.
                    yield self._reader.line_num + 1, row
        except (EOFError, OSError, zlib.error, csv.Error) as error:
            raise self._broken(error, self._reader.line_num + 1) from error

    @property
    def line(self) -> int:
        """The line that was read last; the header's is 1."""
        return self._reader.line_num + 1

    def digest(self) -> str:
        """SHA-256 of the whole file, lower-case hex. Reads on to its end."""
        return self._counted.digest()

    @property
    def size(self) -> int:
        """The file's bytes on disk."""
        return self._counted.size

    def _begin(self) -> "tuple[tuple[str, ...], _Reader]":
        try:
            # Kept: it closes the file when nobody holds it any more.
            self._opened = text = self._text()
            first = text.readline(_LONGEST_HEADER)
        except (EOFError, OSError, zlib.error) as error:
            raise self._broken(error, 1) from error
        if not first.strip() or "\0" in first:
            what = "has no header line" if first else "is empty"
            raise ZipTableError(f"{self.path} {what}; a table with column names is needed.")
        delimiter = max(_DELIMITERS, key=first.count)
        try:
            header = next(csv.reader([first], delimiter=delimiter))
        except csv.Error as error:
            raise self._broken(error, 1) from error
        names = tuple(name.strip().lower() for name in header)
        return names, cast(_Reader, csv.reader(_lines(text), delimiter=delimiter))

    def _text(self) -> io.TextIOWrapper:
        buffered = io.BufferedReader(self._counted, _BUFFER)
        beginning = buffered.peek(4)[:4]
        for magic, what in _OTHER_FORMATS.items():
            if beginning.startswith(magic):
                raise ZipTableError(f"{self.path} is {what}.")
        if beginning.startswith(b"\x1f\x8b"):
            unpacked = gzip.GzipFile(fileobj=buffered, mode="rb")
            buffered = io.BufferedReader(cast(io.RawIOBase, unpacked), _BUFFER)
            beginning = buffered.peek(4)[:4]
        encoding = "utf-8"
        if beginning.startswith((b"\xff\xfe", b"\xfe\xff")):
            encoding = "utf-16"
        elif beginning.startswith(b"\xef\xbb\xbf"):
            buffered.read(3)
        return io.TextIOWrapper(
            cast(BinaryIO, buffered), encoding=encoding, errors="replace", newline=""
        )

    def _broken(self, error: Exception, line: int) -> ZipTableError:
        if isinstance(error, EOFError):
            what = "ends in the middle of its gzip data (an interrupted download?)"
        elif isinstance(error, gzip.BadGzipFile | zlib.error):
            what = f"has broken gzip data ({error})"
        elif isinstance(error, csv.Error):
            what = f"is not a table of separated values there ({error})"
        else:
            what = f"cannot be read ({error})"
        return ZipTableError(
            f"{self.path} {what}, after line {line}. Nothing was imported; get the file again."
        )


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    """The lines, none of which is longer than one that a table has."""
    while line := text.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE and not line.endswith(("\n", "\r")):
            raise csv.Error(f"a line of over {_LONGEST_LINE:,} characters")
        yield line


class _Reader(Iterator[list[str]]):
    """What the csv module's reader is."""

    line_num: int


class _Counted(io.RawIOBase):
    """A file that hashes and counts what is read of it."""

    def __init__(self, path: Path, progress: Progress | None) -> None:
        super().__init__()
        self._file = path.open("rb", buffering=0)
        self._progress = progress
        self._hash = hashlib.sha256()
        self._done = 0
        self.size = os.fstat(self._file.fileno()).st_size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        count = self._file.readinto(buffer) or 0
        if count:
            self._hash.update(buffer[:count])
            self._done += count
            if self._progress is not None:
                self._progress(self._done, self.size)
        return count

    def digest(self) -> str:
        while self.read(_BUFFER):
            pass
        return self._hash.hexdigest()

    def close(self) -> None:
        self._file.close()
        super().close()
