"""Frozen sets of objects: from presigned addresses, or from an export folder (mechanism 13).

An export of the bucket ``name`` is::

    DIR/{name}/{key}            the objects
    DIR/{name}.index.jsonl      {"key", "size", "last_modified", "metadata"} a line
    DIR/{name}.odd/{file}       objects whose key no file can be named after

Anyone with an upload policy chooses keys: with ``..``, empty segments, 1,000 letters, or ``a``
beside ``a/b``. Such an object is stored under the SHA-256 of its key, which its index line names
as ``"file"``; so an export holds every object, and no key leads out of the folder. Reading goes
down from DIR segment by segment and follows no symbolic link.
"""

import asyncio
import contextlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import stamina

from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.errors import ExportError
from sn46.mechanism.submission import ObjectInfo
from sn46.mechanism.times import format_time, parse_time
from sn46.store.base import ReadableObject, Snapshot, StoreError

MINER_DATA = "miner-data"
VALIDATED_DATA = "validated-data"

Refresh = Callable[[str], Awaitable[str]]
"""Gives a new presigned address for a key whose address has expired."""

_TIMEOUT = httpx.Timeout(60, connect=10)
_READS_AT_ONCE = 16
_SMALL = 256 * 1024
"""Bytes that are read in less time than a thread takes to be woken and heard."""
_MAX_SEGMENT_BYTES = 255
_MAX_KEY_BYTES = 1024
_MAX_INDEX_LINE = 64 * 1024


class _Passing(StoreError):
    """A failure that may pass."""


class _AddressRefused(StoreError):
    """The presigned address is not, or no longer, good."""


class RemoteSnapshot:
    """Objects and presigned addresses as the API server gave them."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        objects: Iterable[ReadableObject],
        *,
        refresh: Refresh | None = None,
        attempts: int = 5,
    ) -> None:
        """``refresh`` is asked once a read where the store refuses an address (403)."""
        self._http = http
        self._refresh = refresh
        self._attempts = attempts
        readable = sorted(objects, key=lambda o: o.info.key)
        self._objects = tuple(o.info for o in readable)
        self._sizes = {o.info.key: o.info.size for o in readable}
        self._urls = {o.info.key: o.url for o in readable}

    @property
    def objects(self) -> Sequence[ObjectInfo]:
        return self._objects

    async def read(self, key: str) -> bytes:
        """The bytes, exactly as many as were listed.

        Raises:
            StoreError: where they cannot be read now, or are more or fewer.
            KeyError: where the snapshot has no such key.
        """
        url = self._urls[key]
        try:
            return await self._read(key, url)
        except _AddressRefused:
            if self._refresh is None:
                raise
        self._urls[key] = await self._refresh(key)
        return await self._read(key, self._urls[key])

    async def _read(self, key: str, url: str) -> bytes:
        async for attempt in stamina.retry_context(
            on=_Passing,
            attempts=self._attempts,
            timeout=timedelta(minutes=5),
            wait_initial=0.2,
            wait_max=8,
            wait_jitter=1,
        ):
            with attempt:
                return await self._fetch(key, url)
        raise AssertionError("a retry ends with a result or an error")

    async def _fetch(self, key: str, url: str) -> bytes:
        size = self._sizes[key]
        body = bytearray()
        try:
            request = self._http.stream(
                "GET", url, headers={"accept-encoding": "identity"}, timeout=_TIMEOUT
            )
            async with request as answer:
                _check_status(key, answer.status_code)
                # Raw: an uploader may label a file as compressed, to have it blown up here.
                async for chunk in answer.aiter_raw():
                    body += chunk
                    if len(body) > size:
                        raise StoreError(
                            f"{key} is larger than the {size} bytes it was listed with. The store "
                            "or somebody between gives another object than was frozen."
                        )
        except httpx.TransportError as error:
            raise _Passing(
                f"{key} could not be read: {type(error).__name__} {error}. Check that the store "
                "can be reached from here, and try again."
            ) from error
        if len(body) < size:
            raise _Passing(f"{key} ended after {len(body)} of {size} bytes. Try again.")
        return bytes(body)


def _check_status(key: str, status: int) -> None:
    if status == 200:
        return
    told = f"The store answered {status} to the reading of {key}."
    if status in (408, 429) or status >= 500:
        raise _Passing(f"{told} Try again later.")
    if status in (400, 401, 403):
        raise _AddressRefused(
            f"{told} Its presigned address has expired or is not good: ask the API for the epoch "
            "again, and check this machine's clock."
        )
    raise StoreError(f"{told} It may have been removed: ask the API for the epoch again.")


@dataclass(frozen=True)
class _Entry:
    """An object of an export and where it lies: its path's segments below DIR."""

    info: ObjectInfo
    path: tuple[str, ...]


