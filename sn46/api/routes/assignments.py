"""Assignments and miners' statuses."""

from functools import lru_cache

from fastapi import APIRouter, Request
from starlette.responses import Response

from sn46.api.bodies import read_body, text_field, validated
from sn46.api.commitments import EXAMPLE_HOTKEY
from sn46.api.contract import (
    ASSIGNMENT_EXAMPLE,
    ASSIGNMENT_SCHEMA,
    EXAMPLE_EPOCH,
    EXAMPLE_HASH,
    POSTED,
    SIGNED,
    answers,
    signed,
)
from sn46.api.headers import has_tag
from sn46.api.identity import Call, Identity
from sn46.api.problems import Problem
from sn46.api.records import StatusReport, StoredEpoch
from sn46.api.schedule import Served
from sn46.api.services import Services, services_of
from sn46.api.settings import ApiSettings
from sn46.api.wire import EpochInPath, StatusAnswer, StatusBody

router = APIRouter(prefix="/zipcode-assignments", tags=["assignments"])


_ANSWERS = answers(ASSIGNMENT_EXAMPLE, *SIGNED, schema=ASSIGNMENT_SCHEMA, not_modified=True)


@router.get("/current", responses=_ANSWERS, openapi_extra=signed())
async def current_assignment(request: Request) -> Response:
    """The running epoch's assignment, signed by this server: identical bytes for every caller."""
    services = services_of(request)
    request.scope["state"]["epoch"] = "current"
    await services.authenticator.identify(request, b"", current_call(services.settings))
    return await _answer(request, services, await services.epochs.current())


@router.get("/epoch/{epoch_id}", responses=_ANSWERS, openapi_extra=signed())
async def epoch_assignment(request: Request, epoch_id: EpochInPath) -> Response:
    """An epoch's assignment; `previous` names the last ended one. It carries the draw's seed
    once the epoch has ended."""
    services = services_of(request)
    request.state.epoch = epoch_id
    await services.authenticator.identify(request, b"", epoch_call(services.settings, epoch_id))
    return await _answer(request, services, await services.epochs.begun(epoch_id))


def current_call(settings: ApiSettings) -> Call:
    return _current_call(settings.limit_current)


@lru_cache(maxsize=8)
def _current_call(limit: str) -> Call:
    texts = ("zipcode:assignment:current", "zipcode:validation:current")
    return Call("current", limit, texts, repeats=True)


def epoch_call(settings: ApiSettings, epoch_id: str) -> Call:
    return Call(
        "epoch",
        settings.limit_epoch,
        (f"zipcode:validation:{epoch_id}",),
        validators_only=True,
        repeats=True,
    )


async def _answer(request: Request, services: Services, stored: StoredEpoch) -> Response:
    served = await services.epochs.served(stored)
    if has_tag(request.scope, served.etag):
        return Response(status_code=304, headers=_headers(served.etag))
    return _whole(served)


@lru_cache(maxsize=8)
def _whole(served: Served) -> Response:
    """The answer that all callers get: a response holds nothing of the request that it answers."""
    headers = _headers(served.etag)
    return Response(served.document, headers=headers, media_type="application/json")


def _headers(etag: str) -> dict[str, str]:
    return {"ETag": etag, "Cache-Control": "private, no-cache"}


@router.post(
    "/status",
    responses=answers(
        {"success": True, "epoch_id": EXAMPLE_EPOCH, "status": "in_progress"}, *POSTED
    ),
    openapi_extra=signed(
        StatusBody,
        {
            "epoch_id": EXAMPLE_EPOCH,
            "miner_hotkey": EXAMPLE_HOTKEY,
            "nonce": EXAMPLE_HASH,
            "status": "in_progress",
            "listings_found": 1200,
            "zipcodes_completed": 3,
            "s3_upload_complete": False,
        },
    ),
)
async def report_status(request: Request) -> StatusAnswer:
    """How far a miner is with an epoch. It never goes back from `completed`."""
    services = services_of(request)
    raw = await read_body(request)
    named = request.state.epoch = text_field(raw, "epoch_id") or ""
    call = Call("status", services.settings.limit_status, (f"zipcode:status:{named}",))
    caller = await services.authenticator.identify(request, raw, call)
    body = validated(StatusBody, raw)
    if body.miner_hotkey != caller.hotkey:
        raise Problem(
            403, "hotkey_mismatch", "miner_hotkey is not the hotkey that signed this request."
        )
    return await keep_status(services, caller, body)


async def keep_status(services: Services, caller: Identity, body: StatusBody) -> StatusAnswer:
    """Keep a caller's status.

    Raises:
        Problem: 404 for an epoch that is not there, 409 where it is over, the nonce is another
            epoch's, or the status is `completed` already.
    """
    stored = await services.epochs.begun(body.epoch_id)
    now = services.outside.clock.now()
    if now >= stored.epoch.results_deadline:
        raise Problem(
            409, "epoch_closed", f"Epoch {stored.epoch_id} is over; report on the current one."
        )
    if body.nonce != stored.nonce:
        raise Problem(
            409,
            "nonce_mismatch",
            f"The nonce is not that of epoch {stored.epoch_id}. Fetch the assignment again.",
        )
    report = StatusReport(
        epoch_id=stored.epoch_id,
        hotkey=caller.hotkey,
        status=body.status,
        listings_found=body.listings_found,
        zipcodes_completed=body.zipcodes_completed,
        s3_upload_complete=body.s3_upload_complete,
        updated_at=now,
    )
    if not await services.records.put_status(report):
        raise Problem(
            409,
            "status_completed",
            f"The status in epoch {stored.epoch_id} is `completed` already and stays so.",
        )
    return StatusAnswer(epoch_id=stored.epoch_id, status=body.status)
