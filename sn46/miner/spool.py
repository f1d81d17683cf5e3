"""The miner's work on disk, so that a crash costs no work and nothing is done twice.

Under ``DATA_DIR/{hotkey}/{epoch}/``, each file but the logs written whole or not at all::

    ../assignment.json       the latest assignment as served, signed
    epoch.json               which assignment this is: its epoch and its nonce
    assignment.json          that assignment as served, signed
    parts/98103.0.log        the answers to the search of a ZIP, each before the next request
    scraped/98103.parquet    the rows of a ZIP, then 98103.json: that they are finished
    package/98103.parquet    the files to upload, then manifest.json: signed over them
    uploaded.json            what the store has: {key: sha256}
    outcome.json             that the epoch is over for this miner, and how it went
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import polars as pl

from sn46.durable import write_whole
from sn46.mechanism.assignment import Assignment
from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.errors import MechanismError
from sn46.mechanism.listings import SCHEMA, write_listings
from sn46.mechanism.names import EpochId, Hotkey, ZipCode
from sn46.mechanism.parquetfile import decode
from sn46.mechanism.signing import is_hotkey
from sn46.mechanism.submission import ManifestFile, load_document, miner_file_key, parse_manifest
from sn46.miner.disk import SpoolError, read_bytes, writing
from sn46.miner.faults import RowFault
from sn46.miner.partlog import PartLog

_KEPT_EPOCHS = 12
_MOST_ROWS = 1_000_000
_PARTS = "parts"


@dataclass(frozen=True)
class ScrapedZip:
    """What was found in one ZIP. ``note`` says in words what is missing where it is not all,
    ``dropped`` which rows the miner left out itself."""

    zipcode: ZipCode
    rows: int
    complete: bool
    note: str
    sha256: str
    dropped: tuple[RowFault, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"dropped": [fault.to_json() for fault in self.dropped]}


@dataclass(frozen=True)
class Outcome:
    """How an epoch ended for this miner. ``at`` is RFC 3339; ``detail`` says why in words;
    ``unsent`` says of ZIPs with rows why the store does not have their files."""

    result: Literal["submitted", "failed"]
    at: str
    detail: str
    rows: int
    zipcodes: int
    unsent: Mapping[ZipCode, str] = field(default_factory=dict[ZipCode, str])


class Spool:
    """All epochs of one hotkey. One process at a time: the directory is locked until ``close``,
    and the kernel unlocks it when the process dies."""

    def __init__(self, data_dir: Path, hotkey: Hotkey) -> None:
        """
        Raises:
            SpoolError: where the directory cannot be written, or another miner works in it.
        """
        self._root = data_dir / hotkey
        self._hotkey = hotkey
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SpoolError(
                f"The spool {self._root} cannot be written ({error.strerror}). Give DATA_DIR a "
                "directory of its own that this user may write."
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise SpoolError(
                f"Another process mines with hotkey {hotkey} in {self._root}. Stop it first."
            ) from error

    def close(self) -> None:
        os.close(self._lock)

    def clear(self) -> None:
        """Forget all epochs.

        Raises:
            SpoolError: where the disk is not writable.
        """
        with writing(self._root):
            for path in self._root.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)

    def save_assignment(self, document: Mapping[str, Any]) -> None:
        """Keep the latest assignment as it was served.

        Raises:
            SpoolError: where the disk is full or not writable.
        """
        path = self._root / "assignment.json"
        with writing(path):
            write_whole(path, json.dumps(dict(document)).encode(), private=True)

    def assignment(self) -> Mapping[str, Any] | None:
        """The latest assignment as it was served; nothing about it is checked."""
        return _read_json(self._root / "assignment.json")

    def epoch(self, assignment: Assignment) -> "EpochSpool":
        """The spool of one assignment, as an earlier run left it. Old epochs are removed.

        Raises:
            SpoolError: where the disk is full or not writable.
        """
        folder = self._root / _folder_name(assignment.epoch_id)
        wanted = {"epoch_id": assignment.epoch_id, "nonce": assignment.nonce}
        with writing(folder):
            if _read_json(folder / "epoch.json") != wanted:
                # Work for another draw of the same epoch is worth nothing for this one.
                shutil.rmtree(folder, ignore_errors=True)
                for part in ("scraped", "package"):
                    (folder / part).mkdir(parents=True, exist_ok=True)
                write_whole(folder / "epoch.json", json.dumps(wanted).encode(), private=True)
            document = self.assignment()
            if document is not None and all(document.get(k) == v for k, v in wanted.items()):
                write_whole(
                    folder / "assignment.json", json.dumps(dict(document)).encode(), private=True
                )
            self._remove_old(folder)
        return EpochSpool(folder, assignment.epoch_id, self._hotkey)

    def make_room(self, current: EpochId) -> bool:
        """Remove all other epochs from a disk that is full. Returns whether any is gone."""
        others = [
            path
            for path in self._root.iterdir()
            if path.is_dir() and path.name != _folder_name(current)
        ]
        for folder in others:
            shutil.rmtree(folder, ignore_errors=True)
        return any(not folder.exists() for folder in others)

    def _remove_old(self, current: Path) -> None:
        folders = sorted(path for path in self._root.iterdir() if path.is_dir())
        for folder in folders[:-_KEPT_EPOCHS]:
            if folder != current:
                shutil.rmtree(folder, ignore_errors=True)


class EpochSpool:
    """One epoch's work. Every ``save`` is on disk when it returns; each raises SpoolError where
    the disk is full or not writable."""

    def __init__(self, folder: Path, epoch_id: EpochId, hotkey: Hotkey) -> None:
        self._folder = folder
        self._epoch_id = epoch_id
        self._hotkey = hotkey

    @property
    def epoch_id(self) -> EpochId:
        return self._epoch_id

    @property
    def hotkey(self) -> Hotkey:
        return self._hotkey

    def assignment(self) -> Mapping[str, Any] | None:
        """The epoch's assignment as it was served; nothing about it is checked."""
        return _read_json(self._folder / "assignment.json")

    def parts(self, zipcode: ZipCode, source: int = 0) -> PartLog:
        """The log of a ZIP's search at one source, by its place among the miner's, as an earlier
        run left it.

        Raises:
            SpoolError: where it cannot be read.
        """
        return PartLog(self._folder / _PARTS / f"{zipcode}.{source}.log")

    def save_scraped(
        self,
        zipcode: ZipCode,
        frame: pl.DataFrame,
        *,
        complete: bool,
        note: str = "",
        dropped: tuple[RowFault, ...] = (),
    ) -> ScrapedZip:
        """Keep a ZIP's rows. Its earlier rows, if any, are replaced."""
        body = write_listings(frame)
        record = ScrapedZip(zipcode, frame.height, complete, note, sha256_hex(body), dropped)
        self._save(f"scraped/{zipcode}.parquet", body)
        self._save(f"scraped/{zipcode}.json", json.dumps(record.to_json()).encode())
        return record

    def scraped(self) -> dict[ZipCode, ScrapedZip]:
        """The records of all ZIPs whose rows are on disk whole."""
        found: dict[ZipCode, ScrapedZip] = {}
        for path in sorted((self._folder / "scraped").glob("*.json")):
            body = read_bytes(path.with_suffix(".parquet"))
            record = _scraped_zip(_read_json(path))
            # A crash between the two writes leaves a record of other rows: it does not count.
            if record and body is not None and sha256_hex(body) == record.sha256:
                found[record.zipcode] = record
        return found

    def rows_of(self, zipcode: ZipCode) -> pl.DataFrame:
        """
        Raises:
            SpoolError: where the file is gone or damaged.
        """
        path = self._folder / "scraped" / f"{zipcode}.parquet"
        return self._decode(path)

    def frames(self) -> dict[ZipCode, pl.DataFrame]:
        """The rows of every ZIP that has any.

        Raises:
            SpoolError: where a file is gone or damaged.
        """
        return {z: self.rows_of(z) for z, record in self.scraped().items() if record.rows}

    def files_for(
        self, hotkey: Hotkey, frames: Mapping[ZipCode, pl.DataFrame]
    ) -> Iterator[tuple[ManifestFile, bytes]]:
        """The files of a submission with their bytes, one for each ZIP that has rows. Nothing is
        written."""
        for zipcode, frame in sorted(frames.items()):
            if frame.height:
                body = write_listings(frame)
                key = miner_file_key(hotkey, self._epoch_id, zipcode)
                yield ManifestFile(key, zipcode, frame.height, len(body), sha256_hex(body)), body

    def save_package(self, frames: Mapping[ZipCode, pl.DataFrame]) -> tuple[ManifestFile, ...]:
        """Write the files to upload. Until ``save_manifest`` they do not count."""
        files: list[ManifestFile] = []
        for file, body in self.files_for(self._hotkey, frames):
            self._save(f"package/{file.zipcode}.parquet", body)
            files.append(file)
        return tuple(files)

    def packaged(self, file: ManifestFile) -> bytes:
        """The bytes of one file to upload.

        Raises:
            SpoolError: where they are gone or damaged.
        """
        path = self._folder / "package" / f"{file.zipcode}.parquet"
        body = read_bytes(path)
        if body is None or sha256_hex(body) != file.sha256:
            raise SpoolError(
                f"{path} is gone or damaged. Remove {self._folder} to have the epoch done again."
            )
        return body

    def save_manifest(self, body: bytes) -> None:
        """Keep the signed manifest.json: from now on the package is finished."""
        self._save("manifest.json", body)

    def manifest(self) -> bytes | None:
        """The signed manifest.json; None where there is none that can be read."""
        body = read_bytes(self._folder / "manifest.json")
        return body if body is not None and _named(body) is not None else None

    def is_whole(self, manifest: bytes) -> bool:
        """Whether the package has every file of a manifest as it was signed."""
        for file in _named(manifest) or ():
            body = read_bytes(self._folder / "package" / f"{file.zipcode}.parquet")
            if body is None or sha256_hex(body) != file.sha256:
                return False
        return True

    def uploaded(self) -> dict[str, str]:
        """What the store has, as key to SHA-256."""
        value = _read_json(self._folder / "uploaded.json")
        return {str(key): str(digest) for key, digest in value.items()} if value else {}

    def save_uploaded(self, uploaded: Mapping[str, str]) -> None:
        self._save("uploaded.json", json.dumps(dict(uploaded)).encode())

    def save_outcome(self, outcome: Outcome) -> None:
        """Close the epoch: it is not done again."""
        self._save("outcome.json", json.dumps(asdict(outcome)).encode())
        shutil.rmtree(self._folder / _PARTS, ignore_errors=True)

    def outcome(self) -> Outcome | None:
        value = _read_json(self._folder / "outcome.json")
        try:
            return Outcome(**value) if value else None
        except TypeError:
            return None

    def _decode(self, path: Path) -> pl.DataFrame:
        body = read_bytes(path)
        try:
            if body is None:
                raise SpoolError(f"{path} is gone.")
            return decode(body, most_rows=_MOST_ROWS, schema=SCHEMA)
        except MechanismError as error:
            raise SpoolError(
                f"{path} is damaged ({error}). Remove {self._folder} to have it done again."
            ) from error

    def _save(self, name: str, body: bytes) -> None:
        path = self._folder / name
        with writing(path):
            write_whole(path, body, private=True)


