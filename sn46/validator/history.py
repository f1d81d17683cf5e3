"""What published reports say of the epochs before one: read through the API, and kept on disk.

Below the folder, one file an epoch, written whole or not at all once its reports are final::

    2024-03-15-16-00.json   {"format", "epoch_id", "epoch_seconds", "records"}

``records`` is ``{validator: {miner: true where it was good, false where it failed}}``. They are
kept by validator: whose stake counts how much is another question for every epoch that is judged.
Only the newest epoch is missing each time; a machine without files reads all of them.

That the API never drew an epoch is kept for the epoch that is judged alone (``"unknown_for"``): an
API that lost its memory for an hour must not have this validator differ from others for a week.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import httpx

from sn46.client.api import ApiClient, ApiError, ApiUnavailable
from sn46.durable import write_whole
from sn46.mechanism.agreement import MAX_REPORT_BYTES
from sn46.mechanism.credibility import Published, Record, history_of, read_record
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.names import EpochId, Hotkey
from sn46.mechanism.report import report_key
from sn46.mechanism.signing import is_hotkey
from sn46.mechanism.submission import ObjectInfo
from sn46.store.base import ReadableObject, Snapshot, StoreError
from sn46.store.snapshot import RemoteSnapshot

READ_AT_ONCE: Final = 4
"""How many epochs are read at a time; of each, one report at a time is in memory."""

_FORMAT: Final = 1

Told = Callable[[int, int], None]
"""Told how many epochs of how many are read."""

_FAULTS: Final = (ApiError, ApiUnavailable, StoreError, OSError)


def _nothing(done: int, of: int) -> None:
    pass


async def list_reports(api: ApiClient, past: Epoch) -> list[ReadableObject] | None:
    """The reports on an earlier epoch, frozen at its results deadline; None where the API never
    drew it.

    Also None where the epoch under that name is a longer one, which is why it is not final yet: no
    report on it is one on an epoch of this length.

    Raises:
        ApiError, ApiUnavailable: where they cannot be listed now.
    """
    try:
        return await api.validator_read(past.id, bucket="reports")
    except ApiError as error:
        if error.code == "unknown_epoch" or _is_of_another_length(error, past):
            return None
        raise


def _is_of_another_length(error: ApiError, past: Epoch) -> bool:
    """At the end of the next epoch, reports on one of this length are final L/32 later."""
    if error.code != "results_open" or error.retry_after is None:
        return False
    return error.retry_after > past.seconds / 16


def reports_by_owner(objects: Iterable[ObjectInfo], past: Epoch) -> dict[Hotkey, ObjectInfo]:
    """The reports on an epoch among objects of the results bucket, by whose folder they lie in.
    One that is larger than any report is none."""
    found: dict[Hotkey, ObjectInfo] = {}
    for info in objects:
        parts = info.key.split("/", 2)
        owner = parts[1] if len(parts) == 3 else ""
        if info.last_modified > past.results_deadline or info.size > MAX_REPORT_BYTES:
            continue
        if info.key == report_key(owner, past.id) and is_hotkey(owner):
            found[Hotkey(owner)] = info
    return found


async def records_in(
    snapshot: Snapshot, reports: Mapping[Hotkey, ObjectInfo], past: Epoch
) -> dict[Hotkey, Record]:
    """What each of these reports says; what is no report says nothing.

    Raises:
        StoreError: where one cannot be read now.
    """
    records: dict[Hotkey, Record] = {}
    for validator, info in sorted(reports.items()):
        body = await snapshot.read(info.key)
        record = await asyncio.to_thread(read_record, body, past)
        if record is not None:
            records[validator] = record
    return records


class History:
    """The records of past epochs."""

    def __init__(self, api: ApiClient, http: httpx.AsyncClient, folder: Path) -> None:
        self._api = api
        self._http = http
        self._folder = folder

    async def before(self, epoch: Epoch, told: Told = _nothing) -> Published:
        """The records of the 42 epochs before one whose submission deadline has passed. Called
        again after an error, it goes on where it was.

        Raises:
            ApiError, ApiUnavailable, StoreError: where reports cannot be read now.
            OSError: where the folder cannot be used.
        """
        wanted = history_of(epoch)
        found: dict[EpochId, Mapping[Hotkey, Record]] = {}
        left = iter(wanted)
        errors: list[Exception] = []

        async def work() -> None:
            for past in left:
                try:
                    found[past.id] = await self._of(past, epoch)
                except _FAULTS as error:
                    errors.append(error)
                if errors:  # What is under way ends, nothing more is begun.
                    return
                told(len(found), len(wanted))

        await asyncio.gather(*(work() for _ in range(READ_AT_ONCE)))
        if errors:
            raise errors[0]
        await asyncio.to_thread(self._forget_before, wanted[0])
        return found

    async def _of(self, past: Epoch, epoch: Epoch) -> Mapping[Hotkey, Record]:
        path = self._path(past)
        kept = await asyncio.to_thread(_kept, path, past, epoch)
        if kept is not None:
            return kept
        objects = await list_reports(self._api, past)
        snapshot = RemoteSnapshot(self._http, objects or ())
        reports = reports_by_owner(snapshot.objects, past)
        records = await records_in(snapshot, reports, past)
        document = {
            "format": _FORMAT,
            "epoch_id": past.id,
            "epoch_seconds": past.seconds,
            "unknown_for": epoch.id if objects is None else None,
            "records": records,
        }
        await asyncio.to_thread(self._keep, path, document)
        return records

    def _path(self, past: Epoch) -> Path:
        return self._folder / f"{past.id.replace(':', '-')}.json"

    def _keep(self, path: Path, document: Mapping[str, Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(document).encode())

    def _forget_before(self, oldest: Epoch) -> None:
        """Remove what no later epoch looks at, and what a process that was killed left behind."""
        first = self._path(oldest).name
        for path in self._folder.iterdir():
            if path.suffix == ".part" or path.name < first:
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()


def _kept(path: Path, past: Epoch, epoch: Epoch) -> dict[Hotkey, Record] | None:
    """What is kept of an epoch of this length, for judging ``epoch``; a damaged file is none."""
    try:
        document: Any = json.loads(path.read_bytes())
        given = (document["format"], document["epoch_id"], document["epoch_seconds"])
        if given != (_FORMAT, past.id, past.seconds):
            return None
        if document["unknown_for"] not in (None, epoch.id):
            return None
        records: Mapping[str, Mapping[str, Any]] = document["records"]
        found: dict[Hotkey, Record] = {}
        for validator, record in records.items():
            if not all(value is True or value is False for value in record.values()):
                return None
            found[Hotkey(validator)] = cast(Record, dict(record))
    except (FileNotFoundError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    return found
