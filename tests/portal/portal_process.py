"""The real portal in a process of its own, for tests."""

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

CALM = ("--p429", "0", "--p403", "0", "--slow", "0", "--rate", "1000000", "--burst", "1000000")
"""Options of a portal without misfortune or limit."""


@contextmanager
def portal(*options: str) -> Generator[str]:
    """A running portal on a free port; gives its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sn46.localnet.portal", *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("portal ready on "), line
        yield line.split()[-1]
    finally:
        process.terminate()
        assert process.wait(20) == 0
        process.stdout.close()
