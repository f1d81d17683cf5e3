"""Asking validators for what the API cannot give: the running epoch's assignment (mechanism 11).

A validator answers signed requests at the endpoint that it published on the chain::

    GET /relay/v1/assignment    btauth/1, meant for that validator's hotkey: the assignment as the
                                API served it
    GET /healthz                open: {"epoch_id", "assignment_hash", …} of what it serves

Nothing that comes from a validator is believed. An assignment counts where it carries the API's
signature; a miner takes one that validators of two owners agree on.
"""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlsplit

import httpx
import orjson

from sn46.certificates import trusted
from sn46.client.api import ReceivedAssignment
from sn46.client.btauth import RequestSigner
from sn46.client.connected import Connected
from sn46.clock import Clock
from sn46.mechanism.assignment import read_assignment
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.errors import AssignmentError
from sn46.mechanism.names import Coldkey, Hotkey
from sn46.mechanism.signing import Signer

RELAY_QUORUM: Final = 2
"""How many validators, of as many owners, must agree on an assignment (mechanism 11)."""

ASSIGNMENT_PATH: Final = "/relay/v1/assignment"
HEALTH_PATH: Final = "/healthz"
MOST_BYTES: Final = 1024 * 1024
"""An assignment of 50 ZIPs has 12 kB."""

MOST_PEERS: Final = 64
TIME_LIMIT: Final = 5.0
"""Seconds for one validator's whole answer."""

_T = TypeVar("_T")


class RelayError(Exception):
    """A validator gave no answer that can be used. The message says why."""


@dataclass(frozen=True)
class Peer:
    """A validator that published where it answers. ``stake`` is in rao."""

    hotkey: Hotkey
    coldkey: Coldkey
    stake: int
    host: str
    port: int

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@dataclass(frozen=True)
class Voice:
    """An assignment with the API's signature, and who holds it."""

    peer: Peer
    received: ReceivedAssignment


@dataclass(frozen=True)
class RelayHealth:
    """What a validator says that it serves; None where it has nothing."""

    epoch_id: str | None
    assignment_hash: str | None


def allows_private(chain_endpoint: str) -> bool:
    """Whether validators may live at private addresses: where the chain does too."""
    if chain_endpoint == "local" or chain_endpoint.startswith("local:"):
        return True
    host = urlsplit(chain_endpoint).hostname or ""
    if host == "localhost":
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def peers_of(
    view: ChainView,
    endpoints: Mapping[Hotkey, tuple[str, int]],
    *,
    own: Hotkey,
    private: bool,
) -> tuple[Peer, ...]:
    """The validators to ask: those with a permit and an endpoint that can be one, without our
    own, those with the most stake first, at most ``MOST_PEERS``.

    ``private`` lets addresses count that are not on the public Internet. Where anyone may publish
    any address, asking those would have us knock at doors of our own network.
    """
    found: list[Peer] = []
    for hotkey, (host, port) in endpoints.items():
        neuron = view.by_hotkey.get(hotkey)
        if neuron is None or not neuron.validator_permit or hotkey == own:
            continue
        address = _usable(host, private)
        if address is not None and 0 < port < 65_536:
            found.append(Peer(hotkey, neuron.coldkey, neuron.stake, address, port))
    found.sort(key=lambda peer: (-peer.stake, peer.hotkey))
    return tuple(found[:MOST_PEERS])


