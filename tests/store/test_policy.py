"""Upload policies, judged by a real S3 server: nobody writes without this epoch's nonce, into
another's folder, late, or more than allowed."""

import base64
import contextlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from sn46.mechanism.submission import manifest_key, miner_file_key, miner_prefix
from sn46.store.base import StoreError, UploadPolicy, UploadRefused
from sn46.store.s3 import S3Access, S3Bucket
from sn46.store.snapshot import RemoteSnapshot
from sn46.store.upload import send_form, upload_object

ALICE, BOB = "5Alice", "5Bob"
EPOCH, NEXT = "2024-03-15-16:00", "2024-03-15-20:00"
NONCE = "ab" * 32
METADATA = {"nonce": NONCE, "epoch-id": EPOCH}


def policy_for(bucket: S3Bucket, *, hotkey: str = ALICE, minutes: float = 10) -> UploadPolicy:
    """Signed an hour ago, to expire ``minutes`` from now."""
    now = datetime.now(UTC)
    return bucket.upload_policy(
        prefix=miner_prefix(hotkey, EPOCH),
        expires_at=now + timedelta(minutes=minutes),
        max_bytes=1000,
        metadata=METADATA,
        now=now - timedelta(hours=1),
    )


def with_field(policy: UploadPolicy, name: str, value: str | None) -> UploadPolicy:
    """The policy's form with one field changed, added, or (None) left out."""
    fields = {n: v for n, v in policy.fields.items() if n != name}
    return replace(policy, fields=fields if value is None else {**fields, name: value})


async def test_upload_within_policy_is_stored_with_its_metadata(
    bucket: S3Bucket, http: httpx.AsyncClient
) -> None:
    key = miner_file_key(ALICE, EPOCH, "08701")
    before = datetime.now(UTC).replace(microsecond=0)
    await upload_object(http, policy_for(bucket), key, b"rows", content_type="application/json")

    (stored,) = await bucket.objects("")
    assert (stored.key, stored.size, dict(stored.metadata)) == (key, 4, METADATA)
    assert before <= stored.last_modified <= datetime.now(UTC)
    assert stored.last_modified.microsecond == 0
    assert await bucket.get(key) == b"rows"


@pytest.mark.parametrize(
    "key",
    [
        manifest_key(BOB, EPOCH),
        manifest_key(ALICE, NEXT),
        "miners/5Alice2/epoch=2024-03-15-16:00/manifest.json",
        "manifest.json",
        f"/{manifest_key(ALICE, EPOCH)}",
        f"{miner_prefix(ALICE, EPOCH)}../../{BOB}/epoch={EPOCH}/manifest.json",
        f"{miner_prefix(ALICE, EPOCH)}zipcode=08701/../../../{BOB}/x",
        f"{miner_prefix(ALICE, EPOCH)}..",
        f"{miner_prefix(ALICE, EPOCH)}..\\..\\{BOB}\\x",
    ],
)
async def test_no_key_leads_out_of_the_folder(
    bucket: S3Bucket, http: httpx.AsyncClient, key: str
) -> None:
    with pytest.raises(UploadRefused):
        await send_form(http, policy_for(bucket), key, b"rows")
    assert await bucket.objects("") == []


@pytest.mark.parametrize("name", ["../../x", "/../../x", "..%2f..%2fx", "..\\..\\x"])
async def test_no_file_name_leads_out_of_the_folder(
    bucket: S3Bucket, http: httpx.AsyncClient, name: str
) -> None:
    """The store puts the form's own file name in the place of ``${filename}``."""
    policy = policy_for(bucket)
    await http.post(policy.url, data=dict(policy.fields), files={"file": (name, b"rows")})
    for stored in await bucket.objects(""):
        assert stored.key.startswith(policy.prefix)
        assert ".." not in stored.key.split("/")


async def test_odd_keys_in_a_folder_do_not_hide_the_rest(
    bucket: S3Bucket, http: httpx.AsyncClient
) -> None:
    policy, manifest = policy_for(bucket), manifest_key(ALICE, EPOCH)
    await upload_object(http, policy, manifest, b"{}")
    for name in ("dir/", "/x", "Zürich £", "a%2fb", "manifest.json/x", "n" * 700, "\u202e.\x7f"):
        with contextlib.suppress(UploadRefused):
            await upload_object(http, policy, policy.prefix + name, b"odd")

    listed = await bucket.readable(policy.prefix, expires_in_seconds=60)
    snapshot = RemoteSnapshot(http, listed)
    assert len(listed) >= 5
    assert await snapshot.read(manifest) == b"{}"
    assert {o.info.key: dict(o.info.metadata) for o in listed}[manifest] == METADATA


