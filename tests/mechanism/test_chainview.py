"""chain.json of an export, which comes from strangers (mechanism 13)."""

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn46.mechanism.chainview import ChainView
from sn46.mechanism.errors import ExportError
from sn46.mechanism.times import format_time, parse_time

from .builders import EPOCH, chain_view, hotkey
from .test_assignment import OTHER_VALUES, parent, paths

DOCUMENT = chain_view({hotkey("m"): "cold"}, {hotkey("v"): 7}).to_json()
PATHS = paths(DOCUMENT)


@pytest.mark.parametrize("path", PATHS, ids=lambda p: ".".join(map(str, p)))
def test_nothing_may_be_missing(path: tuple[Any, ...]) -> None:
    document = copy.deepcopy(DOCUMENT)
    del parent(document, path)[path[-1]]
    if isinstance(path[-1], int):  # a neuron less is another chain, not a malformed one
        assert len(ChainView.from_json(document).neurons) == len(DOCUMENT["neurons"]) - 1
        return
    with pytest.raises(ExportError, match=r"chain\.json"):
        ChainView.from_json(document)


@given(st.sampled_from(PATHS), OTHER_VALUES)
def test_anything_else_is_read_or_refused_in_words(path: tuple[Any, ...], value: Any) -> None:
    document = copy.deepcopy(DOCUMENT)
    parent(document, path)[path[-1]] = value
    try:
        view = ChainView.from_json(document)
    except ExportError:
        return
    assert ChainView.from_json(view.to_json()) == view


@pytest.mark.parametrize("permit", ["false", 0, 1, None, []])
def test_a_permit_is_true_or_false(permit: Any) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["neurons"][1]["validator_permit"] = permit
    with pytest.raises(ExportError):
        ChainView.from_json(document)


def test_a_number_without_end_is_no_number() -> None:
    with pytest.raises(ExportError):
        ChainView.from_json({**DOCUMENT, "netuid": json.loads("Infinity")})


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_survive_their_text(moment: datetime) -> None:
    assert parse_time(format_time(moment)) == moment
    assert format_time(moment).endswith("Z")


@pytest.mark.parametrize(
    "text", [None, 5, "", "yesterday", "2024-03-15T16:00:00", "0001-01-01T00:00:00+23:59"]
)
def test_what_is_no_time(text: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


def test_a_time_without_a_zone_is_not_written() -> None:
    with pytest.raises(ValueError, match="zone"):
        format_time(EPOCH.start.replace(tzinfo=None))
