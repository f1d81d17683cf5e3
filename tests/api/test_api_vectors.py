"""Golden vectors: signatures made once with fixed keys, and what each way makes of them.

sr25519 signs one text differently each time, so the vectors are verified and never made again.
The key's seed is 32 bytes of 0x11, the server's 32 bytes of 0x22.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.requests import Request

from sn46.api.identity import BtauthWay, Call, FieldWay, HeaderWay, Verified, Way
from sn46.api.limiting import Limiter
from sn46.api.problems import Problem

SIGNER = "5DtDLm5rQHShDqojQpsvcN8tRXHVFaecfDoRet1SU6BFD9Fi"
SERVER = "5Fpfx4iDtrrY99VGkQnLXASytC2y9Z3o8KUyTtD4w7o5SZcA"
AT = 1_710_518_700
PATH = "/api/v1/zipcode-assignments/current"
CURRENT = Call("current", "1/minute", ("zipcode:assignment:current",))
OVER_CURRENT = (
    "baf33e1a1e5409c0ba5129da34b1aa5a3a29943fb780a8280ad472ad46dfcd00"
    "980d4992e6458c8bfd79426ac769ea39a02caa96cae59c9fbeb098441c908886"
)
STATUS = Call("status", "1/minute", ("zipcode:status:2024-03-15-16:00",))
OVER_STATUS = (
    "2e8d86984e77c7d0cf864470504f3588b50ff8e59c78ceb26bef6677d8b32319"
    "8547ebee46bdc6a240f7372c5bebd66745bbe95e951fe43b2b2183bfd4ae028d"
)
FOLDER = Call("folder", "1/minute", (f"s3:data:access:{SERVER}:{SIGNER}",))
OVER_FOLDER = (
    "f4aea8be3de950017d458de88e3c1880d96e33d59bec3c4459a1ba27841a3d4f"
    "0c27ec8d6aaf56281e20f630172e2918a1fa70e605a5f9c30cf178eb7f8dfe89"
)
OVER_BTAUTH = (
    "0x30c9c026dd61afd2125ad61a9dc1b15b6d2fb877ced201484787186f6e515b24"
    "4ac3b52e8c15e987796aebdfbec9a2509e38e84bddc7e81db91b37f5dea2898c"
)
VECTORS = [(CURRENT, OVER_CURRENT), (STATUS, OVER_STATUS), (FOLDER, OVER_FOLDER)]


class StoodClock:
    """A moment after the signature."""

    def __init__(self, after: int = 5) -> None:
        self._now = datetime.fromtimestamp(AT, UTC) + timedelta(seconds=after)

    def now(self) -> datetime:
        return self._now

    async def sleep(self, duration: timedelta) -> None:
        raise AssertionError("nothing sleeps here")


def request(headers: dict[str, str] | None = None, query: str = "") -> Request:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": PATH,
        "query_string": query.encode(),
        "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
    }
    return Request(scope)


async def seen_by(way: Way, asked: Request, body: bytes, call: Call) -> Verified:
    assert way.is_used_by(asked, body)
    return await way.verify(asked, body, call)


async def code_of(way: Way, asked: Request, body: bytes, call: Call) -> str:
    with pytest.raises(Problem) as refused:
        await seen_by(way, asked, body, call)
    assert refused.value.status == 401
    return refused.value.code


def header_request(signature: str) -> Request:
    return request(
        {"Authorization": f"Bearer {signature}", "X-Hotkey": SIGNER, "X-Timestamp": str(AT)}
    )


def field_query(signature: str) -> str:
    return f"hotkey={SIGNER}&signature={signature}&timestamp={AT}"


def flipped(signature: str) -> str:
    return signature[:-1] + ("0" if signature[-1] != "0" else "1")


@pytest.mark.parametrize(("call", "signature"), VECTORS)
async def test_vectors_of_the_header_way(call: Call, signature: str) -> None:
    way = HeaderWay(StoodClock())
    for written in (signature, f"0x{signature}", signature.upper()):
        verified = await seen_by(way, header_request(written), b"", call)
        assert (verified.hotkey, verified.way) == (SIGNER, "headers")
    assert await code_of(way, header_request(flipped(signature)), b"", call) == "bad_signature"
    other = Call("other", "1/minute", ("zipcode:validation:current",))
    assert await code_of(way, header_request(signature), b"", other) == "bad_signature"


@pytest.mark.parametrize(("call", "signature"), VECTORS)
async def test_vectors_of_the_field_way(call: Call, signature: str) -> None:
    way = FieldWay(StoodClock())
    fields = {"hotkey": SIGNER, "signature": signature}
    asked = [(request(query=field_query(s)), b"") for s in (signature, f"0x{signature}")]
    asked += [(request(), json.dumps(fields | {"timestamp": at}).encode()) for at in (AT, str(AT))]
    seen = [await seen_by(way, one, body, call) for one, body in asked]
    assert {(v.hotkey, v.way) for v in seen} == {(SIGNER, "fields")}
    # However it is written, it is one request: a repeat of it is known as such.
    assert len({v.fingerprint for v in seen}) == 1
    wrong = request(query=field_query(flipped(signature)))
    assert await code_of(way, wrong, b"", call) == "bad_signature"


@pytest.mark.parametrize("stamp", [True, None, 1.5, -1, [], {}, float(AT), "", f"{AT}.0", 10**18])
async def test_the_field_way_takes_whole_seconds_alone(stamp: Any) -> None:
    fields = {"hotkey": SIGNER, "signature": OVER_CURRENT, "timestamp": stamp}
    body = json.dumps(fields).encode()
    assert await code_of(FieldWay(StoodClock()), request(), body, CURRENT) in (
        "not_authenticated",
        "future_timestamp",
    )


async def test_the_field_way_mixes_no_places() -> None:
    way = FieldWay(StoodClock())
    body = json.dumps({"signature": OVER_CURRENT, "timestamp": AT}).encode()
    assert await code_of(way, request(query=f"hotkey={SIGNER}"), body, CURRENT) == (
        "not_authenticated"
    )
    for unsigned in (b"", b"[]", b"{}", b"{", b"\xff", b'{"timestamp": 1}'):
        assert not way.is_used_by(request(), unsigned)


@pytest.mark.parametrize(("after", "code"), [(301, "stale_timestamp"), (-61, "future_timestamp")])
async def test_the_window_of_headers_and_fields(after: int, code: str) -> None:
    clock = StoodClock(after)
    for way, asked in (
        (HeaderWay(clock), header_request(OVER_CURRENT)),
        (FieldWay(clock), request(query=field_query(OVER_CURRENT))),
    ):
        assert await code_of(way, asked, b"", CURRENT) == code


def btauth_request(**changes: str) -> Request:
    headers = {
        "X-Bittensor-Version": "1",
        "X-Bittensor-Hotkey": SIGNER,
        "X-Bittensor-Nonce": f"{AT}000000000",
        "X-Bittensor-Signature": OVER_BTAUTH,
        "X-Bittensor-Receiver": SERVER,
    }
    return request(headers | {f"X-Bittensor-{k}": v for k, v in changes.items()})


async def test_vectors_of_btauth() -> None:
    def fresh() -> BtauthWay:
        return BtauthWay(StoodClock(), Limiter("memory://"), SERVER, max_age=10, skew=2)

    way = fresh()
    verified = await seen_by(way, btauth_request(), b"", CURRENT)
    assert (verified.hotkey, verified.way, verified.fingerprint) == (SIGNER, "btauth", None)
    assert await code_of(way, btauth_request(), b"", CURRENT) == "replayed_request"
    assert await code_of(fresh(), btauth_request(), b"x", CURRENT) == "bad_signature"
    altered = btauth_request(Signature=flipped(OVER_BTAUTH))
    assert await code_of(fresh(), altered, b"", CURRENT) == "bad_signature"
    elsewhere = btauth_request(Receiver=SIGNER)
    assert await code_of(fresh(), elsewhere, b"", CURRENT) == "wrong_receiver"
