"""``sn46 miner doctor``: whether everything a miner needs is there, a line each with the mend.

Nothing is changed anywhere: no object is uploaded, and the sources are asked for one page each.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from sn46.certificates import trusted
from sn46.chain.base import ChainError
from sn46.chain.connect import open_chain
from sn46.chain.wallets import load_hotkey
from sn46.client.api import ApiClient, ApiError, ApiUnavailable, Retries
from sn46.client.proxyfeed import fetch_proxies
from sn46.client.relay import RELAY_QUORUM
from sn46.clock import Clock
from sn46.finding import Finding
from sn46.mechanism.assignment import Assignment
from sn46.mechanism.errors import MechanismError
from sn46.mechanism.names import Hotkey
from sn46.mechanism.signing import Signer, address_of
from sn46.mechanism.times import format_time
from sn46.miner.relay import validators_of
from sn46.miner.settings import MinerSettings
from sn46.miner.words import left_of
from sn46.sources.base import SearchQuery, SourceError
from sn46.sources.options import SourceOptions
from sn46.sources.politeness import RetryPolicy
from sn46.sources.proxies import Proxy, ProxyError
from sn46.sources.registry import SourceSettingError, open_source
from sn46.store.base import StoreError, UploadPolicy

LEAST_FREE_MB: Final = 200
MOST_SKEW: Final = timedelta(seconds=5)
TIME_LIMIT: Final = 30.0
"""Seconds for each thing that is looked at."""

PROXIES_AT_A_TIME: Final = 20
_ANY_ZIP: Final = "10001"
_ONE_TRY: Final = RetryPolicy(attempts=1)
_TWO_TRIES: Final = RetryPolicy(attempts=2, first_pause=0.2)


class _Unwell(Exception):
    """Something is not as it should be; the text says what to do."""


_FAULTS = (
    _Unwell,
    ApiError,
    ApiUnavailable,
    ChainError,
    MechanismError,
    OSError,
    ProxyError,
    SourceError,
    SourceSettingError,
    StoreError,
    httpx.HTTPError,
)


class Doctor:
    """Looks at everything a miner needs."""

    def __init__(self, settings: MinerSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._signer: Signer | None = None
        self._assignment: Assignment | None = None
        self._fetched: tuple[Proxy, ...] = ()

    async def look(self) -> AsyncGenerator[Finding]:
        """Every finding, in the order in which it is best mended."""
        yield await _found("data folder", self._data_folder)
        yield await _found("wallet", self._wallet)
        yield await _found("clock", self._clock_skew)
        signer = self._signer
        if signer is not None:
            yield await _found("registration", lambda: self._registration(address_of(signer)))
            async with ApiClient(
                self._settings.api_url,
                api_hotkey=self._settings.api_hotkey,
                signer=signer,
                clock=self._clock,
                retries=Retries(attempts=1),
            ) as api:
                yield await _found("API", lambda: self._api(api))
                yield await _found("S3", lambda: self._store(api))
            yield await _found("relay", lambda: self._relay(signer))
        if self._settings.proxies_url is not None:
            yield await _found("PROXIES_URL", self._proxies_url)
        for setting in self._settings.sources:
            yield await _found(f"source {setting}", lambda s=setting: self._source(s))
        async for finding in self._proxies():
            yield finding

    async def _data_folder(self) -> str:
        folder = self._settings.data_dir
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            raise _Unwell(
                f"{there} cannot be written by this user. Give DATA_DIR a folder that it may write."
            )
        free = shutil.disk_usage(there).free // 1_000_000
        if free < LEAST_FREE_MB:
            raise _Unwell(
                f"{there} has {free} MB left; {LEAST_FREE_MB} are needed. Free some space, or give "
                "DATA_DIR a folder on another disk."
            )
        return f"{folder}, {free:,} MB free"

    async def _wallet(self) -> str:
        settings = self._settings
        self._signer = load_hotkey(
            settings.wallet_name, settings.wallet_hotkey, settings.wallet_path
        )
        return f"hotkey {address_of(self._signer)}"

    async def _clock_skew(self) -> str:
        async with httpx.AsyncClient(timeout=TIME_LIMIT, verify=trusted()) as http:
            before = self._clock.now()
            answer = await http.get(f"{self._settings.api_url}/healthz")
            after = self._clock.now()
        try:
            # A Date header names a whole second: what it means lies within that second.
            theirs = parsedate_to_datetime(answer.headers["date"]) + timedelta(seconds=0.5)
        except (KeyError, ValueError) as error:
            raise _Unwell(
                f"{self._settings.api_url} sends no time. Is API_URL the API's address?"
            ) from error
        skew = before + (after - before) / 2 - theirs
        if abs(skew) > MOST_SKEW:
            direction = "ahead of" if skew > timedelta(0) else "behind"
            raise _Unwell(
                f"This machine's clock is {abs(skew.total_seconds()):.0f} s {direction} the API's. "
                "Set it right, and keep it so with NTP (timedatectl set-ntp true)."
            )
        return f"within {max(1, round(abs(skew.total_seconds())))} s of the API's"

    async def _registration(self, hotkey: Hotkey) -> str:
        settings = self._settings
        chain = open_chain(settings.chain_endpoint, netuid=settings.netuid, clock=self._clock)
        try:
            async with asyncio.timeout(TIME_LIMIT):
                view = await chain.view()
        except TimeoutError:
            raise _Unwell(
                f"The chain {settings.chain_endpoint} did not answer within {TIME_LIMIT:g} s. "
                "Check the network, or name another node (CHAIN_ENDPOINT)."
            ) from None
        finally:
            await chain.close()
        neuron = view.by_hotkey.get(hotkey)
        if neuron is None:
            raise _Unwell(
                f"The hotkey {hotkey} is not registered on subnet {view.netuid}: nothing that it "
                f"submits counts. Register it with `btcli subnet register --netuid {view.netuid}`, "
                "or check WALLET_NAME, WALLET_HOTKEY and NETUID."
            )
        return f"UID {neuron.uid} of subnet {view.netuid} at block {view.block.number}"

    async def _api(self, api: ApiClient) -> str:
        self._assignment = assignment = (await api.current()).assignment
        left = left_of(format_time(assignment.submission_deadline), self._clock.now())
        return (
            f"epoch {assignment.epoch_id}, {len(assignment.zipcodes)} ZIPs, signed by the API; "
            f"{left} left"
        )

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
            raise _Unwell(
                f"The API gives credentials, but the store {policy.url} cannot be reached "
                f"({type(error).__name__}). Check that this machine may connect to it."
            ) from error
        if answer.status_code >= 500:
            raise _Unwell(
                f"The store {policy.url} has a fault of its own ({answer.status_code}). Try again "
                "later, and tell the API's owner if it stays."
            )

    async def _proxies_url(self) -> str:
        """Fetch the list; its proxies are looked at with the others."""
        assert self._settings.proxies_url is not None
        found, wrong = await fetch_proxies(self._settings.proxies_url.get_secret_value())
        self._fetched = found
        unread = f"; {wrong} of its lines are none" if wrong else ""
        return f"it lists {len(found)} proxies{unread}"

    async def _source(self, setting: str) -> str:
        options = replace(self._settings.source_options(), retry=_TWO_TRIES)
        if self._fetched:
            options = replace(options, proxies=self._all_proxies())
        return await self._first_page(setting, options, TIME_LIMIT)

    def _all_proxies(self) -> tuple[Proxy, ...]:
        return tuple(dict.fromkeys((*self._settings.all_proxies(), *self._fetched)))

    async def _proxies(self) -> AsyncGenerator[Finding]:
        """Each proxy, tried on the first source, several at a time."""
        proxies = self._all_proxies()
        if not proxies and self._settings.proxies_url is not None:
            yield Finding("proxies", False, "there are none, and nothing is asked without them")
            return
        if not proxies:
            yield Finding("proxies", True, "none are set; the sources are asked directly")
            return
        options, setting = self._settings.source_options(), self._settings.sources[0]
        turns = asyncio.Semaphore(PROXIES_AT_A_TIME)
        took: list[float] = []

        async def attempt(number: int) -> Finding:
            proxy = proxies[number]
            only = replace(options, proxies=(proxy,), retry=_ONE_TRY)

            async def look() -> str:
                began = self._clock.now()
                said = await self._first_page(setting, only, options.timeout)
                took.append((self._clock.now() - began).total_seconds())
                return said

            async with turns:
                return await _found(f"proxy {number + 1} ({proxy.label})", look)

        findings: Sequence[Finding] = await asyncio.gather(*map(attempt, range(len(proxies))))
        for finding in findings:
            if not finding.ok:
                mend = "Take it out of the list, or ask its provider."
                yield replace(finding, text=f"{finding.text} {mend}")
        good = sum(finding.ok for finding in findings)
        speed = f", answering in {min(took):.1f} to {max(took):.1f} s" if took else ""
        yield Finding("proxies", good > 0, f"{good} of {len(proxies)} work{speed}")

    async def _first_page(self, setting: str, options: SourceOptions, seconds: float) -> str:
        """Ask a source for the first homes of one ZIP."""
        end, days, zipcode = self._clock.now(), 1095, _ANY_ZIP
        if self._assignment is not None:
            smallest = min(self._assignment.zipcodes, key=lambda z: z.expected_listings)
            zipcode, end = smallest.zipcode, self._assignment.epoch.end
            days = self._assignment.rules.lookback_days
        query = SearchQuery(zipcode, (end - timedelta(days=days)).date(), end.date())
        source = open_source(setting, clock=self._clock, options=options)
        try:
            async with asyncio.timeout(seconds):
                async for batch in source.search(query):
                    return f"it answers with {len(batch)} homes in {zipcode}"
        except TimeoutError:
            raise _Unwell(
                f"No answer within {seconds:g} s. Check the address in SOURCES and the network."
            ) from None
        finally:
            await source.close()
        return f"it answers; it shows no home in {zipcode}"


async def _found(part: str, look: Callable[[], Awaitable[str]]) -> Finding:
    try:
        return Finding(part, True, await look())
    except _FAULTS as error:
        return Finding(part, False, " ".join((str(error) or type(error).__name__).split()))
