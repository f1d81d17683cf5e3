"""The short way to a route answers as the framework would."""

from typing import Any

import httpx
import pytest
from apinet import Net
from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import Receive, Scope, Send

from sn46.api.direct import Direct, plain_routes
from sn46.api.failures import answer_failures, answer_mistake
from sn46.api.problems import Problem

CURRENT = "/api/v1/zipcode-assignments/current"
UPLOAD = "/api/v1/s3-access/miner-upload"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", CURRENT),
        ("POST", UPLOAD),
        ("GET", "/api/v1/leaderboard"),
        ("GET", "/commitment-formats"),
        ("GET", "/api/v1/readyz"),
        ("GET", "/readyz/"),
        ("PUT", CURRENT),
    ],
)
async def test_both_ways_give_one_answer(net: Net, method: str, path: str) -> None:
    async def by_framework(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"request_id": "from-the-envelope"}
        await net.app.by_framework(scope, receive, send)

    transport = httpx.ASGITransport(app=by_framework)
    async with httpx.AsyncClient(transport=transport, base_url=net.url) as slow:
        answers: list[tuple[int, Any, str | None]] = []
        for http in (net.http, slow):
            for headers in ({}, net.btauth("ann", method, path)):
                answer = await http.request(method, path, headers=headers)
                body = answer.content
                if path.startswith("/api/v1/readyz"):
                    body = bytes(sorted(answer.json()["parts"]).__repr__(), "utf-8")
                answers.append((answer.status_code, body, answer.headers.get("content-type")))
    assert answers[:2] == answers[2:]


class Answer(BaseModel):
    count: int


def small_app() -> tuple[FastAPI, Any]:
    router = APIRouter(prefix="/small")

    async def nothing() -> None:
        return None

    @router.get("/model")
    async def model(request: Request) -> Answer:
        return Answer(count=3)

    @router.get("/refused")
    async def refused(request: Request) -> Answer:
        raise Problem(409, "not_now", "Not now; later.")

    @router.get("/away")
    async def away(request: Request) -> Answer:
        raise OSError("the disk is gone")

    @router.get("/mistake")
    async def mistake(request: Request) -> Answer:
        raise KeyError("secret detail")

    @router.get("/pattern/{name}")
    async def pattern(request: Request, name: str) -> Answer:
        return Answer(count=len(name))

    @router.get("/guarded", dependencies=[Depends(nothing)])
    async def guarded(request: Request) -> Answer:
        return Answer(count=4)

    @router.get("/query")
    async def query(request: Request, count: int = 5) -> Answer:
        return Answer(count=count)

    app = FastAPI()
    app.include_router(router, prefix="/api")
    answer_failures(app)
    found = plain_routes(router, "/api")
    assert {path for _, path in found} == {
        f"/api/small/{name}" for name in ("model", "refused", "away", "mistake")
    }
    return app, ServerErrorMiddleware(Direct(app, found), handler=answer_mistake)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("model", 200),
        ("refused", 409),
        ("away", 503),
        ("mistake", 500),
        ("pattern/abc", 200),
        ("guarded", 200),
        ("query?count=x", 422),
        ("nothing", 404),
    ],
)
async def test_every_kind_of_answer(path: str, status: int) -> None:
    answers: list[httpx.Response] = []
    for app in small_app():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://small") as http:
            answers.append(await http.get(f"/api/small/{path}"))
    framework, direct = answers
    assert direct.status_code == framework.status_code == status
    assert direct.json() == framework.json()
    assert direct.headers["content-type"] == framework.headers["content-type"]
    assert "secret detail" not in direct.text
