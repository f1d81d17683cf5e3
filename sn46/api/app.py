"""The ASGI application: routes, errors, request ids, and the work in the background."""

import asyncio
import random
import re
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

import structlog
from fastapi import Depends, FastAPI, Request
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sn46 import logs
from sn46.api import legacy
from sn46.api.contract import publish
from sn46.api.direct import Direct, PlainRoute, plain_routes
from sn46.api.failures import answer_failures, answer_mistake
from sn46.api.headers import headers_of
from sn46.api.metrics import OTHER
from sn46.api.routes import access, assignments, draws, health, operating, public, results
from sn46.api.services import Outside, Services, make_services
from sn46.api.settings import ApiSettings
from sn46.api.trail import RequestEntry, printable
from sn46.background import kept_running

PREFIX = "/api/v1"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
log = structlog.get_logger(__name__)


class Api(FastAPI):
    """The application behind a front of its own, which the framework sees only the rest of: an
    envelope around every request, the deployed clients' form, and the plain routes."""

    front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        await self.front(scope, receive, send)

    async def by_framework(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the framework's own routing."""
        await super().__call__(scope, receive, send)


def create_app(settings: ApiSettings, outside: Outside) -> Api:
    """The application over injected parts. It answers while :func:`running` is entered.

    Raises what :func:`make_services` does.
    """
    services = make_services(settings, outside)
    app = Api(
        title="Subnet 46 API",
        version="1",
        description="ZIP-code assignments, upload credentials and validation results.",
        dependencies=[Depends(_note_route)],
        # A redirect would repeat a signature that stands in the query, to wherever Host says, in
        # plain HTTP where a proxy ends TLS; and one that binds the path holds for no other path.
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.readiness = health.readiness_of(services)
    plain: dict[tuple[str, str], PlainRoute] = {}
    routers = (assignments, access, results, public, draws)
    for router in (module.router for module in routers):
        app.include_router(router, prefix=PREFIX)
        plain |= plain_routes(router, PREFIX)
    for router in (health.router, operating.router):
        app.include_router(router)
        app.include_router(router, prefix=PREFIX, include_in_schema=False)
        plain |= plain_routes(router) | plain_routes(router, PREFIX)
    app.include_router(legacy.router)
    app.include_router(legacy.forked)
    publish(app)
    answer_failures(app)
    framework = ServerErrorMiddleware(app.by_framework, handler=answer_mistake)
    app.front = _Envelope(legacy.FieldForm(Direct(framework, plain)), services)
    return app


@asynccontextmanager
async def running(app: FastAPI) -> AsyncGenerator[None]:
    """Migrate the database, then draw what is missing and keep chain view and epochs up to date
    for as long as this is entered.

    Raises:
        SQLAlchemyError, OSError: where the database cannot be opened.
    """
    services: Services = app.state.services
    try:
        await services.database.migrate()
        work = [
            asyncio.create_task(kept_running(name, run))
            for name, run in (
                ("metagraph", services.metagraph.run),
                ("scheduler", services.scheduler.run),
                ("audit", services.audit.run),
                ("retention", services.retention.run),
            )
        ]
        try:
            yield
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            await services.audit.flush()
    finally:
        await services.database.close()


async def _note_route(request: Request) -> None:
    """Keep the route's template for the metrics: a middleware sees the path alone.

    Asynchronous, as is every dependency: FastAPI hands a plain one to another thread, which costs
    more than all else of a request.
    """
    request.state.route = getattr(request.scope.get("route"), "path", OTHER)


_NO_SNIFFING = (b"x-content-type-options", b"nosniff")


def _request_id(scope: Scope) -> str:
    """The id that the caller or a proxy gave the request, or a new one. New ones grow with time,
    so that an index of them grows at its end."""
    given = headers_of(scope).get("x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return f"{time.time_ns():016x}{random.getrandbits(64):016x}"


class _Envelope:
    """Around every request: an id, the headers of its allowance, and the audit entry."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._address_of = services.address_of
        self._metrics = services.metrics
        self._audit = services.audit
        self._clock = services.outside.clock
        # Bound once: the logger that waits to be bound is as slow to say nothing as to say it.
        self._log = log.bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state: dict[str, Any] = scope.setdefault("state", {})
        request_id = state["request_id"] = _request_id(scope)
        status, began = 500, time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                named = (b"x-request-id", request_id.encode())
                headers = [*message["headers"], named, _NO_SNIFFING]
                if "allowance" in state and status != 429:
                    headers += state["allowance"].raw_headers()
                message["headers"] = headers
            await send(message)

        token = logs.request_id.set(request_id)
        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - began
            self._count(scope, state, status, seconds)
            self._note(scope, state, status)
            logs.request_id.reset(token)

    def _count(self, scope: Scope, state: dict[str, Any], status: int, seconds: float) -> None:
        route = state.get("route", OTHER)
        self._metrics.answered(
            method=scope["method"],
            route=route,
            status=status,
            seconds=seconds,
            code=state.get("problem_code"),
        )
        if (caller := state.get("caller")) is not None:
            self._metrics.authenticated(route=route, way=caller.way)

    def _note(self, scope: Scope, state: dict[str, Any], status: int) -> None:
        method, path = scope["method"][:8], _noted_path(scope["path"])
        self._log.debug("request", method=method, path=path, status=status)
        signer, code = state.get("caller"), state.get("problem_code")
        known = signer is not None
        if not known:
            if code is None:
                return
            signer = state.get("signer")
        named = state.get("epoch")
        self._audit.note(
            RequestEntry(
                self._clock.now(),
                state["request_id"],
                signer.hotkey if signer is not None else "",
                signer.way if signer is not None else "",
                method,
                path,
                status,
                code,
                self._address_of(scope),
                None if named is None else self._audit.epoch_id(named),
            ),
            route=state.get("route", OTHER),
            known=known,
        )


_PATH = 200


@lru_cache(maxsize=256)
def _noted_path(path: str) -> str:
    return printable(path[:_PATH])[:_PATH]
