"""docs/mechanism.md names what exists, and the figures that hold."""

import importlib
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from sn46.mechanism.draw import DrawRules
from sn46.mechanism.listings import OPTIONAL, REQUIRED
from sn46.mechanism.reasons import Code
from sn46.mechanism.rules import Rules

PAGE = (Path(__file__).parents[2] / "docs" / "mechanism.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`(sn46(?:\.\w+)+)`", PAGE)))


def resolve(name: str) -> Any:
    """What a dotted name stands for: a module's part, a class's member or a dataclass's field."""
    parts = name.split(".")
    found: Any = importlib.import_module(".".join(parts[:3]))
    for part in parts[3:]:
        if is_dataclass(found) and part in {field.name for field in fields(found)}:
            return part
        found = getattr(found, part)
    return found


def test_the_page_names_functions() -> None:
    assert len(NAMES) > 60


@pytest.mark.parametrize("name", NAMES)
def test_every_name_exists(name: str) -> None:
    assert resolve(name) is not None


def test_the_defaults_are_those_of_the_rules() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", PAGE, re.MULTILINE))
    assert table == {name: str(value) for name, value in Rules().to_json().items()}


@pytest.mark.parametrize("code", list(Code))
def test_every_reason_is_explained(code: Code) -> None:
    assert f"`{code.value}`" in PAGE


@pytest.mark.parametrize("column", REQUIRED + OPTIONAL)
def test_every_column_is_named(column: str) -> None:
    assert f"`{column}`" in PAGE


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("`MIN_ZIPCODE_LISTINGS` (200)", DrawRules().min_zipcode_listings),
        ("`MAX_ZIPCODE_LISTINGS` (3,000)", DrawRules().max_zipcode_listings),
        ("`MAX_DATA_AGE_DAYS` (30)", DrawRules().max_data_age_days),
        ("`COOLDOWN_HOURS` (24)", DrawRules().cooldown_hours),
        ("`TARGET_LISTINGS` (10,000)", DrawRules().target_listings),
        ("`TOLERANCE_PERCENT`), 10 %", DrawRules().tolerance_percent),
        ("`MAX_STATE_SHARE` (25 %)", DrawRules().max_state_share),
        ("`MAX_REGION_SHARE` (50 %)", DrawRules().max_region_share),
    ],
)
def test_the_draws_figures(text: str, value: int) -> None:
    assert text in PAGE
    assert str(value) in text.replace(",", "")
