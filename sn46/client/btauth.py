"""Requests signed as btauth/1 (``bittensor.http_auth``): making them, and telling whose they are.

A signature covers method, path with query, body, sender, receiver and a nonce of nanoseconds, so
a request is good for one receiver, once, within its window.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, cast

import bittensor_core
from bittensor import http_auth

from sn46.clock import Clock
from sn46.mechanism.names import Hotkey
from sn46.mechanism.signing import Signer
from sn46.problems import unauthenticated

_CORE: Any = bittensor_core
_NONCE_DIGITS = re.compile(r"\d{1,20}", re.ASCII)
_SECOND: Final = 1_000_000_000
"""In nanoseconds."""
_SET_BACK: Final = _SECOND
"""Nanoseconds that no clock goes back by itself."""

VERSION_HEADER: Final = http_auth.HEADER_VERSION.lower()
_HOTKEY_HEADER: Final = http_auth.HEADER_HOTKEY.lower()
_RECEIVER_HEADER: Final = http_auth.HEADER_RECEIVER.lower()
_NONCE_HEADER: Final = http_auth.HEADER_NONCE.lower()
_CRYPTO_HEADER: Final = http_auth.HEADER_CRYPTO.lower()
_SIGNATURE_HEADER: Final = http_auth.HEADER_SIGNATURE.lower()


@dataclass(frozen=True)
class _SdkSigner:
    """What the SDK's ``sign`` wants to know of a signer; every hotkey here is sr25519."""

    signer: Signer
    public_key: bytes = b""
    crypto_type: int = _CORE.CRYPTO_SR25519

    @property
    def ss58_address(self) -> str:
        return self.signer.ss58_address

    def sign(self, payload: bytes) -> bytes:
        return bytes(self.signer.sign(payload))


class RequestSigner:
    """Signs one hotkey's requests, none with a nonce that was used before."""

    def __init__(self, signer: Signer, clock: Clock) -> None:
        self._signer = _SdkSigner(signer)
        self._clock = clock
        self._last_nonce = 0

    @property
    def hotkey(self) -> Hotkey:
        """Whose requests these are."""
        return Hotkey(self._signer.ss58_address)

    def headers(self, *, method: str, target: str, body: bytes, receiver: str) -> dict[str, str]:
        """The headers that sign one request. ``target`` is path and query exactly as sent; a
        repeated request is signed anew."""
        return http_auth.sign(
            cast(Any, self._signer),
            method=method,
            path=target,
            body=body,
            receiver_ss58=receiver,
            nonce_ns=self._next_nonce(),
        )

    def _next_nonce(self) -> int:
        """Nanoseconds since 1970, never the same twice."""
        now = _nanoseconds(self._clock.now())
        # After a clock was set right, its nonces of before would be refused as of the future.
        was_set_back = self._last_nonce - now > _SET_BACK
        self._last_nonce = now if was_set_back else max(self._last_nonce + 1, now)
        return self._last_nonce


class SignedRequest(NamedTuple):
    """A signature that holds, and what names this very request."""

    hotkey: Hotkey
    nonce_ns: int

    @property
    def key(self) -> str:
        """The same for a replay, and for nothing else."""
        return f"{self.hotkey}/{self.nonce_ns}"


def verify_request(
    headers: Mapping[str, str],
    body: bytes,
    *,
    method: str,
    target: str,
    receiver: str,
    now: datetime,
    max_age: int,
    skew: int,
) -> SignedRequest:
    """Whose request this is. Whether it came before, the caller must look up and remember for
    ``max_age + skew`` seconds at least.

    What is signed as nearly all requests are, with the default scheme and for this receiver, is
    verified here, over the SDK's own payload; the SDK's ``verify`` does the same in twice the time
    that the signature takes. It decides whatever is not accepted here, and says why.

    Args:
        headers: names in lower case.
        receiver: the hotkey that the request must be meant for.
        max_age, skew: how many seconds the nonce may lie before and after ``now``.

    Raises:
        Problem: 401, where the signature does not hold.
    """
    digits = headers.get(_NONCE_HEADER, "")
    if not _NONCE_DIGITS.fullmatch(digits):
        raise unauthenticated("The btauth nonce must be nanoseconds since 1970, in digits.")
    nonce, now_ns = int(digits), _nanoseconds(now)
    hotkey, signature = headers.get(_HOTKEY_HEADER), headers.get(_SIGNATURE_HEADER)
    if (
        hotkey
        and signature
        and headers.get(VERSION_HEADER) == http_auth.VERSION
        and headers.get(_RECEIVER_HEADER) == receiver
        and _CRYPTO_HEADER not in headers
        and -skew * _SECOND <= now_ns - nonce <= max_age * _SECOND
    ):
        payload = http_auth.build_payload(
            scheme="sr25519",
            method=method,
            path=target,
            body=body,
            nonce_ns=nonce,
            sender_ss58=hotkey,
            receiver_ss58=receiver,
        )
        if _holds(payload, signature, hotkey):
            return SignedRequest(Hotkey(hotkey), nonce)
    try:
        caller = http_auth.verify(
            headers,
            body,
            method=method,
            path=target,
            self_hotkey_ss58=receiver,
            max_age=max_age,
            allowed_skew=skew,
            nonce_store=_ASKED_LATER,
            now_ns=now_ns,
        )
    except http_auth.AuthError as error:
        raise unauthenticated(f"btauth/1: {error}.", _CODES[type(error)]) from error
    return SignedRequest(Hotkey(caller.hotkey_ss58), caller.nonce_ns)


def _holds(payload: bytes, signature: str, hotkey: str) -> bool:
    """Whether a signature of the default scheme holds; False where it is not well-formed.

    Raises:
        Problem: 401, where it is another's.
    """
    try:
        raw = bytes.fromhex(signature.removeprefix("0x"))
        holds = bool(_CORE.verify(payload, raw, hotkey, _CORE.CRYPTO_SR25519))
    except ValueError:
        return False
    if not holds:
        raise unauthenticated(
            "btauth/1: signature does not verify against the claimed hotkey.",
            _CODES[http_auth.BadSignature],
        )
    return True


def check_first(is_first: bool) -> None:
    """Refuse a request that came before.

    Raises:
        Problem: 401.
    """
    if not is_first:
        raise unauthenticated(
            "btauth/1: this nonce was used before. Sign every request anew, retries too.",
            "replayed_request",
        )


_CODES: dict[type[http_auth.AuthError], str] = {
    http_auth.AuthError: "not_authenticated",
    http_auth.MalformedAuth: "not_authenticated",
    http_auth.WrongReceiver: "wrong_receiver",
    http_auth.StaleRequest: "stale_timestamp",
    http_auth.BadSignature: "bad_signature",
    http_auth.ReplayedRequest: "replayed_request",
}


class _AskedLater:
    """The SDK asks its replay store synchronously; ours may be shared, and is asked right after."""

    def check_and_store(self, hotkey_ss58: str, nonce_ns: int) -> bool:
        return True


_ASKED_LATER = _AskedLater()


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1_000