@pytest.mark.parametrize("name", ["x-amz-meta-nonce", "x-amz-meta-epoch-id"])
@pytest.mark.parametrize("value", ["cd" * 32, NONCE.upper(), "", None])
async def test_metadata_is_forced(
    bucket: S3Bucket, http: httpx.AsyncClient, name: str, value: str | None
) -> None:
    changed = with_field(policy_for(bucket), name, value)
    with pytest.raises(UploadRefused) as refused:
        await upload_object(http, changed, manifest_key(ALICE, EPOCH), b"{}")
    assert refused.value.code == "AccessDenied"
    assert await bucket.objects("") == []


async def test_metadata_cannot_be_added(bucket: S3Bucket, http: httpx.AsyncClient) -> None:
    changed = with_field(policy_for(bucket), "x-amz-meta-rank", "1")
    with pytest.raises(UploadRefused):
        await upload_object(http, changed, manifest_key(ALICE, EPOCH), b"{}")


async def test_expired_policy_is_refused(bucket: S3Bucket, http: httpx.AsyncClient) -> None:
    expired = policy_for(bucket, minutes=-0.5)
    with pytest.raises(UploadRefused, match="deadline has passed"):
        await upload_object(http, expired, manifest_key(ALICE, EPOCH), b"{}")
    assert await bucket.objects("") == []


@pytest.mark.parametrize(("size", "code"), [(1001, "EntityTooLarge"), (0, "EntityTooSmall")])
async def test_size_is_limited(
    bucket: S3Bucket, http: httpx.AsyncClient, size: int, code: str
) -> None:
    key = manifest_key(ALICE, EPOCH)
    with pytest.raises(UploadRefused) as refused:
        await send_form(http, policy_for(bucket), key, b"x" * size)
    assert refused.value.code == code
    await upload_object(http, policy_for(bucket), key, b"x" * 1000)


async def test_policy_is_bound_to_its_bucket(bucket: S3Bucket, http: httpx.AsyncClient) -> None:
    """Signed for another bucket of the same store, with the same keys."""
    other = S3Bucket(bucket.access, "another-bucket")
    strayed = replace(policy_for(other), url=policy_for(bucket).url)
    with pytest.raises(UploadRefused):
        await upload_object(http, strayed, manifest_key(ALICE, EPOCH), b"{}")


@pytest.mark.parametrize("field", ["policy", "x-amz-signature", "x-amz-credential"])
async def test_forged_form_is_refused(
    bucket: S3Bucket, http: httpx.AsyncClient, field: str
) -> None:
    mine, bobs = policy_for(bucket), policy_for(bucket, hotkey=BOB)
    forged = {
        "policy": bobs.fields["policy"],
        "x-amz-signature": "0" * 64,
        "x-amz-credential": mine.fields["x-amz-credential"].replace("/s3/", "/sts/"),
    }
    with pytest.raises(UploadRefused):
        await send_form(
            http,
            with_field(mine, field, forged[field]),
            manifest_key(BOB, EPOCH),
            b"{}",
        )


async def test_same_conditions_as_boto3_signs(bucket: S3Bucket) -> None:
    """Where boto3 signs the same policy at the same second, the signatures are equal."""
    policy = policy_for(bucket)
    document = json.loads(base64.b64decode(policy.fields["policy"]))
    now = datetime.now(UTC)
    presigned = bucket.access.client().generate_presigned_post(
        bucket.name,
        policy.prefix + "${filename}",
        Fields={
            "Content-Type": "application/octet-stream",
            **{f"x-amz-meta-{name}": value for name, value in METADATA.items()},
        },
        Conditions=[
            ["starts-with", "$key", policy.prefix],
            ["starts-with", "$Content-Type", ""],
            ["content-length-range", 1, 1000],
            *({f"x-amz-meta-{name}": value} for name, value in METADATA.items()),
        ],
        ExpiresIn=int((policy.expires_at - now).total_seconds()),
    )
    theirs = json.loads(base64.b64decode(presigned["fields"]["policy"]))

    def comparable(conditions: list[object]) -> set[str]:
        # The times of signing differ, and over midnight their days.
        texts = [json.dumps(condition) for condition in conditions]
        return {re.sub(r"/\d{8}/", "/day/", text) for text in texts if "x-amz-date" not in text}

    assert set(presigned["fields"]) == set(policy.fields)
    assert presigned["url"] == policy.url
    assert comparable(document["conditions"]) == comparable(theirs["conditions"])


@pytest.mark.parametrize(
    "metadata", [{"nonce": "ü"}, {"nonce": ""}, {"nonce": " a"}, {"no nce": "a"}, {"a": "1\n2"}]
)
def test_metadata_that_would_not_survive_is_not_signed(
    s3_access: S3Access, metadata: dict[str, str]
) -> None:
    now = datetime.now(UTC)
    with pytest.raises(StoreError, match="portable"):
        S3Bucket(s3_access, "any").upload_policy(
            prefix="a/", expires_at=now, max_bytes=1, metadata=metadata, now=now
        )
