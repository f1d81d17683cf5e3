"""Uploading a finished package: the files, and last of all the manifest."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import httpx
import structlog

from sn46.clock import Clock, sleep_until
from sn46.mechanism.assignment import Assignment
from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.names import Hotkey, ZipCode
from sn46.mechanism.submission import (
    Manifest,
    ManifestFile,
    load_document,
    manifest_key,
    miner_prefix,
    parse_manifest,
)
from sn46.miner.progress import Progress
from sn46.miner.spool import EpochSpool
from sn46.miner.working import while_time_lasts, work_through
from sn46.store.base import StoreError, UploadPolicy, UploadRefused
from sn46.store.upload import upload_object

UPLOADS_AT_A_TIME: Final = 4
FIRST_PAUSE: Final = timedelta(seconds=1)
LONGEST_PAUSE: Final = timedelta(seconds=60)
LEAST_FOR_MANIFEST: Final = timedelta(seconds=2)
_JSON: Final = "application/json"
_PARQUET: Final = "application/vnd.apache.parquet"

_log = structlog.get_logger()


class DeliveryFailed(Exception):
    """The package is not with the store, and cannot be any more. The message says why."""


class FileRefused(DeliveryFailed):
    """The store will never take this file, whatever the credentials."""


@dataclass(frozen=True)
class Delivered:
    """The manifest as the store has it, and why files of the package are not there, by ZIP."""

    manifest: Manifest
    unsent: Mapping[ZipCode, str]


def last_call(assignment: Assignment) -> datetime:
    """When to go on without the files that are not uploaded yet: a hundredth of the epoch, and
    2 s at least, is kept for the manifest."""
    epoch = assignment.epoch
    return epoch.end - max(LEAST_FOR_MANIFEST, epoch.length / 100)


class PolicyGiver(Protocol):
    """Whoever gives upload policies for the current epoch: the API, asked patiently."""

    async def __call__(self, assignment: Assignment) -> UploadPolicy:
        """
        Raises:
            DeliveryFailed: where there is none to be had before the deadline.
        """
        ...


class Delivery:
    """Uploads one epoch's package. What the spool knows to be uploaded is not sent again."""

    def __init__(
        self,
        *,
        hotkey: Hotkey,
        policies: PolicyGiver,
        http: httpx.AsyncClient,
        clock: Clock,
        progress: Progress,
    ) -> None:
        self._hotkey = hotkey
        self._policies = policies
        self._http = http
        self._clock = clock
        self._progress = progress
        self._last: _Session | None = None

    async def deliver(
        self,
        assignment: Assignment,
        spool: EpochSpool,
        manifest: bytes,
        *,
        signed: Callable[[tuple[ManifestFile, ...]], bytes],
        manifest_at: Callable[[datetime], datetime],
    ) -> Delivered:
        """Upload what the manifest names and, at ``manifest_at`` of the moment at which that is
        done, the manifest.

        A file that the store refuses for good is left out, and so are those that are not there
        shortly before the deadline: the manifest is then ``signed`` anew over the others.

        Raises:
            DeliveryFailed: where no file could be uploaded, or not the manifest.
            SpoolError: where the package on disk is damaged.
        """
        files = parse_manifest(load_document(manifest, "manifest.json")).files
        session = self._session(assignment, spool)
        unsent = await self._send_files(session, assignment, spool, files)
        if unsent:
            there = tuple(file for file in files if file.zipcode not in unsent)
            if not there:
                raise DeliveryFailed("; ".join(sorted(set(unsent.values()))))
            manifest = signed(there)
            spool.save_manifest(manifest)
        await sleep_until(self._clock, manifest_at(self._clock.now()))
        await session.put(manifest_key(self._hotkey, assignment.epoch_id), manifest, _JSON)
        named = parse_manifest(load_document(manifest, "manifest.json"))
        return Delivered(named, unsent)

    async def _send_files(
        self,
        session: "_Session",
        assignment: Assignment,
        spool: EpochSpool,
        files: Sequence[ManifestFile],
    ) -> dict[ZipCode, str]:
        """Upload them, several at a time. Returns why the others are not there, by ZIP."""
        unsent: dict[ZipCode, str] = {}
        waiting = {file.zipcode for file in files}
        first_is_there = asyncio.Event()

        async def send(file: ManifestFile) -> None:
            try:
                await session.put(file.key, spool.packaged(file), _PARQUET)
            except FileRefused as error:
                unsent[file.zipcode] = str(error)
                _log.error("a file cannot be uploaded", zipcode=file.zipcode, reason=str(error))
            else:
                first_is_there.set()
            waiting.discard(file.zipcode)

        async def time_is_up() -> None:
            await sleep_until(self._clock, last_call(assignment))
            # As long as nothing is there, there is nothing to lose by going on.
            await first_is_there.wait()

        await while_time_lasts(work_through(files, send, workers=UPLOADS_AT_A_TIME), time_is_up())
        for zipcode in sorted(waiting):
            unsent[zipcode] = f"it was not uploaded in time{session.last_trouble}"
            _log.error("a file is left out", zipcode=zipcode, reason=unsent[zipcode])
        return unsent

    def _session(self, assignment: Assignment, spool: EpochSpool) -> "_Session":
        """The session of an epoch: the same as before where delivering is tried again, since a
        full disk may have kept it from noting what is there."""
        if self._last is None or self._last.assignment != assignment:
            self._last = _Session(assignment, self._hotkey, spool, self._policies, self._http,
                                  self._clock, self._progress)  # fmt: skip
        self._last.note()
        return self._last


