"""Frozen sets of objects: from addresses over a network that fails, and from export folders that
somebody else may have made."""

import gzip
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import stamina
from hypothesis import given, settings
from hypothesis import strategies as st

from sn46.mechanism.errors import ExportError
from sn46.mechanism.submission import ObjectInfo, manifest_key, miner_file_key
from sn46.store.base import StoreError
from sn46.store.s3 import S3Bucket
from sn46.store.snapshot import FolderSnapshot, RemoteSnapshot, write_export
from store.faults import Fault, FaultyTransport, answer, dropped, timed_out

NOW = datetime(2024, 3, 15, 16, 0, 5, tzinfo=UTC)
MANIFEST = manifest_key("5A", "2024-03-15-16:00")
LISTINGS = miner_file_key("5A", "2024-03-15-16:00", "08701")


@pytest.fixture(autouse=True)
def no_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=10, cap=True):
        yield


class MemorySnapshot:
    """Objects at hand, as any other snapshot gives them."""

    def __init__(self, bodies: Mapping[str, bytes], fails_at: str | None = None) -> None:
        self._bodies = bodies
        self._fails_at = fails_at

    @property
    def objects(self) -> Sequence[ObjectInfo]:
        return [
            ObjectInfo(key, len(body), NOW, {"nonce": f"ü{len(key)}"})
            for key, body in sorted(self._bodies.items())
        ]

    async def read(self, key: str) -> bytes:
        if key == self._fails_at:
            raise StoreError(f"{key} cannot be read")
        return self._bodies[key]


async def contents(snapshot: FolderSnapshot | RemoteSnapshot) -> dict[str, bytes]:
    return {info.key: await snapshot.read(info.key) for info in snapshot.objects}


# --- remote


@pytest.mark.parametrize(
    "fault", [answer(500), answer(503), answer(429), dropped, timed_out, answer(200, b"hal")]
)
async def test_a_read_that_fails_in_passing_is_tried_again(bucket: S3Bucket, fault: Fault) -> None:
    await bucket.put("a", b"whole")
    transport = FaultyTransport(fault, fault)
    async with httpx.AsyncClient(transport=transport) as http:
        snapshot = RemoteSnapshot(http, await bucket.readable("", expires_in_seconds=60))
        assert await snapshot.read("a") == b"whole"
    assert transport.requests == 3


async def test_tries_of_a_read_are_bounded(bucket: S3Bucket) -> None:
    await bucket.put("a", b"whole")
    transport = FaultyTransport(*[answer(200, b"hal")] * 9)
    async with httpx.AsyncClient(transport=transport) as http:
        snapshot = RemoteSnapshot(
            http, await bucket.readable("", expires_in_seconds=60), attempts=3
        )
        with pytest.raises(StoreError, match="ended after 3 of 5 bytes"):
            await snapshot.read("a")
    assert transport.requests == 3


@pytest.mark.parametrize(
    ("fault", "message"),
    [(answer(404), "may have been removed"), (answer(200, b"longer"), "larger than the 5 bytes")],
)
async def test_what_is_definite_is_not_tried_again(
    bucket: S3Bucket, fault: Fault, message: str
) -> None:
    await bucket.put("a", b"whole")
    transport = FaultyTransport(fault)
    async with httpx.AsyncClient(transport=transport) as http:
        snapshot = RemoteSnapshot(http, await bucket.readable("", expires_in_seconds=60))
        with pytest.raises(StoreError, match=message):
            await snapshot.read("a")
        with pytest.raises(KeyError):
            await snapshot.read("b")
    assert transport.requests == 1


class AnHourAgo:
    def now(self) -> datetime:
        return datetime.now(UTC) - timedelta(hours=1)

    async def sleep(self, duration: timedelta) -> None:
        raise AssertionError("nothing here waits")


