"""Reading an actor's settings, so that whatever is wrong is one sentence a setting."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

S = TypeVar("S", bound=BaseSettings)


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
        raise SettingsError([_sentence(dict(item)) for item in error.errors()]) from None


def _sentence(item: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in item["loc"]).upper()
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "missing":
        message = "is not set; it has no default"
    return f"{name}: {message}" if name else message
