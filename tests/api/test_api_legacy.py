"""The deployed clients' contract, row by row: what they sign, send and read, over a real store."""

import contextlib
import xml.etree.ElementTree as ET
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from apinet import Net, World, api_over
from sqlalchemy import func, select

from sn46.api.schema import credentials, statuses
from sn46.mechanism.submission import MAX_FILE_BYTES
from sn46.store.base import UploadPolicy, UploadRefused
from sn46.store.upload import send_form

V1 = "/api/v1"
CURRENT = f"{V1}/zipcode-assignments/current"
STATUS = f"{V1}/zipcode-assignments/status"
UPLOAD = f"{V1}/s3-access/validator-upload"


def signed(net: Net, name: str, text: str, *, shift: int = 0, **fields: Any) -> dict[str, Any]:
    """What the deployed clients send: the signature in hex and the seconds as a number."""
    stamp = int(net.clock.now().timestamp()) + shift
    keypair = net.world.wallets[name].hotkey
    signature = bytes(keypair.sign(f"{text}:{stamp}".encode())).hex()
    return {
        "hotkey": keypair.ss58_address, "signature": signature, "timestamp": stamp, **fields
    }  # fmt: skip


def older(epoch_id: str) -> str:
    """An epoch id as the deployed clients write it."""
    return f"{epoch_id[:10]}T{epoch_id[11:13]}-{epoch_id[14:16]}-00"


async def nonce_of(net: Net) -> str:
    return (await net.client("ann").current()).assignment.nonce


def status_body(net: Net, nonce: str, text: str, **changes: Any) -> dict[str, Any]:
    fields = {
        "epochId": net.epoch.id,
        "nonce": nonce,
        "status": "IN_PROGRESS",
        "s3UploadComplete": False,
    }
    return signed(net, "ann", text, **(fields | changes))


async def folder(net: Net, name: str, **changes: Any) -> httpx.Response:
    coldkey = net.world.wallets[name].coldkey.ss58_address
    text = f"s3:data:access:{changes.get('coldkey', coldkey)}:{net.hotkey(name)}"
    fields = {"coldkey": coldkey, "expiry": int(net.clock.now().timestamp()) + 86_400} | changes
    return await net.http.post("/get-folder-access", json=signed(net, name, text, **fields))


def policy_of(answer: httpx.Response) -> UploadPolicy:
    """The answer as a form to send, with nothing added to it."""
    document = answer.json()
    return UploadPolicy(
        url=document["url"],
        fields=document["fields"],
        prefix=document["folder"],
        expires_at=datetime.fromisoformat(document["expiry"]),
        max_bytes=MAX_FILE_BYTES,
    )


async def keys_listed(net: Net, url: str) -> list[str]:
    answer = await net.http.get(url)
    assert answer.status_code == 200, answer.text
    space = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/"}
    root = ET.fromstring(answer.text)
    return [str(found.text) for found in root.findall(".//s3:Contents/s3:Key", space)]


async def test_the_current_assignment_in_camel_case(net: Net) -> None:
    assignment = (await net.client("ann").current()).assignment
    query = signed(net, "ann", "zipcode:assignment:current")
    answer = await net.http.get(CURRENT, params=query)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["success"] is True
    assert told["epochId"] == assignment.epoch_id
    assert told["nonce"] == assignment.nonce
    assert datetime.fromisoformat(told["submissionDeadline"]) == assignment.submission_deadline
    assert datetime.fromisoformat(told["epochStart"]) == assignment.epoch.start
    assert datetime.fromisoformat(told["epochEnd"]) == assignment.epoch.end
    assert (told["targetListings"], told["tolerancePercent"]) == (10_000, 10)
    first = assignment.zipcodes[0]
    assert told["zipcodes"][0] == {
        "zipcode": first.zipcode,
        "expectedListings": first.expected_listings,
        "state": first.state,
        "city": first.city,
        "county": first.county,
        "marketTier": first.market_tier,
    }
    assert len(told["zipcodes"]) == len(assignment.zipcodes)
    # Every other form gets the other answer.
    headers = net.header_auth("ann", "zipcode:assignment:current")
    assert "epoch_id" in (await net.http.get(CURRENT, headers=headers)).json()
    both = await net.http.get(CURRENT, params=query, headers=headers)
    assert "epoch_id" in both.json()


