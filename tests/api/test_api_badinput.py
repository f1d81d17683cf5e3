"""Input that no honest client sends: refused with a 4xx that names the field, and nothing kept."""

import asyncio
import json
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from apinet import Net, World, api_over
from sqlalchemy import func, select

from sn46.api.schema import credentials, reports, statuses
from sn46.certificates import trusted

V1 = "/api/v1"
CURRENT = f"{V1}/zipcode-assignments/current"
STATUS = f"{V1}/zipcode-assignments/status"
MINER_UPLOAD = f"{V1}/s3-access/miner-upload"
VALIDATOR_UPLOAD = f"{V1}/s3-access/validator-upload"
READ = f"{V1}/s3-access/validator-read"
ANNOUNCE = f"{V1}/validation-results"
PATHS = (STATUS, MINER_UPLOAD, VALIDATOR_UPLOAD, READ, ANNOUNCE)
LEGACY = ("/get-folder-access", "/get-validator-access", "/get-miner-specific-access")

EPOCHS = [
    "0000-01-01-00:00",
    "0001-01-01-00:00",
    "9999-12-31-20:00",
    "2024-02-30-00:00",
    "2024-03-15-16:01",
    "2024-03-15-25:00",
    "-2024-03-15-16:00",
    "٢٠٢٤-03-15-16:00",
    "2024-03-15-16:00\x00",
    "2024-03-15-16:00\n",
    "2024-03-15T16-00-61",
    "../../etc/passwd",
    "' OR 1=1 --",
    "nan",
]
NUMBERS = ["-1", "NaN", "Infinity", "-Infinity", "1e400", "1.5", "2147483648", "9" * 400]
NUMBERS += ["true", '"7"', "[]", "{}", "-0.5", "1e3"]


async def send(net: Net, name: str, path: str, body: bytes, **options: Any) -> httpx.Response:
    """A btauth/1 request over whatever bytes."""
    headers = net.btauth(name, "POST", path, body) | options.pop("headers", {})
    return await net.http.post(path, content=body, headers=headers, **options)


