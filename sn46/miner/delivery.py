"""Uploading a finished package: the files, and last of all the manifest."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

import httpx
import structlog

from sn46.clock import Clock, sleep_until
from sn46.mechanism.assignment import Assignment
from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.names import Hotkey
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
from sn46.miner.working import work_through
from sn46.store.base import StoreError, UploadPolicy, UploadRefused
from sn46.store.upload import upload_object

UPLOADS_AT_A_TIME: Final = 4
FIRST_PAUSE: Final = timedelta(seconds=1)
LONGEST_PAUSE: Final = timedelta(seconds=60)
_JSON: Final = "application/json"
_PARQUET: Final = "application/vnd.apache.parquet"

_log = structlog.get_logger()


class DeliveryFailed(Exception):
    """The package is not with the store, and cannot be any more. The message says why."""


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

    async def deliver(
        self,
        assignment: Assignment,
        spool: EpochSpool,
        manifest: bytes,
        manifest_at: Callable[[datetime], datetime],
    ) -> Manifest:
        """Upload what the manifest names and, at ``manifest_at`` of the moment at which that is
        done, the manifest.

        Raises:
            DeliveryFailed: where the store refuses for good, or the deadline passed first.
            SpoolError: where the package on disk is damaged.
        """
        named = parse_manifest(load_document(manifest, "manifest.json"))
        session = _Session(
            assignment, self._hotkey, spool, self._policies, self._http, self._clock, self._progress
        )

        async def send(file: ManifestFile) -> None:
            await session.put(file.key, spool.packaged(file), _PARQUET)

        await work_through(named.files, send, workers=UPLOADS_AT_A_TIME)
        await sleep_until(self._clock, manifest_at(self._clock.now()))
        await session.put(manifest_key(self._hotkey, assignment.epoch_id), manifest, _JSON)
        return named


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
        self._assignment = assignment
        self._prefix = miner_prefix(hotkey, assignment.epoch_id)
        self._spool = spool
        self._policies = policies
        self._http = http
        self._clock = clock
        self._progress = progress
        self._policy: UploadPolicy | None = None
        self._asking = asyncio.Lock()
        self._uploaded = spool.uploaded()
        progress.update(files_uploaded=len(self._uploaded))

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
        self._spool.save_uploaded(self._uploaded)
        self._progress.update(files_uploaded=len(self._uploaded))
        _log.debug("uploaded", key=key, bytes=len(body))

    def _give_up_where_vain(self, error: StoreError) -> None:
        too_large = isinstance(error, UploadRefused) and error.code == "EntityTooLarge"
        if too_large or self._clock.now() >= self._assignment.submission_deadline:
            raise DeliveryFailed(str(error)) from error

    async def _policy_after(self, refused: UploadPolicy | None) -> UploadPolicy:
        """The policy in use; a new one where there is none yet or it is the one refused."""
        async with self._asking:
            if self._policy is None or self._policy is refused:
                policy = await self._policies(self._assignment)
                if policy.prefix != self._prefix:
                    raise DeliveryFailed(
                        f"The API gives credentials for {policy.prefix} and not for "
                        f"{self._prefix}, which is this miner's folder. Is the API's hotkey "
                        "(API_HOTKEY) the right one?"
                    )
                self._policy = policy
            return self._policy
