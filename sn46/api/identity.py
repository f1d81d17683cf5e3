"""Who is calling: several ways to sign a request, one result.

Verify first, count after: what does not authenticate is counted against its address alone and
never against the hotkey it names, so nobody can be locked out by requests in its name.
"""

import hashlib
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from starlette.requests import Request
from starlette.types import Scope

from sn46.api.bodies import json_object
from sn46.api.headers import headers_of
from sn46.api.limiting import Allowance, Limiter
from sn46.api.problems import Problem, unauthenticated
from sn46.api.settings import ApiSettings
from sn46.client.btauth import VERSION_HEADER, check_first, verify_request
from sn46.client.metagraph import Metagraph
from sn46.clock import Clock
from sn46.mechanism.chainview import Neuron
from sn46.mechanism.names import Coldkey, Hotkey
from sn46.mechanism.signing import verify_signature

WINDOW_BACK_SECONDS = 300
WINDOW_AHEAD_SECONDS = 60
_TIMESTAMP = re.compile(r"\d{1,11}", re.ASCII)


@dataclass(frozen=True)
class Call:
    """What a route demands of its caller.

    ``texts`` are the texts that the header way may sign, without ``:{timestamp}`` at the end.
    ``limit`` is counted under ``name`` and the hotkey. With ``repeats`` an identical repeat of a
    signed request within its window is answered and costs nothing.
    """

    name: str
    limit: str
    texts: tuple[str, ...]
    validators_only: bool = False
    repeats: bool = False


class Verified(NamedTuple):
    """A signature that holds: whose, which way, and what names this very request (None where
    the way itself refuses a repeat)."""

    hotkey: Hotkey
    way: str
    fingerprint: str | None


class Identity(NamedTuple):
    """An authenticated, registered caller."""

    hotkey: Hotkey
    coldkey: Coldkey
    is_validator: bool
    way: str
    allowance: Allowance | None


class Way(Protocol):
    """One way to sign a request."""

    def is_used_by(self, request: Request, body: bytes) -> bool:
        """Whether the request tries this way."""
        ...

    async def verify(self, request: Request, body: bytes, call: Call) -> Verified:
        """Whose signature this is.

        Raises:
            Problem: 401, where it does not hold.
        """
        ...


class HeaderWay:
    """``Authorization: Bearer {signature}`` with ``X-Hotkey`` and ``X-Timestamp``."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def is_used_by(self, request: Request, body: bytes) -> bool:
        headers = headers_of(request.scope)
        return "authorization" in headers or "x-hotkey" in headers

    async def verify(self, request: Request, body: bytes, call: Call) -> Verified:
        headers = headers_of(request.scope)
        scheme, _, signature = headers.get("authorization", "").partition(" ")
        hotkey = headers.get("x-hotkey", "")
        timestamp = headers.get("x-timestamp", "")
        if scheme.lower() != "bearer" or not signature or not hotkey:
            raise unauthenticated(
                "Send the headers Authorization: Bearer {signature}, X-Hotkey and X-Timestamp, "
                "or sign the request as btauth/1."
            )
        check_timestamp(timestamp, self._clock.now())
        return _signed_text(call, "headers", hotkey, signature.strip(), timestamp)


class FieldWay:
    """``hotkey``, ``signature`` and ``timestamp`` in the query, or else in a JSON body: the way of
    the clients deployed before the headers. It signs the same texts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def is_used_by(self, request: Request, body: bytes) -> bool:
        return signing_fields(request, body) is not None

    async def verify(self, request: Request, body: bytes, call: Call) -> Verified:
        fields = signing_fields(request, body) or {}
        hotkey, signature = fields.get("hotkey"), fields.get("signature")
        if not isinstance(hotkey, str) or not isinstance(signature, str):
            raise unauthenticated(
                "Send hotkey, signature and timestamp as fields of the query or of the body."
            )
        timestamp = _timestamp_text(fields.get("timestamp"))
        check_timestamp(timestamp, self._clock.now())
        return _signed_text(call, "fields", hotkey, signature, timestamp)


def signing_fields(request: Request, body: bytes) -> Mapping[str, Any] | None:
    """Where a request names its signer in fields, those fields; None where it does not. All of
    them come from one place: the query where it has any, else the body."""
    if _FIELDS & request.query_params.keys():
        return request.query_params
    document = json_object(body)
    return document if document is not None and _FIELDS & document.keys() else None


