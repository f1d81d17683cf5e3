"""The contract of the clients that were deployed before this API: camelCase, signed by fields.

``FieldForm`` sends every request that names its signer in fields to the routes of this module,
which answer as those clients expect; five paths of their own are here as well. What they may do
is what any caller may: same signatures, limits and deadlines. To drop the contract, remove this
module, its two lines in ``app`` and the one in ``routes.public``.

Miners of this kind upload under ``data/hotkey={hotkey}/`` of the miner bucket. No submission is
ever read from there: a submission needs a manifest under ``miners/``, where these policies do not
reach.
"""

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, cast
from urllib.parse import quote, urlsplit

import orjson
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sn46.api.bodies import MAX_BODY_BYTES, invalid, json_object, read_body, validated
from sn46.api.commitments import (
    EXAMPLE_HOTKEY,
    EXAMPLE_SECONDS,
    EXAMPLE_SIGNATURE,
    Commitment,
)
from sn46.api.contract import EXAMPLE_EPOCH, POSTED, answers, signed
from sn46.api.headers import headers_of
from sn46.api.identity import Call, Identity, signing_fields
from sn46.api.problems import Problem
from sn46.api.records import StoredEpoch
from sn46.api.routes import access, assignments, results
from sn46.api.services import Services, origin_of, services_of, store_access
from sn46.api.wire import (
    AnnounceBody,
    Count,
    EpochText,
    HotkeyText,
    MinerUploadBody,
    StatusBody,
    ValidatorReadBody,
)
from sn46.client.btauth import VERSION_HEADER
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.signing import is_hotkey
from sn46.mechanism.submission import MAX_FILE_BYTES
from sn46.mechanism.times import format_time
from sn46.store.s3 import S3Access

SERVICE = "sn46-api"
DATA_PREFIX = "data/"
_FORM = "/field-form"
_API = "/api/v1"
_OTHER_WAYS = frozenset({"authorization", "x-hotkey", VERSION_HEADER})
_FORKED = {
    "GET": re.compile(rf"{_API}/zipcode-assignments/(current|epoch/[^/]+)"),
    "POST": re.compile(
        rf"{_API}/(zipcode-assignments/status"
        r"|s3-access/(miner-upload|validator-upload|validator-read)|validation-results)"
    ),
}
_MOST_LISTED = 1_000


COMMITMENTS = (
    Commitment(
        "POST",
        "/get-folder-access",
        "registered",
        ("s3:data:access:{coldkey}:{hotkey}",),
        body={"coldkey": "{coldkey}", "hotkey": "{hotkey}"},
    ),
    Commitment("POST", "/get-validator-access", "validators", ("s3:validator:access",)),
    Commitment(
        "POST",
        "/get-miner-specific-access",
        "validators",
        ("s3:validator:miner:{miner_hotkey}",),
        body={"miner_hotkey": "{miner_hotkey}"},
    ),
)


