"""Make the two buckets ready, and prove that they are: ``prepare_buckets`` and ``probe``."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, cast

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from sn46.clock import Clock, SystemClock
from sn46.store.base import StoreError, UploadPolicy, UploadRefused
from sn46.store.s3 import MINER_BUCKET, RESULTS_BUCKET, S3Access, S3Bucket, error_code, store_error
from sn46.store.upload import send_form, upload_object

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_s3.literals import BucketLocationConstraintType
    from types_boto3_s3.type_defs import LifecycleRuleTypeDef

MIN_KEEP_DAYS = 8
"""Reports are read again for 42 epochs of four hours after theirs, and by late validators."""

_UNSUPPORTED = frozenset(
    {"NotImplemented", "MethodNotAllowed", "UnsupportedOperation", "InvalidRequest", "501", "405"}
)
_MAX_SKEW = timedelta(minutes=5)
_LIFECYCLE_ID = "sn46-old-data"


@dataclass(frozen=True)
class SetupStep:
    """What was done for a bucket, or was so already. ``note`` says what the store lacks."""

    bucket: str
    step: str
    done: bool
    note: str = ""


async def prepare_buckets(
    access: S3Access,
    *,
    miner_bucket: str = MINER_BUCKET,
    results_bucket: str = RESULTS_BUCKET,
    keep_days: int | None = None,
) -> list[SetupStep]:
    """Create what is missing: both buckets, their versions, a block against public access where
    the store knows one, and, with ``keep_days``, a rule that removes older data. Can be repeated.

    Raises:
        StoreError: where a bucket cannot be made or keeps no versions.
        ValueError: where ``keep_days`` is under MIN_KEEP_DAYS.
    """
    if keep_days is not None and keep_days < MIN_KEEP_DAYS:
        raise ValueError(
            f"keep_days must be at least {MIN_KEEP_DAYS}: validators read the reports of 42 "
            "epochs back, and those that were away the epochs they missed."
        )

    def prepare() -> list[SetupStep]:
        client = access.client()
        try:
            return [
                step
                for bucket in (miner_bucket, results_bucket)
                for step in _prepare_bucket(client, access, bucket, keep_days)
            ]
        finally:
            client.close()

    return await asyncio.to_thread(prepare)


def _prepare_bucket(
    client: "S3Client", access: S3Access, bucket: str, keep_days: int | None
) -> list[SetupStep]:
    what = f"set up the bucket {bucket}"
    try:
        steps = [
            _ensure_created(client, access, bucket),
            _ensure_versioned(client, bucket),
            _ensure_private(client, bucket),
        ]
        if keep_days is not None:
            steps.append(_ensure_lifecycle(client, bucket, keep_days))
    except (ClientError, BotoCoreError) as error:
        raise store_error(error, what, access) from error
    return steps


def _ensure_created(client: "S3Client", access: S3Access, bucket: str) -> SetupStep:
    try:
        client.head_bucket(Bucket=bucket)
        return SetupStep(bucket, "bucket exists", True)
    except ClientError as error:
        code = error_code(error)
        if code == "403":
            raise StoreError(
                f"The bucket {bucket} belongs to somebody else, or these keys may not use it. "
                "Choose another bucket name, or allow the keys to use it."
            ) from error
        if code not in ("404", "NoSuchBucket"):
            raise
    try:
        if access.endpoint or access.region == "us-east-1":
            client.create_bucket(Bucket=bucket)
        else:
            region = cast("BucketLocationConstraintType", access.region)
            client.create_bucket(
                Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region}
            )
    except ClientError as error:
        # Another set-up may have been quicker.
        if error_code(error) != "BucketAlreadyOwnedByYou":
            raise
    return SetupStep(bucket, "bucket created", True)


def _ensure_versioned(client: "S3Client", bucket: str) -> SetupStep:
    def enabled() -> bool:
        return client.get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled"

    if not enabled():
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        if not enabled():
            raise StoreError(
                f"The store keeps no versions in {bucket}. Without them a miner could change a "
                "submission while it is validated: choose a store that has versioning."
            )
    return SetupStep(bucket, "versions kept", True)


def _ensure_private(client: "S3Client", bucket: str) -> SetupStep:
    step = "public access blocked"
    try:
        client.put_public_access_block(
            Bucket=bucket,
            PublicAccessBlockConfiguration={
                "BlockPublicAcls": True,
                "IgnorePublicAcls": True,
                "BlockPublicPolicy": True,
                "RestrictPublicBuckets": True,
            },
        )
    except ClientError as error:
        if error_code(error) not in _UNSUPPORTED:
            raise
        return SetupStep(
            bucket, step, False, "This store has no such setting; the probe checks it is private."
        )
    return SetupStep(bucket, step, True)


def _ensure_lifecycle(client: "S3Client", bucket: str, keep_days: int) -> SetupStep:
    step = f"data older than {keep_days} days is removed"
    rule: LifecycleRuleTypeDef = {
        "ID": _LIFECYCLE_ID,
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "Expiration": {"Days": keep_days},
        "NoncurrentVersionExpiration": {"NoncurrentDays": keep_days},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": MIN_KEEP_DAYS},
    }
    try:
        client.put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration={"Rules": [rule]}
        )
    except ClientError as error:
        if error_code(error) not in _UNSUPPORTED:
            raise
        return SetupStep(bucket, step, False, "This store has no lifecycle rules: remove by hand.")
    return SetupStep(bucket, step, True)


@dataclass(frozen=True)
class ProbeCheck:
    """One thing a store must do. ``mend`` says what was seen and what to do where it does not."""

    check: str
    ok: bool
    mend: str = ""


async def probe(
    bucket: S3Bucket, http: httpx.AsyncClient, *, clock: Clock | None = None
) -> list[ProbeCheck]:
    """Prove on the store itself that a bucket works and enforces policies.

    It writes a few small objects under ``probe/`` and removes them again. Where the store cannot
    be written at all, that is the only check; where the clocks differ, the last but one.
    """
    moment = (clock or SystemClock()).now()
    folder = f"probe/{secrets.token_hex(8)}/"
    nonce = secrets.token_hex(8)
    policy = bucket.upload_policy(
        prefix=f"{folder}allowed/",
        expires_at=moment + timedelta(minutes=10),
        max_bytes=1024,
        metadata={"nonce": nonce},
        now=moment,
    )
    try:
        checks = [await _check_owner(bucket, folder)]
        if checks[0].ok:
            checks.append(await _check_clock(bucket, http, moment))
        if checks[-1].ok:
            # By another clock than the store's, good policies fail and old ones hold.
            checks.extend(await _check_policy_works(bucket, http, policy, nonce))
            checks.extend(await _check_refusals(bucket, http, policy, folder, moment))
            checks.extend(await _check_reading(bucket, http, folder))
    finally:
        try:
            await bucket.delete_versions(folder)
        except StoreError as error:
            # The checks above already say so where the store cannot be used.
            leftover = str(error)
        else:
            leftover = ""
    checks.append(ProbeCheck("the owner can delete", not leftover, leftover))
    return checks


async def _checked(name: str, mend: str, run: Callable[[], Awaitable[bool]]) -> ProbeCheck:
    try:
        ok = await run()
    except (StoreError, httpx.HTTPError, KeyError) as error:
        return ProbeCheck(name, False, f"{mend} ({error})")
    return ProbeCheck(name, ok, "" if ok else mend)


async def _check_owner(bucket: S3Bucket, folder: str) -> ProbeCheck:
    async def run() -> bool:
        key = f"{folder}owner"
        await bucket.put(key, b"first", {"nonce": "a"})
        await bucket.put(key, b"second", {"nonce": "b"})
        listed = await bucket.objects(folder)
        meta = [dict(o.metadata) for o in listed]
        return meta == [{"nonce": "b"}] and await bucket.get(key) == b"second"

    mend = "Create the bucket, and give these keys the right to list, read and write it."
    return await _checked("the owner can write, list and read", mend, run)


async def _check_clock(bucket: S3Bucket, http: httpx.AsyncClient, now: datetime) -> ProbeCheck:
    async def run() -> bool:
        answer = await http.get(bucket.access.bucket_url(bucket.name))
        told = answer.headers.get("date")
        return told is None or abs(parsedate_to_datetime(told) - now) < _MAX_SKEW

    mend = (
        "This machine's clock and the store's differ by minutes: set this machine's. Until then "
        "uploads fail or come late, and nothing else of the store can be tried."
    )
    return await _checked("the clocks agree", mend, run)


async def _check_policy_works(
    bucket: S3Bucket, http: httpx.AsyncClient, policy: UploadPolicy, nonce: str
) -> list[ProbeCheck]:
    key = f"{policy.prefix}zipcode=00501/file"

    async def accepted() -> bool:
        await upload_object(http, policy, key, b"first")
        listed = await bucket.objects(policy.prefix)
        return [(o.key, dict(o.metadata)) for o in listed] == [(key, {"nonce": nonce})]

    async def versions() -> bool:
        first = await _only(bucket, key)
        await upload_object(http, policy, key, b"second")
        answer = await http.get(first)
        return answer.content == b"first" and await bucket.get(key) == b"second"

    mend_policy = "The store does not accept POST policies as S3 defines them: use another store."
    mend_versions = "Turn on the bucket's versions (sn46 api buckets does)."
    return [
        await _checked("an upload within the policy is accepted", mend_policy, accepted),
        await _checked("what is overwritten can still be read", mend_versions, versions),
    ]


async def _only(bucket: S3Bucket, key: str) -> str:
    """The presigned address of one object; KeyError where it is not there."""
    for found in await bucket.readable(key, expires_in_seconds=600):
        if found.info.key == key:
            return found.url
    raise KeyError(key)


async def _check_refusals(
    bucket: S3Bucket,
    http: httpx.AsyncClient,
    policy: UploadPolicy,
    folder: str,
    now: datetime,
) -> list[ProbeCheck]:
    expired = bucket.upload_policy(
        prefix=policy.prefix,
        expires_at=now - timedelta(minutes=1),
        max_bytes=policy.max_bytes,
        metadata={"nonce": policy.fields["x-amz-meta-nonce"]},
        now=now - timedelta(minutes=2),
    )
    good, small = f"{policy.prefix}refused", b"x"
    other = {**policy.fields, "x-amz-meta-nonce": "another"}
    without = {n: v for n, v in policy.fields.items() if n != "x-amz-meta-nonce"}
    cases: tuple[tuple[str, UploadPolicy, str, bytes], ...] = (
        ("another folder", policy, f"{folder}elsewhere/file", small),
        ("another nonce", replace(policy, fields=other), good, small),
        ("no nonce", replace(policy, fields=without), good, small),
        ("an expired policy", expired, good, small),
        ("too large a file", policy, good, b"x" * (policy.max_bytes + 1)),
    )
    checks = [await _check_refused(http, *case) for case in cases]
    return [*checks, await _check_no_way_out(bucket, http, policy, folder)]


async def _check_no_way_out(
    bucket: S3Bucket, http: httpx.AsyncClient, policy: UploadPolicy, folder: str
) -> ProbeCheck:
    """Some stores take such a key as it is, within the prefix; some refuse it. Both are right."""

    async def run() -> bool:
        try:
            await send_form(http, policy, f"{policy.prefix}../elsewhere/file", b"x")
        except UploadRefused:
            return True
        return not await bucket.objects(f"{folder}elsewhere/")

    mend = "The store resolves '..' in keys: miners could write into each other's folders."
    return await _checked("no way out of the folder", mend, run)


async def _check_refused(
    http: httpx.AsyncClient, name: str, policy: UploadPolicy, key: str, body: bytes
) -> ProbeCheck:
    async def run() -> bool:
        try:
            await send_form(http, policy, key, body)
        except UploadRefused:
            return True
        return False

    mend = "The store does not enforce upload policies: miners could harm each other. Use another."
    return await _checked(f"refused: {name}", mend, run)


async def _check_reading(
    bucket: S3Bucket, http: httpx.AsyncClient, folder: str
) -> list[ProbeCheck]:
    async def presigned() -> bool:
        return (await http.get(await _only(bucket, f"{folder}owner"))).content == b"second"

    async def private() -> bool:
        url = f"{bucket.access.bucket_url(bucket.name)}/{folder}owner"
        return (await http.get(url)).status_code in (401, 403, 404)

    mend_presigned = "Presigned addresses are refused: check the endpoint, region and path style."
    mend_private = "Anybody can read this bucket: take its public access away."
    return [
        await _checked("a presigned address can be read", mend_presigned, presigned),
        await _checked("nobody reads without one", mend_private, private),
    ]
