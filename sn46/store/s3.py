"""A bucket of any S3 store: AWS, DigitalOcean Spaces, SeaweedFS and their like.

Data and metadata go through obstore (1,050 metadata reads in 0.3 s, where boto3's threads take
1.9 s), listings and set-up through boto3, which is synchronous and runs in a small pool of
threads. What obstore cannot express (keys with empty or dotted segments, metadata that is not
ASCII: neither is ours, but anyone with an upload policy may try) boto3 reads one by one, so no
upload can make a folder unreadable.
"""

import asyncio
import ipaddress
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import urlsplit

import boto3
import obstore
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError
from obstore.store import S3Store

from sn46.clock import Clock, SystemClock
from sn46.mechanism.submission import ObjectInfo
from sn46.store.base import ReadableObject, StoreError, UploadPolicy
from sn46.store.sigv4 import post_policy_fields, presigned_get

if TYPE_CHECKING:
    from obstore import GetOptions
    from types_boto3_s3 import S3Client

MINER_BUCKET = "resi-miner-data"
RESULTS_BUCKET = "resi-validated-data"

_THREADS = 8
_METADATA_READS = 64
_CACHED_METADATA = 200_000
"""Entries, of about half a kilobyte: four days of 256 miners with 30 files an epoch."""
_META_NAME = re.compile(r"[a-z0-9][a-z0-9-]*", re.ASCII)
_META_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?", re.ASCII)
_OBSTORE_NAMES = frozenset(
    {"cache-control", "content-disposition", "content-encoding", "content-language"}
    | {"content-type", "storage-class"}
)
"""obstore takes these in any letter case as headers, not as metadata."""

_T = TypeVar("_T")

_session_guard = threading.Lock()


@lru_cache(maxsize=1)
def _session() -> boto3.session.Session:
    """One for all clients, as it holds boto3's parsed model of S3 and no keys of ours. Clients
    may be shared between threads, their making may not: take the guard."""
    return boto3.session.Session()


@dataclass(frozen=True)
class S3Access:
    """How to reach an S3 store as the owner of its buckets.

    ``endpoint`` is empty for AWS itself. ``path_style`` puts the bucket into the path and not
    into the host name; by default so where the host is an address or has no dots.
    """

    endpoint: str
    region: str
    access_key: str
    secret_key: str = field(repr=False)
    path_style: bool | None = None
    public: bool = False
    """Reads, without keys, what a bucket's owner lets anyone read."""

    def __post_init__(self) -> None:
        if self.endpoint and urlsplit(self.endpoint).scheme not in ("http", "https"):
            raise StoreError(
                f"The S3 endpoint {self.endpoint!r} is no address. Write it with its scheme, such "
                "as https://nyc3.digitaloceanspaces.com, or leave it empty for AWS."
            )
        if not (self.region and (self.public or (self.access_key and self.secret_key))):
            raise StoreError("An S3 store needs a region, an access key and a secret key.")

    @property
    def address(self) -> str:
        """The endpoint without a slash at its end."""
        return (self.endpoint or f"https://s3.{self.region}.amazonaws.com").rstrip("/")

    @property
    def uses_path_style(self) -> bool:
        if self.path_style is not None:
            return self.path_style
        host = urlsplit(self.address).hostname or ""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return "." not in host
        return True

    def bucket_url(self, bucket: str) -> str:
        """A bucket's own address, without a slash at its end."""
        if self.uses_path_style:
            return f"{self.address}/{bucket}"
        scheme, host = self.address.split("://", 1)
        return f"{scheme}://{bucket}.{host}"

    def client(self) -> "S3Client":
        """A boto3 client. It may be shared between threads."""
        with _session_guard:
            return self._new_client(_session())

    def _new_client(self, session: boto3.session.Session) -> "S3Client":
        return session.client(
            "s3",
            endpoint_url=self.address,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                signature_version=UNSIGNED if self.public else "s3v4",
                s3={"addressing_style": "path" if self.uses_path_style else "virtual"},
                connect_timeout=5,
                read_timeout=30,
                retries={"mode": "standard", "total_max_attempts": 4},
                max_pool_connections=_THREADS,
                # Not every S3 store knows the newer checksum headers.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def store(self, bucket: str) -> S3Store:
        """An obstore store for one bucket."""
        return S3Store(
            bucket,
            endpoint=self.address if self.uses_path_style else self.bucket_url(bucket),
            region=self.region,
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            skip_signature=self.public,
            virtual_hosted_style_request=not self.uses_path_style,
            client_options={
                "allow_http": True,
                "connect_timeout": timedelta(seconds=5),
                "timeout": timedelta(seconds=60),
            },
            retry_config={
                "max_retries": 3,
                "retry_timeout": timedelta(seconds=30),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=3),
                    "base": 2,
                },
            },
        )