async def test_an_expired_address_is_asked_for_again(
    bucket: S3Bucket, http: httpx.AsyncClient
) -> None:
    await bucket.put("a", b"1")
    past = S3Bucket(bucket.access, bucket.name, clock=AnHourAgo())
    expired = await past.readable("", expires_in_seconds=60)
    asked: list[str] = []

    async def fresh(key: str) -> str:
        asked.append(key)
        return (await bucket.readable(key, expires_in_seconds=60))[0].url

    async def stale(key: str) -> str:
        asked.append(key)
        return expired[0].url

    snapshot = RemoteSnapshot(http, expired, refresh=fresh)
    assert await snapshot.read("a") == b"1"
    assert await snapshot.read("a") == b"1"
    assert asked == ["a"]
    with pytest.raises(StoreError, match="expired"):
        await RemoteSnapshot(http, expired, refresh=stale).read("a")
    with pytest.raises(StoreError, match="expired"):
        await RemoteSnapshot(http, expired).read("a")
    assert asked == ["a", "a"]
    await past.close()


async def test_a_label_of_compression_blows_nothing_up(
    bucket: S3Bucket, http: httpx.AsyncClient
) -> None:
    bomb = gzip.compress(bytes(5_000_000))
    bucket.access.client().put_object(
        Bucket=bucket.name, Key="a", Body=bomb, ContentEncoding="gzip"
    )
    snapshot = RemoteSnapshot(http, await bucket.readable("", expires_in_seconds=60))
    assert await snapshot.read("a") == bomb


# --- export


async def test_export_of_a_bucket_reads_as_the_bucket(
    bucket: S3Bucket, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    await bucket.put(MANIFEST, b"{}", {"nonce": "n", "epoch-id": "2024-03-15-16:00"})
    await bucket.put(LISTINGS, b"rows" * 1000)
    remote = RemoteSnapshot(http, await bucket.readable("miners/", expires_in_seconds=60))
    assert await write_export(tmp_path, "miner-data", remote) == 2

    folder = FolderSnapshot(tmp_path, "miner-data")
    assert folder.objects == remote.objects
    assert await contents(folder) == await contents(remote)
    # The layout that the mechanism's 13 promises to third parties.
    assert (tmp_path / "miner-data" / MANIFEST).read_bytes() == b"{}"
    lines = (tmp_path / "miner-data.index.jsonl").read_text().splitlines()
    (info,) = (o for o in remote.objects if o.key == MANIFEST)
    assert json.loads(lines[0]) == {
        "key": MANIFEST,
        "size": 2,
        "last_modified": info.last_modified.isoformat().replace("+00:00", "Z"),
        "metadata": {"nonce": "n", "epoch-id": "2024-03-15-16:00"},
    }
    assert sorted(os.listdir(tmp_path)) == ["miner-data", "miner-data.index.jsonl"]


NASTY = st.sampled_from(
    ["..", ".", "", "a", "b", "a.new", "\\", "C:", "\x00", "ü", "\u202e", "n" * 256, " ", "~"]
)
KEYS = st.lists(NASTY | st.text(max_size=5), min_size=1, max_size=5).map("/".join)


@settings(max_examples=60, deadline=None)
@given(
    first=st.dictionaries(KEYS, st.binary(max_size=9), max_size=6),
    second=st.dictionaries(KEYS, st.binary(max_size=9), max_size=6),
)
async def test_any_key_survives_and_none_leads_out(
    first: dict[str, bytes], second: dict[str, bytes]
) -> None:
    with tempfile.TemporaryDirectory() as outer:
        directory = Path(outer) / "in"
        await write_export(directory, "d", MemorySnapshot(first))
        assert await contents(FolderSnapshot(directory, "d")) == first
        # A second epoch's export into the same folder adds to it.
        await write_export(directory, "d", MemorySnapshot(second))
        both = FolderSnapshot(directory, "d")
        assert await contents(both) == {**first, **second}
        assert list(both.objects) == list(MemorySnapshot({**first, **second}).objects)
        assert os.listdir(outer) == ["in"]
        assert set(os.listdir(directory)) <= {"d", "d.odd", "d.index.jsonl"}


async def test_an_export_that_fails_leaves_the_earlier_one(tmp_path: Path) -> None:
    await write_export(tmp_path, "d", MemorySnapshot({"a": b"1"}))
    more = {"a": b"1", "b": b"2", "c": b"3"}
    with pytest.raises(StoreError, match="b cannot be read"):
        await write_export(tmp_path, "d", MemorySnapshot(more, fails_at="b"))
    assert await contents(FolderSnapshot(tmp_path, "d")) == {"a": b"1"}
    await write_export(tmp_path, "d", MemorySnapshot(more))
    assert await contents(FolderSnapshot(tmp_path, "d")) == more


async def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="could not be written"):
        await write_export(tmp_path / "file" / "x", "d", MemorySnapshot({"a": b"1"}))


