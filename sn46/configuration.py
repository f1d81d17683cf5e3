"""Reading an actor's settings, so that whatever is wrong is one sentence a setting."""

import difflib
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_settings import BaseSettings

S = TypeVar("S", bound=BaseSettings)

_NEARLY: Final = 0.85
_LETTERS: Final = 2
"""A letter or two away; no two settings of different actors are so near to each other."""


class SettingsError(Exception):
    """Settings that a service cannot run with; ``lines`` has one sentence for each."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def read_settings(kind: type[S], **overrides: Any) -> S:
    """Read settings from the environment and ``.env``; ``overrides`` win over both.

    Raises:
        SettingsError: with one line for each setting that is missing or wrong.
    """
    try:
        return kind(**overrides)
    except ValidationError as error:
        lines = [_sentence(dict(item)) for item in error.errors()]
        raise SettingsError([*lines, *misspelt(kind)]) from None


def misspelt(kind: type[BaseSettings]) -> list[str]:
    """A sentence for each name in ``.env`` that is no setting and nearly one. It is not used, and
    the setting that was meant has its default. Names of other actors' settings may stand there."""
    known = [name.upper() for name in kind.model_fields]
    lines: list[str] = []
    for name in dotenv_values(".env"):
        near = [one for one in known if abs(len(one) - len(name)) <= _LETTERS]
        meant = difflib.get_close_matches(name.upper(), near, 1, _NEARLY)
        if meant and name.upper() not in known:
            lines.append(f"{name} in .env is no setting. Did you mean {meant[0]}?")
    return lines


def _sentence(item: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in item["loc"]).upper()
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "missing":
        message = "is not set; it has no default"
    return f"{name}: {message}" if name else message
