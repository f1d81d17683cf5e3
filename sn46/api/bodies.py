"""Request bodies: read within a limit, and validated only once the caller is known."""

from typing import Any, TypeVar, cast

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from sn46.api.problems import Problem

MAX_BODY_BYTES = 64 * 1024

_Model = TypeVar("_Model", bound=BaseModel)


async def read_body(request: Request) -> bytes:
    """The raw body.

    Raises:
        Problem: 413 beyond 64 KiB, 400 where it ends before its end.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise Problem(
                    413, "body_too_large", f"A request body has at most {MAX_BODY_BYTES} bytes."
                )
    except ClientDisconnect:
        raise Problem(
            400, "body_incomplete", "The body ended before its end. Send the request again."
        ) from None
    return bytes(body)


def text_field(body: bytes, name: str) -> str | None:
    """A text field of an unverified JSON body: the header way signs over it. None where there is
    none."""
    value = (json_object(body) or {}).get(name)
    return value if isinstance(value, str) else None


def json_object(body: bytes) -> dict[str, Any] | None:
    """An unverified JSON object; None where the body is none."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return cast(dict[str, Any], document) if isinstance(document, dict) else None


def validated(model: type[_Model], body: bytes) -> _Model:
    """The body as a model.

    Raises:
        Problem: 422 with every field that is wrong.
    """
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise invalid(
            [
                {"field": ".".join(map(str, item["loc"])) or "body", "message": item["msg"]}
                for item in error.errors(include_url=False, include_input=False)
            ]
        ) from None


def invalid(errors: list[dict[str, Any]]) -> Problem:
    """422 for fields that are wrong; the first one is in the detail."""
    first = errors[0]
    return Problem(
        422,
        "invalid_request",
        f"{first['field']}: {first['message']}. Correct it and send the request again.",
        errors=errors,
    )