async def test_an_epochs_assignment_for_validators(net: Net) -> None:
    for named in (net.epoch.id, older(net.epoch.id)):
        path = f"{V1}/zipcode-assignments/epoch/{named}"
        text = f"zipcode:validation:{named}"
        told = await net.http.get(path, params=signed(net, "vali", text))
        assert told.status_code == 200, told.text
        assert told.json()["epochId"] == net.epoch.id
        refused = await net.http.get(path, params=signed(net, "ann", text))
        assert (refused.status_code, refused.json()["code"]) == (403, "not_a_validator")
    path = f"{V1}/zipcode-assignments/epoch/{net.epoch.next().id}"
    text = f"zipcode:validation:{net.epoch.next().id}"
    assert (await net.http.get(path, params=signed(net, "vali", text))).status_code == 404


async def test_statuses_in_both_texts_and_all_variants(net: Net) -> None:
    nonce, epoch = await nonce_of(net), net.epoch.id
    done = [{"zipcode": "10000", "listingsScraped": 3, "completedAt": "2025-10-01T17:30:00Z"}]
    bodies = [
        status_body(net, nonce, f"zipcode:status:{epoch}"),
        status_body(net, nonce, f"miner:status:{net.hotkey('ann')}:{epoch}", status="TIMEOUT"),
        status_body(net, nonce, f"zipcode:status:{older(epoch)}", epochId=older(epoch)),
        status_body(
            net,
            nonce,
            f"miner:status:{net.hotkey('ann')}:{epoch}",
            status="COMPLETED",
            listingsScraped=1250,
            zipcodesCompleted=done,
            s3UploadComplete=True,
            s3UploadTimestamp="2025-10-01T17:45:00.000Z",
        ),
    ]
    for body in bodies:
        answer = await net.http.post(STATUS, json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["success"] is True
        assert answer.json()["status"] == body["status"]
    async with net.services.database.read() as connection:
        row = (await connection.execute(select(statuses))).mappings().one()
    assert (row["status"], row["listings_found"], row["zipcodes_completed"]) == (
        "completed",
        1250,
        1,
    )
    back = await net.http.post(STATUS, json=bodies[0])
    assert (back.status_code, back.json()["code"]) == (409, "status_completed")


async def test_statuses_that_are_wrong_are_refused(net: Net) -> None:
    nonce, text = await nonce_of(net), f"zipcode:status:{net.epoch.id}"
    cases: list[tuple[dict[str, Any], int, str]] = [
        (status_body(net, "0" * 64, text), 409, "nonce_mismatch"),
        (status_body(net, nonce, text, status="DONE"), 422, "invalid_request"),
        (status_body(net, nonce, text, listingsScraped=-1), 422, "invalid_request"),
        (status_body(net, nonce, text, zipcodesCompleted="all"), 422, "invalid_request"),
        (status_body(net, nonce, f"zipcode:status:{net.epoch.next().id}"), 401, "bad_signature"),
        (status_body(net, nonce, text, hotkey=net.hotkey("bob")), 401, "bad_signature"),
        (
            status_body(net, nonce, f"miner:status:{net.hotkey('bob')}:{net.epoch.id}"),
            401,
            "bad_signature",
        ),
    ]
    for body, code, name in cases:
        answer = await net.http.post(STATUS, json=body)
        assert (answer.status_code, answer.json()["code"]) == (code, name)
    async with net.services.database.read() as connection:
        assert (await connection.execute(select(func.count()).select_from(statuses))).scalar() == 0


async def test_statistics_and_health(net: Net) -> None:
    stats = (await net.http.get(f"{V1}/zipcode-assignments/stats")).json()
    told = stats["epochStatus"]["currentEpoch"]
    left = told.pop("timeUntilEpochEnd")
    assert told == {
        "id": net.epoch.id,
        "status": "ACTIVE",
        "startTime": stats["current_epoch"]["epoch_start"],
        "endTime": stats["current_epoch"]["epoch_end"],
        "nonce": await nonce_of(net),
    }
    assert left == stats["epochStatus"]["timing"]["timeUntilEpochEnd"]
    assert abs(left - (net.epoch.end - net.clock.now()).total_seconds()) < 30
    health = (await net.http.get("/healthcheck")).json()
    assert health["status"] == "ok"
    assert health["service"]


async def test_a_folder_upload_plain_and_doubled(net: Net) -> None:
    answer = await folder(net, "ann")
    assert answer.status_code == 200, answer.text
    told = answer.json()
    prefix = f"data/hotkey={net.hotkey('ann')}/"
    assert (told["success"], told["folder"]) == (True, prefix)
    assert told["uploadUrl"] == told["url"]
    assert told["fields"]["key"] == prefix + "${filename}"
    assert datetime.fromisoformat(told["expiry"]) == net.epoch.end
    policy = policy_of(answer)
    keys = [f"{prefix}job_id=1/data.parquet", f"{prefix}{prefix}job_id=1/data.parquet"]
    for key in keys:
        await send_form(net.http, policy, key, b"rows")
    stored = await net.world.miners.objects(prefix)
    assert [o.key for o in stored] == sorted(keys)
    # Bound to the epoch like any other upload.
    assert {o.metadata["nonce"] for o in stored} == {await nonce_of(net)}
    assert sorted(await keys_listed(net, told["list_url"])) == sorted(keys)


async def test_a_folder_policy_reaches_nothing_else(net: Net) -> None:
    policy = policy_of(await folder(net, "ann"))
    ann, bob, epoch = net.hotkey("ann"), net.hotkey("bob"), net.epoch.id
    for key in (
        f"miners/{ann}/epoch={epoch}/manifest.json",
        f"data/hotkey={bob}/job_id=1/data.parquet",
        f"data/hotkey={ann}x/data.parquet",
        "data/x",
        f"validators/{ann}/epoch={epoch}/validation_report.json",
    ):
        with pytest.raises(UploadRefused):
            await send_form(net.http, policy, key, b"rows")
    inside = f"data/hotkey={ann}/../../miners/{ann}/epoch={epoch}/manifest.json"
    with contextlib.suppress(UploadRefused):
        await send_form(net.http, policy, inside, b"rows")
    assert await net.world.miners.objects("miners/" + ann) == []
    for name, value in {"x-amz-meta-nonce": "0" * 64, "x-amz-meta-epoch-id": "x"}.items():
        altered = UploadPolicy(
            policy.url,
            {**policy.fields, name: value},
            policy.prefix,
            policy.expires_at,
            policy.max_bytes,
        )
        with pytest.raises(UploadRefused):
            await send_form(net.http, altered, f"{policy.prefix}x.parquet", b"rows")
    with pytest.raises(UploadRefused):
        await send_form(
            net.http, policy, f"{policy.prefix}large.parquet", bytes(MAX_FILE_BYTES + 1)
        )
    # What lies there is no submission.
    await send_form(net.http, policy, f"{policy.prefix}manifest.json", b"{}")
    await net.advance_to(net.epoch.end + timedelta(seconds=6))
    assert await net.client("vali").validator_read(epoch) == []


async def test_a_folder_policy_ends_with_the_epoch_or_sooner(net: Net) -> None:
    soon = int(net.clock.now().timestamp()) + 600
    told = (await folder(net, "ann", expiry=soon)).json()
    assert datetime.fromisoformat(told["expiry"]).timestamp() == soon
    for expiry in (None, 2**53, int(net.epoch.end.timestamp()) + 1):
        told = (await folder(net, "ann", expiry=expiry)).json()
        assert datetime.fromisoformat(told["expiry"]) == net.epoch.end
    for expiry in (0, soon - 700, -1, 2**60, 1.5, "soon", True):
        refused = await folder(net, "ann", expiry=expiry)
        assert refused.status_code == 422, refused.text
        assert refused.json()["errors"][0]["field"] == "expiry"


async def test_a_folder_is_for_the_hotkeys_own_coldkey(net: Net) -> None:
    foreign = net.world.wallets["bob"].coldkey.ss58_address
    refused = await folder(net, "ann", coldkey=foreign)
    assert (refused.status_code, refused.json()["code"]) == (403, "coldkey_mismatch")
    stranger = await folder(net, "stranger")
    assert (stranger.status_code, stranger.json()["code"]) == (403, "hotkey_not_registered")
    async with net.services.database.read() as connection:
        count = select(func.count()).select_from(credentials)
        assert (await connection.execute(count)).scalar() == 0


async def test_a_validators_upload(net: Net) -> None:
    fields = {
        "epochId": older(net.epoch.id),
        "purpose": "epoch_validation_results",
        "estimatedDataSizeMb": 25,
        "retentionDays": 90,
    }
    body = signed(net, "vali", "s3:validator:upload", **fields)
    answer = await net.http.post(UPLOAD, json=body)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["success"] is True
    assert told["uploadUrl"] == told["url"]
    prefix = f"validators/{net.hotkey('vali')}/epoch={net.epoch.id}/"
    assert told["fields"]["key"] == prefix + "${filename}"
    policy = UploadPolicy(told["url"], told["fields"], prefix, net.epoch.end, 1)
    await send_form(net.http, policy, f"{prefix}validated_data.parquet", b"rows")
    assert [o.key for o in await net.world.results.objects(prefix)] == [
        f"{prefix}validated_data.parquet"
    ]
    refused = await net.http.post(UPLOAD, json=signed(net, "ann", "s3:validator:upload", **fields))
    assert (refused.status_code, refused.json()["code"]) == (403, "not_a_validator")


async def test_validators_list_what_was_uploaded(net: Net) -> None:
    uploads = {}
    for name in ("ann", "bob"):
        policy = policy_of(await folder(net, name))
        uploads[name] = f"{policy.prefix}job_id=1/data.parquet"
        await send_form(net.http, policy, uploads[name], b"rows")
    submission = f"miners/{net.hotkey('cid')}/epoch={net.epoch.id}/manifest.json"
    await net.world.miners.put(submission, b"{}")
    body = signed(net, "vali", "s3:validator:access")
    told = (await net.http.post("/get-validator-access", json=body)).json()
    assert told["success"] is True
    left = (net.epoch.results_deadline - net.clock.now()).total_seconds()
    assert abs(told["expiry_seconds"] - left) < 30
    listed = await keys_listed(net, told["urls"]["global"]["list_all_data"])
    assert set(uploads.values()) <= set(listed)
    # Submissions stay unseen while they can be copied.
    assert not any(key.startswith("miners/") for key in listed)

    text = f"s3:validator:miner:{net.hotkey('ann')}"
    body = signed(net, "vali", text, miner_hotkey=net.hotkey("ann"))
    told = (await net.http.post("/get-miner-specific-access", json=body)).json()
    assert await keys_listed(net, told["miner_url"]) == [uploads["ann"]]
    # The address lists that prefix and nothing else.
    other = told["miner_url"].replace("prefix=data", "prefix=miners")
    assert (await net.http.get(other)).status_code == 403
    assert (await net.http.get(told["miner_url"] + "&delimiter=x")).status_code == 403

    for path, text, fields in (
        ("/get-validator-access", "s3:validator:access", {}),
        ("/get-miner-specific-access", f"s3:validator:miner:{net.hotkey('ann')}",
         {"miner_hotkey": net.hotkey("ann")}),
    ):  # fmt: skip
        for name in ("ann", "poor"):
            refused = await net.http.post(path, json=signed(net, name, text, **fields))
            assert (refused.status_code, refused.json()["code"]) == (403, "not_a_validator")
    for named in ("", "..", "miners/x", net.hotkey("ann") + "/"):
        body = signed(net, "vali", f"s3:validator:miner:{named}", miner_hotkey=named)
        refused = await net.http.post("/get-miner-specific-access", json=body)
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == "miner_hotkey"


async def test_the_newer_calls_in_this_form(net: Net) -> None:
    body = signed(net, "ann", f"s3:miner:upload:{net.epoch.id}", epoch_id=net.epoch.id)
    told = (await net.http.post(f"{V1}/s3-access/miner-upload", json=body)).json()
    assert told["success"] is True
    assert told["epochId"] == net.epoch.id
    assert "x-amz-meta-epoch-id" in told["fields"]
    await net.advance_to(net.epoch.end + timedelta(seconds=6))
    ended = net.epoch.previous().id
    body = signed(net, "vali", f"s3:validator:read:{ended}", epochId=ended)
    told = await net.http.post(f"{V1}/s3-access/validator-read", json=body)
    assert told.json() == {
        "success": True, "epochId": ended, "bucket": "miners", "objects": [], "nextCursor": None,
    }  # fmt: skip
    body = signed(
        net, "vali", f"validation:result:{ended}",
        epochId=ended, consensusHash="a" * 64, assignmentHash="b" * 64,
    )  # fmt: skip
    refused = await net.http.post(f"{V1}/validation-results", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "assignment_mismatch")


async def test_retries_with_the_same_signature_are_answered_and_create_nothing(
    world: World,
) -> None:
    changes = {"limit_current": "1/minute", "limit_credentials": "1/hour"}
    async with api_over(world, **changes) as net:
        await net.ready()
        query = signed(net, "ann", "zipcode:assignment:current")
        answers = [await net.http.get(CURRENT, params=query) for _ in range(3)]
        assert {a.status_code for a in answers} == {200}
        assert len({a.content for a in answers}) == 1
        anew = signed(net, "ann", "zipcode:assignment:current", shift=-20)
        limited = await net.http.get(CURRENT, params=anew)
        assert (limited.status_code, limited.json()["code"]) == (429, "too_many_requests")
        assert int(limited.headers["retry-after"]) >= 1
        coldkey = net.world.wallets["bob"].coldkey.ss58_address
        text = f"s3:data:access:{coldkey}:{net.hotkey('bob')}"
        body = signed(net, "bob", text, coldkey=coldkey)
        given = [await net.http.post("/get-folder-access", json=body) for _ in range(3)]
        assert {a.status_code for a in given} == {200}
        assert len({a.content for a in given}) == 1
        anew = signed(net, "bob", text, shift=-20, coldkey=coldkey)
        again = await net.http.post("/get-folder-access", json=anew)
        assert again.status_code == 429
        async with net.services.database.read() as connection:
            count = select(func.count()).select_from(credentials)
            assert (await connection.execute(count)).scalar() == 1


async def test_who_does_not_authenticate_is_counted_by_address(world: World) -> None:
    async with api_over(world, limit_current="1/minute", limit_address="4/minute") as net:
        await net.ready()
        garbage = signed(net, "ann", "zipcode:assignment:current") | {"signature": "ab" * 64}
        old = signed(net, "ann", "zipcode:assignment:current", shift=-310)
        early = signed(net, "ann", "zipcode:assignment:current", shift=90)
        unsigned = {"hotkey": net.hotkey("ann")}
        answers = [
            await net.http.get(CURRENT, params=query)
            for query in (garbage, old, early, unsigned, garbage)
        ]
        assert [(a.status_code, a.json()["code"]) for a in answers] == [
            (401, "bad_signature"),
            (401, "stale_timestamp"),
            (401, "future_timestamp"),
            (401, "not_authenticated"),
            (429, "too_many_requests"),
        ]
        assert garbage["signature"] not in answers[0].text
        query = signed(net, "ann", "zipcode:assignment:current")
        assert (await net.http.get(CURRENT, params=query)).status_code == 200


async def test_the_inner_paths_are_no_addresses(net: Net) -> None:
    query = signed(net, "ann", "zipcode:assignment:current")
    for path in (CURRENT, f"{V1}/zipcode-assignments/epoch/{net.epoch.id}"):
        hidden = await net.http.get(f"/field-form{path}", params=query)
        assert (hidden.status_code, hidden.json()["code"]) == (404, "not_found")
    assert not any("field-form" in p for p in (await net.http.get("/openapi.json")).json()["paths"])


async def test_large_bodies_in_this_form_are_413(net: Net) -> None:
    body = status_body(net, "0", f"zipcode:status:{net.epoch.id}", padding="x" * 200_000)
    answer = await net.http.post(STATUS, json=body)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_fields_that_no_call_has_cost_nothing(net: Net) -> None:
    """To translate such a name took half a minute for 60 kB: these would take longer than a test
    may."""
    paths = ("s3-access/miner-upload", "s3-access/validator-read", "validation-results")
    for path in 3 * paths:
        body = signed(net, "ann", "anything", **{"A" * 60_000: 1})
        answer = await net.http.post(f"{V1}/{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature")


async def test_deeply_nested_fields_are_refused_by_name(net: Net) -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    epoch = net.epoch.id
    for path, text in (
        ("s3-access/miner-upload", "s3:miner:upload:current"),
        ("s3-access/validator-read", "s3:validator:read:"),
        ("validation-results", "validation:result:"),
    ):
        url = f"{V1}/{path}"
        unknown = signed(net, "vali", "anything", epochId=epoch, other=deep)
        assert (await net.http.post(url, json=unknown)).status_code == 401
        for name in ("epochId", "epoch_id"):
            refused = await net.http.post(url, json=signed(net, "vali", text, **{name: deep}))
            assert refused.status_code == 422, refused.text
            assert refused.json()["errors"][0]["field"]