async def test_links_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "a").write_bytes(b"secret")
    directory = tmp_path / "export"
    await write_export(directory, "d", MemorySnapshot({"x/a": b"public", "y": b"public"}))

    (directory / "d" / "y").unlink()
    (directory / "d" / "y").symlink_to(secret / "a")
    shutil.rmtree(directory / "d" / "x")
    (directory / "d" / "x").symlink_to(secret)
    snapshot = FolderSnapshot(directory, "d")
    for key in ("x/a", "y"):
        with pytest.raises(StoreError, match="not a link"):
            await snapshot.read(key)

    shutil.rmtree(directory / "d")
    (directory / "d").symlink_to(secret)
    with pytest.raises(StoreError, match="not a link"):
        await snapshot.read("y")


async def test_files_that_differ_from_the_index(tmp_path: Path) -> None:
    await write_export(tmp_path, "d", MemorySnapshot({"a": b"1", "b": b"1", "c": b"1", "f": b"1"}))
    (tmp_path / "d" / "a").write_bytes(b"22")
    (tmp_path / "d" / "b").unlink()
    (tmp_path / "d" / "c").unlink()
    (tmp_path / "d" / "c").mkdir()
    (tmp_path / "d" / "f").unlink()
    os.mkfifo(tmp_path / "d" / "f")
    snapshot = FolderSnapshot(tmp_path, "d")
    for key, message in (
        ("a", "has 2 bytes in the export, but 1"),
        ("b", "cannot be read"),
        ("c", "no plain file"),
        ("f", "no plain file"),
    ):
        with pytest.raises(StoreError, match=message):
            await snapshot.read(key)
    with pytest.raises(KeyError):
        await snapshot.read("unknown")


GOOD = {"key": "a", "size": 1, "last_modified": "2024-03-15T16:00:00Z", "metadata": {"n": "1"}}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[" * 5000, ""),
        (b"[]", "no JSON object"),
        (b"", "no JSON"),
        ({"key": None}, "key is missing"),
        ({"key": "../a"}, "cannot be a file's path"),
        ({"key": "/etc/passwd"}, "cannot be a file's path"),
        ({"key": "a/../../b"}, "cannot be a file's path"),
        ({"key": "a\x00b"}, "cannot be a file's path"),
        ({"key": "b", "file": "../../etc/passwd"}, "not the SHA-256"),
        ({"key": "b", "file": 1}, "not the SHA-256"),
        ({"key": "b", "size": "1"}, "size is missing"),
        ({"key": "b", "size": True}, "size is missing"),
        ({"key": "b", "size": -1}, "size is missing"),
        ({"key": "b", "last_modified": "yesterday"}, ""),
        ({"key": "b", "last_modified": "2024-03-15T16:00:00"}, "no time zone"),
        ({"key": "b", "metadata": {"n": 1}}, "metadata is missing"),
        ({"key": "b", "metadata": "n"}, "metadata is missing"),
        ({"key": "a"}, "comes twice"),
    ],
)
def test_a_malformed_index_names_the_line(
    tmp_path: Path, line: bytes | dict[str, object], message: str
) -> None:
    bad = line if isinstance(line, bytes) else json.dumps({**GOOD, **line}).encode()
    index = tmp_path / "d.index.jsonl"
    index.write_bytes(json.dumps(GOOD).encode() + b"\n" + bad + b"\n")
    with pytest.raises(ExportError, match=f"line 2: .*{re.escape(message)}"):
        FolderSnapshot(tmp_path, "d")


def test_a_folder_without_index_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no complete export"):
        FolderSnapshot(tmp_path, "miner-data")


def test_objects_are_sorted(tmp_path: Path) -> None:
    lines = [json.dumps({**GOOD, "key": key}) for key in ("b", "a", "c")]
    (tmp_path / "d.index.jsonl").write_text("\n".join(lines))
    objects = FolderSnapshot(tmp_path, "d").objects
    assert [o.key for o in objects] == ["a", "b", "c"]
    assert replace(objects[0], key="b") == objects[1]