async def kept(net: Net) -> int:
    async with net.services.database.read() as connection:
        counts = [
            (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for table in (statuses, credentials, reports)
        ]
    return sum(counts)


def refused(answer: httpx.Response, *expected: int) -> dict[str, Any]:
    assert answer.status_code in (expected or (422,)), (answer.status_code, answer.text[:500])
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert len(answer.content) < 4_000
    if answer.status_code == 422:
        assert problem["errors"][0]["field"]
    return problem


def status_text(net: Net, nonce: str, **raw: str) -> bytes:
    """A status' JSON with some values written as given."""
    values = {
        "epoch_id": json.dumps(net.epoch.id),
        "miner_hotkey": json.dumps(net.hotkey("ann")),
        "nonce": json.dumps(nonce),
        "status": '"in_progress"',
        "listings_found": "1",
        "zipcodes_completed": "1",
        "s3_upload_complete": "false",
    } | raw
    return ("{" + ",".join(f'"{name}":{value}' for name, value in values.items()) + "}").encode()


async def test_counts_that_are_none(net: Net) -> None:
    nonce = (await net.client("ann").current()).assignment.nonce
    for name in ("listings_found", "zipcodes_completed"):
        for number in NUMBERS:
            problem = refused(
                await send(net, "ann", STATUS, status_text(net, nonce, **{name: number}))
            )
            field = problem["errors"][0]["field"]
            # What is not even JSON is wrong as a whole.
            whole = number in ("NaN", "Infinity", "-Infinity")
            assert field == name or (whole and field in ("body", name)), (number, field)
    for flag in ("1e9", '"maybe"', "null", "2"):
        body = status_text(net, nonce, s3_upload_complete=flag)
        assert refused(await send(net, "ann", STATUS, body))["errors"][0]["field"] == (
            "s3_upload_complete"
        )
    assert await kept(net) == 0
    assert (await send(net, "ann", STATUS, status_text(net, nonce))).status_code == 200


async def test_epochs_that_are_none(net: Net) -> None:
    for text in EPOCHS:
        path = f"{V1}/zipcode-assignments/epoch/{quote(text, safe='')}"
        answer = await net.http.get(path, headers=net.btauth("vali", "GET", path))
        assert refused(answer, 404)["code"] in ("unknown_epoch", "not_found"), text
        shown = await net.http.get(f"{ANNOUNCE}/{quote(text, safe='')}")
        refused(shown, 404)
        for where, more in (
            (MINER_UPLOAD, {}),
            (READ, {}),
            (VALIDATOR_UPLOAD, {"purpose": "results"}),
            (ANNOUNCE, {"consensus_hash": "0" * 64, "assignment_hash": "0" * 64}),
        ):
            body = json.dumps({"epoch_id": text, **more}).encode()
            refused(await send(net, "vali", where, body), 404, 422)
        body = status_text(net, "0" * 64, epoch_id=json.dumps(text))
        refused(await send(net, "ann", STATUS, body), 404, 422)
    assert await kept(net) == 0


async def test_fields_of_another_kind(net: Net) -> None:
    for value in (b'"x"', b"5", b"[]", b'"\\ud800"', b'"\xff"', b"null"):
        for path in PATHS:
            body = b'{"epoch_id":' + value + b',"purpose":' + value + b',"cursor":7}'
            answer = await send(net, "vali", path, body)
            if path == MINER_UPLOAD and value == b"null":
                assert answer.status_code == 200
            else:
                refused(answer, 404, 422)
        assert await kept(net) == (1 if value == b"null" else 0), value


NO_JSON = [
    b"\xff\xfe\x00",
    b'{"epoch_id": "\xc3\x28"}',
    "{}".encode("utf-16"),
    b"\x00" * 100,
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b'{"epoch_id": "x"',
    b"NaN",
    b"hotkey=a&signature=b&timestamp=1",
]


async def test_bodies_that_are_no_json(net: Net) -> None:
    for body in NO_JSON:
        for path in (*PATHS, *LEGACY):
            refused(await net.http.post(path, content=body), 401)
            signed = await send(net, "vali", path, body)
            # This one needs nothing of its body.
            assert path == "/get-validator-access" or refused(signed), body[:20]
        assert await kept(net) <= 1, body[:20]


async def test_bodies_that_are_too_large(net: Net) -> None:
    huge = b'{"hotkey":"' + b"5" * (10 * 1024 * 1024) + b'","signature":"00","timestamp":1}'
    cut = huge[:70_000]

    async def chunks() -> Any:
        for start in range(0, 300_000, 30_000):
            yield huge[start : start + 30_000]

    answered = 0
    for path in (*PATHS, *LEGACY):
        for content, headers in (
            (cut, net.btauth("vali", "POST", path, cut)),
            (huge, {}),
            (chunks(), {}),
        ):
            # The server may hang up on what it does not want to read, so no connection is kept.
            async with httpx.AsyncClient(base_url=net.url, timeout=20, verify=trusted()) as http:
                try:
                    answer = await http.post(path, content=content, headers=headers)
                except httpx.TransportError:
                    continue
            answered += 1
            assert refused(answer, 413)["code"] == "body_too_large"
    assert answered
    assert await kept(net) == 0


async def test_hotkeys_that_are_too_long(net: Net) -> None:
    stamp = str(int(net.clock.now().timestamp()))
    for length in (65, 1_000, 8_000):
        hotkey = "5" * length
        query = {"hotkey": hotkey, "signature": "00" * 64, "timestamp": stamp}
        problem = refused(await net.http.get(CURRENT, params=query), 401)
        assert hotkey not in json.dumps(problem)
        headers = {"X-Hotkey": hotkey, "Authorization": "Bearer 00", "X-Timestamp": stamp}
        refused(await net.http.get(CURRENT, headers=headers), 401)
        body = {**query, "epochId": "x", "nonce": "n", "status": "FAILED"}
        refused(await net.http.post(STATUS, json=body), 401)


async def raw(net: Net, request: bytes) -> int:
    """The status of whatever is sent as a request; 0 where the server just hangs up."""
    address = urlsplit(net.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        async with asyncio.timeout(20):
            writer.write(request)
            await writer.drain()
            line = await reader.readline()
        return int(line.split()[1]) if line else 0
    except ConnectionError:
        return 0
    finally:
        writer.close()


async def test_what_is_hardly_http(net: Net) -> None:
    end = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    get = b"GET " + CURRENT.encode()
    megabytes = b"5" * (10 * 1024 * 1024)
    cases = [
        get + b"?hotkey=" + megabytes + end + b"\r\n",
        get + end + b"X-Hotkey: " + megabytes + b"\r\n\r\n",
        get
        + end
        + b"X-Hotkey: \xff\xfe\r\nAuthorization: Bearer \xff\r\nX-Timestamp: \xff\r\n\r\n",
        get + b"?hotkey=%ff%fe&signature=%00&timestamp=%ff" + end + b"\r\n",
        get + b"?hotkey=\xff" + end + b"\r\n",
        get + end + b"Authorization: Bearer \xe2\x82\xac\r\n\r\n",
        get + end + b"X-Bittensor-Version: \xff\r\nX-Bittensor-Nonce: 1\r\n\r\n",
        get + end + b"".join(b"X-%d: y\r\n" % n for n in range(5_000)) + b"\r\n",
        b"GET /api/v1/zipcode-assignments/epoch/%ff%00%0a" + end + b"\r\n",
        b"GET /api/v1/zipcodes/%00%ff" + end + b"\r\n",
        b"GET /%2e%2e/%2e%2e/etc/passwd" + end + b"\r\n",
        b"POST " + STATUS.encode() + end + b"Content-Length: -5\r\n\r\n{}",
        b"POST " + STATUS.encode() + end + b"Content-Length: 99999999999999999999\r\n\r\n{}",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n",
    ]
    for request in cases:
        status = await raw(net, request)
        assert status == 0 or 400 <= status < 500, (status, request[:80])
    assert (await net.http.get("/healthz")).status_code == 200
    assert await kept(net) == 0


async def test_a_body_that_breaks_off_is_no_mistake_of_the_server(net: Net) -> None:
    """The caller went away, or framed its body wrongly; neither is to alarm the owner."""
    paths = (*PATHS, *LEGACY)
    address = urlsplit(net.url)
    for path in paths:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\n".encode()
        wrong = head + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\nxyz\r\n"
        assert await raw(net, wrong) == 400
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(head + b'Content-Length: 100\r\n\r\n{"hotkey":')
        await writer.drain()
        writer.close()

    async def counted() -> bool:
        lines = (await net.http.get("/metrics")).text.splitlines()
        broken = [line for line in lines if 'code="body_incomplete"' in line and "_total" in line]
        return sum(float(line.split()[-1]) for line in broken) == 2 * len(paths)

    await net.until(counted)
    assert 'status="500"' not in (await net.http.get("/metrics")).text


async def test_numbers_in_queries(net: Net) -> None:
    for limit in ("1", "200"):
        answer = await net.http.get(f"{V1}/epochs", params={"limit": limit})
        assert answer.status_code == 200
        assert len(answer.json()["epochs"]) == 1
    for limit in ("", "-1", "0", "201", "9" * 30, "NaN", "1e9", "1.5", "9" * 5_000, "\x00"):
        problem = refused(await net.http.get(f"{V1}/epochs", params={"limit": limit}))
        assert problem["errors"][0]["field"] == "query.limit"
    for bucket in ("", "other", "x" * 5_000):
        path = httpx.URL(READ, params={"bucket": bucket}).raw_path.decode()
        body = json.dumps({"epoch_id": net.epoch.id}).encode()
        assert refused(await send(net, "vali", path, body))["errors"][0]["field"] == "bucket"


async def test_tables_that_are_none(world: World, database_url: str) -> None:
    """PostgreSQL takes no NUL in a text: asked for one, it looked as if it were away."""
    async with api_over(world, database_url=database_url) as net:
        for version in ("%00", "0" * 63 + "%00", "%ff", "A" * 64, "0" * 64, "0" * 65):
            answer = await net.http.get(f"{V1}/zipcode-tables/{version}")
            assert refused(answer, 404)["code"] == "unknown_table", version


async def test_headers_that_lie_about_the_caller(net: Net) -> None:
    for address in ("::1%x", "999.1.1.1", "a" * 5_000, ",,,"):
        headers = {"X-Forwarded-For": address, "X-Request-Id": "x" * 500}
        answer = await net.http.get(f"{V1}/epochs", headers=headers)
        assert answer.status_code == 200
        assert len(answer.headers["x-request-id"]) == 32


async def test_a_cursor_that_is_none(net: Net) -> None:
    ended = net.epoch.id
    await net.advance_to(net.epoch.end + net.epoch.length / 16)
    for cursor in ("", "zzz", "miners/", "\x00"):
        body = json.dumps({"epoch_id": ended, "cursor": cursor}).encode()
        answer = await send(net, "vali", READ, body)
        assert (answer.status_code, answer.json()["objects"]) == (200, [])
    body = json.dumps({"epoch_id": ended, "cursor": "x" * 1_025}).encode()
    assert refused(await send(net, "vali", READ, body))["errors"][0]["field"] == "cursor"
