"""Who is calling: both ways to sign, and every way in which that can be wrong."""

import json
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from apinet import Net, World, api_over
from sqlalchemy import select

from sn46.api.identity import check_timestamp
from sn46.api.problems import Problem
from sn46.api.schema import requests

CURRENT = "/api/v1/zipcode-assignments/current"
TEXT = "zipcode:assignment:current"


def refused(answer: httpx.Response, status: int, code: str) -> None:
    """An RFC 9457 answer with this code, which echoes no secret."""
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) >= {"type", "title", "status", "detail", "code"}
    assert answer.json()["status"] == status
    assert "Traceback" not in answer.text
    assert answer.headers["x-request-id"]


def now_of(net: Net) -> int:
    return int(net.clock.now().timestamp())


async def test_both_ways_and_both_forms_of_hex_are_accepted(net: Net) -> None:
    plain = net.header_auth("ann", TEXT)
    prefixed = {**plain, "Authorization": plain["Authorization"].replace("Bearer ", "Bearer 0x")}
    validator = net.header_auth("vali", "zipcode:validation:current")
    for headers in (plain, prefixed, validator, net.btauth("bob", "GET", CURRENT)):
        assert (await net.http.get(CURRENT, headers=headers)).status_code == 200


async def test_headers_of_every_other_call(net: Net) -> None:
    epoch = net.epoch.id
    calls = [
        ("GET", f"/api/v1/zipcode-assignments/epoch/{epoch}", f"zipcode:validation:{epoch}", None),
        ("POST", "/api/v1/s3-access/miner-upload", f"s3:miner:upload:{epoch}", {"epoch_id": epoch}),
        ("POST", "/api/v1/s3-access/miner-upload", "s3:miner:upload:current", {}),
        (
            "POST",
            "/api/v1/s3-access/validator-upload",
            "s3:validator:upload",
            {"epoch_id": epoch, "purpose": "results"},
        ),
    ]
    for method, path, text, body in calls:
        answer = await net.http.request(
            method, path, json=body, headers=net.header_auth("vali", text)
        )
        assert answer.status_code == 200, answer.text
    # These two are understood, and refused for their time alone.
    read = await net.http.post(
        "/api/v1/s3-access/validator-read",
        json={"epoch_id": epoch},
        headers=net.header_auth("vali", f"s3:validator:read:{epoch}"),
    )
    refused(read, 409, "epoch_not_ended")
    announced = await net.http.post(
        "/api/v1/validation-results",
        json={"epoch_id": epoch, "consensus_hash": "0" * 64, "assignment_hash": "0" * 64},
        headers=net.header_auth("vali", f"validation:result:{epoch}"),
    )
    refused(announced, 409, "epoch_not_ended")


async def test_unsigned_requests_are_refused(net: Net) -> None:
    refused(await net.http.get(CURRENT), 401, "not_authenticated")
    whole = net.header_auth("ann", TEXT)
    for missing in whole:
        headers = {name: value for name, value in whole.items() if name != missing}
        refused(await net.http.get(CURRENT, headers=headers), 401, "not_authenticated")


@pytest.mark.parametrize(("age", "holds"), [(300, True), (301, False), (-60, True), (-61, False)])
def test_the_window_to_the_second(age: int, holds: bool) -> None:
    now = datetime(2026, 3, 15, 12, tzinfo=UTC)
    text = str(int(now.timestamp()) - age)
    with nullcontext() if holds else pytest.raises(Problem):
        check_timestamp(text, now)


@pytest.mark.parametrize(
    ("shift", "status"), [(-280, 200), (-302, 401), (58, 200), (80, 401), (86_400, 401)]
)
async def test_the_window_of_the_header_way(net: Net, shift: int, status: int) -> None:
    headers = net.header_auth("ann", TEXT, at=now_of(net) + shift)
    answer = await net.http.get(CURRENT, headers=headers)
    assert answer.status_code == status
    if status == 401:
        refused(answer, 401, "stale_timestamp" if shift < 0 else "future_timestamp")


@pytest.mark.parametrize(
    "signature", ["zz" * 64, "00" * 63, "00" * 65, "0x", "0x" + "ff" * 64, "é" * 64, "1" * 127]
)
async def test_malformed_signatures_are_401(net: Net, signature: str) -> None:
    headers = net.header_auth("ann", TEXT) | {"Authorization": f"Bearer {signature}"}
    encoded = [(k.encode(), v.encode("latin-1")) for k, v in headers.items()]
    answer = await net.http.get(CURRENT, headers=encoded)
    assert answer.status_code == 401
    assert len(signature) < 10 or signature not in answer.text


