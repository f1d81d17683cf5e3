"""What miners and validators look at alike before they work, and when something is not well: a line
each with the mend. Nothing is changed anywhere, and the sources are asked for one page each."""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import httpx

from sn46.certificates import trusted
from sn46.chain.base import ChainError
from sn46.chain.connect import open_chain
from sn46.chain.wallets import load_hotkey
from sn46.client.api import ApiClient, ApiError, ApiUnavailable, Retries
from sn46.client.proxyfeed import fetch_proxies
from sn46.client.settings import ActorSettings
from sn46.clock import Clock
from sn46.finding import Finding
from sn46.mechanism.assignment import Assignment
from sn46.mechanism.chainview import ChainView, Neuron
from sn46.mechanism.errors import MechanismError
from sn46.mechanism.signing import Signer, address_of
from sn46.mechanism.times import time_left
from sn46.sources.base import SearchQuery, SourceError
from sn46.sources.options import SourceOptions
from sn46.sources.politeness import RetryPolicy
from sn46.sources.proxies import Proxy, ProxyError
from sn46.sources.registry import SourceSettingError, open_source
from sn46.store.base import StoreError

MOST_SKEW: Final = timedelta(seconds=5)
TIME_LIMIT: Final = 30.0
"""Seconds for each thing that is looked at."""

PROXIES_AT_A_TIME: Final = 20
_ANY_ZIP: Final = "10001"
_ONE_TRY: Final = RetryPolicy(attempts=1)
_TWO_TRIES: Final = RetryPolicy(attempts=2, first_pause=0.2)


class Unwell(Exception):
    """Something is not as it should be; the text says what to do."""