def _usable(host: str, private: bool) -> str | None:
    """An address that a validator can be at; None for any other."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    never = address.is_unspecified or address.is_multicast or address.is_link_local
    if never or address == ipaddress.IPv4Address(2**32 - 1):
        return None
    return str(address) if private or address.is_global else None


def agreed_on(voices: Iterable[Voice]) -> ReceivedAssignment | None:
    """The assignment that enough validators agree on; None where there is none. Validators of one
    coldkey are one voice. Of several such assignments, the one with most stake behind it, and
    then the one with the smaller hash."""
    by_hash: dict[str, dict[Hotkey, Voice]] = {}
    for voice in voices:
        held = by_hash.setdefault(voice.received.assignment.hash, {})
        held[voice.peer.hotkey] = voice
    agreed = [
        (-sum(voice.peer.stake for voice in held.values()), name, next(iter(held.values())))
        for name, held in by_hash.items()
        if len({voice.peer.coldkey for voice in held.values()}) >= RELAY_QUORUM
    ]
    return min(agreed, key=lambda found: found[:2])[2].received if agreed else None


class RelayClient(Connected):
    """Asks validators, as one hotkey. Use it within one event loop, and close it at the end."""

    def __init__(
        self,
        *,
        api_hotkey: Hotkey,
        signer: Signer,
        clock: Clock,
        seconds: float = TIME_LIMIT,
    ) -> None:
        """``api_hotkey`` is whose assignments are trusted; ``seconds`` is how long one validator
        may take for its whole answer."""
        self._api_hotkey = api_hotkey
        self._signer = RequestSigner(signer, clock)
        self._seconds = seconds
        super().__init__(
            httpx.AsyncClient(
                timeout=seconds,
                verify=trusted(),
                trust_env=False,
                follow_redirects=False,
                # A validator closes after each answer; later its address may be another's.
                limits=httpx.Limits(max_connections=MOST_PEERS, max_keepalive_connections=0),
            )
        )

    @property
    def hotkey(self) -> Hotkey:
        """Whose requests these are."""
        return self._signer.hotkey

    async def assignment(self, peer: Peer) -> ReceivedAssignment:
        """The assignment that a validator serves, of whichever epoch.

        Raises:
            RelayError: where it gives none, or one without the trusted API's signature.
        """
        headers = self._signer.headers(
            method="GET", target=ASSIGNMENT_PATH, body=b"", receiver=peer.hotkey
        )
        document = await self._get(peer, ASSIGNMENT_PATH, headers)
        try:
            return ReceivedAssignment(read_assignment(document, self._api_hotkey), document)
        except AssignmentError as error:
            raise RelayError(str(error)) from error

    async def health(self, peer: Peer) -> RelayHealth:
        """What a validator says that it serves.

        Raises:
            RelayError: where it says nothing that can be read.
        """
        document = await self._get(peer, HEALTH_PATH, {})
        epoch_id, named = document.get("epoch_id"), document.get("assignment_hash")
        return RelayHealth(
            epoch_id if isinstance(epoch_id, str) else None,
            named if isinstance(named, str) else None,
        )

    async def assignments(self, peers: Iterable[Peer]) -> tuple[list[Voice], dict[Hotkey, str]]:
        """What all of them serve, asked at the same time; and why others gave nothing."""
        answers, refused = await ask_all(peers, self.assignment)
        return [Voice(peer, received) for peer, received in answers], refused

    async def _get(self, peer: Peer, path: str, headers: Mapping[str, str]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._seconds):
                status, body = await self._receive(f"{peer.url}{path}", headers)
        except TimeoutError:
            raise RelayError(f"it did not answer within {self._seconds:g} s") from None
        except httpx.HTTPError as error:
            raise RelayError(f"it cannot be reached ({type(error).__name__})") from error
        document = _json_object(body)
        if status != 200:
            code = str((document or {}).get("code", ""))[:40]
            raise RelayError(f"it answers {status} {code}".rstrip())
        if document is None:
            raise RelayError("its answer is no JSON object")
        return document

    async def _receive(self, url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        # Plain bytes alone: what is packed could become very large when it is unpacked.
        wanted = {**headers, "Accept-Encoding": "identity", "User-Agent": "sn46"}
        async with self._http.stream("GET", url, headers=wanted) as answer:
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise RelayError("its answer is packed, which was not asked for")
            body = bytearray()
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise RelayError(f"its answer has more than {MOST_BYTES} bytes")
        return answer.status_code, bytes(body)


async def ask_all(
    peers: Iterable[Peer], ask: Callable[[Peer], Awaitable[_T]]
) -> tuple[list[tuple[Peer, _T]], dict[Hotkey, str]]:
    """Ask all peers at the same time: the answers in the peers' order, and why others gave none."""
    refused: dict[Hotkey, str] = {}

    async def one(peer: Peer) -> tuple[Peer, _T] | None:
        try:
            return peer, await ask(peer)
        except RelayError as error:
            refused[peer.hotkey] = str(error)
            return None

    found = await asyncio.gather(*(one(peer) for peer in peers))
    return [answer for answer in found if answer is not None], refused


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return cast(dict[str, Any], document) if isinstance(document, dict) else None
