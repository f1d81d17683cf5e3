"""The API's client for anyone: what is public of past draws, asked for without a key."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote

import httpx
import orjson

from sn46.certificates import trusted
from sn46.client.api import ApiError, ApiUnavailable, Retries
from sn46.client.connected import Connected
from sn46.clock import Clock, SystemClock
from sn46.mechanism.auditing import PastDraw, PublishedDraw
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.errors import EpochError
from sn46.mechanism.names import EpochId, Hotkey, ZipCode
from sn46.mechanism.reported import AnnouncedReport
from sn46.mechanism.times import parse_time
from sn46.zipcodes import MasterTable
from sn46.zipcodes.publishing import MAX_TABLE_BYTES, read_table_document

PATIENT: Final = Retries(patience=timedelta(minutes=2))
"""A limit by address is over within a minute."""

_PREFIX = "/api/v1"
_MOST_BYTES = MAX_TABLE_BYTES
_VERSION = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ZIP = re.compile(r"[0-9]{5}", re.ASCII)
_T = TypeVar("_T")


@dataclass(frozen=True)
class ListedDraw:
    """An entry of the history: the draw as it is listed, and as it is published where documents
    were asked for."""

    past: PastDraw
    published: PublishedDraw | None


class PublicClient(Connected):
    """Whatever of the API needs no key. Nothing that it answers is trusted: signatures and hashes
    are for the caller to check. Use it within one event loop, as an async context manager.

    Every method raises ApiError where the API refuses, and ApiUnavailable where it cannot be
    reached after all retries or its answer cannot be read.
    """

    def __init__(
        self,
        base_url: str,
        *,
        clock: Clock | None = None,
        retries: Retries = PATIENT,
        timeout_seconds: float = 60.0,
    ) -> None:
        """``base_url`` is the server's address without a path.

        Raises:
            ValueError: where it is no address.
        """
        try:
            url = httpx.URL(base_url.rstrip("/"))
        except httpx.InvalidURL as error:
            raise ValueError(f"{base_url!r} is not an address: {error}.") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"{base_url!r} is not an address such as https://api.example.")
        super().__init__(httpx.AsyncClient(base_url=url, timeout=timeout_seconds, verify=trusted()))
        self._clock = clock or SystemClock()
        self._retries = retries

    async def draw(self, epoch_id: str) -> PublishedDraw:
        """The draw of an ended epoch; ``previous`` is the last one."""
        return _read(_published, await self._get(f"/epochs/{quote(epoch_id, safe='')}/draw"))

    async def draws(
        self, before: EpochId | None = None, *, documents: bool = False
    ) -> AsyncIterator[ListedDraw]:
        """The draws for ended epochs before one, or for all, newest first."""
        newest = None
        async for entry in self._pages("/draws", "draws", _listed, before, documents=documents):
            start = entry.past.epoch.start
            if newest is not None and start >= newest:
                raise ApiUnavailable("The API lists its draws out of order or more than once.")
            if documents and entry.published is None:
                raise ApiUnavailable(f"The API gives no document for {entry.past.epoch.id}.")
            newest = start
            yield entry

    def reports(self, before: EpochId | None = None) -> AsyncIterator[AnnouncedReport]:
        """The announced reports on epochs before one, or on all, newest epoch first."""
        return self._pages("/reports", "reports", _report, before)

    async def table(self, version: str) -> MasterTable:
        """The master table of a version.

        Raises:
            ZipTableError: where what is answered is not that table.
            ApiError: where the API has none, or the version is none.
        """
        if not _VERSION.fullmatch(version):
            raise ApiError("unknown_table", 404, f"{version[:80]!r} is no version of a table.")
        return read_table_document(await self._get(f"/zipcode-tables/{version}"), version)

    async def _pages(
        self,
        path: str,
        name: str,
        parse: Callable[[Mapping[str, Any]], _T],
        before: EpochId | None,
        *,
        documents: bool = False,
    ) -> AsyncIterator[_T]:
        """The entries of all pages."""
        wanted = {"documents": "true"} if documents else {}
        position = {} if before is None else {"before": str(before)}
        last: int | None = None
        while True:
            body = await self._get(path, wanted | position)
            found, cursor = _read(lambda answer: _page(answer, name, parse), body)
            for entry in found:
                yield entry
            if cursor is None:
                return
            if last is not None and cursor >= last:
                raise ApiUnavailable("The API's pages lead back to where they were.")
            last, position = cursor, {"cursor": str(cursor)}

    async def _get(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._attempt(f"{_PREFIX}{path}", query or {})
            except (ApiUnavailable, ApiError) as error:
                passing = isinstance(error, ApiUnavailable) or error.status == 429
                pause = self._retries.pause(attempt, error.retry_after) if passing else None
                if pause is None:
                    raise
                await self._clock.sleep(pause)

    async def _attempt(self, target: str, query: Mapping[str, str]) -> bytes:
        try:
            async with self._http.stream("GET", target, params=query) as answer:
                body = bytearray()
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > _MOST_BYTES:
                        raise ApiUnavailable(f"The API's answer to {target} is too large.")
        except httpx.HTTPError as error:
            raise ApiUnavailable(
                f"The API at {self._http.base_url} cannot be reached ({type(error).__name__}: "
                f"{error}). Check the address and that the server runs."
            ) from error
        if answer.status_code == 200:
            return bytes(body)
        raise _refusal(answer, bytes(body))


def _refusal(answer: httpx.Response, body: bytes) -> ApiError | ApiUnavailable:
    try:
        problem: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        problem = None
    named = cast(Mapping[str, Any], problem) if isinstance(problem, dict) else {}
    detail = str(named.get("detail", "no reason given"))
    asked = answer.headers.get("retry-after", "")
    retry_after = int(asked) if asked.isdecimal() else None
    status = answer.status_code
    if status >= 500:
        return ApiUnavailable(f"The API is not fit to answer ({status}): {detail}", retry_after)
    return ApiError(str(named.get("code", "unknown")), status, detail, retry_after)


def _read(parse: Callable[[Mapping[str, Any]], _T], body: bytes) -> _T:
    try:
        return parse(orjson.loads(body))
    except (KeyError, TypeError, ValueError, AttributeError, EpochError) as error:
        raise ApiUnavailable(
            f"The API's answer cannot be read ({error!r}); its version may be another than ours."
        ) from error


def _page(
    answer: Mapping[str, Any], name: str, parse: Callable[[Mapping[str, Any]], _T]
) -> tuple[list[_T], int | None]:
    cursor = answer["next_cursor"]
    return [parse(entry) for entry in answer[name]], None if cursor is None else int(cursor)


def _published(answer: Mapping[str, Any]) -> PublishedDraw:
    document = answer["assignment"]
    if not isinstance(document, dict):
        raise TypeError("an assignment is an object")
    return PublishedDraw(
        document=cast(Mapping[str, Any], document),
        seed=str(answer["seed"]),
        drawn_at=parse_time(answer["drawn_at"]),
    )


def _listed(entry: Mapping[str, Any]) -> ListedDraw:
    epoch = Epoch(parse_time(entry["start"]), int(entry["seconds"]))
    if entry["epoch_id"] != epoch.id:
        raise ValueError(f"{entry['epoch_id']!r} is not the epoch that starts then")
    zipcodes = tuple(ZipCode(str(zipcode)) for zipcode in entry["zipcodes"])
    if not all(map(_ZIP.fullmatch, zipcodes)):
        raise ValueError("a ZIP has five digits")
    draw = entry.get("draw")
    past = PastDraw(epoch, int(entry["target_listings"]), zipcodes)
    return ListedDraw(past, None if draw is None else _published(draw))


def _report(entry: Mapping[str, Any]) -> AnnouncedReport:
    return AnnouncedReport(
        epoch_id=EpochId(str(entry["epoch_id"])),
        start=parse_time(entry["start"]),
        validator_hotkey=Hotkey(str(entry["validator_hotkey"])),
        participants=int(entry["participants"]),
        reached=int(entry["reached_95"]),
        announced_at=parse_time(entry["announced_at"]),
    )