class FieldForm:
    """Sends requests in the form of fields to this module's routes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        forked = _FORKED.get(scope["method"]) if scope["type"] == "http" else None
        if (
            forked is None
            or not forked.fullmatch(scope["path"])
            or not _OTHER_WAYS.isdisjoint(headers_of(scope))
        ):
            await self._app(scope, receive, send)
            return
        request, body = Request(scope), b""
        if scope["method"] == "POST":
            body, receive = await _peek(receive)
        if signing_fields(request, body) is not None:
            scope.setdefault("state", {})["field_form"] = True
            scope = {**scope, "path": f"{_FORM}{scope['path']}"}
        await self._app(scope, receive, send)


async def _peek(receive: Receive) -> tuple[bytes, Receive]:
    """The body as far as any route reads it, and a way to receive it all again."""
    kept: list[Message] = []
    body = bytearray()
    while len(body) <= MAX_BODY_BYTES:
        message = await receive()
        kept.append(message)
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    waiting = iter(kept)

    async def again() -> Message:
        return next(waiting, None) or await receive()

    return bytes(body), again


async def _only_forked(request: Request) -> None:
    """These paths are no addresses of their own."""
    if not getattr(request.state, "field_form", False):
        raise HTTPException(404)


forked = APIRouter(
    prefix=f"{_FORM}{_API}", include_in_schema=False, dependencies=[Depends(_only_forked)]
)
router = APIRouter(tags=["legacy"])


# What these clients send


class _Body(BaseModel):
    model_config = ConfigDict(
        extra="ignore", frozen=True, alias_generator=to_camel, validate_by_name=True
    )


class FieldStatusBody(_Body):
    """A status as the deployed clients report it; ``zipcodes_completed`` is a list of them or
    their number."""

    epoch_id: EpochText
    nonce: Annotated[str, Field(max_length=64)]
    status: Literal["in_progress", "completed", "failed", "timeout"]
    s3_upload_complete: bool = False
    listings_scraped: Count | None = None
    zipcodes_completed: Annotated[list[Any], Field(max_length=10_000)] | Count | None = None

    @field_validator("status", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value


class FieldUploadBody(_Body):
    """``purpose`` is free text there; only ``evidence`` has a meaning of its own."""

    epoch_id: EpochText
    purpose: Annotated[str, Field(max_length=64)] = "epoch_validation_results"


class SignedBody(BaseModel):
    """What every body in this form carries."""

    hotkey: Any = None
    signature: Any = None
    timestamp: Any = None


_SIGNED_EXAMPLE = {
    "hotkey": EXAMPLE_HOTKEY,
    "signature": EXAMPLE_SIGNATURE,
    "timestamp": EXAMPLE_SECONDS,
}


class FolderBody(SignedBody):
    """Signed: ``s3:data:access:{coldkey}:{hotkey}:{timestamp}``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    coldkey: HotkeyText
    expiry: Annotated[int, Field(ge=0, le=2**53, strict=True)] | None = None


