"""Reading JSON answers: whatever is not as known is ``SourceChanged``, and names its place."""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, Never, TypeVar, cast

from pydantic import BaseModel, ValidationError

from sn46.sources.base import SourceChanged

_M = TypeVar("_M", bound=BaseModel)
_T = TypeVar("_T")
_HALF: Final = re.compile(rb"\\u[dD][89a-fA-F]")
"""Perhaps one half of a sign that JSON writes as two. Without the other half it is no text: no
file, and no database, takes it."""


def dig(data: Any, *path: str) -> Any:
    """What stands under a path of names; None where the path ends early."""
    for name in path:
        data = cast(dict[str, Any], data).get(name) if isinstance(data, dict) else None
    return data


def loads(body: bytes) -> Any:
    """JSON (RFC 8259: in UTF-8, without NaN and infinities). A ``?`` stands for half a sign.

    Raises:
        SourceChanged: where it is none, such as where it was cut off.
    """
    try:
        value = json.loads(body.decode("utf-8-sig"), parse_constant=_refuse)
        if _HALF.search(body):
            whole = json.dumps(value, ensure_ascii=False).encode(errors="replace")
            return json.loads(whole)
        return value
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


def read_each(entries: Iterable[Any], read: Callable[[Any], _T]) -> list[_T]:
    """What ``read`` makes of each entry. Those of another form are left out: one odd home is not to
    cost a search the others.

    Raises:
        SourceChanged: the first one's, where most are of another form: that is the source's.
    """
    good: list[_T] = []
    odd: list[SourceChanged] = []
    for number, entry in enumerate(entries):
        try:
            good.append(read(entry))
        except SourceChanged as error:
            odd.append(SourceChanged(f"{error} (entry {number})"))
    if len(odd) > len(good):
        raise odd[0]
    return good


def _refuse(constant: str) -> Never:
    raise ValueError(constant)
