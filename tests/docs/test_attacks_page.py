"""docs/attacks.md names tests; each must exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "attacks.md").read_text()
NAMED = sorted(set(re.findall(r"`(test_\w+)`", PAGE)))


@pytest.fixture(scope="module")
def written() -> set[str]:
    sources = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for source in sources for name in re.findall(r"def (test_\w+)\(", source)}


@pytest.mark.parametrize("name", NAMED)
def test_a_named_test_is_there(name: str, written: set[str]) -> None:
    assert name in written


def test_a_row_without_a_test_says_why() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")][1:]
    bare = [row for row in rows if "`test_" not in row]
    assert len(rows) > 30
    assert all("open" in row or "no admin key" in row for row in bare)
