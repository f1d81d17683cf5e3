"""The short way to a route: for calls that need none of the framework's work on arguments.

A handler that takes the request and nothing else reads, checks and answers by itself. It is found
here by method and path in one look-up, where the framework matches patterns one after another,
solves dependencies and validates its own answer again; that work costs more than verifying a
signature. The framework keeps these routes as well: for the OpenAPI document, for other methods,
and for every path that is a pattern.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sn46.api.failures import EXPECTED, answer_failure, answer_mistake

Handler = Callable[[Request], Awaitable[Any]]


@dataclass(frozen=True)
class PlainRoute:
    """A handler, and the path that its metrics go under: the router's own, without prefix."""

    path: str
    handler: Handler


PlainRoutes = Mapping[tuple[str, str], PlainRoute]


class Direct:
    """Answers requests to plain routes itself, whatever comes of them, and hands all others on."""

    def __init__(self, app: ASGIApp, routes: PlainRoutes) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = None
        if scope["type"] == "http":
            route = self._routes.get((scope["method"], scope["path"]))
        if route is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        scope.setdefault("state", {})["route"] = route.path
        try:
            response = _response(await route.handler(request))
        except EXPECTED as error:
            response = answer_failure(request, error)
        except Exception as error:  # noqa: BLE001 - a mistake of ours, and the caller is answered
            response = await answer_mistake(request, error)
        await response(scope, receive, send)


def plain_routes(router: APIRouter, prefix: str = "") -> dict[tuple[str, str], PlainRoute]:
    """A router's routes whose path is no pattern and whose handler takes the request alone, by
    method and path. Routes with dependencies are left to the framework, which solves them."""
    if router.dependencies:
        return {}
    return {
        (method, f"{prefix}{route.path}"): PlainRoute(route.path, route.endpoint)
        for route in router.routes
        if isinstance(route, APIRoute) and _is_plain(route)
        for method in route.methods or ()
    }


def _is_plain(route: APIRoute) -> bool:
    parameters = inspect.signature(route.endpoint).parameters.values()
    return (
        "{" not in route.path
        and not route.dependencies
        and route.status_code is None
        and [parameter.annotation for parameter in parameters] == [Request]
    )


def _response(answer: Any) -> Response:
    if isinstance(answer, Response):
        return answer
    if isinstance(answer, BaseModel):
        body = answer.model_dump_json(by_alias=True).encode()
    else:
        body = orjson.dumps(answer)
    return Response(body, media_type="application/json")
