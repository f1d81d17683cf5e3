"""The ASGI application: routes, errors, request ids, and the work in the background."""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from limits.errors import StorageError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sn46.api import legacy
from sn46.api.bodies import invalid
from sn46.api.contract import publish
from sn46.api.metrics import OTHER
from sn46.api.problems import Problem, problem_response
from sn46.api.records import RequestEntry
from sn46.api.routes import access, assignments, health, operating, public, results
from sn46.api.services import Outside, Services, make_services
from sn46.api.settings import ApiSettings
from sn46.store.base import StoreError
from sn46.zipcodes import ZipTableError

PREFIX = "/api/v1"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
log = structlog.get_logger(__name__)


def create_app(settings: ApiSettings, outside: Outside) -> FastAPI:
    """The application over injected parts. It answers while :func:`running` is entered.

    Raises what :func:`make_services` does.
    """
    services = make_services(settings, outside)
    app = FastAPI(
        title="Subnet 46 API",
        version="1",
        description="ZIP-code assignments, upload credentials and validation results.",
        dependencies=[Depends(_note_route)],
    )
    app.state.services = services
    for router in (assignments.router, access.router, results.router, public.router):
        app.include_router(router, prefix=PREFIX)
    for router in (health.router, operating.router):
        app.include_router(router)
        app.include_router(router, prefix=PREFIX, include_in_schema=False)
    app.include_router(legacy.router)
    app.include_router(legacy.forked)
    publish(app)
    _answer_errors(app)
    app.add_middleware(legacy.FieldForm)
    app.add_middleware(_Envelope, services=services)
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
            _in_background("metagraph", services.metagraph.run()),
            _in_background("scheduler", services.scheduler.run()),
            _in_background("audit", services.audit.run()),
        ]
        try:
            yield
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
    finally:
        await services.database.close()


async def _note_route(request: Request) -> None:
    """Keep the route's template for the metrics: a middleware sees the path alone.

    Asynchronous, as is every dependency: FastAPI hands a plain one to another thread, which costs
    more than all else of a request.
    """
    request.state.route = getattr(request.scope.get("route"), "path", OTHER)


def _in_background(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.create_task(work, name=name)

    def ended(done: asyncio.Task[None]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            log.critical("background_work_ended", work=name, exc_info=error)

    task.add_done_callback(ended)
    return task


def _answer_errors(app: FastAPI) -> None:
    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        request.state.problem_code = error.code
        return problem_response(error)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code, detail = {
            404: ("not_found", "There is nothing at this path; /openapi.json lists what there is."),
            405: ("method_not_allowed", "This path does not take this method; see Allow."),
        }.get(error.status_code, ("http_error", str(error.detail)))
        request.state.problem_code = code
        return problem_response(Problem(error.status_code, code, detail, headers=error.headers))

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        fields = [
            {"field": ".".join(str(part) for part in item["loc"]), "message": str(item["msg"])}
            for item in error.errors()
        ]
        problem = invalid(fields)
        request.state.problem_code = problem.code
        return problem_response(problem)

    async def on_away(request: Request, error: Exception) -> Response:
        code, what = _away(error)
        log.warning(code, error=f"{type(error).__name__}: {error}", path=request.url.path)
        request.state.problem_code = code
        detail = f"{what} cannot be used at the moment. Nothing was changed; try again shortly."
        return problem_response(Problem(503, code, detail, retry_after=5))

    async def on_bug(request: Request, error: Exception) -> Response:
        detail = (
            "This server made a mistake; it is logged. Try again, and if it stays, tell the "
            "subnet's owner the X-Request-Id."
        )
        log.error("request_failed", path=request.url.path, exc_info=error)
        request.state.problem_code = "internal_error"
        return problem_response(Problem(500, "internal_error", detail))

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    for kind in (StoreError, SQLAlchemyError, StorageError, OSError, ZipTableError):
        app.add_exception_handler(kind, on_away)
    app.add_exception_handler(Exception, on_bug)


def _away(error: Exception) -> tuple[str, str]:
    if isinstance(error, StoreError):
        return "store_unavailable", "The object store"
    if isinstance(error, StorageError):
        return "limits_unavailable", "The shared counters"
    if isinstance(error, ZipTableError):
        return "table_unavailable", "The ZIP table"
    return "database_unavailable", "The database"


class _Envelope:
    """Around every request: an id, the headers of its allowance, and the audit entry."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state: dict[str, Any] = scope.setdefault("state", {})
        request = Request(scope)
        given = request.headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        status, began = 0, time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = {"X-Request-Id": request_id, "X-Content-Type-Options": "nosniff"}
                if "allowance" in state and status != 429:
                    extra |= state["allowance"].headers()
                message["headers"] = [
                    *message["headers"],
                    *((k.lower().encode(), v.encode()) for k, v in extra.items()),
                ]
            await send(message)

        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - began
            self._count(request, state, status or 500, seconds)
            self._note(request, state, request_id, status or 500)
            structlog.contextvars.unbind_contextvars("request_id")

    def _count(self, request: Request, state: dict[str, Any], status: int, seconds: float) -> None:
        metrics, route = self._services.metrics, str(state.get("route", OTHER))
        metrics.answered(
            method=request.method,
            route=route,
            status=status,
            seconds=seconds,
            code=state.get("problem_code"),
        )
        if (caller := state.get("caller")) is not None:
            metrics.authenticated(route=route, way=caller.way)

    def _note(self, request: Request, state: dict[str, Any], request_id: str, status: int) -> None:
        caller = state.get("caller")
        # Quoted, since no database takes every character that a path can hold.
        path = quote(request.scope["path"], safe="/:=~", errors="replace")[:200]
        log.debug("request", method=request.method, path=path, status=status)
        if caller is None:
            return
        self._services.audit.note(
            RequestEntry(
                at=self._services.outside.clock.now(),
                request_id=request_id,
                hotkey=caller.hotkey,
                way=caller.way,
                method=request.method,
                path=path,
                status=status,
                code=state.get("problem_code"),
                address=self._services.address_of(request),
            )
        )
