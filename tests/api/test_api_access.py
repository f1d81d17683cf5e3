"""Uploads and reads over real policies against a real S3 server."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from apinet import Net, World, api_over

from sn46.client.api import ApiError, Retries
from sn46.mechanism.names import EpochId
from sn46.mechanism.submission import MAX_FILE_BYTES, manifest_key, miner_file_key
from sn46.store.base import UploadRefused
from sn46.store.s3 import S3Bucket
from sn46.store.upload import upload_object


async def upload_as(net: Net, name: str, epoch_id: str, body: bytes = b"rows") -> list[str]:
    policy = await net.client(name).miner_upload()
    zipcode = (await net.client(name).current()).assignment.zipcodes[0].zipcode
    keys = [
        miner_file_key(net.hotkey(name), epoch_id, zipcode),
        manifest_key(net.hotkey(name), epoch_id),
    ]
    for key in keys:
        await upload_object(net.http, policy, key, body)
    return keys


async def test_a_policy_forces_folder_nonce_and_deadline(net: Net) -> None:
    ann = net.client("ann")
    assignment = (await ann.current()).assignment
    policy = await ann.miner_upload()
    assert policy.prefix == f"miners/{net.hotkey('ann')}/epoch={net.epoch.id}/"
    assert policy.expires_at == assignment.submission_deadline
    assert policy.max_bytes == MAX_FILE_BYTES
    assert policy.fields["x-amz-meta-nonce"] == assignment.nonce
    assert policy.fields["x-amz-meta-epoch-id"] == net.epoch.id
    keys = await upload_as(net, "ann", net.epoch.id)
    listed = await net.world.miners.objects(policy.prefix)
    assert [o.key for o in listed] == sorted(keys)
    assert all(o.metadata["nonce"] == assignment.nonce for o in listed)
    foreign = f"miners/{net.hotkey('bob')}/epoch={net.epoch.id}/manifest.json"
    with pytest.raises(UploadRefused):
        await upload_object(net.http, policy, foreign, b"x")


async def test_asking_again_gives_the_same_credentials(net: Net) -> None:
    first = await net.client("ann").miner_upload()
    net.clock.advance(timedelta(minutes=7))
    assert await net.client("ann").miner_upload(net.epoch.id) == first
    assert await net.client("bob").miner_upload() != first


async def test_credentials_are_for_the_current_epoch_alone(net: Net) -> None:
    ann, epoch = net.client("ann"), net.epoch
    await ann.miner_upload(epoch.id)
    with pytest.raises(ApiError) as refused:
        await ann.miner_upload(epoch.next().id)
    assert refused.value.status == 404
    await net.advance_to(epoch.end)
    with pytest.raises(ApiError) as refused:
        await ann.miner_upload(epoch.id)
    assert (refused.value.status, refused.value.code) == (409, "epoch_ended")
    assert (await ann.miner_upload()).prefix.endswith(f"epoch={epoch.next().id}/")


async def test_submissions_are_read_frozen_once_the_epoch_has_ended(net: Net) -> None:
    epoch, vali = net.epoch, net.client("vali")
    keys = await upload_as(net, "ann", epoch.id) + await upload_as(net, "bob", epoch.id)
    with pytest.raises(ApiError) as refused:
        await vali.validator_read(epoch.id)
    assert (refused.value.status, refused.value.code) == (409, "epoch_not_ended")
    assert refused.value.retry_after is not None
    await net.advance_to(epoch.end + timedelta(seconds=1))
    with pytest.raises(ApiError) as refused:
        await vali.validator_read(epoch.id)
    assert refused.value.retry_after is not None
    assert refused.value.retry_after <= 6
    await net.advance_to(epoch.end + timedelta(seconds=6))
    objects = await vali.validator_read(epoch.id)
    assert [o.info.key for o in objects] == sorted(keys)
    assert {o.info.metadata["epoch-id"] for o in objects} == {epoch.id}
    assert all(
        abs(o.info.last_modified - datetime.now(UTC)) < timedelta(minutes=2) for o in objects
    )
    assert (await net.http.get(objects[0].url)).content == b"rows"
    assert [o.info for o in await net.client("other").validator_read(epoch.id)] == [
        o.info for o in objects
    ]
    for name in ("ann", "poor"):
        with pytest.raises(ApiError) as refused:
            await net.client(name).validator_read(epoch.id)
        assert refused.value.code == "not_a_validator"


async def test_a_client_waits_for_a_deadline_that_just_passed(net: Net) -> None:
    epoch = net.epoch
    keys = await upload_as(net, "ann", epoch.id)
    await net.advance_to(epoch.end + timedelta(seconds=4))
    patient = net.client("vali", Retries(attempts=3, first=timedelta(seconds=0.1)))
    assert [o.info.key for o in await patient.validator_read(epoch.id)] == sorted(keys)


async def test_what_cannot_count_is_not_listed(net: Net) -> None:
    """However many objects a miner puts into its folder, validators are shown those that a
    submission can be made of."""
    epoch = net.epoch
    keys = await upload_as(net, "ann", epoch.id)
    prefix = f"miners/{net.hotkey('ann')}/epoch={epoch.id}/"
    tricks = ["x", "manifest.json/x", "zipcode=99999/listings.parquet", f"{keys[0]}0", "d/d/d"]
    tricks += [f"zipcode={n:05d}/listings" for n in range(60)]
    await asyncio.gather(
        *(net.world.miners.put(f"{prefix}{t.removeprefix(prefix)}", b"x") for t in tricks)
    )
    await net.advance_to(epoch.end + timedelta(seconds=6))
    listed = await net.client("vali").validator_read(epoch.id)
    assert [o.info.key for o in listed] == sorted(keys)


async def test_long_lists_come_in_pages(net: Net) -> None:
    """A validator's results, which may be any objects."""
    epoch = net.epoch
    await net.client("vali").validator_upload(epoch.id, purpose="results")
    prefix = f"validators/{net.hotkey('vali')}/epoch={epoch.id}/"
    keys = [f"{prefix}part{n:05d}" for n in range(1003)]
    for start in range(0, len(keys), 100):
        batch = keys[start : start + 100]
        await asyncio.gather(*(net.world.results.put(key, b"x") for key in batch))
    await net.advance_to(epoch.evidence_deadline + timedelta(seconds=6))
    path = "/api/v1/s3-access/validator-read?bucket=results"
    body = f'{{"epoch_id": "{epoch.id}"}}'.encode()
    answer = await net.http.post(path, content=body, headers=net.btauth("vali", "POST", path, body))
    page = answer.json()
    assert len(page["objects"]) == 1000
    assert page["next_cursor"] == page["objects"][-1]["key"]
    objects = await net.client("vali").validator_read(epoch.id, "results")
    assert [o.info.key for o in objects] == keys


