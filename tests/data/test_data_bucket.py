"""Published epochs read from a real bucket: with keys, and as anyone where it is open."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from mechanism.builders import hotkey
from publishing import VALIDATORS, Publications, epoch_ids, home, rows_frame, some_epochs

from sn46.cli import main
from sn46.data.decoder import Decoder
from sn46.data.library import Library
from sn46.data.objects import BucketOrigin, Published
from sn46.mechanism.report import report_key
from sn46.store.base import StoreError
from sn46.store.s3 import S3Access, S3Bucket

pytestmark = pytest.mark.asyncio(loop_scope="function")


def open_to_everyone(bucket: S3Bucket) -> None:
    """As the page for owners says."""
    name = bucket.name
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject"],
             "Resource": [f"arn:aws:s3:::{name}/validators/*"]},
            {"Effect": "Allow", "Principal": "*", "Action": ["s3:ListBucket"],
             "Resource": [f"arn:aws:s3:::{name}"]},
        ],
    }  # fmt: skip
    client = bucket.access.client()
    client.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
    client.close()


def surroundings(monkeypatch: pytest.MonkeyPatch, bucket: S3Bucket, *, keys: bool) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", bucket.access.endpoint)
    monkeypatch.setenv("VALIDATED_BUCKET", bucket.name)
    if keys:
        monkeypatch.setenv("S3_ACCESS_KEY", bucket.access.access_key)
        monkeypatch.setenv("S3_SECRET_KEY", bucket.access.secret_key)


async def asked(sql: str, capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    code = await asyncio.to_thread(main, ["data", "query", sql, "--format", "json"])
    said = capfd.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


async def test_with_keys_or_open_to_everyone(
    bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    made = some_epochs(3)
    await made.upload(bucket)
    # What else lies there is no business of ours, whatever its key.
    prefix = f"validators/{hotkey('vali')}/epoch={epoch_ids(1)[0]}/"
    client = bucket.access.client()
    for odd in (f"{prefix}a//b", f"{prefix}ü", f"{prefix}deeper/validation_report.json"):
        client.put_object(Bucket=bucket.name, Key=odd, Body=b"x")
    client.close()
    sql = "SELECT count(*) AS n, count(DISTINCT epoch_id) AS e FROM observations"
    surroundings(monkeypatch, bucket, keys=False)
    assert await asyncio.to_thread(main, ["data", "query", sql]) == 1
    assert "it is not open to everyone" in capfd.readouterr().err
    surroundings(monkeypatch, bucket, keys=True)
    assert await asked(sql, capfd) == [{"n": 60, "e": 3}]
    open_to_everyone(bucket)
    monkeypatch.delenv("S3_ACCESS_KEY")
    monkeypatch.delenv("S3_SECRET_KEY")
    (epoch, *_) = await asked("FROM epochs ORDER BY epoch_id", capfd)
    assert sorted(epoch["agreeing"]) == sorted(hotkey(v) for v in VALIDATORS)
    new = epoch_ids(4)[3]
    more = Publications()
    more.all_agree(new, rows_frame(new, [home(1)]))
    await more.upload(bucket)
    assert await asked(sql, capfd) == [{"n": 61, "e": 4}]


async def test_what_is_the_same_is_read_once(bucket: S3Bucket, tmp_path: Path) -> None:
    await some_epochs(2).upload(bucket)
    read: list[str] = []

    class Counted(BucketOrigin):
        async def read(self, published: Published) -> bytes:
            read.append(published.key)
            return await super().read(published)

    async with Counted(bucket.access, bucket.name) as origin:
        library = Library(tmp_path / "cache", origin.name)
        decoder = Decoder()
        try:
            kept = await library.refresh(origin, decoder, lambda done, of: None)
        finally:
            decoder.close()
    assert [len(epoch.agreeing) for epoch in kept] == [3, 3]
    assert sum(key.endswith(".json") for key in read) == 6
    assert sum(key.endswith(".parquet") for key in read) == 2


async def test_what_is_replaced_while_it_is_read(bucket: S3Bucket) -> None:
    await some_epochs(1).upload(bucket)
    key = report_key(hotkey("vali"), epoch_ids(1)[0])
    async with BucketOrigin(bucket.access, bucket.name) as origin:
        listed = {published.key: published for published in await origin.published()}
        await bucket.put(key, b"longer than before" * 1_000)
        with pytest.raises(StoreError, match="was replaced while"):
            await origin.read(listed[key])


@pytest.mark.parametrize(
    ("settings", "told", "code"),
    [
        ({"S3_ENDPOINT_URL": "http://127.0.0.1:1"}, "Check that the store runs", 1),
        ({"S3_ENDPOINT_URL": "nowhere"}, "is no address", 1),
        ({"S3_ACCESS_KEY": "a"}, "S3_ACCESS_KEY and S3_SECRET_KEY go together", 2),
    ],
)
async def test_what_is_set_wrongly(
    settings: dict[str, str],
    told: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert await asyncio.to_thread(main, ["data", "query", "FROM epochs"]) == code
    assert told in capfd.readouterr().err


async def test_a_bucket_that_is_not_there(
    s3_access: S3Access, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", s3_access.endpoint)
    monkeypatch.setenv("S3_ACCESS_KEY", s3_access.access_key)
    monkeypatch.setenv("S3_SECRET_KEY", s3_access.secret_key)
    monkeypatch.setenv("VALIDATED_BUCKET", "not-there")
    assert await asyncio.to_thread(main, ["data", "query", "FROM epochs"]) == 1
    assert "not-there" in capfd.readouterr().err
