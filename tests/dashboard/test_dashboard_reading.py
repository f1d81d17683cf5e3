"""What others write is refused or made harmless: reports, texts, numbers, and markup."""

import contextlib
import json
from html.parser import HTMLParser
from typing import Any

import pytest
from dashnet import entry, report_of
from hypothesis import given
from hypothesis import strategies as st
from mechanism.builders import hotkey

from sn46.dashboard import reading
from sn46.dashboard.markup import Html, h, join
from sn46.dashboard.reading import MOST_DETAIL, MOST_MINERS, MOST_REASONS, MOST_TEXT, Unreadable
from sn46.mechanism.names import EpochId, Hotkey

ID = EpochId("2026-03-15-16:00")
VALI = hotkey("vali")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


def read(miners: dict[str, Any], /, **changes: Any) -> reading.PublishedEpoch:
    made = report_of(VALI, ID, "a" * 64, miners)
    body = json.dumps({**made, **changes}).encode()
    return reading.report(body, VALI, ID, made["consensus_hash"])


# Reports -----------------------------------------------------------------------------------------


@given(JSON, st.sampled_from(list(entry())))
def test_whatever_stands_in_a_report_is_read_or_refused(value: Any, field: str) -> None:
    if field in ("rank", "weight", "final"):
        return  # these are hashed, or say who won
    try:
        found = read({VALI: entry(**{field: value})})
    except Unreadable:
        return
    row = found.miners[VALI]
    assert all(n is None or 0 <= n <= 10**12 for n in (row.speed, row.volume, row.rows))
    assert len(row.reasons) <= MOST_REASONS


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_report_is_refused(body: bytes) -> None:
    with pytest.raises(Unreadable):
        reading.report(body, VALI, ID, "a" * 64)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epoch_id": "2026-03-15-20:00"}, "another epoch or validator"),
        ({"validator_hotkey": "5F"}, "another epoch or validator"),
        ({"weights": {"x": 1}}, "do not give the announced consensus_hash"),
        ({"miners": []}, "cannot be read"),
    ],
)
def test_a_report_that_does_not_hold_together(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        read({VALI: entry()}, **changes)


def test_a_report_cannot_fill_the_memory() -> None:
    reasons = [{"code": "c" * 99, "count": 1, "detail": "x" * 400}] * 20
    miners = {hotkey(f"miner {n}"): entry(rank=None, reasons=reasons) for n in range(300)}
    found = read(miners)
    texts = [r.detail for row in found.miners.values() for r in row.reasons]
    assert max(map(len, texts)) == MOST_DETAIL
    assert sum(map(len, texts)) <= MOST_TEXT
    assert all(len(row.reasons) == MOST_REASONS for row in found.miners.values())
    crowd = {f"{n}": entry(rank=None, weight=0) for n in range(MOST_MINERS + 1)}
    with pytest.raises(Unreadable, match="more than"):
        read(crowd)


def test_who_is_no_hotkey_is_not_there() -> None:
    found = read({VALI: entry(), "<script>alert(1)</script>": entry(rank=None)})
    assert set(found.miners) == {VALI}
    assert set(found.weights) == {VALI}


# Texts -------------------------------------------------------------------------------------------


@given(st.text(), st.integers(1, 80))
def test_a_text_is_one_line_of_a_bounded_length(text: str, most: int) -> None:
    line = reading.clean(text, most)
    assert len(line) <= most
    assert line.isprintable()
    assert "\n" not in line


def test_marks_that_turn_the_direction_of_a_line_are_gone() -> None:
    assert reading.clean("paid\u202e000,1 \u2066now\x00\x1b[31m") == "paid 000,1 now [31m"


class Texts(HTMLParser):
    """What a browser takes for text, for tags and for values of attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.tags, self.values = "", [], []
        self.feed(html)
        self.close()

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value for _, value in attrs]


HOSTILE = st.text(st.characters(exclude_categories=["Cs", "Cc"])) | st.sampled_from(
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'><b>", "&lt;", "</td><td>"]
)


@given(HOSTILE, HOSTILE)
def test_no_text_becomes_markup(text: str, value: str) -> None:
    found = Texts(h("p", text, [text, None], title=value))
    assert found.tags == ["p"]
    assert found.text == text * 2
    assert found.values == [value]


def test_elements_are_nested_and_never_escaped_twice() -> None:
    inner = h("b", "a & b")
    assert join([inner, "<", 3, None, (inner,)]) == "<b>a &amp; b</b>&lt;3<b>a &amp; b</b>"
    assert h("a", class_="x", aria_current=None, data_age=True, hidden=False) == (
        '<a class="x" data-age></a>'
    )
    assert h("input", name="q") == '<input name="q">'
    # What was made of both is text again, and escaped.
    assert isinstance(inner, Html)
    assert h("p", inner + "<i>") == "<p>&lt;b&gt;a &amp;amp; b&lt;/b&gt;&lt;i&gt;</p>"


@given(JSON)
def test_any_answer_of_the_api_is_read_or_refused(answer: Any) -> None:
    body = json.dumps(answer).encode()
    for parse in (
        reading.stats,
        reading.epochs,
        reading.results,
        reading.leaders,
        reading.ready_parts,
        lambda a: reading.draw(a, None),
        lambda a: reading.draws(a, None),
    ):
        with contextlib.suppress(Unreadable):
            reading.read(parse, body)


def test_a_table_must_be_the_one_of_its_version() -> None:
    with pytest.raises(Unreadable, match="not the one"):
        reading.table_age(b"[]", "a" * 64)


def test_a_hotkey_of_the_apis_must_be_one() -> None:
    body = json.dumps({"epochs": 1, "miners": [
        {"hotkey": "<b>", "first": 1, "second": 0, "third": 0}
    ]}).encode()  # fmt: skip
    with pytest.raises(Unreadable, match="a hotkey is none"):
        reading.read(reading.leaders, body)
    assert Hotkey(VALI)
