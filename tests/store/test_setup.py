"""Set-up of the buckets, and the probe that proves a store."""

import asyncio
import secrets
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from sn46.store.s3 import S3Access, S3Bucket
from sn46.store.setup import prepare_buckets, probe


async def test_set_up_can_be_repeated_and_keeps_what_is_there(s3_access: S3Access) -> None:
    names = [f"test-{secrets.token_hex(6)}" for _ in range(2)]
    first = await prepare_buckets(s3_access, miner_bucket=names[0], results_bucket=names[1])
    bucket = S3Bucket(s3_access, names[0])
    await bucket.put("a", b"x")
    again = await prepare_buckets(
        s3_access, miner_bucket=names[0], results_bucket=names[1], keep_days=30
    )
    assert {s.bucket for s in first} == {s.bucket for s in again} == set(names)
    assert next(s.step for s in first if s.bucket == names[0]) == "bucket created"
    assert next(s.step for s in again if s.bucket == names[0]) == "bucket exists"
    assert all(s.done or s.note for s in first + again)
    assert await bucket.get("a") == b"x"

    client = s3_access.client()
    for name in names:
        versioning = await asyncio.to_thread(client.get_bucket_versioning, Bucket=name)
        assert versioning.get("Status") == "Enabled"
        rules = await asyncio.to_thread(client.get_bucket_lifecycle_configuration, Bucket=name)
        assert [r.get("Expiration") for r in rules["Rules"]] == [{"Days": 30}]
    await bucket.close()


async def test_data_is_kept_long_enough_to_be_validated(s3_access: S3Access) -> None:
    with pytest.raises(ValueError, match="at least 8"):
        await prepare_buckets(s3_access, keep_days=6)


async def test_probe_finds_a_good_store_good_and_cleans_up(
    bucket: S3Bucket, http: httpx.AsyncClient
) -> None:
    checks = await probe(bucket, http)
    assert [c for c in checks if not c.ok] == []
    assert {c.check for c in checks} >= {
        "refused: another folder",
        "refused: another nonce",
        "refused: no nonce",
        "refused: an expired policy",
        "refused: too large a file",
        "no way out of the folder",
    }
    client = bucket.access.client()
    left = await asyncio.to_thread(client.list_object_versions, Bucket=bucket.name)
    assert left.get("Versions", []) == []


async def test_probe_says_what_is_wrong(s3_access: S3Access, http: httpx.AsyncClient) -> None:
    (checked, deleted) = await probe(S3Bucket(s3_access, "no-such-bucket"), http)
    assert not checked.ok
    assert "Create the bucket" in checked.mend
    assert not deleted.ok

    client = s3_access.client()
    await asyncio.to_thread(client.create_bucket, Bucket="probe-without-versions")
    plain = S3Bucket(s3_access, "probe-without-versions")
    wrong = {c.check: c.mend for c in await probe(plain, http) if not c.ok}
    assert list(wrong) == ["what is overwritten can still be read"]
    await plain.close()


@pytest.mark.parametrize("minutes", [-30, 10])
async def test_probe_blames_a_wrong_clock_and_not_the_store(
    bucket: S3Bucket, http: httpx.AsyncClient, minutes: int
) -> None:
    class OtherClock:
        def now(self) -> datetime:
            return datetime.now(UTC) + timedelta(minutes=minutes)

        async def sleep(self, duration: timedelta) -> None:
            raise AssertionError("nothing here waits")

    wrong = [c.check for c in await probe(bucket, http, clock=OtherClock()) if not c.ok]
    assert wrong == ["the clocks agree"]
