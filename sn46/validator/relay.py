"""The relay: a validator passes the API's signed assignment on (mechanism 11).

Work beside the validation and independent of it: whatever goes wrong here is logged, tried again,
and never ends an epoch's validation.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import structlog

from sn46.background import kept_running
from sn46.chain.base import Chain, ChainError
from sn46.client.metagraph import Metagraph
from sn46.client.relay import Peer, RelayClient, peers_of
from sn46.clock import Clock
from sn46.mechanism.names import Hotkey
from sn46.validator.progress import Progress
from sn46.validator.relay_agreement import Comparison
from sn46.validator.relay_assignments import Assignments
from sn46.validator.relay_desk import RelayDesk
from sn46.validator.relay_server import Address, RelayServer

MAX_VIEW_AGE: Final = timedelta(seconds=1200)
REFRESH_EVERY: Final = timedelta(seconds=30)
SHORTEST: Final = timedelta(seconds=3)
LONGEST_COMPARING: Final = timedelta(minutes=10)
LONGEST_FIRST: Final = timedelta(minutes=1)
PUBLISHING_AGAIN: Final = timedelta(minutes=10)
FIRST_PAUSE: Final = timedelta(seconds=5)
LONGEST_PAUSE: Final = timedelta(minutes=5)
_CALL_SECONDS: Final = 120.0

_log = structlog.get_logger("sn46.validator")


@dataclass(frozen=True)
class RelayParts:
    """What the relay works with. ``address`` is None where this validator only compares and does
    not answer; ``private`` lets other validators be at private addresses."""

    assignments: Assignments
    client: RelayClient
    chain: Chain
    clock: Clock
    progress: Progress
    address: Address | None
    private: bool

    @property
    def own(self) -> Hotkey:
        return self.client.hotkey


class Relay:
    """One validator's relay."""

    def __init__(self, parts: RelayParts) -> None:
        self._parts = parts
        self.metagraph = Metagraph(
            parts.chain, parts.clock, max_age=MAX_VIEW_AGE, refresh_every=REFRESH_EVERY
        )
        """The subnet as it is seen from here."""
        self._desk = RelayDesk(parts.assignments, self.metagraph, own=parts.own, clock=parts.clock)
        self._server = RelayServer(self._desk.answer)
        self._comparison = Comparison(parts.assignments, parts.client, clock=parts.clock)
        self.port: int | None = None
        """The port that is listened at, once it is."""

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Fetch, answer, publish and compare for as long as this is entered."""
        work: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "fetching": self._parts.assignments.run,
            "looking at the chain": self.metagraph.run,
            "comparing": self._compare,
        }
        address = self._parts.address
        if address is not None:
            work["serving"] = lambda: self._serve(address)
        tasks = [asyncio.create_task(kept_running(name, run)) for name, run in work.items()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, address: Address) -> None:
        """Listen, and publish where; both until they succeed."""
        pause = FIRST_PAUSE
        while True:
            try:
                self.port = await self._server.start(address.host, address.port)
                break
            except OSError as error:
                _log.error(
                    "the relay cannot listen; validation goes on without it. Stop what listens "
                    "there, or set RELAY_HOST and RELAY_PORT",
                    address=f"{address.host}:{address.port}",
                    reason=error.strerror or str(error),
                )
            await self._parts.clock.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        try:
            _log.info("the relay answers", address=f"{address.host}:{self.port}")
            await self._publish(address.public_host, address.public_port or self.port)
        finally:
            self.port = None
            await self._server.close()

    async def _publish(self, host: str, port: int) -> None:
        """Have the chain say where we answer, and look again from time to time: a hotkey that is
        registered anew has no endpoint. What stands there already costs nothing."""
        pause, told = FIRST_PAUSE, ""
        while True:
            try:
                async with asyncio.timeout(_CALL_SECONDS):
                    await self._parts.chain.publish_endpoint(host, port)
            except (ChainError, TimeoutError) as error:
                reason = str(error) or f"the chain did not answer within {_CALL_SECONDS:g} s"
                if reason != told:
                    _log.warning(
                        "the relay's endpoint is not published; trying again", reason=reason
                    )
                told = reason
                await self._parts.clock.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            if told or pause is FIRST_PAUSE:
                _log.info("the relay's endpoint is published", endpoint=f"{host}:{port}")
            told, pause = "", 2 * FIRST_PAUSE
            await self._parts.clock.sleep(PUBLISHING_AGAIN)

    async def _compare(self) -> None:
        """Compare with the other validators, some time after each epoch's start and again."""
        while True:
            await self._parts.clock.sleep(self._until_comparing() * (0.75 + random.random() / 2))
            view = self.metagraph.latest
            if view is None:
                continue
            try:
                async with asyncio.timeout(_CALL_SECONDS):
                    endpoints = await self._parts.chain.endpoints()
            except (ChainError, TimeoutError) as error:
                _log.debug("no comparison with other validators", reason=str(error))
                continue
            own = view.by_hotkey.get(self._parts.own)
            me = own and Peer(own.hotkey, own.coldkey, own.stake, "", 0)
            peers = peers_of(view, endpoints, own=self._parts.own, private=self._parts.private)
            tally = await self._comparison.compare(peers, me)
            self._desk.tally = tally
            self._parts.progress.note_relay(None if tally is None else tally.to_json())

    def _until_comparing(self) -> timedelta:
        running, tally = self._parts.assignments.running(), self._desk.tally
        if running is None or tally is None or tally.epoch_id != running.epoch_id:
            return self._share(64, LONGEST_FIRST)
        return self._share(16, LONGEST_COMPARING)

    def _share(self, part: int, longest: timedelta) -> timedelta:
        """A part of an epoch, within bounds."""
        held = self._parts.assignments.latest()
        if held is None:
            return min(longest, 3 * SHORTEST)
        return max(SHORTEST, min(longest, held.epoch.length / part))
