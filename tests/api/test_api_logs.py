"""What a mistake of this program writes to the log: where it happened, and no value of it."""

import subprocess
import sys

import pytest

PROGRAM = """
import structlog
from sn46.logs import configure_logs

def draw(seed):
    raise TypeError("a mistake")

configure_logs({form!r}, "info")
try:
    draw("5eed" * 16)
except TypeError as error:
    structlog.get_logger().error("request_failed", exc_info=error)
"""


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_shows_no_local_variable(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(form=form)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "request_failed" in done.stderr
    assert "TypeError: a mistake" in done.stderr
    # The one place where the seed stands is the line of code that the traceback quotes: none here.
    assert "5eed5eed" not in done.stderr
    assert len(done.stderr) < 2_000
