"""Listings and readings of a bucket: versions, pages, metadata and presigned addresses."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import httpx
import obstore
import pytest

from sn46.store.base import StoreError
from sn46.store.s3 import S3Access, S3Bucket
from sn46.store.snapshot import RemoteSnapshot


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    """Wait for a condition; fail where it does not come."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "the condition did not come"
        await asyncio.sleep(0.05)


async def time_of(bucket: S3Bucket, key: str) -> datetime:
    (info,) = [o for o in await bucket.objects(key) if o.key == key]
    return info.last_modified


async def overwrite_in_a_later_second(
    bucket: S3Bucket, key: str, body: bytes, metadata: dict[str, str]
) -> datetime:
    """Write until the store's own time of the object is another one; returns the first time."""
    first = await time_of(bucket, key)

    async def later() -> bool:
        if datetime.now(UTC).replace(microsecond=0) > first:
            await bucket.put(key, body, metadata)
        return await time_of(bucket, key) > first

    await eventually(later)
    return first


async def test_what_is_overwritten_after_the_deadline_reads_as_it_was(
    bucket: S3Bucket, http: httpx.AsyncClient
) -> None:
    await bucket.put("m/a", b"in time", {"nonce": "1"})
    await bucket.put("m/same-second", b"x", {"nonce": "1"})
    deadline = await overwrite_in_a_later_second(bucket, "m/a", b"too late", {"nonce": "2"})
    await bucket.put("m/new", b"too late", {"nonce": "2"})

    frozen = await bucket.objects("m/", until=deadline)
    assert frozen[0].key == "m/a"
    assert "m/new" not in [o.key for o in frozen]
    assert (frozen[0].size, frozen[0].last_modified) == (len(b"in time"), deadline)
    assert dict(frozen[0].metadata) == {"nonce": "1"}
    assert await bucket.get("m/a", until=deadline) == b"in time"
    # The second of the deadline belongs to it, whatever its fraction.
    assert await bucket.objects("m/a", until=deadline + timedelta(milliseconds=900)) == frozen[:1]

    current = await bucket.objects("m/")
    assert [dict(o.metadata)["nonce"] for o in current if o.key == "m/a"] == ["2"]
    assert await bucket.get("m/a") == b"too late"

    snapshot = RemoteSnapshot(
        http, await bucket.readable("m/", until=deadline, expires_in_seconds=60)
    )
    assert list(snapshot.objects) == frozen
    assert await snapshot.read("m/a") == b"in time"

    assert await bucket.objects("m/", until=deadline - timedelta(seconds=1)) == []
    with pytest.raises(KeyError):
        await bucket.get("m/a", until=deadline - timedelta(seconds=1))


async def test_the_last_of_several_versions_within_a_second_counts(bucket: S3Bucket) -> None:
    for n in range(8):
        await bucket.put("a", b"x" * n + b"x", {"n": str(n)})
    (now,) = await bucket.objects("a")
    (then,) = await bucket.objects("a", until=now.last_modified)
    assert (then.size, dict(then.metadata)) == (8, {"n": "7"})


async def test_deleted_objects_are_gone_but_read_as_they_were(bucket: S3Bucket) -> None:
    await bucket.put("a", b"1")
    await bucket.put("b", b"1")
    before = await overwrite_in_a_later_second(bucket, "b", b"2", {})
    client = bucket.access.client()
    await asyncio.to_thread(client.delete_object, Bucket=bucket.name, Key="a")

    assert [o.key for o in await bucket.objects("")] == ["b"]
    with pytest.raises(KeyError):
        await bucket.get("a")
    assert [o.key for o in await bucket.objects("", until=before)] == ["a", "b"]
    assert await bucket.get("a", until=before) == b"1"

    await bucket.put("a", b"again")
    assert [o.key for o in await bucket.objects("")] == ["a", "b"]


async def test_more_objects_than_a_page(bucket: S3Bucket, http: httpx.AsyncClient) -> None:
    keys = [f"many/{n:05d}" for n in range(1050)]
    await asyncio.gather(*(bucket.put(key, key.encode(), {"n": key[5:]}) for key in keys))
    await bucket.put(keys[0], b"second version")
    await bucket.put("other", b"x")

    listed = await bucket.objects("many/")
    assert [o.key for o in listed] == keys
    assert [dict(o.metadata) for o in listed[1:]] == [{"n": key[5:]} for key in keys[1:]]
    # Once more, now with the metadata that was kept.
    assert await bucket.objects("many/") == listed

    snapshot = RemoteSnapshot(http, await bucket.readable("many/", expires_in_seconds=60))
    assert await snapshot.read(keys[1049]) == keys[1049].encode()