class MinerAccessBody(SignedBody):
    """Signed: ``s3:validator:miner:{miner_hotkey}:{timestamp}``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    miner_hotkey: HotkeyText

    @field_validator("miner_hotkey")
    @classmethod
    def _address(cls, value: str) -> str:
        if not is_hotkey(value):
            raise ValueError("it is not an ss58 address")
        return value


# Shared paths


@forked.get("/zipcode-assignments/current")
async def current(request: Request) -> Response:
    services = services_of(request)
    request.state.epoch = "current"
    call = assignments.current_call(services.settings)
    await services.authenticator.identify(request, b"", call)
    return _assignment(await services.epochs.current())


@forked.get("/zipcode-assignments/epoch/{epoch_id}")
async def epoch(request: Request, epoch_id: str) -> Response:
    services = services_of(request)
    request.state.epoch = epoch_id
    call = assignments.epoch_call(services.settings, epoch_id)
    await services.authenticator.identify(request, b"", call)
    return _assignment(await services.epochs.begun(epoch_id))


@forked.post("/zipcode-assignments/status")
async def status(request: Request) -> Response:
    services = services_of(request)
    raw = await read_body(request)
    named = request.state.epoch = _text(raw, "epochId") or _text(raw, "epoch_id")
    fields = signing_fields(request, raw) or {}
    texts = (f"zipcode:status:{named}", f"miner:status:{fields.get('hotkey')}:{named}")
    call = Call("status", services.settings.limit_status, texts)
    caller = await services.authenticator.identify(request, raw, call)
    body = validated(FieldStatusBody, raw)
    done = body.zipcodes_completed
    kept = await assignments.keep_status(
        services,
        caller,
        StatusBody(
            epoch_id=body.epoch_id,
            miner_hotkey=caller.hotkey,
            nonce=body.nonce,
            status=body.status,
            listings_found=body.listings_scraped or 0,
            zipcodes_completed=len(done) if isinstance(done, list) else done,
            s3_upload_complete=body.s3_upload_complete,
        ),
    )
    return _json(
        {
            "success": True,
            "message": "The status is kept.",
            "epochId": kept.epoch_id,
            "status": kept.status.upper(),
            "timestamp": format_time(services.outside.clock.now()),
        }
    )


@forked.post("/s3-access/validator-upload")
async def validator_upload(request: Request) -> Response:
    services = services_of(request)
    raw = await read_body(request)
    request.state.epoch = _text(raw, "epochId") or _text(raw, "epoch_id")
    call = access.validator_upload_call(services.settings)
    caller = await services.authenticator.identify(request, raw, call)
    body = validated(FieldUploadBody, raw)
    stored = await services.epochs.begun(body.epoch_id)
    purpose = "evidence" if body.purpose == "evidence" else "results"
    answer = await access.validator_policy(request, stored, caller, purpose)
    return _json({**_in_camel(answer), "uploadUrl": answer.url})


@forked.post("/s3-access/miner-upload")
async def miner_upload(request: Request) -> Response:
    return await _through(request, access.miner_upload)


@forked.post("/s3-access/validator-read")
async def validator_read(request: Request, bucket: str = "miners") -> Response:
    return await _through(request, lambda asked: access.validator_read(asked, bucket))


@forked.post("/validation-results")
async def announce(request: Request) -> Response:
    return await _through(request, results.announce)


async def _through(
    request: Request, handler: Callable[[Request], Awaitable[BaseModel]]
) -> Response:
    """Any other call in this form: field names translated on the way in and out."""
    body = _in_snake(await read_body(request))

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return _json(_in_camel(await handler(Request(request.scope, receive))))


_NAMES = {
    written: name
    for model in (SignedBody, MinerUploadBody, ValidatorReadBody, AnnounceBody)
    for name in model.model_fields
    for written in (name, to_camel(name))
}


def _in_snake(body: bytes) -> bytes:
    """A body of which nothing is known yet, with the fields that a call may have in snake_case
    and without all others. They are looked up: the time to translate whatever name is sent grows
    with the square of its length."""
    document = json_object(body)
    if document is None:
        return body
    try:
        return orjson.dumps({_NAMES[n]: value for n, value in document.items() if n in _NAMES})
    except orjson.JSONEncodeError:
        # Nested deeper than anything that is written here; validation says so of it as it is.
        return body


# Their own paths


@router.head("/healthcheck", include_in_schema=False)
@router.get("/healthcheck", responses=answers({"status": "ok", "service": SERVICE}))
async def healthcheck() -> dict[str, str]:
    """The process answers, in the words of the deployed clients."""
    return {"status": "ok", "service": SERVICE}


@router.post(
    "/get-folder-access",
    responses=answers(
        {
            "success": True,
            "folder": f"data/hotkey={EXAMPLE_HOTKEY}/",
            "url": "https://store.example/resi-miner-data",
            "uploadUrl": "https://store.example/resi-miner-data",
            "fields": {"key": f"data/hotkey={EXAMPLE_HOTKEY}/${{filename}}"},
            "expiry": "2024-03-15T20:00:00Z",
            "list_url": "https://store.example/resi-miner-data?list-type=2",
            "epochId": EXAMPLE_EPOCH,
        },
        *POSTED,
        schema={"type": "object", "required": ["success", "url", "fields", "folder"]},
    ),
    openapi_extra=signed(
        FolderBody,
        {**_SIGNED_EXAMPLE, "coldkey": EXAMPLE_HOTKEY, "expiry": EXAMPLE_SECONDS + 86_400},
    ),
)
async def folder_access(request: Request) -> Response:
    """An upload policy for `data/hotkey={hotkey}/`. It expires at the submission deadline or at
    `expiry`, whichever is sooner; asking again in the epoch gives the same one."""
    services = services_of(request)
    raw = await read_body(request)
    texts = (f"s3:data:access:{_text(raw, 'coldkey')}:{_text(raw, 'hotkey')}",)
    request.state.epoch = "current"
    call = Call("folder-access", services.settings.limit_credentials, texts, repeats=True)
    caller = await services.authenticator.identify(request, raw, call)
    body = validated(FolderBody, raw)
    if (body.hotkey, body.coldkey) != (caller.hotkey, caller.coldkey):
        raise Problem(
            403, "coldkey_mismatch", "coldkey is not the one that this hotkey is registered with."
        )
    stored = await services.epochs.current()
    now = services.outside.clock.now()
    expires_at = _folder_expiry(stored.epoch, body.expiry, now)
    issued_at = await services.records.issue(
        stored.epoch_id, "folder", caller.hotkey, now, origin_of(request, caller)
    )
    prefix = data_prefix(caller.hotkey)
    policy = services.outside.miners.upload_policy(
        prefix=prefix,
        expires_at=expires_at,
        max_bytes=MAX_FILE_BYTES,
        metadata=access.policy_metadata(stored),
        now=issued_at,
    )
    return _json(
        {
            "success": True,
            "folder": prefix,
            "url": policy.url,
            "uploadUrl": policy.url,
            "fields": dict(policy.fields),
            "expiry": format_time(expires_at),
            "list_url": _list_url(services, prefix, issued_at, stored.epoch.end),
            "epochId": stored.epoch_id,
        }
    )


@router.post(
    "/get-validator-access",
    responses=answers(
        {
            "success": True,
            "urls": {"global": {"list_all_data": "https://store.example/…"}},
            "expiry": "2024-03-16T00:00:00Z",
            "expiry_seconds": 25_200,
        },
        *POSTED,
        schema={"type": "object", "required": ["success", "urls", "expiry_seconds"]},
    ),
    openapi_extra=signed(SignedBody, _SIGNED_EXAMPLE),
)
async def validator_access(request: Request) -> Response:
    """A presigned list of all that these clients uploaded, for validators."""
    raw = await read_body(request)
    call = _listing_call(services_of(request), "s3:validator:access")
    caller = await services_of(request).authenticator.identify(request, raw, call)
    url, until, now = await _listing(request, caller, DATA_PREFIX)
    return _json(
        {
            "success": True,
            "urls": {"global": {"list_all_data": url}},
            "expiry": format_time(until),
            "expiry_seconds": int((until - now).total_seconds()),
        }
    )


@router.post(
    "/get-miner-specific-access",
    responses=answers(
        {
            "success": True,
            "miner_hotkey": EXAMPLE_HOTKEY,
            "miner_url": "https://store.example/…",
            "prefix": f"data/hotkey={EXAMPLE_HOTKEY}/",
            "expiry": "2024-03-16T00:00:00Z",
            "expiry_seconds": 25_200,
        },
        *POSTED,
        schema={"type": "object", "required": ["success", "miner_url"]},
    ),
    openapi_extra=signed(MinerAccessBody, {**_SIGNED_EXAMPLE, "miner_hotkey": EXAMPLE_HOTKEY}),
)
async def miner_access(request: Request) -> Response:
    """A presigned list of what one miner uploaded, for validators."""
    raw = await read_body(request)
    call = _listing_call(services_of(request), f"s3:validator:miner:{_text(raw, 'miner_hotkey')}")
    caller = await services_of(request).authenticator.identify(request, raw, call)
    miner = validated(MinerAccessBody, raw).miner_hotkey
    url, until, now = await _listing(request, caller, data_prefix(miner))
    return _json(
        {
            "success": True,
            "miner_hotkey": miner,
            "miner_url": url,
            "prefix": data_prefix(miner),
            "expiry": format_time(until),
            "expiry_seconds": int((until - now).total_seconds()),
        }
    )


def stats_fields(stored: StoredEpoch | None, now: datetime) -> dict[str, Any]:
    """What the deployed clients read of the statistics; times left are in seconds. They wait for
    a new ``id`` and take the epoch's nonce from here, so it is public while the epoch runs: it
    opens nothing, as uploads need a policy and statuses a registered hotkey's signature."""
    if stored is None:
        return {"epochStatus": {"currentEpoch": None, "timing": {"timeUntilEpochEnd": 0}}}
    left = max(0, int((stored.epoch.end - now).total_seconds()))
    return {
        "epochStatus": {
            "currentEpoch": {
                "id": stored.epoch_id,
                "status": "ACTIVE",
                "startTime": format_time(stored.epoch.start),
                "endTime": format_time(stored.epoch.end),
                "nonce": stored.nonce,
                "timeUntilEpochEnd": left,
            },
            "timing": {"timeUntilEpochEnd": left},
        }
    }


