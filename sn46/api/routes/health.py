"""Alive, and fit to serve."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Request
from limits.errors import StorageError
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import JSONResponse, Response

from sn46.api.contract import answers
from sn46.api.problems import Problem
from sn46.api.services import Services
from sn46.background import Shared
from sn46.client.metagraph import Metagraph
from sn46.store.base import Bucket, StoreError

router = APIRouter(tags=["health"])

_CHECK_SECONDS = 5
_GRACE = timedelta(seconds=60)

Check = Callable[[Services], Awaitable[str]]
Parts = Mapping[str, Mapping[str, Any]]


class _Unfit(Exception):
    """A part that does not do its work; the text says why."""


# Those who watch a server from outside ask for the head alone.
@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", responses=answers({"status": "ok"}))
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


_READY: dict[str, Any] = {
    "type": "object",
    "required": ["ready", "parts"],
    "properties": {"ready": {"type": "boolean"}, "parts": {"type": "object"}},
}
_UNFIT_ANSWER: dict[str, Any] = {
    "description": "A part is not fit; `Retry-After` says when to look again.",
    "content": {
        "application/json": {
            "schema": _READY,
            "example": {
                "ready": False,
                "parts": {"store": {"ok": False, "detail": "did not answer within 5 s"}},
            },
        }
    },
}


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    responses=answers(
        {"ready": True, "parts": {"store": {"ok": True, "detail": "both buckets answer"}}},
        schema=_READY,
    )
    | {503: _UNFIT_ANSWER},
)
async def readyz(request: Request) -> Response:
    """Whether this server is fit to serve, part by part; 503 where one part is not."""
    looked: Shared[Parts] = request.app.state.readiness
    parts = await looked.result()
    ready = all(part["ok"] for part in parts.values())
    headers = {} if ready else {"Retry-After": "5"}
    return JSONResponse({"ready": ready, "parts": parts}, 200 if ready else 503, headers)


def readiness_of(services: Services) -> Shared[Parts]:
    """A look at every part, shared by all who ask meanwhile: anyone may ask, without a limit, and
    each look lists both buckets."""

    async def look() -> Parts:
        found = await asyncio.gather(*(_checked(services, check) for check in _CHECKS.values()))
        return {
            name: {"ok": ok, "detail": detail}
            for name, (ok, detail) in zip(_CHECKS, found, strict=True)
        }

    return Shared(look)


async def _checked(services: Services, check: Check) -> tuple[bool, str]:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return True, await check(services)
    except TimeoutError:
        return False, f"did not answer within {_CHECK_SECONDS} s"
    except _Unfit as error:
        return False, str(error)
    except (SQLAlchemyError, StorageError, OSError) as error:
        return False, f"cannot be reached ({type(error).__name__})"


async def _database(services: Services) -> str:
    await services.records.ping()
    return "answers"


async def _limits(services: Services) -> str:
    if not await services.limiter.check():
        raise _Unfit("the counters cannot be reached")
    return "answers"


async def _store(services: Services) -> str:
    async def ask(bucket: Bucket) -> None:
        await bucket.objects("readyz/")

    try:
        await asyncio.gather(ask(services.outside.miners), ask(services.outside.results))
    except StoreError as error:
        raise _Unfit(str(error)) from error
    return "both buckets answer"


async def _chain(services: Services) -> str:
    metagraph = services.metagraph
    view, age = metagraph.latest, metagraph.age
    if view is None or age is None:
        raise _Unfit(f"not seen yet: {_why(metagraph, 'the first look is under way')}")
    text = f"block {view.block.number}, {max(0, int(age.total_seconds()))} s old"
    if not metagraph.is_fresh:
        raise _Unfit(f"{text}: too old ({_why(metagraph, 'no new block came')})")
    return f"{text}, {len(view.neurons)} neurons"


def _why(metagraph: Metagraph, otherwise: str) -> str:
    """Without the node's own words, which may hold its address."""
    if metagraph.last_error is None:
        return otherwise
    return "the node cannot be asked; the server's log says why"


async def _epoch(services: Services) -> str:
    try:
        stored = await services.epochs.current()
    except Problem as problem:
        if problem.code == "no_epoch_yet":
            return problem.detail
        raise _Unfit(services.scheduler.last_error or problem.detail) from problem
    return f"{stored.epoch_id} is drawn"


async def _scheduler(services: Services) -> str:
    scheduler = services.scheduler
    if scheduler.heartbeat is None:
        raise _Unfit("has not worked yet")
    quiet = services.outside.clock.now() - scheduler.heartbeat
    if quiet > 3 * scheduler.pause + _GRACE:
        raise _Unfit(f"last worked {int(quiet.total_seconds())} s ago: restart the server")
    if scheduler.last_error is not None:
        raise _Unfit(scheduler.last_error)
    return "works"


_CHECKS: dict[str, Check] = {
    "database": _database,
    "limits": _limits,
    "store": _store,
    "chain": _chain,
    "epoch": _epoch,
    "scheduler": _scheduler,
}