async def test_an_unknown_bucket_is_422(net: Net) -> None:
    path = "/api/v1/s3-access/validator-read?bucket=other"
    body = f'{{"epoch_id": "{net.epoch.id}"}}'.encode()
    answer = await net.http.post(path, content=body, headers=net.btauth("vali", "POST", path, body))
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "bucket")


async def test_evidence_is_hidden_until_its_deadline_and_frozen_then(net: Net) -> None:
    epoch, vali = net.epoch, net.client("vali")
    evidence = await vali.validator_upload(epoch.id, "evidence")
    results = await vali.validator_upload(epoch.id, "results")
    assert evidence.prefix == f"{results.prefix}evidence/"
    assert evidence.expires_at == epoch.evidence_deadline
    assert results.expires_at == epoch.results_deadline
    key = f"{evidence.prefix}evidence.json"
    await upload_object(net.http, evidence, key, b"verdicts")
    await upload_object(net.http, results, f"{results.prefix}validation_report.json", b"{}")
    await net.advance_to(epoch.evidence_deadline - timedelta(seconds=1))
    with pytest.raises(ApiError) as refused:
        await net.client("other").validator_read(epoch.id, "results")
    assert (refused.value.status, refused.value.code) == (409, "evidence_open")
    await net.advance_to(epoch.evidence_deadline + timedelta(seconds=6))
    objects = await net.client("other").validator_read(epoch.id, "results")
    assert [o.info.key for o in objects] == [key, f"{results.prefix}validation_report.json"]
    assert (await net.http.get(objects[0].url)).content == b"verdicts"
    with pytest.raises(ApiError) as refused:
        await vali.validator_upload(epoch.id, "evidence")
    assert (refused.value.status, refused.value.code) == (409, "upload_closed")
    await vali.validator_upload(epoch.id, "results")
    await net.advance_to(epoch.results_deadline)
    with pytest.raises(ApiError) as refused:
        await vali.validator_upload(epoch.id, "results")
    assert refused.value.code == "upload_closed"


async def test_a_validator_reads_its_own_results_at_any_time_and_nobody_elses(net: Net) -> None:
    """One that lost its disk goes on with what it uploaded."""
    epoch, vali = net.epoch, net.client("vali")
    evidence = await vali.validator_upload(epoch.id, "evidence")
    results = await vali.validator_upload(epoch.id, "results")
    keys = [
        f"{evidence.prefix}evidence.json",
        f"{evidence.prefix}spot_checks.parquet",
        f"{results.prefix}validation_report.json",
    ]
    assert await vali.validator_read(epoch.id, "own") == []
    for policy, key in zip((evidence, evidence, results), keys, strict=True):
        await upload_object(net.http, policy, key, key.encode())
    await net.world.results.put(f"{results.prefix}notes.txt", b"not of these")
    objects = await vali.validator_read(epoch.id, "own")
    assert [o.info.key for o in objects] == keys
    assert (await net.http.get(objects[0].url)).content == keys[0].encode()
    assert await net.client("other").validator_read(epoch.id, "own") == []
    with pytest.raises(ApiError) as refused:
        await net.client("ann").validator_read(epoch.id, "own")
    assert refused.value.status == 403


async def test_nobody_uploads_for_an_epoch_that_has_not_begun(net: Net) -> None:
    with pytest.raises(ApiError) as refused:
        await net.client("vali").validator_upload(EpochId(net.epoch.next().id), "results")
    assert refused.value.status == 404


async def test_a_store_that_is_away_is_503(world: World) -> None:
    world.miners = S3Bucket(world.miners.access, f"gone-{world.miners.name}")
    async with api_over(world) as net:
        await net.until(lambda: drawn(net))
        ready = (await net.http.get("/readyz")).json()
        assert [n for n, part in ready["parts"].items() if not part["ok"]] == ["store"]
        epoch = net.epoch
        await net.client("ann").miner_upload()
        net.clock.advance_to(epoch.end + timedelta(seconds=6))
        path = "/api/v1/s3-access/validator-read"
        body = f'{{"epoch_id": "{epoch.id}"}}'.encode()
        answer = await net.http.post(
            path, content=body, headers=net.btauth("vali", "POST", path, body)
        )
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert "retry-after" in answer.headers
    await world.miners.close()


async def drawn(net: Net) -> bool:
    parts = (await net.http.get("/readyz")).json()["parts"]
    return all(part["ok"] for name, part in parts.items() if name != "store")
