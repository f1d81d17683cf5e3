"""What to sign, as the server itself tells it, and what it counts."""

import json
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from apinet import L, Net, World, api_over
from bittensor_core import CRYPTO_SR25519, verify
from prometheus_client.parser import text_string_to_metric_families

from sn46.api.records import Records
from sn46.mechanism.epochs import epoch_at

CURRENT = "/api/v1/zipcode-assignments/current"


async def formats(net: Net) -> Any:
    return (await net.http.get("/commitment-formats")).json()


async def test_the_examples_verify(net: Net) -> None:
    told = await formats(net)
    assert told == (await net.http.get("/api/v1/commitment-formats")).json()
    assert told["server_hotkey"] == net.hotkey("api")
    hotkey, ways = told["example_key"]["hotkey"], told["ways"]
    signatures = {
        "headers": ways["headers"]["example"]["headers"]["Authorization"].removeprefix("Bearer "),
        "btauth": ways["btauth"]["example"]["headers"]["X-Bittensor-Signature"],
        "fields": httpx.URL(ways["fields"]["example"]["request"].split()[1]).params["signature"],
    }
    assert set(signatures) == set(ways)
    for way, signature in signatures.items():
        text = ways[way]["example"]["signed_text"].encode()
        assert verify(text, bytes.fromhex(signature.removeprefix("0x")), hotkey, CRYPTO_SR25519)


def filled(text: str, net: Net, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


@pytest.mark.parametrize("way", ["headers", "fields", "btauth"])
async def test_every_call_takes_every_text_that_is_told(net: Net, way: str) -> None:
    # At this moment every call is open: evidence can be read, results be uploaded.
    first = (await net.client("vali").current()).assignment
    await net.client("vali").validator_upload(first.epoch_id, "results")
    await net.advance_to(first.epoch.evidence_deadline + timedelta(minutes=1))
    told, seen = await formats(net), set[str]()
    stamp = int(net.clock.now().timestamp())
    keypair = net.world.wallets["vali"].hotkey
    values = {
        "epoch_id": first.epoch_id,
        "hotkey": net.hotkey("vali"),
        "coldkey": net.world.wallets["vali"].coldkey.ss58_address,
        "miner_hotkey": net.hotkey("ann"),
        "nonce": first.nonce,
        "timestamp": str(stamp),
    }
    for call in told["calls"]:
        path = filled(call["path"], net, values)
        for text in call["fields"] if way == "fields" else call["headers"]:
            seen.add(text)
            text = filled(text, net, values)
            assert "{" not in text
            signature = bytes(keypair.sign(text.encode())).hex()
            fields = {"hotkey": values["hotkey"], "signature": signature, "timestamp": stamp}
            body = json.loads(filled(json.dumps(call["body"]), net, values)) or {}
            options: dict[str, Any] = {"json": body} if call["method"] == "POST" else {}
            if way == "fields":
                name = "json" if call["method"] == "POST" else "params"
                options = {name: body | fields}
            if way == "headers":
                options["headers"] = {
                    "Authorization": f"Bearer {signature}",
                    "X-Hotkey": values["hotkey"],
                    "X-Timestamp": str(stamp),
                }
            request = net.http.build_request(call["method"], path, **options)
            if way == "btauth":
                request.headers.update(net.btauth("vali", call["method"], path, request.content))
            answer = await net.http.send(request)
            # Authenticated: refused, if at all, for what the example asks for.
            allowed = (200, 409) if "upload" in path or "results" in path else (200,)
            assert answer.status_code in allowed, (path, text, answer.text)
            told_camel = "success" in answer.json()
            assert answer.status_code == 409 or way != "fields" or told_camel
    assert len(seen) >= 10


async def figures(net: Net) -> dict[str, float]:
    answer = await net.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        sample.name + json.dumps(sample.labels, sort_keys=True): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def at(name: str, **labels: str) -> str:
    return f"sn46_api_{name}{json.dumps(labels, sort_keys=True)}"


async def test_requests_and_refusals_are_counted_by_route(net: Net) -> None:
    route = "/zipcode-assignments/current"
    text = "zipcode:assignment:current"
    await net.http.get(CURRENT, headers=net.header_auth("ann", text))
    await net.http.get(CURRENT, headers=net.btauth("ann", "GET", CURRENT))
    await net.http.get(CURRENT)
    await net.http.get(CURRENT, headers=net.header_auth("stranger", text))
    for n in range(3):
        await net.http.get(f"/nothing/{n}")
    await net.http.request("BREW", CURRENT)
    counted = await figures(net)
    assert counted[at("requests_total", method="GET", route=route, status="200")] == 2
    assert counted[at("requests_total", method="GET", route=route, status="401")] == 1
    assert counted[at("refusals_total", route=route, status="401", code="not_authenticated")] == 1
    code = "hotkey_not_registered"
    assert counted[at("refusals_total", route=route, status="403", code=code)] == 1
    assert counted[at("refusals_total", route="other", status="404", code="not_found")] == 3
    assert counted[at("authenticated_requests_total", route=route, way="headers")] == 1
    assert counted[at("authenticated_requests_total", route=route, way="btauth")] == 1
    assert counted[at("requests_total", method="other", route="other", status="405")] == 1
    assert counted[at("request_seconds_count", route=route)] == 4
    assert counted[at("epoch_drawn")] == 1
    assert counted[at("registered_hotkeys")] == 7
    assert 0 <= counted[at("chain_view_age_seconds")] < 60
    assert 0 <= counted[at("scheduler_heartbeat_age_seconds")] < 60


async def test_labels_do_not_grow_with_what_callers_send(net: Net) -> None:
    await figures(net)
    await net.http.get("/api/v1/zipcode-assignments/epoch/x")
    before = set(await figures(net))
    for n in range(20):
        await net.http.get(f"/api/v1/zipcode-assignments/epoch/{n}?hotkey={n}")
        await net.http.get(f"/api/v1/zipcode-assignments/epoch/{n}")
    grown = set(await figures(net)) - before
    # One more series of each kind for the older form of the same call, and the 20 stay one.
    assert all("/field-form/" in name for name in grown)
    assert not any(secret in "".join(before | grown) for secret in (net.hotkey("ann"), "127.0.0"))


async def test_figures_are_told_while_the_database_is_away(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_records: Records, _moment: datetime) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(Records, "epoch_at", away)
    net.clock.advance_to(net.epoch.end)
    assert (await figures(net))[at("epoch_drawn")] == 0


async def test_each_server_counts_for_itself(world: World) -> None:
    async with api_over(world, epoch_seconds=L) as one, api_over(world, epoch_seconds=L) as two:
        assert epoch_at(one.clock.now(), L) == one.epoch
        await one.http.get("/nothing")
        name = at("requests_total", method="GET", route="other", status="404")
        assert (await figures(one))[name] == 1
        assert name not in await figures(two)