def data_prefix(hotkey: str) -> str:
    """Where a deployed miner uploads."""
    return f"{DATA_PREFIX}hotkey={hotkey}/"


# How it is done


def _listing_call(services: Services, text: str) -> Call:
    """These clients ask for each miner by itself, so lists have a roomier limit of their own."""
    limit = services.settings.limit_listing
    return Call("listing", limit, (text,), validators_only=True, repeats=True)


async def _listing(
    request: Request, caller: Identity, prefix: str
) -> tuple[str, datetime, datetime]:
    """The presigned list of a prefix, until when it holds, and now. It is the same for a whole
    epoch and ends an epoch after it, as validators' other credentials do."""
    services = services_of(request)
    stored = await services.epochs.current()
    now = services.outside.clock.now()
    issued_at = await services.records.issue(
        stored.epoch_id, "listing", caller.hotkey, now, origin_of(request, caller)
    )
    until = stored.epoch.results_deadline
    return _list_url(services, prefix, issued_at, until), until, now


def _folder_expiry(epoch: Epoch, asked: int | None, now: datetime) -> datetime:
    if asked is None or asked >= epoch.end.timestamp():
        return epoch.end
    if asked <= now.timestamp():
        raise invalid([{"field": "expiry", "message": "it has passed already"}])
    return datetime.fromtimestamp(asked, UTC)