@dataclass(frozen=True)
class _Version:
    """One version of an object as the store lists it; ``version_id`` is None in a bucket without
    versions."""

    key: str
    version_id: str | None
    size: int
    modified: datetime


class S3Bucket:
    """``sn46.store.base.Bucket`` on an S3 store. Every method that asks the store raises
    StoreError where it cannot be asked or refuses. Use it within one event loop."""

    def __init__(self, access: S3Access, name: str, *, clock: Clock | None = None) -> None:
        """``clock`` dates the presigned addresses: the store compares them with its own, real
        one, so only a test has reason to give another than the machine's."""
        self.access = access
        self.name = name
        self._clock = clock or SystemClock()
        self._store = access.store(name)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"s3-{name}")
        self._client_guard = threading.Lock()
        self._lazy_client: S3Client | None = None
        self._metadata: OrderedDict[tuple[str, str], Mapping[str, str]] = OrderedDict()
        self._reads = asyncio.Semaphore(_METADATA_READS)

    async def objects(self, prefix: str, *, until: datetime | None = None) -> list[ObjectInfo]:
        """See Bucket. Times are whole seconds, S3's own resolution: what was written within the
        second of ``until`` still counts. In a bucket without versions ``until`` leaves out what
        was overwritten since."""
        return [info for _, info in await self._described(prefix, until)]

    async def readable(
        self,
        prefix: str,
        *,
        until: datetime | None = None,
        expires_in_seconds: int,
        among: Collection[str] | None = None,
    ) -> list[ReadableObject]:
        described = await self._described(prefix, until, among)
        now = self._clock.now()
        return [
            ReadableObject(info, self._presign(version, expires_in_seconds, now))
            for version, info in described
        ]

    async def get(self, key: str, *, until: datetime | None = None) -> bytes:
        """The bytes of an object, or of its newest version not later than ``until``.

        Raises:
            KeyError: where there is no such object (at that time).
        """
        version_id = None
        if until is not None:
            versions = await self._in_thread(lambda: self._list(key, until), f"list {key!r}")
            found = next((v for v in versions if v.key == key), None)
            if found is None:
                raise KeyError(key)
            version_id = found.version_id
        what = f"read {key!r}"
        if not _is_plain(key):
            return await self._in_thread(lambda: self._boto_get(key, version_id), what, key)
        try:
            result = await obstore.get_async(self._store, key, options=_options(version_id))
            return bytes(await result.bytes_async())
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise self._failed(what, error) from error
            raise KeyError(key) from None
        except BaseError as error:
            raise self._failed(what, error) from error

    async def put(self, key: str, body: bytes, metadata: Mapping[str, str] | None = None) -> None:
        named = _checked_metadata(metadata or {})
        if not _is_plain(key):
            raise StoreError(
                f"The key {key!r} is not portable between S3 stores: no segment may be empty, "
                "'.' or '..'."
            )
        if clash := _OBSTORE_NAMES & set(named):
            raise StoreError(f"Metadata cannot be named {', '.join(sorted(clash))}.")
        attributes = {"Content-Type": "application/octet-stream", **named}
        try:
            await obstore.put_async(self._store, key, body, attributes=attributes)
        except (BaseError, FileNotFoundError) as error:  # The latter where there is no bucket.
            raise self._failed(f"write {key!r}", error) from error

    def upload_policy(
        self,
        *,
        prefix: str,
        expires_at: datetime,
        max_bytes: int,
        metadata: Mapping[str, str],
        now: datetime,
    ) -> UploadPolicy:
        """See Bucket.

        Raises:
            ValueError: where the prefix is empty, or a time names no zone.
            StoreError: where a metadata name or value is not portable.
        """
        if not prefix or expires_at.tzinfo is None:
            raise ValueError("an upload policy needs a prefix and an expiry with a time zone")
        fields = post_policy_fields(
            access_key=self.access.access_key,
            secret_key=self.access.secret_key,
            region=self.access.region,
            bucket=self.name,
            prefix=prefix,
            expires_at=expires_at,
            max_bytes=max_bytes,
            metadata=_checked_metadata(metadata),
            now=now,
        )
        url = self.access.bucket_url(self.name)
        return UploadPolicy(
            # A virtual-hosted bucket has its root at the slash.
            url=url if self.access.uses_path_style else f"{url}/",
            fields=fields,
            prefix=prefix,
            expires_at=expires_at,
            max_bytes=max_bytes,
        )

    async def delete_versions(self, prefix: str) -> None:
        """Remove everything under a prefix for good, every version and marker of it."""

        def remove() -> None:
            pages = self._client.get_paginator("list_object_versions")
            for page in pages.paginate(Bucket=self.name, Prefix=prefix):
                for entry in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                    self._client.delete_object(
                        Bucket=self.name,
                        Key=entry.get("Key", ""),
                        VersionId=entry.get("VersionId", ""),
                    )

        await self._in_thread(remove, f"delete {prefix!r}")

    async def close(self) -> None:
        """Let go of threads and connections."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._client_guard:
            if self._lazy_client is not None:
                self._lazy_client.close()
                self._lazy_client = None

    async def _described(
        self, prefix: str, until: datetime | None, among: Collection[str] | None = None
    ) -> list[tuple[_Version, ObjectInfo]]:
        versions = await self._in_thread(lambda: self._list(prefix, until), f"list {prefix!r}")
        if among is not None:
            versions = [version for version in versions if version.key in among]
        metadata = await asyncio.gather(*(self._metadata_of(v) for v in versions))
        return [
            (v, ObjectInfo(v.key, v.size, _whole_second(v.modified), meta))
            for v, meta in zip(versions, metadata, strict=True)
            if meta is not None
        ]

    def _list(self, prefix: str, until: datetime | None) -> list[_Version]:
        """The newest version of each key not later than ``until``, sorted by key."""
        newest: dict[str, tuple[tuple[datetime, bool, bool], _Version | None]] = {}
        limit = None if until is None else _whole_second(until)

        def consider(
            key: str, modified: datetime, is_latest: bool, version: _Version | None
        ) -> None:
            if limit is not None and _whole_second(modified) > limit:
                return
            # Within one second the listing's order decides, newest first. A deletion and a
            # version come in two lists, so between those the version stays.
            rank = (modified, is_latest, version is not None)
            known = newest.get(key)
            if known is None or rank > known[0]:
                newest[key] = (rank, version)

        pages = self._client.get_paginator("list_object_versions")
        for page in pages.paginate(Bucket=self.name, Prefix=prefix):
            for entry in page.get("Versions", []):
                key, modified = entry.get("Key", ""), _stored_time(entry.get("LastModified"))
                version_id = entry.get("VersionId")
                version = _Version(
                    key=key,
                    version_id=None if version_id == "null" else version_id,
                    size=entry.get("Size", 0),
                    modified=modified,
                )
                consider(key, modified, entry.get("IsLatest", False), version)
            for marker in page.get("DeleteMarkers", []):
                modified = _stored_time(marker.get("LastModified"))
                consider(marker.get("Key", ""), modified, marker.get("IsLatest", False), None)
        found = [version for _, version in newest.values() if version is not None]
        return sorted(found, key=lambda v: v.key)

    async def _metadata_of(self, version: _Version) -> Mapping[str, str] | None:
        """A version's metadata; None where it was removed since it was listed. A version never
        changes, so what was read once is kept."""
        cached = (version.key, version.version_id or "")
        if version.version_id is not None and cached in self._metadata:
            self._metadata.move_to_end(cached)
            return self._metadata[cached]
        async with self._reads:
            found = await self._read_metadata(version)
        if found is not None and version.version_id is not None:
            self._metadata[cached] = found
            if len(self._metadata) > _CACHED_METADATA:
                self._metadata.popitem(last=False)
        return found

    async def _read_metadata(self, version: _Version) -> Mapping[str, str] | None:
        key, version_id = version.key, version.version_id
        if _is_plain(key):
            options = _options(version_id)
            options["head"] = True
            try:
                result = await obstore.get_async(self._store, key, options=options)
            except FileNotFoundError:
                return None
            except BaseError:
                pass  # Perhaps metadata that is not ASCII; boto3 finds out, or fails with a reason.
            else:
                attributes = cast(Mapping[str, str], result.attributes)
                return {
                    name.lower(): value
                    for name, value in attributes.items()
                    if name.lower() not in _OBSTORE_NAMES
                }
        try:
            what = f"read the metadata of {key!r}"
            return await self._in_thread(lambda: self._boto_head(key, version_id), what, key)
        except KeyError:
            return None

    def _boto_head(self, key: str, version_id: str | None) -> Mapping[str, str]:
        if version_id is None:
            answer = self._client.head_object(Bucket=self.name, Key=key)
        else:
            answer = self._client.head_object(Bucket=self.name, Key=key, VersionId=version_id)
        return {name.lower(): _as_text(value) for name, value in answer["Metadata"].items()}

    def _boto_get(self, key: str, version_id: str | None) -> bytes:
        if version_id is None:
            return self._client.get_object(Bucket=self.name, Key=key)["Body"].read()
        answer = self._client.get_object(Bucket=self.name, Key=key, VersionId=version_id)
        return answer["Body"].read()

    def _presign(self, version: _Version, expires_in_seconds: int, now: datetime) -> str:
        return presigned_get(
            access_key=self.access.access_key,
            secret_key=self.access.secret_key,
            region=self.access.region,
            bucket_url=self.access.bucket_url(self.name),
            key=version.key,
            version_id=version.version_id,
            expires_in_seconds=expires_in_seconds,
            now=now,
        )

    @property
    def _client(self) -> "S3Client":
        # Made when first needed: loading boto3's model of S3 takes a tenth of a second.
        with self._client_guard:
            if self._lazy_client is None:
                self._lazy_client = self.access.client()
            return self._lazy_client

    async def _in_thread(self, call: Callable[[], _T], what: str, key: str | None = None) -> _T:
        """Run a boto3 call in the pool; ``key`` is the object it is about, if about one."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        except ClientError as error:
            if key is not None and error_code(error) in ("NoSuchKey", "NoSuchVersion", "404"):
                raise KeyError(key) from None
            raise self._failed(what, error) from error
        except BotoCoreError as error:
            raise self._failed(what, error) from error

    def _failed(self, what: str, error: Exception) -> StoreError:
        return store_error(error, f"{what} in the bucket {self.name}", self.access)


