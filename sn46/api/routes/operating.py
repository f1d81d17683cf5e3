"""For whoever writes a client or runs the server: what to sign, and what is counted."""

from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import PlainTextResponse, Response

from sn46.api import legacy
from sn46.api.commitments import COMMITMENTS, EXAMPLE_SERVER, describe
from sn46.api.contract import PUBLIC, answers, refusal
from sn46.api.metrics import MEDIA_TYPE
from sn46.api.problems import Problem
from sn46.api.services import Services, services_of

router = APIRouter(tags=["operating"])


@router.get(
    "/commitment-formats",
    responses=answers(describe(COMMITMENTS[:1], EXAMPLE_SERVER), *PUBLIC),
)
async def commitment_formats(request: Request) -> dict[str, Any]:
    """What to sign for each call, in each of the three ways, with examples that verify."""
    services = services_of(request)
    await services.authenticator.count_address(request)
    server_hotkey = services.outside.signer.ss58_address
    return describe((*COMMITMENTS, *legacy.COMMITMENTS), server_hotkey)


_FIGURES: dict[str, Any] = {
    "schema": {"type": "string"},
    "example": "# TYPE sn46_api_epoch_drawn gauge\nsn46_api_epoch_drawn 1.0\n",
}


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": _FIGURES}}, 503: refusal(503)},
)
async def metrics(request: Request) -> Response:
    """This process's figures in Prometheus' text format."""
    services = services_of(request)
    heartbeat = services.scheduler.heartbeat
    view = services.metagraph.latest
    body = services.metrics.exposition(
        chain_age=services.metagraph.age,
        neurons=0 if view is None else len(view.neurons),
        heartbeat_age=None if heartbeat is None else services.outside.clock.now() - heartbeat,
        epoch_drawn=await _is_drawn(services),
    )
    return Response(body, headers={"Content-Type": MEDIA_TYPE})


async def _is_drawn(services: Services) -> bool:
    try:
        await services.epochs.current()
    except (Problem, SQLAlchemyError, OSError):
        # Without its database a server knows of no draw; its figures are needed most then.
        return False
    return True