def _text(raw: bytes, name: str) -> str:
    value = (json_object(raw) or {}).get(name)
    return value if isinstance(value, str) else ""


def _json(document: Mapping[str, Any]) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")


def _in_camel(answer: BaseModel) -> dict[str, Any]:
    """An answer's own field names in camelCase; the names within a policy or an object's
    metadata are the store's and stay."""
    return {"success": True, **_renamed(answer.model_dump(mode="json"))}


def _renamed(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        to_camel(name): value if name in ("fields", "metadata") else _renamed_value(value)
        for name, value in document.items()
    }


def _renamed_value(value: Any) -> Any:
    if isinstance(value, dict):
        return _renamed(cast(dict[str, Any], value))
    if isinstance(value, list):
        return [_renamed_value(item) for item in cast(list[Any], value)]
    return value


def _assignment(stored: StoredEpoch) -> Response:
    return Response(
        _assignment_bytes(stored.document),
        headers={"Cache-Control": "private, no-cache"},
        media_type="application/json",
    )


_ASSIGNMENT = (
    "epoch_id", "epoch_start", "epoch_end", "submission_deadline", "nonce", "target_listings",
    "tolerance_percent",
)  # fmt: skip
_ZIP = ("zipcode", "expected_listings", "state", "city", "county", "market_tier")


@lru_cache(maxsize=16)
def _assignment_bytes(document: bytes) -> bytes:
    """Made once an epoch. It has no signature: that covers the other document's bytes."""
    full: dict[str, Any] = orjson.loads(document)
    answer = {to_camel(name): full[name] for name in _ASSIGNMENT}
    answer["zipcodes"] = [{to_camel(name): z[name] for name in _ZIP} for z in full["zipcodes"]]
    answer["metadata"] = {
        "totalExpectedListings": full["total_expected_listings"],
        "zipcodeCount": len(full["zipcodes"]),
    }
    return orjson.dumps({"success": True, **answer})


def _list_url(services: Services, prefix: str, issued_at: datetime, until: datetime) -> str:
    return presigned_list(
        store_access(services.settings),
        services.settings.miner_bucket,
        prefix,
        now=issued_at,
        expires_in_seconds=max(1, int((until - issued_at).total_seconds())),
    )


def presigned_list(
    access: S3Access, bucket: str, prefix: str, *, now: datetime, expires_in_seconds: int
) -> str:
    """An address that lists the first 1,000 keys under a prefix without any key, as the S3
    documents "Authenticating requests: using query parameters" and "ListObjectsV2" have it."""
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{access.region}/s3/aws4_request"
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{access.access_key}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires_in_seconds),
        "X-Amz-SignedHeaders": "host",
        "list-type": "2",
        "max-keys": str(_MOST_LISTED),
        "prefix": prefix,
    }
    address = urlsplit(access.bucket_url(bucket))
    path = address.path or "/"
    # The names above are already in the order of their bytes, as the signature wants them.
    asked = "&".join(f"{name}={quote(text, safe='-_.~')}" for name, text in query.items())
    lines = ("GET", path, asked, f"host:{address.netloc}", "", "host", "UNSIGNED-PAYLOAD")
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    key = b"AWS4" + access.secret_key.encode()
    for part in (stamp[:8], access.region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, digest))
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    return f"{address.scheme}://{address.netloc}{path}?{asked}&X-Amz-Signature={signature}"
