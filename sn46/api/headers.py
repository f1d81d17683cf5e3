"""A request's headers as one table. The framework's own walks through all of them for each look-up,
and decodes them anew each time that they are listed."""

from collections.abc import Mapping

from starlette.types import Scope

_KEPT = "headers_table"


def headers_of(scope: Scope) -> Mapping[str, str]:
    """The headers of an HTTP request by name in lower case; of several of one name, the first.

    The table is made once and kept in the scope's state.
    """
    state = scope.setdefault("state", {})
    table = state.get(_KEPT)
    if table is None:
        table = state[_KEPT] = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in reversed(scope["headers"])
        }
    return table


def has_tag(scope: Scope, etag: str) -> bool:
    """Whether the caller has what a tag names already: ``If-None-Match`` over all of its lines, by
    the weak comparison (RFC 9110, 13.1.2). A proxy that compresses makes a tag weak."""
    if _IF_NONE_MATCH not in headers_of(scope):
        return False
    lines = [
        value.decode("latin-1")
        for name, value in scope["headers"]
        if name.decode("latin-1").lower() == _IF_NONE_MATCH
    ]
    tags = {tag.strip().removeprefix("W/") for tag in ",".join(lines).split(",")}
    return "*" in tags or etag.removeprefix("W/") in tags


_IF_NONE_MATCH = "if-none-match"
