"""What the rest of the house sees of the two buckets."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sn46.mechanism.submission import ObjectInfo


class StoreError(Exception):
    """The object store could not be asked, or refused. The message says what to do."""


class UploadRefused(StoreError):
    """The store refused an upload for good (policy, size, expiry): the same again will not help.

    ``code`` is the store's own error code, such as ``AccessDenied`` or ``EntityTooLarge``.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class UploadPolicy:
    """A signed POST policy: with it, and without any key, objects under ``prefix`` can be written
    until ``expires_at``. ``fields`` go into the form before ``file``; ``fields['key']`` is the
    prefix followed by ``${filename}``. The metadata fields that the policy forces are among them.
    """

    url: str
    fields: Mapping[str, str]
    prefix: str
    expires_at: datetime
    max_bytes: int


class Snapshot(Protocol):
    """A frozen set of objects: what a validator judges and what a replay reads from a folder."""

    @property
    def objects(self) -> Sequence[ObjectInfo]:
        """All objects, sorted by key."""
        ...

    async def read(self, key: str) -> bytes:
        """The bytes of one object of this snapshot.

        Raises:
            StoreError: where it cannot be read now.
            KeyError: where the snapshot has no such key.
        """
        ...


@dataclass(frozen=True)
class ReadableObject:
    """An object with a presigned GET address that needs no key."""

    info: ObjectInfo
    url: str


class Bucket(Protocol):
    """One bucket, seen with its owner's keys. Only the API server and the set-up have these."""

    async def objects(self, prefix: str, *, until: datetime | None = None) -> list[ObjectInfo]:
        """Objects under a prefix with their metadata, sorted by key.

        With ``until``, the newest version of each object whose time is not later; objects that
        have none are left out. So what is overwritten after a deadline reads as it was.
        """
        ...

    async def readable(
        self,
        prefix: str,
        *,
        until: datetime | None = None,
        expires_in_seconds: int,
        among: Collection[str] | None = None,
    ) -> list[ReadableObject]:
        """As ``objects``, each with a presigned GET of just that version. With ``among``, only
        objects of these keys; what else lies there costs no request of its own."""
        ...

    async def get(self, key: str, *, until: datetime | None = None) -> bytes: ...

    async def put(self, key: str, body: bytes, metadata: Mapping[str, str] | None = None) -> None:
        """Write as the owner (set-up, tests, exports)."""
        ...

    def upload_policy(
        self,
        *,
        prefix: str,
        expires_at: datetime,
        max_bytes: int,
        metadata: Mapping[str, str],
        now: datetime,
    ) -> UploadPolicy:
        """Sign a POST policy that forces prefix, metadata, size and expiry. No network."""
        ...
