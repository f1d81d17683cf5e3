"""Where published epochs lie: an export folder (mechanism 13), or the bucket of results.

Of each validator and epoch two objects matter, the report and the rows. Their names are theirs to
choose as far as an upload policy goes, so whatever does not look exactly like one of the two is
not there for us.
"""

import asyncio
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol, Self

import obstore
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError

from sn46.mechanism.epochs import parse_epoch_id
from sn46.mechanism.errors import EpochError
from sn46.mechanism.names import EpochId, Hotkey
from sn46.mechanism.report import data_key, report_key
from sn46.mechanism.signing import is_hotkey
from sn46.store.base import StoreError
from sn46.store.s3 import S3Access, store_error
from sn46.store.snapshot import VALIDATED_DATA, FolderSnapshot

_KEY: Final = re.compile(
    r"validators/([^/]+)/epoch=([^/]+)/(validated_data\.parquet|validation_report\.json)"
)


class Kind(StrEnum):
    """What an object is."""

    REPORT = "validation_report.json"
    ROWS = "validated_data.parquet"


@dataclass(frozen=True)
class Published:
    """An object that a validator published: whose, of which epoch, what, and its size in bytes.

    Two objects with the same ``tag`` and size hold the same bytes, where the tag is not empty.
    """

    validator: Hotkey
    epoch_id: EpochId
    kind: Kind
    size: int
    tag: str

    @property
    def key(self) -> str:
        key = report_key if self.kind is Kind.REPORT else data_key
        return key(self.validator, self.epoch_id)


class Origin(Protocol):
    """A place that published epochs are read from."""

    @property
    def name(self) -> str:
        """What it is, for people; two places of one name are the same place."""
        ...

    @property
    def removes_old(self) -> bool:
        """Whether objects are removed there by age: then what is gone was not taken back."""
        ...

    async def published(self) -> Sequence[Published]:
        """All that is published there.

        Raises:
            StoreError: where it cannot be listed now.
        """
        ...

    async def read(self, published: Published) -> bytes:
        """The bytes of one object, never more than were listed.

        Raises:
            StoreError: where it cannot be read now, or is no longer what was listed.
        """
        ...


def _published(key: str, size: int, tag: str) -> Published | None:
    """The object that a key names; None for any other object."""
    match = _KEY.fullmatch(key)
    if match is None or not is_hotkey(match[1]):
        return None
    try:
        # Any length will do here: which epochs there are is not ours to know.
        epoch_id = parse_epoch_id(match[2], 60).id
    except EpochError:
        return None
    if epoch_id != match[2]:
        return None
    return Published(Hotkey(match[1]), epoch_id, Kind(match[3]), size, tag)


class FolderOrigin:
    """An export folder. What is listed is what was there when it was opened."""

    removes_old = False

    def __init__(self, directory: Path) -> None:
        """Raises ExportError where there is no export, or its index cannot be read."""
        self._snapshot = FolderSnapshot(directory, VALIDATED_DATA)
        self.name = f"folder {directory.resolve()}"

    async def published(self) -> Sequence[Published]:
        found = (
            _published(o.key, o.size, f"{o.last_modified.isoformat()} {o.key}")
            for o in self._snapshot.objects
        )
        return [one for one in found if one is not None]

    async def read(self, published: Published) -> bytes:
        return await self._snapshot.read(published.key)


class BucketOrigin:
    """The bucket of results, with its owner's keys or as anyone may read it. Close it."""

    removes_old = True

    def __init__(self, access: S3Access, bucket: str) -> None:
        self.name = f"bucket {access.bucket_url(bucket)}"
        self._access, self._bucket = access, bucket
        self._client = access.client()
        self._store = access.store(bucket)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="published")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    async def published(self) -> Sequence[Published]:
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, lambda: list(self._listed())
            )
        except (ClientError, BotoCoreError) as error:
            raise self._failed("list the published epochs", error) from error

    def _listed(self) -> Iterable[Published]:
        pages = self._client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._bucket, Prefix="validators/"):
            for entry in page.get("Contents", []):
                found = _published(
                    entry.get("Key", ""), entry.get("Size", 0), entry.get("ETag", "")
                )
                if found is not None:
                    yield found

    async def read(self, published: Published) -> bytes:
        what = f"read {published.key}"
        try:
            result = await obstore.get_async(self._store, published.key)
            if result.meta["size"] != published.size:
                raise StoreError(
                    f"{published.key} was replaced while the epochs were read. Ask again."
                )
            return bytes(await result.bytes_async())
        except (BaseError, FileNotFoundError) as error:
            raise self._failed(what, error) from error

    def _failed(self, what: str, error: Exception) -> StoreError:
        if self._access.public and any(s in str(error) for s in ("AccessDenied", "403")):
            return StoreError(
                f"Could not {what} in {self.name}: it is not open to everyone. Set S3_ACCESS_KEY "
                "and S3_SECRET_KEY, or read an export with --from DIR."
            )
        return store_error(error, f"{what} in the bucket {self._bucket}", self._access)