def error_code(error: Exception) -> str:
    """The store's own code of a refusal, such as ``NoSuchBucket``; empty for any other error."""
    if not isinstance(error, ClientError):
        return ""
    return error.response.get("Error", {}).get("Code", "")


def store_error(error: Exception, what: str, access: S3Access) -> StoreError:
    """An error of a library as ours, with what to do about it."""
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    text = f"{error_code(error)} {error}"
    mends: Iterable[tuple[tuple[str, ...], str]] = (
        (("NoSuchBucket",), "Create the buckets first (the owner does with sn46 api buckets)."),
        (
            ("InvalidAccessKeyId", "SignatureDoesNotMatch"),
            "Check the access key, the secret key and the region.",
        ),
        (("RequestTimeTooSkewed",), "Set this machine's clock."),
        (("AccessDenied", "403"), "Check what these keys are allowed to do."),
        (
            ("onnect", "imed out", "timeout", "error sending request"),
            "Check that the store runs and can be reached from here.",
        ),
    )
    mend = next((m for signs, m in mends if any(s in text for s in signs)), "Try again later.")
    return StoreError(f"Could not {what} at {access.address}: {first_line}. {mend}")


def _checked_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata with lower-case names, as every store gives it back.

    Raises:
        StoreError: where a name or value would not survive the way through HTTP headers.
    """
    named = {name.lower(): value for name, value in metadata.items()}
    if len(named) != len(metadata):
        raise StoreError("Two metadata names differ in letter case alone.")
    for name, value in named.items():
        if not _META_NAME.fullmatch(name) or not _META_VALUE.fullmatch(value):
            raise StoreError(
                f"The metadata {name!r} is not portable: names are letters, digits and '-', "
                "values printable ASCII without spaces at their ends, and not empty."
            )
    return named


def _is_plain(key: str) -> bool:
    """Whether obstore can name this key, and names the same one."""
    return all(part not in ("", ".", "..") for part in key.split("/"))


def _options(version_id: str | None) -> "GetOptions":
    return {} if version_id is None else {"version": version_id}


def _stored_time(moment: datetime | None) -> datetime:
    if moment is None:
        raise StoreError("The store listed an object without a time. It is no S3 store we can use.")
    return moment.astimezone(UTC)


def _whole_second(moment: datetime) -> datetime:
    """Down to the second: some stores list finer times than they tell in HTTP headers, and every
    reader must see the same."""
    return moment.astimezone(UTC).replace(microsecond=0)


def _as_text(header: str) -> str:
    """A metadata value that is not ASCII: sent as UTF-8, but read as Latin-1 by HTTP libraries."""
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return header