class FolderSnapshot:
    """One bucket of an export folder."""

    def __init__(self, directory: Path, name: str) -> None:
        """Read the index of ``DIR/{name}``.

        Raises:
            ExportError: where there is no index or a line of it cannot be read.
        """
        self._dir = directory
        self._entries = _read_index(directory, name)
        self._objects = tuple(
            sorted((e.info for e in self._entries.values()), key=lambda info: info.key)
        )

    @property
    def objects(self) -> Sequence[ObjectInfo]:
        return self._objects

    async def read(self, key: str) -> bytes:
        """See Snapshot. A file that is missing, linked or of another size is a StoreError."""
        entry = self._entries[key]
        if entry.info.size <= _SMALL:
            return _read_file(self._dir, entry)
        return await asyncio.to_thread(_read_file, self._dir, entry)


async def write_export(directory: Path, name: str, snapshot: Snapshot) -> int:
    """Write a snapshot below ``directory``, its index last; returns how many objects it has.

    A folder that has an export of ``name`` already is added to: objects of the same key are
    replaced, others stay. Interrupted at any moment, what was there before can still be read
    (frozen objects do not change), and the same call again completes it.

    Raises:
        ExportError: where an index is there that cannot be read.
        StoreError: where an object cannot be read or the folder cannot be written.
    """
    entries: dict[str, _Entry] = {}
    if _index_path(directory, name).exists():
        entries = await asyncio.to_thread(_read_index, directory, name)
    new = _place(name, entries, snapshot.objects)
    parts = directory / f"{name}.part"
    try:
        await _copy_all(snapshot, new, directory, parts)
        entries.update((entry.info.key, entry) for entry in new)
        index = "".join(f"{_index_line(entries[key])}\n" for key in sorted(entries)).encode()
        await asyncio.to_thread(_write_file, _index_path(directory, name), index, parts)
        await asyncio.to_thread(shutil.rmtree, parts)
    except OSError as error:
        raise StoreError(
            f"The export could not be written to {directory}: {error}. Free some space there, or "
            "choose another folder."
        ) from error
    return len(new)


async def _copy_all(
    snapshot: Snapshot, entries: Iterable[_Entry], directory: Path, parts: Path
) -> None:
    """Copy objects, several at once. After the first error no further one is begun, and the error
    is raised once those under way have ended: a cancelled write would go on in its thread."""
    left = iter(entries)
    errors: list[StoreError | OSError] = []

    async def work() -> None:
        for entry in left:
            try:
                body = await snapshot.read(entry.info.key)
                path = directory.joinpath(*entry.path)
                await asyncio.to_thread(_write_file, path, body, parts)
            except (StoreError, OSError) as error:
                errors.append(error)
            if errors:
                return

    await asyncio.gather(*(work() for _ in range(_READS_AT_ONCE)))
    if errors:
        raise errors[0]


def _index_path(directory: Path, name: str) -> Path:
    return directory / f"{name}.index.jsonl"


def _is_file_path(key: str) -> bool:
    """Whether a file can be named after a key, within its folder."""
    if len(key.encode("utf-8", "surrogatepass")) > _MAX_KEY_BYTES or not key.isprintable():
        return False
    return all(
        part not in ("", ".", "..")
        and "\\" not in part
        and len(part.encode()) <= _MAX_SEGMENT_BYTES
        for part in key.split("/")
    )


