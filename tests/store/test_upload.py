"""Uploads over a network that fails: what passes is tried again, what is definite is not."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import stamina

from sn46.store.base import StoreError, UploadPolicy, UploadRefused
from sn46.store.s3 import S3Bucket
from sn46.store.upload import upload_object
from store.faults import Fault, FaultyTransport, answer, dropped, timed_out

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>"
BOMB = b'<!DOCTYPE a [<!ENTITY b "bbbbbbbb">]><Error><Code>&b;</Code></Error>'


@pytest.fixture(autouse=True)
def no_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=10, cap=True):
        yield


@pytest.fixture
def policy(bucket: S3Bucket) -> UploadPolicy:
    now = datetime.now(UTC)
    return bucket.upload_policy(
        prefix="m/",
        expires_at=now + timedelta(minutes=5),
        max_bytes=100,
        metadata={"nonce": "n"},
        now=now,
    )


@pytest.mark.parametrize(
    "fault",
    [
        answer(500),
        answer(502, b"<html>bad gateway</html>"),
        answer(503, SLOW_DOWN),
        answer(429),
        answer(400, SLOW_DOWN.replace(b"SlowDown", b"RequestTimeout")),
        dropped,
        timed_out,
    ],
)
async def test_what_passes_is_tried_again(
    bucket: S3Bucket, policy: UploadPolicy, fault: Fault
) -> None:
    transport = FaultyTransport(fault, fault)
    async with httpx.AsyncClient(transport=transport) as http:
        await upload_object(http, policy, "m/a", b"x")
    assert transport.requests == 3
    assert await bucket.get("m/a") == b"x"


async def test_tries_are_bounded(bucket: S3Bucket, policy: UploadPolicy) -> None:
    transport = FaultyTransport(*[answer(503, SLOW_DOWN)] * 9)
    async with httpx.AsyncClient(transport=transport) as http:
        with pytest.raises(StoreError, match="SlowDown") as failed:
            await upload_object(http, policy, "m/a", b"x", attempts=3)
    assert not isinstance(failed.value, UploadRefused)
    assert transport.requests == 3
    assert await bucket.objects("") == []


@pytest.mark.parametrize("status", [200, 201, 302, 400, 403, 404])
async def test_success_is_204_alone(policy: UploadPolicy, status: int) -> None:
    transport = FaultyTransport(answer(status))
    async with httpx.AsyncClient(transport=transport) as http:
        with pytest.raises(UploadRefused) as refused:
            await upload_object(http, policy, "m/a", b"x")
    assert refused.value.code == f"HTTP{status}"
    assert transport.requests == 1


@pytest.mark.parametrize(
    "fault",
    [
        answer(503, b"no gzip", content_encoding="gzip"),
        answer(503, SLOW_DOWN, set_cookie="a=\u00fc; Path=/"),
        answer(503, b"<?xml version='1.0' encoding='none'?><Error/>"),
        answer(503, b"x" * 1_000_000),
    ],
)
async def test_odd_answers_are_no_more_than_failures(
    bucket: S3Bucket, policy: UploadPolicy, fault: Fault
) -> None:
    async with httpx.AsyncClient(transport=FaultyTransport(fault)) as http:
        await upload_object(http, policy, "m/a", b"x")
    assert await bucket.get("m/a") == b"x"


async def test_an_answer_with_entities_is_not_expanded(policy: UploadPolicy) -> None:
    async with httpx.AsyncClient(transport=FaultyTransport(answer(400, BOMB))) as http:
        with pytest.raises(UploadRefused) as refused:
            await upload_object(http, policy, "m/a", b"x")
    assert refused.value.code == "HTTP400"


@pytest.mark.parametrize(
    ("key", "body", "code"),
    [
        ("n/a", b"x", "KeyOutsidePolicy"),
        ("m", b"x", "KeyOutsidePolicy"),
        ("m/", b"x", "KeyOutsidePolicy"),
        ("m/a", b"x" * 101, "EntityTooLarge"),
    ],
)
async def test_what_cannot_be_allowed_is_not_sent(
    policy: UploadPolicy, key: str, body: bytes, code: str
) -> None:
    transport = FaultyTransport()
    async with httpx.AsyncClient(transport=transport) as http:
        with pytest.raises(UploadRefused) as refused:
            await upload_object(http, policy, key, body)
    assert refused.value.code == code
    assert transport.requests == 0


async def test_bytes_arrive_as_they_are(bucket: S3Bucket, http: httpx.AsyncClient) -> None:
    now = datetime.now(UTC)
    policy = bucket.upload_policy(
        prefix="m/", expires_at=now + timedelta(minutes=5), max_bytes=10**7, metadata={}, now=now
    )
    body = bytes(range(256)) * 20_000 + b"\r\n--boundary--\r\n"
    await upload_object(http, policy, "m/big", body)
    assert await bucket.get("m/big") == body
