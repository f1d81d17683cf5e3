"""Reading JSON answers: whatever is not as known is ``SourceChanged``, and names its place."""

import json
from typing import Any, Never, TypeVar, cast

from pydantic import BaseModel, ValidationError

from sn46.sources.base import SourceChanged

_M = TypeVar("_M", bound=BaseModel)


def dig(data: Any, *path: str) -> Any:
    """What stands under a path of names; None where the path ends early."""
    for name in path:
        data = cast(dict[str, Any], data).get(name) if isinstance(data, dict) else None
    return data


def loads(body: bytes) -> Any:
    """JSON (RFC 8259: without NaN and infinities).

    Raises:
        SourceChanged: where it is none, such as where it was cut off.
    """
    try:
        return json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise SourceChanged(f"The source's answer is no JSON: {type(error).__name__}.") from error


def checked(model: type[_M], data: Any) -> _M:
    """Data as a model.

    Raises:
        SourceChanged: where it has another form.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise SourceChanged(
            f"The source's answer has another form: {place}: {first['msg']}."
        ) from error


def _refuse(constant: str) -> Never:
    raise ValueError(constant)