def spools_in(data_dir: Path) -> list[Hotkey]:
    """The hotkeys that a data folder holds work of, sorted."""
    if not data_dir.is_dir():
        return []
    return [Hotkey(p.name) for p in sorted(data_dir.iterdir()) if p.is_dir() and is_hotkey(p.name)]


def kept_epochs(data_dir: Path, hotkey: Hotkey) -> list[EpochSpool]:
    """The epochs that a hotkey's spool holds, oldest first. To read only: nothing is locked, so
    a miner may be at work in them."""
    found: list[EpochSpool] = []
    for path in sorted((data_dir / hotkey).glob("*/epoch.json")):
        value = _read_json(path)
        if value is not None and _folder_name(str(value.get("epoch_id"))) == path.parent.name:
            found.append(EpochSpool(path.parent, EpochId(str(value["epoch_id"])), hotkey))
    return found


def _folder_name(epoch_id: str) -> str:
    return epoch_id.replace(":", "-")


def _read_json(path: Path) -> dict[str, Any] | None:
    body = read_bytes(path)
    if body is None:
        return None
    try:
        value = json.loads(body)
    except ValueError:
        return None
    return cast(dict[str, Any], value) if isinstance(value, dict) else None


def _named(manifest: bytes) -> tuple[ManifestFile, ...] | None:
    """The files of a manifest; None where it cannot be read."""
    try:
        return parse_manifest(load_document(manifest, "manifest.json")).files
    except MechanismError:
        return None


def _scraped_zip(value: dict[str, Any] | None) -> ScrapedZip | None:
    try:
        if not value:
            return None
        dropped = tuple(RowFault.from_json(fault) for fault in value.pop("dropped", ()))
        return ScrapedZip(**value, dropped=dropped)
    except (KeyError, TypeError, ValueError):
        return None
