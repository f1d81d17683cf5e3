"""``sn46 validator doctor``: whether everything a validator needs is there, a line each with the
mend. Nothing is changed anywhere: nothing is uploaded, and no weights are set."""

from collections.abc import AsyncGenerator
from typing import Final

import psutil

from sn46.chain.connect import open_chain
from sn46.client.api import ApiClient, ApiError
from sn46.client.checks import ActorChecks, Unwell, found
from sn46.client.relay import Peer, RelayClient, RelayError
from sn46.clock import Clock
from sn46.finding import Finding
from sn46.mechanism.names import EpochId, Hotkey
from sn46.mechanism.signing import Signer, address_of
from sn46.validator.settings import ValidatorSettings

LEAST_FREE_MB: Final = 2_000
_MB: Final = 1_000_000


class Doctor:
    """Looks at everything a validator needs."""

    def __init__(self, settings: ValidatorSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._checks = ActorChecks(settings, clock)

    async def look(self) -> AsyncGenerator[Finding]:
        """Every finding, in the order in which it is best mended."""
        checks = self._checks
        folder = self._settings.data_dir
        yield await found("data folder", lambda: checks.data_folder(folder, LEAST_FREE_MB))
        yield await found("memory", self._memory)
        yield await found("wallet", checks.wallet)
        yield await found("clock", checks.clock_skew)
        signer = checks.signer
        if signer is not None:
            yield await found("permit", self._permit)
            async with checks.client(signer) as api:
                yield await found("API", lambda: checks.api(api))
                yield await found("uploads", lambda: self._uploads(api))
            yield await found("relay", lambda: self._relay(signer))
        async for finding in checks.ways():
            yield finding

    async def _memory(self) -> str:
        """Workers share EXAMINE_MEMORY_MB; the rest of a validator takes some hundred MB."""
        total = psutil.virtual_memory().total // _MB
        limit = self._settings.examine_memory_mb
        if limit > total * 3 // 4:
            raise Unwell(
                f"This machine has {total:,} MB and EXAMINE_MEMORY_MB is {limit:,}: an upload that "
                "takes all of it could end the validator. Set it to half of the memory."
            )
        return f"{total:,} MB, of which examining may take {limit:,}"

    async def _permit(self) -> str:
        neuron, view = await self._checks.neuron()
        where = f"UID {neuron.uid} of subnet {view.netuid} at block {view.block.number}"
        if not neuron.validator_permit:
            raise Unwell(
                f"{where}, without a validator permit: its evidence and its weights count for "
                "nothing. The permit goes to the hotkeys with most stake; stake more on it, or "
                "check WALLET_HOTKEY."
            )
        return f"{where}, with a validator permit"

    async def _uploads(self, api: ApiClient) -> str:
        """Whether the API shows the last epoch's submissions to this hotkey."""
        assignment = self._checks.assignment
        if assignment is None:
            raise Unwell("Not looked at, as the API gave no assignment.")
        last = EpochId(assignment.epoch.previous().id)
        try:
            objects = await api.validator_read(last)
        except ApiError as error:
            if error.code != "unknown_epoch":
                raise
            return f"none to look at: there was no epoch {last}"
        return f"{len(objects)} objects of epoch {last} can be read"

    async def _relay(self, signer: Signer) -> str:
        """Whether the running validator answers where the chain says that it does."""
        settings = self._settings
        if settings.relay_port is None:
            return "not set (RELAY_PORT); others pass assignments on while the API is away"
        own = Hotkey(address_of(signer))
        chain = open_chain(settings.chain_endpoint, netuid=settings.netuid, clock=self._clock)
        try:
            endpoint = (await chain.endpoints()).get(own)
        finally:
            await chain.close()
        if endpoint is None:
            return "not published on the chain yet; a running validator does that by itself"
        client = RelayClient(api_hotkey=settings.api_hotkey, signer=signer, clock=self._clock)
        neuron, _ = await self._checks.neuron()
        peer = Peer(own, neuron.coldkey, neuron.stake, *endpoint)
        try:
            health = await client.health(peer)
        except RelayError as error:
            raise Unwell(
                f"The chain names {endpoint[0]}:{endpoint[1]}, and from here {error}. Is the "
                "validator running, and does the firewall let that port through (RELAY_PUBLIC)?"
            ) from error
        finally:
            await client.close()
        return f"{endpoint[0]}:{endpoint[1]} answers, with epoch {health.epoch_id}"
