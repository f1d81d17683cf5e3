"""How a command ends: with what exit code, and what it says where it could not."""

import sys
from collections.abc import AsyncIterable, Iterable
from typing import Final

from sn46.finding import Finding

EXIT_FAILED: Final = 1
"""It could not be done."""

EXIT_USAGE: Final = 2
"""It was asked for wrongly."""


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
