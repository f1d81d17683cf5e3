"""What is accepted as btauth/1, and why not, is what the SDK's own ``verify`` says of it."""

from datetime import UTC, datetime
from typing import Any, cast

import bittensor_core
from bittensor import http_auth
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sn46.client.btauth import verify_request
from sn46.problems import Problem

SIGNER, OTHER, RECEIVER = (
    cast(Any, bittensor_core).Keypair.create_from_seed(bytes([n]) * 32) for n in (11, 12, 13)
)
SERVER: str = RECEIVER.ss58_address
NOW = datetime(2024, 3, 15, 16, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 10**9
SECOND = 10**9

CODES: dict[type[http_auth.AuthError], str] = {
    http_auth.MalformedAuth: "not_authenticated",
    http_auth.WrongReceiver: "wrong_receiver",
    http_auth.StaleRequest: "stale_timestamp",
    http_auth.BadSignature: "bad_signature",
}


class AnyNonce:
    def check_and_store(self, hotkey_ss58: str, nonce_ns: int) -> bool:
        return True


def of_sdk(headers: dict[str, str], body: bytes, options: dict[str, Any]) -> tuple[str, Any]:
    try:
        caller = http_auth.verify(
            headers, body, self_hotkey_ss58=SERVER, max_age=10, allowed_skew=2,
            nonce_store=AnyNonce(), now_ns=NOW_NS, **options,
        )  # fmt: skip
    except http_auth.AuthError as error:
        return CODES[type(error)], f"btauth/1: {error}."
    return caller.hotkey_ss58, caller.nonce_ns


def of_ours(headers: dict[str, str], body: bytes, options: dict[str, Any]) -> tuple[str, Any]:
    try:
        signed = verify_request(
            headers, body, method=options["method"], target=options["path"], receiver=SERVER,
            now=NOW, max_age=10, skew=2,
        )  # fmt: skip
    except Problem as problem:
        return (problem.code if problem.status == 401 else str(problem.status)), problem.detail
    return signed.hotkey, signed.nonce_ns


OFFSETS = st.sampled_from([0, 1, -1]).flatmap(
    lambda sign: st.integers(0, 15 * SECOND).map(lambda ns: sign * ns)
)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(
            ["version", "hotkey", "receiver", "signature", "crypto", "nonce", "method", "body"]
        ),
        st.one_of(
            st.none(),
            st.sampled_from(
                [
                    "",
                    "1",
                    "2",
                    "sr25519",
                    "ed25519",
                    "ecdsa",
                    "0x",
                    "0x" + "00" * 64,
                    "ff" * 64,
                    "zz" * 64,
                    "0x" + "ab" * 63,
                    SIGNER.ss58_address,
                    OTHER.ss58_address,
                    SERVER,
                    str(NOW_NS),
                    "0" + str(NOW_NS),
                ]
            ),
            st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12),
        ),
    ),
    max_size=3,
)


@settings(deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "get", "PATCH"]),
    path=st.sampled_from(["/", "/a/b?c=d&e=%20f", "/é", "/api/v1/zipcode-assignments/current"]),
    body=st.binary(max_size=20),
    offset=OFFSETS,
    changes=CHANGES,
)
@example(method="GET", path="/", body=b"", offset=0, changes=[])
@example(method="GET", path="/", body=b"", offset=10 * SECOND, changes=[])
@example(method="GET", path="/", body=b"", offset=-10 * SECOND, changes=[])
@example(method="GET", path="/", body=b"", offset=-10 * SECOND - 1, changes=[])
@example(method="GET", path="/", body=b"", offset=2 * SECOND, changes=[])
@example(method="GET", path="/", body=b"", offset=2 * SECOND + 1, changes=[])
@example(method="GET", path="/", body=b"", offset=0, changes=[("signature", "0x" + "00" * 64)])
@example(method="GET", path="/", body=b"", offset=0, changes=[("hotkey", OTHER.ss58_address)])
@example(method="GET", path="/", body=b"", offset=0, changes=[("receiver", OTHER.ss58_address)])
@example(method="GET", path="/", body=b"", offset=0, changes=[("crypto", "sr25519")])
@example(method="GET", path="/", body=b"", offset=0, changes=[("crypto", "ed25519")])
@example(method="GET", path="/", body=b"x", offset=0, changes=[("body", None)])
def test_ours_and_the_sdks_agree(
    method: str, path: str, body: bytes, offset: int, changes: list[tuple[str, str | None]]
) -> None:
    made = http_auth.sign(
        SIGNER, method=method, path=path, body=body, receiver_ss58=SERVER, nonce_ns=NOW_NS + offset
    )
    headers = {name.lower(): value for name, value in made.items()}
    for what, value in changes:
        name = f"x-bittensor-{what}"
        if what == "method":
            method = "PUT"
        elif what == "body":
            body += b"!"
        elif value is None:
            headers.pop(name, None)
        elif what != "nonce" or value.isdigit():
            # Of other nonces this server says so before it asks the SDK.
            headers[name] = value
    options = {"method": method, "path": path}
    theirs, ours = of_sdk(headers, body, options), of_ours(headers, body, options)
    if not headers.get("x-bittensor-nonce"):
        assert theirs[0] == ours[0] == "not_authenticated"
    else:
        assert theirs == ours