_FIELDS = frozenset({"hotkey", "signature"})


def _timestamp_text(value: Any) -> str:
    """A body may give the seconds as a number or as a text."""
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int else ""


def _signed_text(call: Call, way: str, hotkey: str, signature: str, timestamp: str) -> Verified:
    for text in call.texts:
        if verify_signature(f"{text}:{timestamp}".encode(), signature, hotkey):
            return Verified(Hotkey(hotkey), way, _fingerprint(call.name, hotkey, text, timestamp))
    raise unauthenticated(
        f"The signature is not this hotkey's over `{call.texts[0][:200]}:{{timestamp}}` "
        "(sr25519, 64 bytes as hex).",
        "bad_signature",
    )


def check_timestamp(text: str, now: datetime) -> None:
    """Refuse a Unix timestamp outside the window.

    Raises:
        Problem: 401.
    """
    if not _TIMESTAMP.fullmatch(text):
        raise unauthenticated("The timestamp must be Unix seconds, such as 1710518400.")
    age = now.timestamp() - int(text)
    if age > WINDOW_BACK_SECONDS:
        raise unauthenticated(
            f"The timestamp is {age:.0f} s old; {WINDOW_BACK_SECONDS} s are allowed. Sign anew, "
            "and check this machine's clock.",
            "stale_timestamp",
        )
    if age < -WINDOW_AHEAD_SECONDS:
        raise unauthenticated(
            f"The timestamp is {-age:.0f} s ahead of the server; {WINDOW_AHEAD_SECONDS} s are "
            "allowed. Check this machine's clock.",
            "future_timestamp",
        )


def _fingerprint(name: str, hotkey: str, text: str, timestamp: str) -> str:
    """What makes two signed requests the same: sr25519 signs one text differently each time."""
    joined = "\n".join((name, hotkey, text, timestamp))
    return hashlib.sha256(joined.encode()).hexdigest()


class BtauthWay:
    """btauth/1: bound to method, path, body and this server's hotkey; each nonce counts once."""

    def __init__(
        self, clock: Clock, limiter: Limiter, self_hotkey: str, *, max_age: int, skew: int
    ) -> None:
        self._clock = clock
        self._limiter = limiter
        self._self_hotkey = self_hotkey
        self._max_age = max_age
        self._skew = skew

    def is_used_by(self, request: Request, body: bytes) -> bool:
        return VERSION_HEADER in headers_of(request.scope)

    async def verify(self, request: Request, body: bytes, call: Call) -> Verified:
        signed = verify_request(
            headers_of(request.scope),
            body,
            method=request.method,
            target=request_target(request),
            receiver=self._self_hotkey,
            now=self._clock.now(),
            max_age=self._max_age,
            skew=self._skew,
        )
        kept = self._max_age + self._skew + 60
        check_first(await self._limiter.first_seen(signed.key, kept))
        return Verified(signed.hotkey, "btauth", None)


def request_target(request: Request) -> str:
    """Path and query exactly as they came over the wire."""
    raw = request.scope.get("raw_path") or request.scope["path"].encode()
    path = bytes(raw).decode("latin-1").partition("?")[0]
    query = request.scope.get("query_string", b"").decode("latin-1")
    return f"{path}?{query}" if query else path


