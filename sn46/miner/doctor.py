"""``sn46 miner doctor``: whether everything a miner needs is there, a line each with the mend.

Nothing is changed anywhere: no object is uploaded, and the sources are asked for one page each.
"""

from collections.abc import AsyncGenerator
from typing import Final

import httpx

from sn46.certificates import trusted
from sn46.client.api import ApiClient
from sn46.client.checks import TIME_LIMIT, ActorChecks, Unwell, found
from sn46.client.relay import RELAY_QUORUM
from sn46.clock import Clock
from sn46.finding import Finding
from sn46.mechanism.signing import Signer
from sn46.miner.relay import validators_of
from sn46.miner.settings import MinerSettings
from sn46.store.base import UploadPolicy

LEAST_FREE_MB: Final = 200


class Doctor:
    """Looks at everything a miner needs."""

    def __init__(self, settings: MinerSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._checks = ActorChecks(settings, clock)

    async def look(self) -> AsyncGenerator[Finding]:
        """Every finding, in the order in which it is best mended."""
        checks = self._checks
        folder = self._settings.data_dir
        yield await found("data folder", lambda: checks.data_folder(folder, LEAST_FREE_MB))
        yield await found("wallet", checks.wallet)
        yield await found("clock", checks.clock_skew)
        signer = checks.signer
        if signer is not None:
            yield await found("registration", self._registration)
            async with checks.client(signer) as api:
                yield await found("API", lambda: checks.api(api))
                yield await found("S3", lambda: self._store(api))
            yield await found("relay", lambda: self._relay(signer))
        async for finding in checks.ways():
            yield finding

    async def _registration(self) -> str:
        neuron, view = await self._checks.neuron()
        return f"UID {neuron.uid} of subnet {view.netuid} at block {view.block.number}"

    async def _store(self, api: ApiClient) -> str:
        policy = await api.miner_upload()
        await self._reach(policy)
        return f"{httpx.URL(policy.url).netloc.decode()} answers, and credentials are given"

    async def _relay(self, signer: Signer) -> str:
        """How many validators would give the assignment, were the API away."""
        validators = validators_of(self._settings, signer, self._clock)
        try:
            survey = await validators.survey()
        finally:
            await validators.close()
        if survey.agreed is not None:
            return f"{survey.summary()}; they would do while the API is away"
        return (
            f"{survey.summary()}; {RELAY_QUORUM} of different owners are needed, so while the API "
            "is away there would be no new assignment. Nothing to mend here"
        )

    async def _reach(self, policy: UploadPolicy) -> None:
        """Any answer shows that the store can be reached; nothing is asked of it."""
        try:
            async with httpx.AsyncClient(
                timeout=TIME_LIMIT, trust_env=False, verify=trusted()
            ) as http:
                answer = await http.head(policy.url)
        except httpx.HTTPError as error:
            raise Unwell(
                f"The API gives credentials, but the store {policy.url} cannot be reached "
                f"({type(error).__name__}). Check that this machine may connect to it."
            ) from error
        if answer.status_code >= 500:
            raise Unwell(
                f"The store {policy.url} has a fault of its own ({answer.status_code}). Try again "
                "later, and tell the API's owner if it stays."
            )
