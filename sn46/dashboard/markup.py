"""HTML out of values: every text is escaped where it becomes a part of a page, and nothing else can
become one. So a page need not know which of its texts others wrote."""

from collections.abc import Iterable
from html import escape
from typing import Final, TypeAlias


class Html(str):
    """Text that is HTML already. Made by ``h`` and ``join`` alone."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[Child] | None"
"""What may stand in an element: a text, a number, nothing, elements, or several of these."""

_EMPTY: Final = frozenset({"br", "input", "link", "meta"})
_DRAWN: Final = frozenset({"circle", "image", "line", "rect"})
"""Those of a picture, which are closed otherwise."""

EMPTY: Final = Html("")


def h(tag: str, /, *children: Child, **attributes: str | int | bool | None) -> Html:
    """An element. Names of attributes are written with ``_`` for ``-``, and with one more at their
    end where Python has the word; one of True stands without a value, one of False or None not at
    all."""
    given = "".join(
        f" {name.rstrip('_').replace('_', '-')}"
        + ("" if value is True else f'="{escape(str(value))}"')
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    if tag in _DRAWN:
        return Html(f"<{tag}{given}/>")
    if tag in _EMPTY:
        return Html(f"<{tag}{given}>")
    return Html(f"<{tag}{given}>{join(children)}</{tag}>")


def join(child: Child) -> Html:
    """What may stand in an element, as HTML."""
    if child is None:
        return EMPTY
    if isinstance(child, Html):
        return child
    if isinstance(child, (str, int)):
        return Html(escape(str(child)))
    return Html("".join(map(join, child)))