def _parents(key: str) -> list[str]:
    parts = key.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def _place(name: str, known: Mapping[str, _Entry], objects: Iterable[ObjectInfo]) -> list[_Entry]:
    """Where each object goes: what is there already stays in its place; of two keys of which one
    is the other's folder, the later one in order is stored aside."""
    files = {key for key, entry in known.items() if entry.path[0] == name}
    folders = {parent for key in files for parent in _parents(key)}
    placed: list[_Entry] = []
    for info in sorted(objects, key=lambda o: o.key):
        key = info.key
        if key in known:
            placed.append(_Entry(info, known[key].path))
            continue
        if _is_file_path(key) and key not in folders and files.isdisjoint(_parents(key)):
            files.add(key)
            folders.update(_parents(key))
            placed.append(_Entry(info, (name, *key.split("/"))))
        else:
            placed.append(_Entry(info, (f"{name}.odd", _odd_name(key))))
    return placed


def _odd_name(key: str) -> str:
    return sha256_hex(key.encode("utf-8", "surrogatepass"))


def _index_line(entry: _Entry) -> str:
    info = entry.info
    line: dict[str, Any] = {
        "key": info.key,
        "size": info.size,
        "last_modified": format_time(info.last_modified),
        "metadata": dict(info.metadata),
    }
    if entry.path[0].endswith(".odd"):
        line["file"] = entry.path[1]
    return json.dumps(line)


def _read_index(directory: Path, name: str) -> dict[str, _Entry]:
    path = _index_path(directory, name)
    entries: dict[str, _Entry] = {}
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    entry = _parse_line(name, line)
                    if entry.info.key in entries:
                        raise ValueError(f"the key {entry.info.key!r} comes twice")
                except (ValueError, RecursionError) as error:
                    raise ExportError(
                        f"{path}, line {number}: {error}. The export is damaged: make it again."
                    ) from error
                entries[entry.info.key] = entry
    except OSError as error:
        raise ExportError(
            f"{path} cannot be read ({error.strerror}): {directory} is no complete export. The "
            "index is written last, so an export that was interrupted has none: make it again."
        ) from error
    return entries


def _parse_line(name: str, line: bytes) -> _Entry:
    """One index line out of untrusted bytes; ValueError says what is wrong with it."""
    if len(line) > _MAX_INDEX_LINE:
        raise ValueError("the line is too long")
    try:
        value = json.loads(line.decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"no JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    document = cast(dict[str, Any], value)
    key, size, metadata = (document.get(n) for n in ("key", "size", "metadata"))
    if not isinstance(key, str):
        raise ValueError("key is missing or no text")
    if type(size) is not int or size < 0:
        raise ValueError("size is missing or no count")
    if not isinstance(metadata, dict) or not all(
        isinstance(v, str) for v in cast(dict[str, Any], metadata).values()
    ):
        raise ValueError("metadata is missing or no object of texts")
    modified = parse_time(document.get("last_modified"))
    info = ObjectInfo(key, size, modified, cast(dict[str, str], metadata))
    return _Entry(info, _parse_place(name, key, document.get("file")))


def _parse_place(name: str, key: str, file: Any) -> tuple[str, ...]:
    if file is None:
        if not _is_file_path(key):
            raise ValueError(f"the key {key!r} cannot be a file's path, and no file is named")
        return (name, *key.split("/"))
    if file != _odd_name(key):
        raise ValueError("file is not the SHA-256 of the key")
    return (f"{name}.odd", file)


def _read_file(directory: Path, entry: _Entry) -> bytes:
    """Read an object, going down from the folder without following a link."""
    key, size = entry.info.key, entry.info.size
    with contextlib.ExitStack() as opened:
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, fd)
            for depth, part in enumerate(entry.path, 1):
                kind = os.O_DIRECTORY if depth < len(entry.path) else os.O_NONBLOCK
                flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | kind
                fd = os.open(part, flags, dir_fd=fd)
                opened.callback(os.close, fd)
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise StoreError(f"{key} is no plain file in the export. Make the export again.")
            if status.st_size != size:
                raise StoreError(
                    f"{key} has {status.st_size} bytes in the export, but {size} in its index. "
                    "Make the export again."
                )
            with open(os.dup(fd), "rb") as file:
                return file.read(size)
        except OSError as error:
            raise StoreError(
                f"{key} cannot be read from the export in {directory}: {error.strerror}. It must "
                "be a plain file, not a link. Make the export again."
            ) from error


def _write_file(path: Path, body: bytes, parts: Path) -> None:
    """Write a file whole or not at all. It grows in the folder ``parts``: beside its place, any
    temporary name could be another object's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=parts, delete=False) as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    # Such files are made for their owner alone; an export is for others.
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
