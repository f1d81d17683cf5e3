"""Validators, asked for the assignment while the API gives none (mechanism 11)."""

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog

from sn46.chain.base import Chain, ChainError
from sn46.chain.connect import open_chain
from sn46.client.api import ReceivedAssignment
from sn46.client.relay import (
    RELAY_QUORUM,
    Peer,
    RelayClient,
    Voice,
    agreed_on,
    allows_private,
    peers_of,
)
from sn46.clock import Clock
from sn46.mechanism.names import EpochId, Hotkey
from sn46.mechanism.signing import Signer
from sn46.miner.settings import MinerSettings

CHAIN_SECONDS: Final = 30.0

_log = structlog.get_logger()


@dataclass(frozen=True)
class Survey:
    """How the validators answer: ``peers`` are those with an endpoint, ``voices`` those that gave
    an assignment of the running epoch, ``refused`` says of the others why not."""

    peers: tuple[Peer, ...]
    voices: tuple[Voice, ...]
    refused: dict[Hotkey, str]

    @property
    def agreed(self) -> ReceivedAssignment | None:
        return agreed_on(self.voices)

    def summary(self) -> str:
        """One sentence for a person."""
        if not self.peers:
            return "no validator has published an endpoint"
        others = list(dict.fromkeys(self.refused.values()))[:3]
        why = f" ({'; '.join(others)})" if others else ""
        return f"{len(self.voices)} of {len(self.peers)} validators have this epoch's{why}"


class Validators:
    """The validators of the subnet, found on the chain each time they are asked. Where the chain
    does not answer, those are asked that it named last."""

    def __init__(self, chain: Chain, client: RelayClient, *, private: bool, clock: Clock) -> None:
        """``private`` lets validators at private addresses count."""
        self._chain = chain
        self._client = client
        self._private = private
        self._clock = clock
        self._peers: tuple[Peer, ...] | None = None
        self._told = ""

    async def close(self) -> None:
        await self._client.close()
        await self._chain.close()

    async def find(self, after: EpochId | None) -> ReceivedAssignment | None:
        """The running epoch's assignment where enough validators agree on it and it is of another
        epoch than ``after``; else None, and the log says why."""
        try:
            survey = await self.survey()
        except ChainError as error:
            self._tell(f"the chain does not say where validators are: {error}")
            return None
        found = survey.agreed
        if found is None:
            self._tell(f"{survey.summary()}; {RELAY_QUORUM} of different owners must agree")
            return None
        if found.assignment.epoch_id == after:
            return None
        self._told = ""
        _log.warning(
            "the API does not answer; validators gave the assignment, with its signature",
            epoch_id=found.assignment.epoch_id,
            validators=len(survey.voices),
        )
        return found

    async def survey(self) -> Survey:
        """Ask all of them now.

        Raises:
            ChainError: where the chain does not say who they are, and never did.
        """
        peers = await self._find_peers()
        voices, refused = await self._client.assignments(peers)
        now = self._clock.now()
        running = [v for v in voices if v.received.assignment.epoch.contains(now)]
        for voice in voices:
            if voice not in running:
                named = voice.received.assignment.epoch_id
                refused[voice.peer.hotkey] = f"it has that of another epoch, {named}"
        return Survey(peers, tuple(running), refused)

    async def _find_peers(self) -> tuple[Peer, ...]:
        try:
            async with asyncio.timeout(CHAIN_SECONDS):
                view, endpoints = await self._chain.view(), await self._chain.endpoints()
        except TimeoutError as error:
            if self._peers is None:
                raise ChainError(f"It did not answer within {CHAIN_SECONDS:g} s.") from error
        except ChainError:
            if self._peers is None:
                raise
        else:
            self._peers = peers_of(view, endpoints, own=self._client.hotkey, private=self._private)
        return self._peers or ()

    def _tell(self, reason: str) -> None:
        """Say each new reason once; asking goes on."""
        if reason != self._told:
            _log.warning("no assignment from validators either", reason=reason)
        self._told = reason


def validators_of(settings: MinerSettings, signer: Signer, clock: Clock) -> Validators:
    """The validators of the settings' subnet; the chain is connected to once they are asked.

    Raises:
        ChainError: where CHAIN_ENDPOINT is of no known form.
    """
    return Validators(
        open_chain(settings.chain_endpoint, netuid=settings.netuid, clock=clock),
        RelayClient(api_hotkey=settings.api_hotkey, signer=signer, clock=clock),
        private=allows_private(settings.chain_endpoint),
        clock=clock,
    )