@pytest.mark.parametrize("stamp", ["", "now", "1e9", "-5", "9" * 40, "١٢٣٤٥٦٧٨٩٠"])
async def test_malformed_timestamps_are_401(net: Net, stamp: str) -> None:
    headers = net.header_auth("ann", TEXT) | {"X-Timestamp": stamp}
    encoded = [(k.encode(), v.encode()) for k, v in headers.items()]
    assert (await net.http.get(CURRENT, headers=encoded)).status_code == 401


@pytest.mark.parametrize("hotkey", ["5", "not-a-key", "0" * 48, "5" * 500])
async def test_malformed_hotkeys_are_401(net: Net, hotkey: str) -> None:
    headers = net.header_auth("ann", TEXT, hotkey=hotkey)
    refused(await net.http.get(CURRENT, headers=headers), 401, "bad_signature")


async def test_a_signature_holds_for_its_own_call_and_key_alone(net: Net) -> None:
    others = [
        net.header_auth("ann", TEXT, hotkey=net.hotkey("bob")),
        net.header_auth("ann", "zipcode:status:current"),
        net.header_auth("ann", TEXT) | {"X-Timestamp": str(now_of(net) - 1)},
    ]
    for headers in others:
        refused(await net.http.get(CURRENT, headers=headers), 401, "bad_signature")


async def test_btauth_is_bound_to_method_path_body_receiver_and_time(net: Net) -> None:
    path = "/api/v1/s3-access/validator-read?bucket=miners"
    body = json.dumps({"epoch_id": net.epoch.id}).encode()
    now = int(net.clock.now().timestamp() * 10**9)
    cases = [
        ("bad_signature", net.btauth("vali", "GET", path, body, nonce_ns=now)),
        ("bad_signature", net.btauth("vali", "POST", path + "&x=1", body, nonce_ns=now + 1)),
        ("bad_signature", net.btauth("vali", "POST", path, body + b" ", nonce_ns=now + 2)),
        ("wrong_receiver", net.btauth("vali", "POST", path, body, receiver_ss58=None)),
        (
            "wrong_receiver",
            net.btauth("vali", "POST", path, body, receiver_ss58=net.hotkey("other")),
        ),
        ("stale_timestamp", net.btauth("vali", "POST", path, body, nonce_ns=now - 11 * 10**9)),
        ("stale_timestamp", net.btauth("vali", "POST", path, body, nonce_ns=now + 30 * 10**9)),
    ]
    for code, headers in cases:
        answer = await net.http.post(path, content=body, headers=headers)
        refused(answer, 401, code)
    altered = net.btauth("vali", "POST", path, body) | {"X-Bittensor-Hotkey": net.hotkey("other")}
    refused(await net.http.post(path, content=body, headers=altered), 401, "bad_signature")
    for nonce in ("", "x", "-1", "9" * 5000):
        headers = net.btauth("vali", "POST", path, body) | {"X-Bittensor-Nonce": nonce}
        refused(await net.http.post(path, content=body, headers=headers), 401, "not_authenticated")
    good = net.btauth("vali", "POST", path, body)
    refused(await net.http.post(path, content=body, headers=good), 409, "epoch_not_ended")


async def test_a_btauth_request_counts_once(net: Net) -> None:
    headers = net.btauth("ann", "GET", CURRENT)
    assert (await net.http.get(CURRENT, headers=headers)).status_code == 200
    refused(await net.http.get(CURRENT, headers=headers), 401, "replayed_request")


async def test_strangers_and_stakeless_validators_are_403(net: Net) -> None:
    refused(
        await net.http.get(CURRENT, headers=net.header_auth("stranger", TEXT)),
        403,
        "hotkey_not_registered",
    )
    body = {"epoch_id": net.epoch.id, "purpose": "results"}
    for name in ("ann", "poor"):
        answer = await net.http.post(
            "/api/v1/s3-access/validator-upload",
            json=body,
            headers=net.header_auth(name, "s3:validator:upload"),
        )
        refused(answer, 403, "not_a_validator")


async def test_registration_and_stake_are_followed(net: Net) -> None:
    chain = net.world.chain
    chain.register(net.hotkey("stranger"), net.hotkey("stranger"))
    chain.set_stake(net.hotkey("poor"), 20_000 * 10**9)
    chain.set_permit(net.hotkey("vali"), False)
    net.clock.advance_to(net.clock.now() + timedelta(seconds=30))

    async def followed() -> bool:
        path = f"/api/v1/zipcode-assignments/epoch/{net.epoch.id}"
        texts = {"stranger": (CURRENT, 200), "poor": (path, 200), "vali": (path, 403)}
        seen = [
            (await net.http.get(p, headers=net.btauth(name, "GET", p))).status_code == status
            for name, (p, status) in texts.items()
        ]
        return all(seen)

    await net.until(followed)


