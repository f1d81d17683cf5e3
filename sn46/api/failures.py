"""What goes wrong, as an answer: every error that a handler lets out becomes a problem document."""

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from limits.errors import StorageError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from sn46.api.bodies import invalid
from sn46.api.database import reason_of
from sn46.api.problems import Problem, problem_response
from sn46.store.base import StoreError
from sn46.zipcodes import ZipTableError

log = structlog.get_logger(__name__)

EXPECTED = (Problem, StoreError, SQLAlchemyError, StorageError, OSError, ZipTableError)
"""What a handler may raise; anything else is a mistake of this program."""


def answer_failure(request: Request, error: Exception) -> Response:
    """The answer to one of ``EXPECTED``: a problem as it is, a part that is away as 503."""
    if isinstance(error, Problem):
        return _answer(request, error)
    code, what = _away(error)
    log.warning(code, error=f"{type(error).__name__}: {reason_of(error)}", path=request.url.path)
    detail = f"{what} cannot be used at the moment. Nothing was changed; try again shortly."
    return _answer(request, Problem(503, code, detail, retry_after=5))


def answer_failures(app: FastAPI) -> None:
    """Let an application answer every error with a problem document."""

    async def on_expected(request: Request, error: Exception) -> Response:
        return answer_failure(request, error)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code, detail = {
            404: ("not_found", "There is nothing at this path; /openapi.json lists what there is."),
            405: ("method_not_allowed", "This path does not take this method; see Allow."),
        }.get(error.status_code, ("http_error", str(error.detail)))
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods_of(request))
        return _answer(request, Problem(error.status_code, code, detail, headers=headers))

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        fields = [
            {"field": ".".join(str(part) for part in item["loc"]), "message": str(item["msg"])}
            for item in error.errors()
        ]
        return _answer(request, invalid(fields))

    for kind in EXPECTED:
        app.add_exception_handler(kind, on_expected)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(Exception, answer_mistake)


async def answer_mistake(request: Request, error: Exception) -> Response:
    """The answer to what no handler should let out. It is logged."""
    detail = (
        "This server made a mistake; it is logged. Try again, and if it stays, tell the "
        "subnet's owner the X-Request-Id."
    )
    log.error("request_failed", path=request.url.path, exc_info=error)
    return _answer(request, Problem(500, "internal_error", detail))


def _answer(request: Request, problem: Problem) -> Response:
    request.state.problem_code = problem.code
    return problem_response(problem)


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _methods_of(request: Request) -> list[str]:
    """What a path takes by any of its routes; the framework names the first one's methods."""
    scopes = [(method, {**request.scope, "method": method}) for method in _METHODS]
    return [
        method
        for method, scope in scopes
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes)
    ]


def _away(error: Exception) -> tuple[str, str]:
    if isinstance(error, StoreError):
        return "store_unavailable", "The object store"
    if isinstance(error, StorageError):
        return "limits_unavailable", "The shared counters"
    if isinstance(error, ZipTableError):
        return "table_unavailable", "The ZIP table"
    return "database_unavailable", "The database"
