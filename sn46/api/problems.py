"""Errors as callers see them: RFC 9457 problem documents with a stable ``code``."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is an error. ``detail`` says to the caller what to do.

    ``retry_after`` is in whole seconds and becomes the ``Retry-After`` header.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        errors: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, retry_after))


def problem_response(problem: Problem) -> Response:
    """The problem as it goes over the wire."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
    }
    if problem.errors:
        body["errors"] = problem.errors
    return Response(
        orjson.dumps(body), problem.status, headers=problem.headers, media_type=MEDIA_TYPE
    )


def unauthenticated(detail: str, code: str = "not_authenticated") -> Problem:
    return Problem(401, code, detail, headers={"WWW-Authenticate": "Bearer"})


def unknown_epoch(text: str) -> Problem:
    return Problem(
        404,
        "unknown_epoch",
        f"There is no epoch {text[:40]!r} here, or it has not begun. Epoch ids look like "
        "2024-03-15-16:00; `current` and `previous` name the running and the last ended one.",
    )