async def test_an_old_chain_view_fails_closed(world: World) -> None:
    async with api_over(world, metagraph_max_age_seconds=60) as net:
        await net.ready()
        assert (await net.http.get(CURRENT, headers=net.btauth("ann", "GET", CURRENT))).is_success
        world.chain.set_reachable(False)
        net.clock.advance_to(net.clock.now() + timedelta(seconds=100))
        answer = await net.http.get(CURRENT, headers=net.btauth("ann", "GET", CURRENT))
        refused(answer, 503, "chain_view_too_old")
        assert int(answer.headers["retry-after"]) >= 1
        ready = await net.http.get("/readyz")
        assert ready.status_code == 503
        assert [n for n, p in ready.json()["parts"].items() if not p["ok"]] == ["chain"]
        # Who does not authenticate learns nothing of it.
        refused(await net.http.get(CURRENT), 401, "not_authenticated")
        world.chain.set_reachable(True)
        net.clock.advance_to(net.clock.now() + timedelta(seconds=10))
        await net.ready()
        assert (await net.http.get(CURRENT, headers=net.btauth("ann", "GET", CURRENT))).is_success


async def test_bodies_are_limited_and_checked_after_the_caller_is_known(net: Net) -> None:
    path = "/api/v1/s3-access/validator-upload"
    large = b"x" * 70_000
    answer = await net.http.post(path, content=large, headers=net.btauth("vali", "POST", path))
    refused(answer, 413, "body_too_large")
    for body in (b"", b"{", b"[]", b'"x"', b"null", b"[" * 30_000, b'{"epoch_id": 5}', b"\xff"):
        unsigned = await net.http.post(path, content=body)
        refused(unsigned, 401, "not_authenticated")
        signed = await net.http.post(
            path, content=body, headers=net.btauth("vali", "POST", path, body)
        )
        refused(signed, 422, "invalid_request")
        assert signed.json()["errors"][0]["field"]


async def test_who_watches_from_outside_may_ask_for_the_head(net: Net) -> None:
    for path in ("/healthz", "/readyz", "/healthcheck", "/api/v1/healthz", "/api/v1/readyz"):
        answer = await net.http.head(path)
        assert (answer.status_code, answer.content) == (200, b""), path
        assert (await net.http.delete(path)).headers["allow"] == "GET, HEAD"


async def test_unknown_paths_and_methods_are_problems(net: Net) -> None:
    refused(await net.http.get("/api/v1/nothing"), 404, "not_found")
    for path in (f"{CURRENT}/?hotkey=x&signature=y", "/api/v1/epochs/", "/healthz/"):
        answer = await net.http.get(path, headers={"Host": "elsewhere.example"})
        refused(answer, 404, "not_found")
        assert "location" not in answer.headers
    wrong = await net.http.delete(CURRENT)
    refused(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET"
    # Where a path has several routes, all of their methods are named.
    for query in ("", "?hotkey=x", "?hotkey=x&signature=y"):
        both = await net.http.delete(f"/api/v1/validation-results{query}")
        refused(both, 405, "method_not_allowed")
        assert both.headers["allow"] == "GET, POST"
        # A public page stays one, whatever is asked of it.
        assert (await net.http.get(f"/api/v1/validation-results{query}")).status_code == 200
    answer = await net.http.get("/api/v1/epochs", params={"limit": "many"})
    refused(answer, 422, "invalid_request")


async def test_authenticated_requests_are_on_record(net: Net) -> None:
    headers = net.btauth("ann", "GET", CURRENT) | {"X-Request-Id": "trace-me"}
    assert (await net.http.get(CURRENT, headers=headers)).headers["x-request-id"] == "trace-me"
    await net.http.get(CURRENT, headers=headers)
    await net.services.audit.flush()
    async with net.services.database.read() as connection:
        rows = (await connection.execute(select(requests).order_by(requests.c.at))).mappings().all()
    assert [(r["request_id"], r["hotkey"], r["status"]) for r in rows] == [
        ("trace-me", net.hotkey("ann"), 200),
        ("trace-me", "", 401),
    ]


async def test_the_contract_is_published(net: Net) -> None:
    contract = (await net.http.get("/openapi.json")).json()
    paths = set(contract["paths"])
    assert {
        f"/api/v1/{path}"
        for path in (
            "zipcode-assignments/current",
            "zipcode-assignments/epoch/{epoch_id}",
            "zipcode-assignments/status",
            "zipcode-assignments/stats",
            "s3-access/miner-upload",
            "s3-access/validator-upload",
            "s3-access/validator-read",
            "validation-results",
            "validation-results/{epoch_id}",
        )
    } <= paths
    status = contract["paths"]["/api/v1/zipcode-assignments/status"]["post"]
    schema = status["requestBody"]["content"]["application/json"]["schema"]
    assert {"epoch_id", "nonce", "status"} <= set(schema["required"])
    assert (await net.http.get("/docs")).status_code == 200
