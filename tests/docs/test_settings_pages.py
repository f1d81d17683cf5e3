"""The owner's page has every setting of the API with its default."""

import re
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from sn46.api.settings import ApiSettings

PAGE = (Path(__file__).parents[2] / "docs" / "subnet-owner.md").read_text()
ROW = re.compile(r"^\| (`[A-Z0-9_`, ]+`) \| .* \| (.+) \|$", re.MULTILINE)
NAME = re.compile(r"`([A-Z0-9_]+)`")


def told() -> dict[str, str]:
    """Each setting of the table of all settings, and its default as it is told."""
    found: dict[str, str] = {}
    for names, values in ROW.findall(PAGE.partition("## All settings")[2]):
        one = NAME.findall(names)
        shown = values.split(", ") if len(one) > 1 else [values.partition(", ")[0]]
        assert len(shown) == len(one), names
        found |= zip(one, shown, strict=True)
    return found


def test_the_table_has_every_setting_and_no_other() -> None:
    assert sorted(told()) == sorted(name.upper() for name in ApiSettings.model_fields)


@pytest.mark.parametrize("name", sorted(ApiSettings.model_fields))
def test_a_default_is_the_programs(name: str) -> None:
    default = ApiSettings.model_fields[name].default
    if default in (None, (), PydanticUndefined):
        expected = "none"
    elif isinstance(default, tuple):
        expected = ",".join(map(str, default))
    else:
        expected = f"{default:g}" if isinstance(default, float) else str(default)
    assert told()[name.upper()] == expected
