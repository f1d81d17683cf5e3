"""docs/attacks.md names tests; each must exist, and every attack that is played must be named."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "attacks.md").read_text()
NAMED = sorted(set(re.findall(r"`(test_\w+)`", PAGE)))
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ")][1:]
ATTACKS = ROOT / "tests" / "attacks"


@pytest.fixture(scope="module")
def written() -> set[str]:
    sources = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for source in sources for name in re.findall(r"def (test_\w+)\(", source)}


@pytest.mark.parametrize("name", NAMED)
def test_a_named_test_is_there(name: str, written: set[str]) -> None:
    assert name in written


def test_a_row_without_a_test_says_why() -> None:
    bare = [row for row in ROWS if "`test_" not in row]
    assert len(ROWS) > 30
    assert all("open" in row for row in bare)


@pytest.mark.parametrize("file", ["test_attacks_on_uploads.py", "test_attacks_on_checks.py"])
def test_every_attack_that_is_played_is_named_with_its_words(file: str) -> None:
    tree = ast.parse((ATTACKS / file).read_text())
    played = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert played
    for test in played:
        assert ast.get_docstring(test), test.name
        assert test.name in NAMED, test.name
