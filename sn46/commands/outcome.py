"""How a command ends: with what exit code, and what it says where it could not."""

import asyncio
import sys
from collections.abc import AsyncIterable, Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from sn46.finding import Finding

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

EXIT_FAILED: Final = 1
"""It could not be done."""

EXIT_USAGE: Final = 2
"""It was asked for wrongly."""


P = ParamSpec("P")
Settings = TypeVar("Settings", bound="BaseSettings")
Errors = tuple[type[Exception], ...]


class AskedWrongly(Exception):
    """A command was asked for wrongly; the text says how to ask."""


def _none() -> Errors:
    return ()


def saying(
    name: str, *, wrongly: Callable[[], Errors] = _none, failed: Callable[[], Errors] = _none
) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Turn what goes wrong in a command into one line a problem and an exit code.

    Args:
        name: what stands behind ``sn46`` on the command line.
        wrongly: errors of how it was asked, beside ``AskedWrongly`` and wrong settings.
        failed: errors of what it does, beside ``OSError``. Both are asked only when something
            goes wrong, so that their modules need not be loaded before.
    """

    def wrapped(command: Callable[P, int]) -> Callable[P, int]:
        @wraps(command)
        def run(*args: P.args, **kwargs: P.kwargs) -> int:
            from sn46.configuration import SettingsError

            try:
                return command(*args, **kwargs)
            except SettingsError as error:
                return fail_all(name, error.lines)
            except (AskedWrongly, *wrongly()) as error:
                return fail(name, _line(error), EXIT_USAGE)
            except (*failed(), OSError) as error:
                return fail(name, _line(error))

        return run

    return wrapped


def _line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'The system'}: {error.strerror}."
    return " ".join(str(error).split())


def fail(command: str, text: str, code: int = EXIT_FAILED) -> int:
    """Say on standard error what went wrong, in the name of ``sn46 {command}``; the exit code."""
    print(f"sn46{f' {command}' if command else ''}: {text}", file=sys.stderr)
    return code


def fail_all(command: str, lines: Iterable[str]) -> int:
    """Say what is wrong with each setting; the exit code."""
    for line in lines:
        fail(command, line)
    return EXIT_USAGE


async def tell(findings: AsyncIterable[Finding]) -> int:
    """Print each as it is found; the exit code is ``EXIT_FAILED`` where one is not well."""
    code = 0
    async for finding in findings:
        print(finding, flush=True)
        if not finding.ok:
            code = EXIT_FAILED
    return code


def told_by_doctor(
    read: Callable[[], Settings], look: Callable[[Settings], AsyncIterable[Finding]]
) -> int:
    """Tell whether the settings can be read, then all that is found with them; the exit code."""
    from sn46.configuration import SettingsError, misspelt

    try:
        settings = read()
    except SettingsError as error:
        for line in error.lines:
            print(Finding("settings", False, line))
        return EXIT_FAILED
    wrong = misspelt(type(settings))
    for line in wrong:
        print(Finding("settings", False, line), flush=True)
    if not wrong:
        print(Finding("settings", True, "all can be read"), flush=True)
    return max(EXIT_FAILED if wrong else 0, asyncio.run(tell(look(settings))))
