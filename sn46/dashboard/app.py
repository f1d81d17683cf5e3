"""The web application: pages out of the snapshot, rendered once for all who look at the same."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sn46.clock import Clock
from sn46.dashboard.alerts import Thresholds, is_stale
from sn46.dashboard.markup import h
from sn46.dashboard.pages.agreement import agreement_page, epoch_page
from sn46.dashboard.pages.alertspage import alerts_page
from sn46.dashboard.pages.draws import draw_page, draws_page
from sn46.dashboard.pages.miners import miner_page, miners_page
from sn46.dashboard.pages.now import now_page
from sn46.dashboard.pages.parts import Moment, page
from sn46.dashboard.snapshot import Snapshot
from sn46.mechanism.names import EpochId, Hotkey

_KEPT: Final = 256
_KEPT_BYTES: Final = 8 * 1024 * 1024
"""So many rendered pages are kept, of so many bytes together."""

_SECONDS: Final = 5
"""A rendered page is shown for so long where the snapshot has not changed: ages go on."""

_LONGEST: Final = 64
_HEADERS: Final = {
    # Nothing of another host, nothing inline: what a text of others may hold does nothing.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_STATIC: Final = {
    "style.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "country.svg": "image/svg+xml",
    "icon.svg": "image/svg+xml",
}

Render = Callable[[Moment], bytes | None]


@dataclass(frozen=True)
class _Rendered:
    version: int
    until: float
    status: int
    body: bytes
    tag: str


class Pages:
    """Renders what is asked for, and keeps it for the next one who asks."""

    def __init__(
        self,
        current: Callable[[], Snapshot],
        *,
        clock: Clock,
        limits: Thresholds,
        every_seconds: int,
    ) -> None:
        self._current, self._clock, self._limits = current, clock, limits
        self._every = every_seconds
        self._kept: OrderedDict[str, _Rendered] = OrderedDict()
        self._bytes = 0
        self.rendered = 0

    def answer(self, request: Request, name: str, render: Render, *, up: str = "./") -> Response:
        """The page of a name, or the one that says that there is none."""
        found = self._page(name, render, up)
        headers = {**_HEADERS, "ETag": found.tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == found.tag and found.status == 200:
            return Response(status_code=304, headers=headers)
        return Response(found.body, found.status, headers, "text/html; charset=utf-8")

    def _page(self, name: str, render: Render, up: str) -> _Rendered:
        snapshot, now = self._current(), self._clock.now()
        kept = self._kept.get(name)
        if kept and kept.version == snapshot.version and now.timestamp() < kept.until:
            self._kept.move_to_end(name)
            return kept
        at = Moment(snapshot, now, self._limits, up, self._every)
        self.rendered += 1
        body = render(at)
        status = 200 if body is not None else 404
        if body is None:
            body = _not_there(at)
        tag = f'W/"{hashlib.sha256(body).hexdigest()[:24]}"'
        made = _Rendered(snapshot.version, now.timestamp() + _SECONDS, status, body, tag)
        if status == 200:
            self._keep(name, made)
        return made

    def _keep(self, name: str, made: _Rendered) -> None:
        before = self._kept.pop(name, None)
        self._bytes += len(made.body) - (len(before.body) if before else 0)
        self._kept[name] = made
        while len(self._kept) > _KEPT or self._bytes > _KEPT_BYTES:
            self._bytes -= len(self._kept.popitem(last=False)[1].body)

    def health(self) -> tuple[bool, dict[str, object]]:
        """Whether what is shown is live, and since when the dashboard and its figures are."""
        snapshot, now = self._current(), self._clock.now()
        age = snapshot.age(now)
        live = not is_stale(snapshot, now, self._limits)
        return live, {
            "status": "ok",
            "live": live,
            "age_seconds": None if age is None else round(age.total_seconds(), 1),
        }


def _not_there(at: Moment) -> bytes:
    return page(
        at,
        "Not here",
        "none",
        h("h1", "There is no such page"),
        h("p", "It may be of an epoch or a miner that the dashboard no longer keeps."),
    )


def create_app(pages: Pages) -> Starlette:
    """The application. Everything in it only reads."""

    async def now(request: Request) -> Response:
        return pages.answer(request, "", now_page)

    async def draws(request: Request) -> Response:
        return pages.answer(request, "draws", draws_page)

    async def draw(request: Request) -> Response:
        epoch_id = EpochId(_named(request))
        return pages.answer(
            request, f"draws/{epoch_id}", lambda at: draw_page(at, epoch_id), up="../"
        )

    async def miners(request: Request) -> Response:
        wanted = request.query_params.get("hotkey", "").strip()[:_LONGEST]
        return pages.answer(request, f"miners?{wanted}", lambda at: miners_page(at, wanted))

    async def miner(request: Request) -> Response:
        key = Hotkey(_named(request))
        return pages.answer(request, f"miners/{key}", lambda at: miner_page(at, key), up="../")

    async def agreement(request: Request) -> Response:
        return pages.answer(request, "agreement", agreement_page)

    async def epoch(request: Request) -> Response:
        epoch_id = EpochId(_named(request))
        return pages.answer(
            request, f"agreement/{epoch_id}", lambda at: epoch_page(at, epoch_id), up="../"
        )

    async def alerts(request: Request) -> Response:
        return pages.answer(request, "alerts", alerts_page)

    async def healthz(_request: Request) -> Response:
        """200 while the process lives; ``live`` says whether its figures are."""
        return JSONResponse(pages.health()[1], headers={**_HEADERS, "Cache-Control": "no-store"})

    async def missing(request: Request, _error: Exception) -> Response:
        return pages.answer(request, "404", lambda _at: None, up=_up(request))

    app = Starlette(
        routes=[
            Route("/", now),
            Route("/draws", draws),
            Route("/draws/{name}", draw),
            Route("/miners", miners),
            Route("/miners/{name}", miner),
            Route("/agreement", agreement),
            Route("/agreement/{name}", epoch),
            Route("/alerts", alerts),
            Route("/healthz", healthz),
            *(Route(f"/static/{name}", _file(name)) for name in _STATIC),
        ],
        exception_handlers={404: missing},
    )
    app.router.redirect_slashes = False
    return app


def _named(request: Request) -> str:
    name = str(request.path_params["name"])
    if len(name) > _LONGEST:
        raise HTTPException(404)
    return name


def _up(request: Request) -> str:
    """From any path to the root."""
    depth = request.url.path.count("/") - 1
    return "../" * depth or "./"


def _file(name: str) -> Callable[[Request], Response]:
    """A file of the package, which need not be sent again to who has it."""
    body = (files("sn46.dashboard") / "static" / name).read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
    headers = {**_HEADERS, "ETag": tag, "Cache-Control": "no-cache"}
    if name.endswith(".svg"):
        # A picture is a document of its own, with a style inside.
        headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"

    async def serve(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=_STATIC[name])

    return serve  # pyright: ignore[reportReturnType]