class Authenticator:
    """Verifies, looks the caller up, and counts, in this order."""

    def __init__(
        self,
        ways: Sequence[Way],
        metagraph: Metagraph,
        limiter: Limiter,
        settings: ApiSettings,
        address_of: Callable[[Scope], str],
    ) -> None:
        self._ways = ways
        self._metagraph = metagraph
        self._limiter = limiter
        self._settings = settings
        self._address_of = address_of

    async def identify(self, request: Request, body: bytes, call: Call) -> Identity:
        """The caller of a signed request.

        Raises:
            Problem: 401 not authenticated, 403 not registered or no validator, 429 over the
                limit, 503 where the chain view is too old.
        """
        try:
            verified = await self._verify(request, body, call)
            view = self._metagraph.trusted()
            neuron = view.by_hotkey.get(verified.hotkey)
            if neuron is None:
                request.state.signer = verified
                raise Problem(
                    403,
                    "hotkey_not_registered",
                    f"This hotkey is not registered on subnet {view.netuid} (as of block "
                    f"{view.block.number}). Register it, and wait a minute or two.",
                )
        except Problem as problem:
            if problem.status in (401, 403):
                await self.count_address(request)
            raise
        state = request.scope["state"]
        state["caller"] = verified
        allowance = await self._count(verified, call, body)
        if allowance is not None:
            state["allowance"] = allowance
        validator = self._is_validator(neuron)
        if call.validators_only and not validator:
            raise Problem(
                403,
                "not_a_validator",
                "This is for validators: a validator permit and a stake of at least "
                f"{self._settings.validator_min_stake:,.0f} alpha are needed.",
            )
        return Identity(neuron.hotkey, neuron.coldkey, validator, verified.way, allowance)

    async def count_address(self, request: Request) -> None:
        """Count a request without a known caller against its address.

        Raises:
            Problem: 429.
        """
        allowance = await self._limiter.count(
            self._settings.limit_address, "address", self._address_of(request.scope)
        )
        request.state.allowance = allowance

    async def _verify(self, request: Request, body: bytes, call: Call) -> Verified:
        for way in self._ways:
            if way.is_used_by(request, body):
                return await way.verify(request, body, call)
        raise unauthenticated(
            "Sign this request: as btauth/1, or with the headers Authorization: Bearer "
            "{signature}, X-Hotkey and X-Timestamp. /commitment-formats says what to sign."
        )

    async def _count(self, verified: Verified, call: Call, body: bytes) -> Allowance | None:
        fingerprint = verified.fingerprint if call.repeats else None
        if fingerprint is not None and body:
            # Not every text covers the body: another one is another request.
            fingerprint += hashlib.sha256(body).hexdigest()
        if fingerprint is not None and await self._limiter.is_free_repeat(fingerprint):
            await self._limiter.note_answered(fingerprint, _REPEAT_SECONDS)
            return None
        allowance = await self._limiter.count(call.limit, call.name, verified.hotkey)
        if fingerprint is not None:
            await self._limiter.note_answered(fingerprint, _REPEAT_SECONDS)
        return allowance

    def _is_validator(self, neuron: Neuron) -> bool:
        return neuron.validator_permit and neuron.stake >= self._settings.validator_min_rao


_REPEAT_SECONDS = WINDOW_BACK_SECONDS + WINDOW_AHEAD_SECONDS


class AddressReader:
    """The address that a request is counted against.

    ``X-Forwarded-For`` is believed only from ``trusted`` proxies. IPv6 counts by /64, which is
    what one customer has.
    """

    def __init__(self, trusted: Sequence[str]) -> None:
        """
        Raises:
            ValueError: where an entry is no address or network.
        """
        self._trusted = tuple(ipaddress.ip_network(entry, strict=False) for entry in trusted)
        # Callers are few beside their requests.
        self._read = lru_cache(maxsize=_ADDRESSES_KEPT)(self._read_anew)

    def __call__(self, scope: Scope) -> str:
        client = scope.get("client")
        peer = client[0] if client else "unknown"
        if not self._trusted:
            return _grouped(peer)
        return self._read(peer, _forwarded(scope))

    def _read_anew(self, peer: str, forwarded: str) -> str:
        if self._is_trusted(peer):
            hops = [part.strip() for part in forwarded.split(",") if part.strip()]
            for hop in reversed(hops):
                peer = hop
                if not self._is_trusted(hop):
                    break
        return _grouped(peer)

    def _is_trusted(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


_ADDRESSES_KEPT = 4_096
_FORWARDED_READ = 1_000
"""Characters, of the end: the hops that proxies wrote. What they wrote them behind can be of any
length, and is kept with what was read of it."""


def _forwarded(scope: Scope) -> str:
    """What ``X-Forwarded-For`` says last. A proxy may add a line of its own below those that it
    was sent, and all of them are one list (RFC 9110, 5.3)."""
    lines = [value.decode("latin-1") for name, value in scope["headers"] if name == _FORWARDED]
    return ",".join(lines)[-_FORWARDED_READ:]


_FORWARDED = b"x-forwarded-for"


@lru_cache(maxsize=_ADDRESSES_KEPT)
def _grouped(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text[:64]
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address.ipv4_mapped if address.version == 6 else address)
