"""What the OpenAPI document says of every call: its answers with examples, and how to sign it."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI
from pydantic import BaseModel

from sn46.api.commitments import EXAMPLE_HOTKEY
from sn46.api.problems import MEDIA_TYPE
from sn46.mechanism.drawinputs import DrawRules
from sn46.mechanism.selection import draw_rules_json

EXAMPLE_EPOCH = "2024-03-15-16:00"
EXAMPLE_HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

Answers = dict[int | str, dict[str, Any]]

_CODES: dict[int, tuple[str, str, str]] = {
    400: (
        "The body is not whole.",
        "body_incomplete",
        "The body ended before its end. Send the request again.",
    ),
    401: ("Not authenticated.", "bad_signature", "The signature is not this hotkey's."),
    403: (
        "Authenticated, but not allowed.",
        "hotkey_not_registered",
        "This hotkey is not registered on subnet 46. Register it, and wait a minute or two.",
    ),
    404: ("Not there.", "unknown_epoch", "There is no such epoch here, or it has not begun."),
    409: (
        "Not possible as things are.",
        "epoch_not_ended",
        "The epoch ends at 2024-03-15T20:00:00Z.",
    ),
    413: ("The body is too large.", "body_too_large", "A request body has at most 65536 bytes."),
    422: (
        "A field is wrong; `errors` names each.",
        "invalid_request",
        "epoch_id: Field required. Correct it and send the request again.",
    ),
    429: (
        "Too often. `Retry-After` and the `RateLimit-*` headers say when to come back.",
        "too_many_requests",
        "At most 10 such requests are answered per hour. Wait 1800 s.",
    ),
    503: (
        "A part of the server is away, or its view of the chain too old. See `Retry-After`.",
        "chain_view_too_old",
        "This server has not seen the chain lately and does not decide by an old view.",
    ),
}
_ALL_CODES: dict[int, tuple[str, ...]] = {
    400: ("body_incomplete",),
    401: (
        "not_authenticated",
        "bad_signature",
        "stale_timestamp",
        "future_timestamp",
        "wrong_receiver",
        "replayed_request",
    ),
    403: ("hotkey_not_registered", "not_a_validator", "hotkey_mismatch", "coldkey_mismatch"),
    404: ("unknown_epoch", "no_epoch_yet", "unknown_zipcode", "unknown_table", "not_found"),
    409: (
        "epoch_not_ended",
        "epoch_ended",
        "epoch_closed",
        "evidence_open",
        "results_open",
        "upload_closed",
        "nonce_mismatch",
        "status_completed",
        "assignment_mismatch",
        "report_incomplete",
        "report_unreadable",
        "report_mismatch",
        "report_final",
    ),
    413: ("body_too_large",),
    422: ("invalid_request",),
    429: ("too_many_requests",),
    503: (
        "chain_view_too_old",
        "epoch_not_drawn",
        "database_unavailable",
        "store_unavailable",
        "limits_unavailable",
        "table_unavailable",
    ),
}
"""Every code that is answered with a status, over all calls: programs decide by them, so none is
renamed."""
_PROBLEM: dict[str, Any] = {
    "type": "object",
    "title": "Problem (RFC 9457)",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable; meant for programs."},
        "detail": {"type": "string", "description": "Says what to do; meant for people."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
PUBLIC = (429, 503)
"""Refusals of what anyone may read."""
SIGNED = (401, 403, 404, *PUBLIC)
POSTED = (*SIGNED, 400, 409, 413, 422)


def answers(
    example: Any,
    *refusals: int,
    schema: Mapping[str, Any] | None = None,
    not_modified: bool = False,
) -> Answers:
    """A call's answers: 200 with an example (and a schema where no model gives one), and the
    statuses of its refusals."""
    good: dict[str, Any] = {"example": _nulls_marked(example)}
    if schema is not None:
        good["schema"] = dict(schema)
    documented: Answers = {200: {"content": {"application/json": good}}}
    if not_modified:
        documented[304] = {"description": "As `If-None-Match` names it; no body."}
    return documented | {status: refusal(status) for status in sorted(refusals)}


def refusal(status: int) -> dict[str, Any]:
    """One status as a problem document, with an example."""
    what, code, detail = _CODES[status]
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    if status == 422:
        problem["errors"] = [{"field": "epoch_id", "message": "Field required"}]
    code_schema = {**_PROBLEM["properties"]["code"], "enum": list(_ALL_CODES[status])}
    schema = {**_PROBLEM, "properties": {**_PROBLEM["properties"], "code": code_schema}}
    content = {MEDIA_TYPE: {"schema": schema, "example": problem}}
    return {"description": what, "content": content}


_HEADER_SCHEMES = {
    "Bearer signature": "Authorization",
    "X-Hotkey": "X-Hotkey",
    "X-Timestamp": "X-Timestamp",
}
_BTAUTH_SCHEMES = {
    f"X-Bittensor-{name}": f"X-Bittensor-{name}"
    for name in ("Version", "Hotkey", "Nonce", "Signature", "Receiver")
}
_SECURITY: list[dict[str, list[str]]] = [
    {name: [] for name in _HEADER_SCHEMES},
    {name: [] for name in _BTAUTH_SCHEMES},
]


def signed(body: type[BaseModel] | None = None, example: Any = None) -> dict[str, Any]:
    """OpenAPI's words for a signed call, with its JSON body where it has one: the handlers read
    bodies themselves, after the caller is known."""
    extra: dict[str, Any] = {"security": _SECURITY}
    if body is not None:
        content = {"schema": body.model_json_schema(), "example": _nulls_marked(example)}
        extra["requestBody"] = {"required": True, "content": {"application/json": content}}
    return extra


def publish(app: FastAPI) -> None:
    """Add to the application's document how requests are signed, and take out the framework's own
    422, which is never sent: where a call can answer 422, its answers say so."""
    made = app.openapi

    def complete() -> dict[str, Any]:
        document = app.openapi_schema
        if document is None:
            document = app.openapi_schema = _nulls_restored(_completed(made()))
        return document

    app.openapi = complete


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    for methods in document["paths"].values():
        for operation in methods.values():
            unsent = operation["responses"].get("422", {})
            if "application/json" in unsent.get("content", {}):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document.get("components", {}).get("schemas", {}).pop(name, None)
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    for name, header in (_HEADER_SCHEMES | _BTAUTH_SCHEMES).items():
        schemes[name] = {
            "type": "apiKey",
            "in": "header",
            "name": header,
            "description": "See /commitment-formats.",
        }
    return document


_NULL = "null, which the framework would leave out with the field that it stands for"


def _nulls_marked(example: Any) -> Any:
    """An example for the framework, which drops every field that is null, required ones too."""
    return _replaced(example, None, _NULL)


def _nulls_restored(document: dict[str, Any]) -> dict[str, Any]:
    return _replaced(document, _NULL, None)


def _replaced(value: Any, old: Any, new: Any) -> Any:
    if isinstance(value, Mapping):
        items = cast(Mapping[str, Any], value).items()
        return {name: _replaced(item, old, new) for name, item in items}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in cast(list[Any], value)]
    return new if value == old else value


_EPOCH: dict[str, Any] = {
    "epoch_id": EXAMPLE_EPOCH,
    "epoch_start": "2024-03-15T16:00:00Z",
    "epoch_end": "2024-03-15T20:00:00Z",
}
ASSIGNMENT_EXAMPLE: dict[str, Any] = {
    **_EPOCH,
    "submission_deadline": "2024-03-15T20:00:00Z",
    "nonce": EXAMPLE_HASH,
    "target_listings": 10_000,
    "tolerance_percent": 10,
    "rules": {"version": 3, "lookback_days": 1095},
    "validators": [EXAMPLE_HOTKEY],
    "zipcodes": [
        {
            "zipcode": "11211",
            "expected_listings": 1007,
            "state": "NY",
            "city": "Brooklyn",
            "county": "Kings County",
            "market_tier": "premium",
            "latitude": 40.71,
            "longitude": -73.95,
        }
    ],
    "total_expected_listings": 1007,
    "selection": {
        "algorithm": "efraimidis-spirakis",
        "commitment": EXAMPLE_HASH,
        "next_commitment": EXAMPLE_HASH,
        "seed": None,
        "table_version": EXAMPLE_HASH,
        "draw_rules": draw_rules_json(DrawRules()),
        "target_basis": {"mode": "fixed"},
        "relaxed": [],
    },
    "api_hotkey": EXAMPLE_HOTKEY,
    "signature": "ab" * 64,
}
ASSIGNMENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Assignment",
    "required": list(ASSIGNMENT_EXAMPLE),
    "properties": {
        "epoch_id": {"type": "string"},
        "zipcodes": {"type": "array", "minItems": 1, "items": {"type": "object"}},
        "signature": {"type": "string", "pattern": "^[0-9a-f]{128}$"},
    },
}
UPLOAD_EXAMPLE: dict[str, Any] = {
    "epoch_id": EXAMPLE_EPOCH,
    "url": "https://store.example/resi-miner-data",
    "fields": {"key": f"miners/{EXAMPLE_HOTKEY}/epoch={EXAMPLE_EPOCH}/${{filename}}"},
    "prefix": f"miners/{EXAMPLE_HOTKEY}/epoch={EXAMPLE_EPOCH}/",
    "expires_at": "2024-03-15T20:00:00Z",
    "max_bytes": 67_108_864,
}
READ_EXAMPLE: dict[str, Any] = {
    "epoch_id": EXAMPLE_EPOCH,
    "bucket": "miners",
    "objects": [
        {
            "key": f"miners/{EXAMPLE_HOTKEY}/epoch={EXAMPLE_EPOCH}/manifest.json",
            "size": 1234,
            "last_modified": "2024-03-15T17:20:00Z",
            "metadata": {"epoch-id": EXAMPLE_EPOCH, "nonce": EXAMPLE_HASH},
            "url": "https://store.example/resi-miner-data/miners/…",
        }
    ],
    "next_cursor": None,
}
REPORT_EXAMPLE: dict[str, Any] = {
    "epoch_id": EXAMPLE_EPOCH,
    "validator_hotkey": EXAMPLE_HOTKEY,
    "consensus_hash": EXAMPLE_HASH,
    "assignment_hash": EXAMPLE_HASH,
    "top_3": [EXAMPLE_HOTKEY],
    "participants": 40,
    "reached_95": 31,
    "announced_at": "2024-03-15T22:40:00Z",
}
RESULTS_EXAMPLE: dict[str, Any] = {
    "epoch_id": EXAMPLE_EPOCH,
    "agreement": {
        "validators": 1,
        "consensus_hash": EXAMPLE_HASH,
        "consensus_share": 1_000_000,
        "top_3": [EXAMPLE_HOTKEY],
        "top_3_share": 1_000_000,
    },
    "reports": [REPORT_EXAMPLE],
}