class _Session:
    """The uploads of one epoch under one policy, replaced by a newer one where that may help."""

    def __init__(
        self,
        assignment: Assignment,
        hotkey: Hotkey,
        spool: EpochSpool,
        policies: PolicyGiver,
        http: httpx.AsyncClient,
        clock: Clock,
        progress: Progress,
    ) -> None:
        self.assignment = assignment
        self._prefix = miner_prefix(hotkey, assignment.epoch_id)
        self._spool = spool
        self._policies = policies
        self._http = http
        self._clock = clock
        self._progress = progress
        self.last_trouble = ""
        """Why the last try failed, to be added to a sentence."""

        self._policy: UploadPolicy | None = None
        self._asking = asyncio.Lock()
        self._uploaded = spool.uploaded()

    def note(self) -> None:
        """Keep on disk what the store has."""
        self._spool.save_uploaded(self._uploaded)
        self._progress.update(files_uploaded=len(self._uploaded))

    async def put(self, key: str, body: bytes, content_type: str) -> None:
        digest = sha256_hex(body)
        if self._uploaded.get(key) == digest:
            return
        policy, pause = await self._policy_after(None), FIRST_PAUSE
        while True:
            try:
                await upload_object(self._http, policy, key, body, content_type=content_type)
                break
            except UploadRefused as error:
                self._give_up_where_vain(error)
                _log.warning("the store refused an upload; asking for new credentials",
                             reason=str(error))  # fmt: skip
                await self._clock.sleep(pause)
                policy = await self._policy_after(policy)
            except StoreError as error:
                self._give_up_where_vain(error)
                _log.warning("an upload failed; trying again", reason=str(error))
                await self._clock.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        self._uploaded[key] = digest
        self.note()
        _log.debug("uploaded", key=key, bytes=len(body))

    def _give_up_where_vain(self, error: StoreError) -> None:
        if isinstance(error, UploadRefused) and error.code == "EntityTooLarge":
            raise FileRefused(str(error)) from error
        if self._clock.now() >= self.assignment.submission_deadline:
            raise DeliveryFailed(str(error)) from error
        self.last_trouble = f": {error}"

    async def _policy_after(self, refused: UploadPolicy | None) -> UploadPolicy:
        """The policy in use; a new one where there is none yet or it is the one refused."""
        async with self._asking:
            if self._policy is None or self._policy is refused:
                policy = await self._policies(self.assignment)
                if policy.prefix != self._prefix:
                    raise DeliveryFailed(
                        f"The API gives credentials for {policy.prefix} and not for "
                        f"{self._prefix}, which is this miner's folder. Is the API's hotkey "
                        "(API_HOTKEY) the right one?"
                    )
                self._policy = policy
            return self._policy
