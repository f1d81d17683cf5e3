"""Published epochs on this machine's disk: read once, verified, kept as Parquet, one file an epoch.

Below the cache's folder, a folder for each place that is read (and for who is trusted)::

    lock                          held shared while asking, alone while changing
    epochs/{epoch}.json           what was found of an epoch, and from which objects; written last
    observations/{epoch}-….parquet    its rows (``preparing.STORED_SCHEMA``)
    homes/                        the homes over all epochs (``homes``)
    parts/                        what is being written

An epoch that has its JSON file is complete; whatever else lies there after a crash is made again.
It is read again only where a validator has published something new on it. Epochs that a bucket no
longer has (old data is removed there) stay; those that a folder no longer has go from here too.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from sn46.data.choosing import Report, ReportFault, common_winners, counting, read_report
from sn46.data.decoder import Decoder
from sn46.data.errors import DataError
from sn46.data.objects import Kind, Origin, Published
from sn46.data.preparing import Prepared
from sn46.durable import put_in_place, write_whole
from sn46.mechanism.agreement import MAX_REPORT_BYTES, most_common
from sn46.mechanism.canonical import hash_json, sha256_hex
from sn46.mechanism.errors import MechanismError
from sn46.mechanism.names import EpochId, Hotkey
from sn46.mechanism.submission import MAX_FILE_BYTES
from sn46.store.base import StoreError

Progress = Callable[[int, int], None]
"""Told how many epochs of how many have been read."""

_FORMAT: Final = 1
_EPOCHS_AT_ONCE: Final = 6
_DIGEST_SHOWN: Final = 16


@dataclass(frozen=True)
class KeptEpoch:
    """An epoch as it was read.

    ``agreeing`` are the validators whose rows these are; ``differing`` says of each other one that
    published something in what it differs. ``file``, of so many bytes, is None where there are no
    rows that count. ``inputs`` are the objects that were read, by key, as the place listed them.
    """

    epoch_id: EpochId
    consensus_hash: str | None
    rows: int
    zipcodes: int
    digest: str
    file: str | None
    bytes: int
    winners: tuple[Hotkey, ...]
    agreeing: tuple[Hotkey, ...]
    differing: Mapping[Hotkey, str]
    inputs: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        return {"format": _FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "KeptEpoch":
        """Raises KeyError, TypeError or ValueError where it is of another format."""
        if value["format"] != _FORMAT:
            raise ValueError("another format")
        return cls(
            epoch_id=EpochId(value["epoch_id"]),
            consensus_hash=value["consensus_hash"],
            rows=int(value["rows"]),
            zipcodes=int(value["zipcodes"]),
            digest=value["digest"],
            file=value["file"],
            bytes=int(value["bytes"]),
            winners=tuple(value["winners"]),
            agreeing=tuple(value["agreeing"]),
            differing=dict(value["differing"]),
            inputs=dict(value["inputs"]),
        )


@dataclass(frozen=True)
class _Rows:
    """The rows that count, and where they were written."""

    prepared: Prepared
    path: Path


class Library:
    """What is kept of one place. Several processes may use it at once."""

    def __init__(self, cache: Path, origin_name: str, trusted: Sequence[Hotkey] = ()) -> None:
        """``trusted``: the validators that count; all where it is empty."""
        self._trusted = frozenset(trusted)
        name = hash_json([origin_name, sorted(self._trusted)])[:_DIGEST_SHOWN]
        self.path = cache / name
        self.origin_name = origin_name
        self.observations = self.path / "observations"
        self.homes = self.path / "homes"
        self.parts = self.path / "parts"
        self._epochs = self.path / "epochs"
        try:
            for folder in (self.observations, self.homes, self.parts, self._epochs):
                folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.path / "origin.txt", f"{origin_name}\n".encode())
        except OSError as error:
            raise DataError(
                f"{cache} cannot be written: {error.strerror}. Give another folder (DATA_CACHE)."
            ) from error

    @contextlib.contextmanager
    def held(self, *, alone: bool) -> Generator[None]:
        """Hold the library, alone to change it or with others to read it. Blocks until it is
        free; a process that ends lets go of it."""
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield
        finally:
            os.close(fd)

    def kept(self) -> list[KeptEpoch]:
        """The epochs that are kept whole, oldest first."""
        found: list[KeptEpoch] = []
        for path in sorted(self._epochs.glob("*.json")):
            try:
                epoch = KeptEpoch.from_json(json.loads(path.read_bytes()))
            except (KeyError, TypeError, ValueError):
                continue
            if epoch.file is None or _size(self.observations / epoch.file) == epoch.bytes:
                found.append(epoch)
        return found

    def files(self, epochs: Sequence[KeptEpoch]) -> list[Path]:
        """The files with their rows."""
        return [self.observations / epoch.file for epoch in epochs if epoch.file is not None]

    async def refresh(
        self, origin: Origin, decoder: Decoder, progress: Progress
    ) -> list[KeptEpoch]:
        """Read what is new there; all epochs that are kept then, oldest first. What was read when
        it fails is kept.

        Raises:
            StoreError: where the place cannot be read now.
            DataError: where the disk cannot be written.
        """
        published = [
            p for p in await origin.published() if not self._trusted or p.validator in self._trusted
        ]
        try:
            with self.held(alone=True):
                _empty(self.parts)
                known = {epoch.epoch_id: epoch for epoch in self.kept()}
                todo = _changed(published, known, origin.removes_old)
                if not origin.removes_old:
                    for epoch_id in known.keys() - {p.epoch_id for p in published}:
                        self._epoch_path(epoch_id).unlink()
                await self._read_all(origin, decoder, todo, progress)
                self._sweep()
                return self.kept()
        except OSError as error:
            raise DataError(
                f"{error.filename or self.path}: {error.strerror}. Free some space, or give "
                "another folder (DATA_CACHE)."
            ) from error

    async def _read_all(
        self,
        origin: Origin,
        decoder: Decoder,
        todo: Mapping[EpochId, Sequence[Published]],
        progress: Progress,
    ) -> None:
        left = iter(todo.items())
        errors: list[Exception] = []
        done = 0

        async def work() -> None:
            nonlocal done
            for epoch_id, objects in left:
                try:
                    await self._read_epoch(origin, decoder, epoch_id, objects)
                except (StoreError, DataError, OSError) as error:
                    errors.append(error)
                if errors:
                    return
                done += 1
                progress(done, len(todo))

        await asyncio.gather(*(work() for _ in range(_EPOCHS_AT_ONCE)))
        if errors:
            raise errors[0]

    async def _read_epoch(
        self,
        origin: Origin,
        decoder: Decoder,
        epoch_id: EpochId,
        objects: Sequence[Published],
    ) -> None:
        differing: dict[Hotkey, str] = {}
        reports = await _read_reports(origin, objects, differing)
        common, counted = counting(reports)
        for report in reports:
            if report not in counted:
                differing[report.validator] = (
                    f"other scores or weights: consensus_hash {report.consensus_hash}"
                )
        rows_of = {p.validator: p for p in objects if p.kind is Kind.ROWS}
        found, agreeing = await self._agreed_rows(origin, decoder, counted, rows_of, differing)
        file = None
        if found is not None:
            name = epoch_id.replace(":", "-")
            file = f"{name}-{found.prepared.digest[:_DIGEST_SHOWN]}.parquet"
            put_in_place(found.path, self.observations / file)
        kept = KeptEpoch(
            epoch_id=epoch_id,
            consensus_hash=common,
            rows=found.prepared.rows if found else 0,
            zipcodes=found.prepared.zipcodes if found else 0,
            digest=found.prepared.digest if found else "",
            file=file,
            bytes=_size(self.observations / file) if file else 0,
            winners=common_winners([r for r in counted if r.validator in agreeing] or counted),
            agreeing=tuple(sorted(agreeing)),
            differing=dict(sorted(differing.items())),
            inputs=_inputs(objects),
        )
        body = json.dumps(kept.to_json(), indent=1).encode()
        write_whole(self._epoch_path(epoch_id), body)

    async def _agreed_rows(
        self,
        origin: Origin,
        decoder: Decoder,
        reports: Sequence[Report],
        rows_of: Mapping[Hotkey, Published],
        differing: dict[Hotkey, str],
    ) -> tuple[_Rows | None, list[Hotkey]]:
        """The rows that most of these validators published, and who did. Objects that the store
        says are the same are read once."""
        seen: dict[tuple[object, ...], _Rows | str] = {}
        rows: dict[Hotkey, _Rows] = {}
        for report in reports:
            published = rows_of.get(report.validator)
            if published is None:
                differing[report.validator] = "no rows are published beside the report"
                continue
            found = await self._prepare(origin, decoder, published, report, seen)
            if isinstance(found, str):
                differing[report.validator] = found
            else:
                rows[report.validator] = found
        digest, _ = most_common({v: r.prepared.digest for v, r in rows.items()})
        agreeing = [v for v, r in rows.items() if r.prepared.digest == digest]
        for validator in rows.keys() - set(agreeing):
            differing[validator] = "the same scores and weights, but other rows"
        return (rows[agreeing[0]] if agreeing else None), agreeing

    async def _prepare(
        self,
        origin: Origin,
        decoder: Decoder,
        published: Published,
        report: Report,
        seen: dict[tuple[object, ...], _Rows | str],
    ) -> _Rows | str:
        """One validator's rows as a file of ours; a text says what is wrong with them. ``seen``
        is what was found of others': the same bytes beside the same report are decoded once, and
        read once where the store says that they are the same."""
        if published.size > MAX_FILE_BYTES:
            return f"its rows have {published.size} bytes; {MAX_FILE_BYTES} are read at most"
        said = (report.winners, report.rows)
        listed = (published.size, published.tag, said)
        if published.tag and listed in seen:
            return seen[listed]
        body = await origin.read(published)
        held = (sha256_hex(body), said)
        if held not in seen:
            seen[held] = await self._decode(decoder, body, published, report)
        seen[listed] = seen[held]
        return seen[held]

    async def _decode(
        self, decoder: Decoder, body: bytes, published: Published, report: Report
    ) -> _Rows | str:
        path = self.parts / f"{hash_json([published.key])[:_DIGEST_SHOWN]}.parquet"
        try:
            prepared = await decoder.prepare(body, report, published.epoch_id, path)
        except MechanismError as fault:
            return f"its rows are refused: {fault}"
        return _Rows(prepared, path)

    def _epoch_path(self, epoch_id: EpochId) -> Path:
        return self._epochs / f"{epoch_id.replace(':', '-')}.json"

    def _sweep(self) -> None:
        """Remove what no epoch names."""
        _empty(self.parts)
        named = {epoch.file for epoch in self.kept()}
        for path in self.observations.iterdir():
            if path.name not in named:
                path.unlink()


def _inputs(objects: Sequence[Published]) -> dict[str, str]:
    return {p.key: f"{p.size} {p.tag}" for p in sorted(objects, key=lambda p: p.key)}


def _changed(
    published: Sequence[Published], known: Mapping[EpochId, KeptEpoch], removes_old: bool
) -> dict[EpochId, list[Published]]:
    """The epochs on which something else is published than was read, oldest first. Where old
    objects are removed, one validator's before another's, that some are gone is nothing else."""
    by_epoch: dict[EpochId, list[Published]] = {}
    for one in published:
        by_epoch.setdefault(one.epoch_id, []).append(one)

    def is_read(epoch_id: EpochId) -> bool:
        if epoch_id not in known:
            return False
        now, then = _inputs(by_epoch[epoch_id]), known[epoch_id].inputs
        return now.items() <= then.items() if removes_old else now == then

    return {epoch_id: by_epoch[epoch_id] for epoch_id in sorted(by_epoch) if not is_read(epoch_id)}


async def _read_reports(
    origin: Origin, objects: Sequence[Published], differing: dict[Hotkey, str]
) -> list[Report]:
    """The reports that are any, in the order of validators; what is wrong with the others."""
    reports: list[Report] = []
    ordered = sorted(objects, key=lambda p: p.validator)
    with_report = {p.validator for p in objects if p.kind is Kind.REPORT}
    for published in ordered:
        if published.kind is Kind.ROWS:
            if published.validator not in with_report:
                differing[published.validator] = "no report is published beside the rows"
            continue
        if published.size > MAX_REPORT_BYTES:
            differing[published.validator] = f"its report has {published.size} bytes"
            continue
        try:
            body = await origin.read(published)
            reports.append(read_report(body, published.validator, published.epoch_id))
        except ReportFault as fault:
            differing[published.validator] = str(fault)
    return reports


def _size(path: Path) -> int:
    """In bytes; -1 where there is no such file."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