_FAULTS = (
    Unwell,
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


async def found(part: str, look: Callable[[], Awaitable[str]]) -> Finding:
    """What a look found; a fault of the world is a finding as well."""
    try:
        return Finding(part, True, await look())
    except _FAULTS as error:
        return Finding(part, False, " ".join((str(error) or type(error).__name__).split()))


class ActorChecks:
    """Looks at what every actor needs. A look returns what it found, and raises what
    :func:`found` tells."""

    def __init__(self, settings: ActorSettings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.signer: Signer | None = None
        """Whose wallet it is, once that could be read."""

        self.assignment: Assignment | None = None
        """The running epoch's, once the API gave it."""

        self._fetched: tuple[Proxy, ...] = ()

    def client(self, signer: Signer) -> ApiClient:
        """Asks the API once for each call."""
        return ApiClient(
            self.settings.api_url,
            api_hotkey=self.settings.api_hotkey,
            signer=signer,
            clock=self.clock,
            retries=Retries(attempts=1),
        )

    async def data_folder(self, folder: Path, least_mb: int) -> str:
        """Whether a folder can be written, with so many MB left."""
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            raise Unwell(
                f"{there} cannot be written by this user. Give DATA_DIR a folder that it may write."
            )
        free = shutil.disk_usage(there).free // 1_000_000
        if free < least_mb:
            raise Unwell(
                f"{there} has {free} MB left; {least_mb} are needed. Free some space, or give "
                "DATA_DIR a folder on another disk."
            )
        return f"{folder}, {free:,} MB free"

    async def wallet(self) -> str:
        """Whether the hotkey can be read."""
        settings = self.settings
        self.signer = load_hotkey(
            settings.wallet_name, settings.wallet_hotkey, settings.wallet_path
        )
        return f"hotkey {address_of(self.signer)}"

    async def clock_skew(self) -> str:
        """How far this machine's clock is off the API's."""
        async with httpx.AsyncClient(timeout=TIME_LIMIT, verify=trusted()) as http:
            before = self.clock.now()
            answer = await http.get(f"{self.settings.api_url}/healthz")
            after = self.clock.now()
        try:
            # A Date header names a whole second: what it means lies within that second.
            theirs = parsedate_to_datetime(answer.headers["date"]) + timedelta(seconds=0.5)
        except (KeyError, ValueError, OverflowError) as error:
            raise Unwell(
                f"{self.settings.api_url} sends no time. Is API_URL the API's address?"
            ) from error
        skew = before + (after - before) / 2 - theirs
        if abs(skew) > MOST_SKEW:
            direction = "ahead of" if skew > timedelta(0) else "behind"
            raise Unwell(
                f"This machine's clock is {abs(skew.total_seconds()):.0f} s {direction} the API's. "
                "Set it right, and keep it so with NTP (timedatectl set-ntp true)."
            )
        return f"within {max(1, round(abs(skew.total_seconds())))} s of the API's"

    async def neuron(self) -> tuple[Neuron, ChainView]:
        """Our hotkey as the chain has it.

        Raises:
            Unwell: where it is not registered, or the chain does not answer in time.
            ChainError: where the chain cannot be asked.
        """
        assert self.signer is not None
        hotkey, settings = address_of(self.signer), self.settings
        chain = open_chain(settings.chain_endpoint, netuid=settings.netuid, clock=self.clock)
        try:
            async with asyncio.timeout(TIME_LIMIT):
                view = await chain.view()
        except TimeoutError:
            raise Unwell(
                f"The chain {settings.chain_endpoint} did not answer within {TIME_LIMIT:g} s. "
                "Check the network, or name another node (CHAIN_ENDPOINT)."
            ) from None
        finally:
            await chain.close()
        neuron = view.by_hotkey.get(hotkey)
        if neuron is None:
            raise Unwell(
                f"The hotkey {hotkey} is not registered on subnet {view.netuid}: nothing that it "
                f"submits counts. Register it with `btcli subnet register --netuid {view.netuid}`, "
                "or check WALLET_NAME, WALLET_HOTKEY and NETUID."
            )
        return neuron, view

    async def api(self, api: ApiClient) -> str:
        """The running epoch's assignment."""
        self.assignment = assignment = (await api.current()).assignment
        left = time_left(assignment.submission_deadline, self.clock.now())
        return (
            f"epoch {assignment.epoch_id}, {len(assignment.zipcodes)} ZIPs, signed by the API; "
            f"{left} left"
        )

    async def proxies_url(self) -> str:
        """Fetch the list; its proxies are looked at with the others."""
        assert self.settings.proxies_url is not None
        found, wrong = await fetch_proxies(self.settings.proxies_url.get_secret_value())
        self._fetched = found
        unread = f"; {wrong} of its lines are none" if wrong else ""
        return f"it lists {len(found)} proxies{unread}"

    async def source(self, setting: str) -> str:
        """The first page of a source, over any of the proxies."""
        options = replace(self.settings.source_options(), retry=_TWO_TRIES)
        if self._fetched:
            options = replace(options, proxies=self._all_proxies())
        return await self._first_page(setting, options, TIME_LIMIT)

    def _all_proxies(self) -> tuple[Proxy, ...]:
        return tuple(dict.fromkeys((*self.settings.all_proxies(), *self._fetched)))

    async def proxies(self) -> AsyncGenerator[Finding]:
        """Each proxy, tried on the first source, several at a time."""
        proxies = self._all_proxies()
        if not proxies and self.settings.proxies_url is not None:
            yield Finding("proxies", False, "there are none, and nothing is asked without them")
            return
        if not proxies:
            yield Finding("proxies", True, "none are set; the sources are asked directly")
            return
        options, setting = self.settings.source_options(), self.settings.sources[0]
        turns = asyncio.Semaphore(PROXIES_AT_A_TIME)
        took: list[float] = []

        async def attempt(number: int) -> Finding:
            proxy = proxies[number]
            only = replace(options, proxies=(proxy,), retry=_ONE_TRY)

            async def look() -> str:
                began = self.clock.now()
                said = await self._first_page(setting, only, options.timeout)
                took.append((self.clock.now() - began).total_seconds())
                return said

            async with turns:
                return await found(f"proxy {number + 1} ({proxy.label})", look)

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
        end, days, zipcode = self.clock.now(), 1095, _ANY_ZIP
        if self.assignment is not None:
            smallest = min(self.assignment.zipcodes, key=lambda z: z.expected_listings)
            zipcode, end = smallest.zipcode, self.assignment.epoch.end
            days = self.assignment.rules.lookback_days
        query = SearchQuery(zipcode, (end - timedelta(days=days)).date(), end.date())
        source = open_source(setting, clock=self.clock, options=options)
        try:
            async with asyncio.timeout(seconds):
                async for batch in source.search(query):
                    return f"it answers with {len(batch)} homes in {zipcode}"
        except TimeoutError:
            raise Unwell(
                f"No answer within {seconds:g} s. Check the address in SOURCES and the network."
            ) from None
        finally:
            await source.close()
        return f"it answers; it shows no home in {zipcode}"

    async def ways(self) -> AsyncGenerator[Finding]:
        """Sources and proxies, each."""
        if self.settings.proxies_url is not None:
            yield await found("PROXIES_URL", self.proxies_url)
        for setting in self.settings.sources:
            yield await found(f"source {setting}", lambda s=setting: self.source(s))
        async for finding in self.proxies():
            yield finding