async def test_metadata_names_are_lower_case(bucket: S3Bucket) -> None:
    await bucket.put("a", b"x", {"Epoch-ID": "2024-03-15-16:00", "nonce": "A  b"})
    (info,) = await bucket.objects("a")
    assert dict(info.metadata) == {"epoch-id": "2024-03-15-16:00", "nonce": "A  b"}
    for metadata in ({"a": "ü"}, {"ü": "a"}, {"a": "1", "A": "2"}, {"Content-Type": "x"}):
        with pytest.raises(StoreError):
            await bucket.put("b", b"x", metadata)


async def test_foreign_metadata_that_is_not_ascii_does_not_hide_the_rest(
    bucket: S3Bucket, http: httpx.AsyncClient
) -> None:
    await bucket.put("a", b"1", {"nonce": "n"})
    store = bucket.access.store(bucket.name)
    await obstore.put_async(store, "b", b"2", attributes={"Odd-Name": "Zürich"})
    listed = await bucket.objects("")
    assert {o.key: dict(o.metadata) for o in listed} == {
        "a": {"nonce": "n"},
        "b": {"odd-name": "Zürich"},
    }


@pytest.mark.parametrize("key", ["a b+c%2f~", "Zürich/£", "a.txt", "a.txt/b", "=:@,;'()!*"])
async def test_odd_keys_are_listed_and_read(
    bucket: S3Bucket, http: httpx.AsyncClient, key: str
) -> None:
    client = bucket.access.client()
    await asyncio.to_thread(
        client.put_object, Bucket=bucket.name, Key=key, Body=b"odd", Metadata={"nonce": "n"}
    )
    await bucket.put("plain", b"x")
    objects = await bucket.readable("", expires_in_seconds=60)
    assert {o.info.key: dict(o.info.metadata) for o in objects}[key] == {"nonce": "n"}
    assert await bucket.get(key) == b"odd"
    assert await RemoteSnapshot(http, objects).read(key) == b"odd"


async def test_a_bucket_without_versions_leaves_out_what_was_overwritten(
    s3_access: S3Access,
) -> None:
    client = s3_access.client()
    await asyncio.to_thread(client.create_bucket, Bucket="without-versions")
    bucket = S3Bucket(s3_access, "without-versions")
    await bucket.put("a", b"1", {"nonce": "1"})
    first = await overwrite_in_a_later_second(bucket, "a", b"22", {"nonce": "2"})
    (info,) = await bucket.objects("")
    assert (info.size, dict(info.metadata)) == (2, {"nonce": "2"})
    assert await bucket.objects("", until=first) == []
    assert await bucket.get("a") == b"22"
    await bucket.close()


async def test_an_expired_or_changed_address_is_refused(
    bucket: S3Bucket, http: httpx.AsyncClient
) -> None:
    class AnHourAgo:
        def now(self) -> datetime:
            return datetime.now(UTC) - timedelta(hours=1)

        async def sleep(self, duration: timedelta) -> None:
            raise AssertionError("nothing here waits")

    await bucket.put("a", b"1")
    await bucket.put("b", b"1")
    past = S3Bucket(bucket.access, bucket.name, clock=AnHourAgo())
    (expired, _) = await past.readable("", expires_in_seconds=60)
    (alive, _) = await past.readable("", expires_in_seconds=7200)
    assert (await http.get(expired.url)).status_code == 403
    assert (await http.get(alive.url)).status_code == 200
    assert (await http.get(alive.url.replace("/a?", "/b?"))).status_code == 403
    await past.close()


async def test_errors_say_what_to_do(s3_access: S3Access) -> None:
    missing = S3Bucket(s3_access, "no-such-bucket")
    with pytest.raises(StoreError, match="Create the buckets first"):
        await missing.objects("")
    wrong = S3Access(s3_access.endpoint, s3_access.region, s3_access.access_key, "not the key")
    with pytest.raises(StoreError, match="Check the access key") as refused:
        await S3Bucket(wrong, "any-bucket").objects("")
    assert "not the key" not in str(refused.value)
    with pytest.raises(StoreError, match="scheme"):
        S3Access("nyc3.digitaloceanspaces.com", "nyc3", "a", "s")
