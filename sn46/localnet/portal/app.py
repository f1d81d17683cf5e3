"""The portal as a Starlette application."""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

import orjson
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sn46.localnet.portal.catalog import Catalog, SearchFilter, detail
from sn46.localnet.portal.clients import Allowance, Client, Clients
from sn46.localnet.portal.faults import Fault, FaultPlan, PortalConfigError

_ZIP: Final = re.compile(r"[0-9]{5}")
_NUMBER: Final = re.compile(r"[0-9]{1,12}")
_CAPTCHA: Final = (
    "<!doctype html><title>Are you a human?</title>"
    '<p>Please solve this captcha to go on.</p><div id="captcha"></div>'
)


@dataclass(frozen=True)
class PortalOptions:
    """How the portal behaves."""

    page_size: int = 40
    result_limit: int = 1000
    allowance: Allowance = field(default_factory=Allowance)
    plan: FaultPlan = field(default_factory=FaultPlan)

    def __post_init__(self) -> None:
        if self.page_size < 1 or self.result_limit < 1:
            raise PortalConfigError("The page size and the result limit must be 1 or more.")


class _BadRequest(Exception):
    """A parameter that the portal does not understand; ``code`` names the kind."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Portal:
    """The portal's pages over its catalog, each request weighed first: the client's allowance,
    then what misfortune the plan holds for it, then the answer."""

    def __init__(
        self,
        catalog: Catalog,
        options: PortalOptions | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._options = options or PortalOptions()
        self._now = now
        self._started = now()
        self._clients = Clients(self._options.allowance, now)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/api/search", self._guarded(self._search)),
                Route("/api/property", self._guarded(self._property)),
                Route("/health", self._health),
                Route("/stats", self._stats),
            ]
        )

    def _guarded(self, answer: Callable[[str, QueryParams], Response]) -> Any:
        async def endpoint(request: Request) -> Response:
            # The peer's own address: a header could name anyone.
            address = request.client.host if request.client else "unknown"
            client = self._clients.arrive(address)
            number = client.requests
            response = await self._misfortune(address, client, number)
            if response is None:
                try:
                    response = answer(address, request.query_params)
                except _BadRequest as error:
                    response = _problem(400, error.code, str(error))
            client.statuses[response.status_code] += 1
            return response

        return endpoint

    async def _misfortune(self, address: str, client: Client, number: int) -> Response | None:
        wait = self._clients.take_token(client)
        if wait:
            return _too_many(wait)
        fault = self._options.plan.fault(address, number)
        if fault is None:
            return None
        client.faults[fault] += 1
        match fault:
            case Fault.TOO_MANY:
                return _too_many(1)
            case Fault.FORBIDDEN:
                return _forbidden()
            case Fault.CAPTCHA:
                return Response(_CAPTCHA, media_type="text/html")
            case Fault.SLOW:
                await asyncio.sleep(self._options.plan.delay(address, number))
                return None

    def _search(self, address: str, params: QueryParams) -> Response:
        wanted = _read_filter(params)
        page = _number(params, "page")
        page = 1 if page is None else page
        if page < 1:
            raise _BadRequest("bad_request", "Pages are counted from 1.")
        if self._options.plan.refuses_search(address, wanted.zipcode):
            return _forbidden()
        size, limit = self._options.page_size, self._options.result_limit
        start = (page - 1) * size
        if start >= limit:
            raise _BadRequest(
                "page_beyond_limit",
                f"A search shows its first {limit} results; narrow it to see the others.",
            )
        found = self._catalog.search(wanted)
        shown = found[start : min(start + size, limit)]
        return _json(
            {
                "totalResults": len(found),
                "resultLimit": limit,
                "pageSize": size,
                "page": page,
                "homes": [self._catalog.summary_json(home) for home in shown],
            }
        )

    def _property(self, address: str, params: QueryParams) -> Response:
        property_id = params.get("id")
        if property_id is None:
            raise _BadRequest("bad_request", "The parameter id is missing.")
        home = self._catalog.home(property_id)
        if home is None:
            return _problem(404, "no_such_property", "This portal has no property of that id.")
        return _json({"property": detail(home)})

    def _health(self, _request: Request) -> Response:
        return _json(
            {
                "status": "ok",
                "homes": self._catalog.homes,
                "zipcodes": self._catalog.zipcodes,
                "resultLimit": self._options.result_limit,
                "pageSize": self._options.page_size,
            }
        )

    def _stats(self, _request: Request) -> Response:
        return _json(
            {
                "uptimeSeconds": round(self._now() - self._started, 3),
                "clients": self._clients.to_json(),
            }
        )


def _read_filter(params: QueryParams) -> SearchFilter:
    zipcode = params.get("zip", "")
    if not _ZIP.fullmatch(zipcode):
        raise _BadRequest("bad_request", "The parameter zip must be a ZIP code of five digits.")
    return SearchFilter(
        zipcode=zipcode,
        sold_from=_date(params, "soldFrom"),
        sold_to=_date(params, "soldTo"),
        min_price=_number(params, "minPrice"),
        max_price=_number(params, "maxPrice"),
    )


def _number(params: QueryParams, name: str) -> int | None:
    text = params.get(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise _BadRequest("bad_request", f"The parameter {name} must be a whole number.")
    return int(text)


def _date(params: QueryParams, name: str) -> date | None:
    text = params.get(name)
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise _BadRequest("bad_request", f"The parameter {name} must be YYYY-MM-DD.") from error


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def _problem(status: int, code: str, message: str) -> Response:
    return _json({"error": {"code": code, "message": message}}, status)


def _forbidden() -> Response:
    return _problem(403, "forbidden", "Access to this page has been denied.")


def _too_many(wait: int) -> Response:
    response = _problem(429, "too_many_requests", f"Slow down, and try again in {wait} s.")
    response.headers["Retry-After"] = str(wait)
    return response
