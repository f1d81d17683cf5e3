"""What anyone needs to make a past draw again: the signed assignments with their seeds, the history
of draws, the tables they were made from, and the reports that they looked at.

Nothing here is of an epoch that has not ended, but for the tables: a table is shown from the start
of the first epoch that was drawn from it, as that epoch's assignment names it by then.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from sn46.api.bodies import invalid
from sn46.api.commitments import EXAMPLE_HOTKEY
from sn46.api.contract import (
    ASSIGNMENT_EXAMPLE,
    ASSIGNMENT_SCHEMA,
    EXAMPLE_EPOCH,
    EXAMPLE_HASH,
    PUBLIC,
    answers,
)
from sn46.api.drawrecords import PastDraw
from sn46.api.headers import has_tag
from sn46.api.problems import Problem
from sn46.api.records import Report
from sn46.api.schedule import named_epoch
from sn46.api.services import Services, services_of
from sn46.api.tables import unpacked
from sn46.api.wire import EpochInPath
from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.errors import EpochError
from sn46.mechanism.times import format_time

router = APIRouter(tags=["draws"])

_DRAWS = 1_000
_DOCUMENTS = 100
_REPORTED_EPOCHS = 100
_CURSOR = re.compile(r"\d{1,11}", re.ASCII)
_VERSION = re.compile(r"[0-9a-f]{64}", re.ASCII)
_GZIP = re.compile(r"(?:^|,)\s*gzip\s*(?:$|,|;\s*q=(?!0(?:\.0*)?\s*(?:$|,)))", re.IGNORECASE)
"""In ``Accept-Encoding``; with a weight of 0 it is what the caller cannot read."""
_EXAMPLE_TIME = "2024-03-15T16:00:00Z"
_EXAMPLE_CURSOR = "1710518400"

_DRAW_EXAMPLE: dict[str, Any] = {
    "epoch_id": EXAMPLE_EPOCH,
    "drawn_at": "2024-03-15T15:30:00Z",
    "seed": EXAMPLE_HASH,
    "assignment": {
        **ASSIGNMENT_EXAMPLE,
        "selection": {**ASSIGNMENT_EXAMPLE["selection"], "seed": EXAMPLE_HASH},
    },
}
_DRAW_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Draw",
    "required": list(_DRAW_EXAMPLE),
    "properties": {
        "epoch_id": {"type": "string"},
        "drawn_at": {"type": "string"},
        "seed": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "assignment": ASSIGNMENT_SCHEMA,
    },
}
_PAGE_EXAMPLE: dict[str, Any] = {
    "draws": [
        {
            "epoch_id": EXAMPLE_EPOCH,
            "start": _EXAMPLE_TIME,
            "seconds": 14_400,
            "target_listings": 10_000,
            "zipcodes": ["08701", "11211"],
        }
    ],
    "next_cursor": _EXAMPLE_CURSOR,
}
_REPORTS_EXAMPLE: dict[str, Any] = {
    "reports": [
        {
            "epoch_id": EXAMPLE_EPOCH,
            "start": _EXAMPLE_TIME,
            "validator_hotkey": EXAMPLE_HOTKEY,
            "participants": 40,
            "reached_95": 31,
            "announced_at": "2024-03-15T22:40:00Z",
        }
    ],
    "next_cursor": None,
}


def _page_schema(name: str, example: Mapping[str, Any]) -> dict[str, Any]:
    entry = {"type": "object", "required": list(example[name][0])}
    return {
        "type": "object",
        "title": f"Page of {name}",
        "required": [name, "next_cursor"],
        "properties": {
            name: {"type": "array", "items": entry},
            "next_cursor": {"type": ["string", "null"]},
        },
    }


Before = Annotated[
    str | None,
    Query(description="Only epochs before this one; all by default.", examples=[EXAMPLE_EPOCH]),
]
Cursor = Annotated[
    str | None,
    Query(
        description="`next_cursor` of the page before; instead of `before`.",
        examples=[_EXAMPLE_CURSOR],
    ),
]


@router.get(
    "/epochs/{epoch_id}/draw",
    responses=answers(_DRAW_EXAMPLE, 404, 409, *PUBLIC, schema=_DRAW_SCHEMA, not_modified=True),
)
async def draw(request: Request, epoch_id: EpochInPath) -> Response:
    """The draw of an ended epoch: its signed assignment with the seed, and when it was made."""
    services = services_of(request)
    await services.authenticator.count_address(request)
    stored = await services.epochs.begun(epoch_id)
    now = services.outside.clock.now()
    if now < stored.epoch.end:
        raise Problem(
            409,
            "epoch_not_ended",
            f"Epoch {stored.epoch_id} ends at {format_time(stored.epoch.end)}. Its draw can be "
            "made again from then on.",
            retry_after=int((stored.epoch.end - now).total_seconds()) + 1,
        )
    served = await services.epochs.served(stored)
    answer = _draw_json(stored.epoch_id, served.document, stored.seed, stored.drawn_at)
    body = orjson.dumps(answer)
    return _tagged(request, body, sha256_hex(body)[:32], "public, no-cache")


@router.get(
    "/draws",
    responses=answers(_PAGE_EXAMPLE, 422, *PUBLIC, schema=_page_schema("draws", _PAGE_EXAMPLE)),
)
async def past_draws(
    request: Request,
    before: Before = None,
    cursor: Cursor = None,
    documents: Annotated[
        bool,
        Query(description="Each with its `draw`, as that call answers it.", examples=[False]),
    ] = False,
) -> Response:
    """The draws for ended epochs, newest first: 1,000 a page, or 100 with documents."""
    services = services_of(request)
    await services.authenticator.count_address(request)
    now = services.outside.clock.now()
    count = _DOCUMENTS if documents else _DRAWS
    page = await services.past_draws.page(
        _moment(services, before, cursor), now, count, documents=documents
    )
    more = str(int(page[-1].epoch.start.timestamp())) if len(page) == count else None
    body = orjson.dumps({"draws": [_entry(past) for past in page], "next_cursor": more})
    return Response(body, media_type="application/json")


@router.get(
    "/reports",
    responses=answers(
        _REPORTS_EXAMPLE, 422, *PUBLIC, schema=_page_schema("reports", _REPORTS_EXAMPLE)
    ),
)
async def reports(request: Request, before: Before = None, cursor: Cursor = None) -> Response:
    """The announced reports, newest epoch first: those on 100 epochs a page."""
    services = services_of(request)
    await services.authenticator.count_address(request)
    moment = _moment(services, before, cursor)
    starts = await services.records.newest_reported(moment, _REPORTED_EPOCHS)
    found = await services.records.reports_between(starts[0], moment) if starts else []
    found.sort(key=lambda report: (-report.start.timestamp(), report.validator_hotkey))
    more = str(int(starts[0].timestamp())) if len(starts) == _REPORTED_EPOCHS else None
    body = orjson.dumps({"reports": [_report(r) for r in found], "next_cursor": more})
    return Response(body, media_type="application/json")


@router.get(
    "/zipcode-tables/{version}",
    responses=answers(
        [["11211", 1007, "NY", "Brooklyn", "Kings County", 40.71, -73.95, 90_000, 37_180, None,
          "2024-03-01"]],
        404,
        *PUBLIC,
        schema={"type": "array", "items": {"type": "array"}},
        not_modified=True,
    ),
)  # fmt: skip
async def zipcode_table(
    request: Request, version: Annotated[str, Path(examples=[EXAMPLE_HASH])]
) -> Response:
    """The ZIP master table of a version, for ever: the SHA-256 of this answer is the version. A
    row has zipcode, expected_listings, state, city, county, latitude, longitude, population,
    property_count, home_value, updated_on."""
    services = services_of(request)
    await services.authenticator.count_address(request)
    kept = None
    if _VERSION.fullmatch(version):  # A database need not take every text that a path can hold.
        kept = await services.past_draws.table(version, services.outside.clock.now())
    if kept is None:
        raise Problem(
            404,
            "unknown_table",
            "No epoch that has begun was drawn from a table of this version. "
            "`selection.table_version` of an assignment names its table.",
        )
    cache = "public, max-age=31536000, immutable"
    if _GZIP.search(request.headers.get("accept-encoding", "")):
        return _tagged(request, kept, version, cache, {"Content-Encoding": "gzip"})
    return _tagged(request, unpacked(kept), version, cache)


def _moment(services: Services, before: str | None, cursor: str | None) -> datetime:
    """Before which start a page begins."""
    if cursor is not None:
        if not _CURSOR.fullmatch(cursor):
            raise invalid([{"field": "cursor", "message": "It is no `next_cursor` of a page."}])
        return datetime.fromtimestamp(int(cursor), UTC)
    if before is None:
        return services.outside.clock.now()
    try:
        return named_epoch(before, services.settings.epoch_seconds).start
    except EpochError as error:
        raise invalid([{"field": "before", "message": str(error)}]) from error


def _tagged(
    request: Request,
    body: bytes,
    tag: str,
    cache: str,
    extra: Mapping[str, str] | None = None,
) -> Response:
    """An answer that need not be sent again to who has it. The tag is weak: it names the content,
    whether that is sent compressed or not."""
    etag = f'W/"{tag}"'
    headers = {"ETag": etag, "Cache-Control": cache, "Vary": "Accept-Encoding"}
    if has_tag(request.scope, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers={**headers, **(extra or {})}, media_type="application/json")


def _draw_json(epoch_id: str, document: bytes, seed: str, drawn_at: datetime) -> dict[str, Any]:
    return {
        "epoch_id": epoch_id,
        "drawn_at": format_time(drawn_at),
        "seed": seed,
        "assignment": orjson.Fragment(document),
    }


def _entry(past: PastDraw) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "epoch_id": past.epoch.id,
        "start": format_time(past.epoch.start),
        "seconds": past.epoch.seconds,
        "target_listings": past.target_listings,
        "zipcodes": past.zipcodes,
    }
    if past.document is not None and past.seed is not None and past.drawn_at is not None:
        entry["draw"] = _draw_json(past.epoch.id, past.document, past.seed, past.drawn_at)
    return entry


def _report(report: Report) -> dict[str, Any]:
    return {
        "epoch_id": report.epoch_id,
        "start": format_time(report.start),
        "validator_hotkey": report.validator_hotkey,
        "participants": report.participants,
        "reached_95": report.reached_95,
        "announced_at": format_time(report.announced_at),
    }
