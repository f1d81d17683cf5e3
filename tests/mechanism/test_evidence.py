"""Evidence: what counts of it, and what all of it together says (mechanism 8)."""

import itertools
import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.evidence import (
    MAX_DETAIL_CHARACTERS,
    Evidence,
    Merged,
    checks_key,
    merge_row,
    read_evidence,
    voices_by_row,
)
from sn46.mechanism.names import Hotkey
from sn46.mechanism.quick import Upload
from sn46.mechanism.sampling import SampledRow
from sn46.mechanism.signing import sign_document
from sn46.mechanism.verdicts import Verdict

from .builders import EPOCH, chain_view, check, evidence_uploads, hotkey, key, new_assignment

ASSIGNMENT = new_assignment(validators=[hotkey("v")])
VIEW = chain_view({hotkey("m"): "cold"}, {hotkey("v"): 100})
CHECKS = (
    check("m", "p:1"),
    check("m", "p:2", Verdict.CONTRADICTED, "bedrooms: the row says 3, the source 4."),
    check("m", "p:3", Verdict.INCONCLUSIVE, "The source answered 403."),
)
SECOND = timedelta(seconds=1)


def read(document: Upload | None, body: Upload | None, who: str = "v") -> Evidence:
    return read_evidence(ASSIGNMENT, VIEW, hotkey(who), document, body)


def test_evidence_is_read_as_it_was_written() -> None:
    found = read(*evidence_uploads(key("v"), CHECKS))
    assert found == Evidence(hotkey("v"), CHECKS, None)
    assert read(*evidence_uploads(key("v"), ())).checks == ()


def test_at_the_evidence_deadline_is_in_time_and_after_it_is_not() -> None:
    deadline = EPOCH.evidence_deadline
    assert read(*evidence_uploads(key("v"), CHECKS, at=deadline)).ignored is None
    document, body = evidence_uploads(key("v"), CHECKS, at=deadline)
    late = deadline + timedelta(microseconds=1)
    for uploads in (
        (replace(document, info=replace(document.info, last_modified=late)), body),
        (document, replace(body, info=replace(body.info, last_modified=late))),
    ):
        found = read(*uploads)
        assert found.checks == ()
        assert "deadline" in (found.ignored or "")


def test_without_a_permit_nothing_counts() -> None:
    uploads = evidence_uploads(key("m"), CHECKS)
    assert "permit" in (read(*uploads, who="m").ignored or "")
    uploads = evidence_uploads(key("stranger"), CHECKS)
    assert "permit" in (read(*uploads, who="stranger").ignored or "")


def test_half_of_it_is_nothing() -> None:
    document, body = evidence_uploads(key("v"), CHECKS)
    for uploads in ((None, body), (document, None), (None, None)):
        assert "missing" in (read(*uploads).ignored or "")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epoch_id": EPOCH.next().id}, "epoch_id"),
        ({"validator_hotkey": hotkey("m")}, "validator_hotkey"),
        ({"key": checks_key(hotkey("m"), EPOCH.id)}, "key"),
        ({"sha256": "0" * 64}, "sha256"),
        ({"rows": 2}, "rows"),
        ({"rows": "3"}, "rows"),
    ],
)
def test_a_document_that_does_not_fit(change: dict[str, Any], says: str) -> None:
    document, body = evidence_uploads(key("v"), CHECKS)
    fields = json.loads(document.body) | change
    assert "signature" in (read(replace(document, body=json.dumps(fields).encode()), body).ignored
                           or "")  # fmt: skip
    signed = json.dumps(sign_document(fields, key("v"))).encode()
    found = read(replace(document, body=signed), body)
    assert found.checks == ()
    assert says in (found.ignored or "")


def with_frame(frame: pl.DataFrame, tmp_path: Any) -> Evidence:
    """Evidence over any frame, honestly signed."""
    frame.write_parquet(tmp_path / "f", compression="snappy")
    body = (tmp_path / "f").read_bytes()
    document, upload = evidence_uploads(key("v"), ())
    fields = json.loads(document.body) | {"rows": frame.height, "sha256": sha256_hex(body)}
    signed = json.dumps(sign_document(fields, key("v"))).encode()
    return read(replace(document, body=signed), replace(upload, body=body))


def frame_of(*checked_at: int, **changes: Any) -> pl.DataFrame:
    row = {"miner_hotkey": "m", "listing_id": "p:1", "verdict": "CONFIRMED", "source": "s",
           "detail": ""} | changes  # fmt: skip
    frame = pl.DataFrame([row] * len(checked_at), schema=dict.fromkeys(row, pl.String))
    moments = pl.Series("checked_at", checked_at, pl.Int64).cast(pl.Datetime("us", "UTC"))
    return frame.with_columns(moments, shown=pl.lit(8, pl.Int64))


def test_a_time_that_no_calendar_has_is_dropped(tmp_path: Any) -> None:
    """Such a time ended the process when it became a Python datetime."""
    found = with_frame(frame_of(2**63 - 1, -(2**63), 10**15), tmp_path)
    assert found.ignored is None
    assert [c.checked_at for c in found.checks] == [datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)]


def test_verdicts_that_are_none_and_rows_with_gaps_are_dropped(tmp_path: Any) -> None:
    for frame in (
        frame_of(10**15, verdict="GUESSED"),
        frame_of(10**15, verdict=None),
        frame_of(10**15, listing_id=None),
        frame_of(10**15, detail=None),
        frame_of(10**15).with_columns(shown=pl.lit(None, pl.Int64)),
    ):
        found = with_frame(frame, tmp_path)
        assert (found.ignored, found.checks) == (None, ())


def test_long_details_are_cut(tmp_path: Any) -> None:
    found = with_frame(frame_of(10**15, detail="é" * 5_000), tmp_path)
    assert found.checks[0].detail == "é" * MAX_DETAIL_CHARACTERS


def test_another_schema_is_ignored_in_words(tmp_path: Any) -> None:
    found = with_frame(frame_of(10**15).drop("detail"), tmp_path)
    assert "detail" in (found.ignored or "")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200), st.booleans())
def test_evidence_of_any_bytes_never_raises(one: bytes, other: bytes, honest: bool) -> None:
    document, body = evidence_uploads(key("v"), CHECKS)
    found = read(document if honest else replace(document, body=one), replace(body, body=other))
    assert found.checks == ()
    assert found.ignored


# ------------------------------------------------------------------ merging

A, B, C = Hotkey("a"), Hotkey("b"), Hotkey("c")
ROW = SampledRow(Hotkey("m"), "p:1", 0, 0, (A, B, C), 8)
SHORT = {
    "+": Verdict.CONFIRMED,
    "-": Verdict.CONTRADICTED,
    "M": Verdict.MISIDENTIFIED,
    "N": Verdict.NOT_FOUND,
    "?": Verdict.INCONCLUSIVE,
}
EQUAL = {A: 1, B: 1, C: 1}


def merged(
    marks: str,
    stakes: dict[Hotkey, int] | None = None,
    *,
    vouched: bool = False,
    assigned: tuple[Hotkey, ...] = (A, B, C),
) -> str:
    voices = {
        validator: check("m", "p:1", SHORT[mark], mark)
        for validator, mark in zip((A, B, C), marks, strict=False)
        if mark != " "
    }
    row = replace(ROW, validators=assigned)
    return merge_row(row, voices, stakes or EQUAL, vouched=vouched).verdict.value


@pytest.mark.parametrize(
    ("marks", "counts", "shown"),
    [
        ("+++", (3, 8, 8), 8),
        ("+++", (3, 8, 4), 4),
        ("++ ", (3, 8, 0), 8),  # of two the higher: one voice takes nothing away
        ("++-", (3, 5, 8), 5),  # of those with the common verdict
        ("+++", (-5, 99, 0), 0),
        ("++ ", (-5, 99, 0), 8),  # nobody shows more than is filled
        ("---", (2, 2, 7), 2),
        ("MMM", (8, 8, 8), None),
        ("???", (8, 8, 8), None),
        ("", (), None),
    ],
)
def test_shown_fields_are_merged(marks: str, counts: tuple[int, ...], shown: int | None) -> None:
    voices = {
        validator: check("m", "p:1", SHORT[mark], mark, None, count)
        for validator, mark, count in zip((A, B, C), marks, counts, strict=False)
        if mark != " "
    }
    assert merge_row(ROW, voices, EQUAL, vouched=False).shown == shown


@pytest.mark.parametrize(
    ("marks", "verdict"),
    [
        ("", "INCONCLUSIVE"),  # nobody spoke
        ("???", "INCONCLUSIVE"),
        ("+++", "CONFIRMED"),
        ("++-", "CONFIRMED"),
        ("+--", "CONTRADICTED"),
        ("MMM", "FAKE"),
        ("NN+", "FAKE"),
        ("MN+", "FAKE"),  # both are FAKE
        ("M-M", "FAKE"),
        ("--M", "CONTRADICTED"),
        ("+??", "CONFIRMED"),  # a single voice for the miner, and none against
        ("-??", "INCONCLUSIVE"),  # a single voice against it
        ("M??", "INCONCLUSIVE"),
        ("N  ", "INCONCLUSIVE"),
        ("--?", "CONTRADICTED"),
        ("+- ", "INCONCLUSIVE"),  # a tie, and the stakes are equal
        ("+-M", "INCONCLUSIVE"),
    ],
)
def test_what_most_validators_gave(marks: str, verdict: str) -> None:
    assert merged(marks) == verdict


@pytest.mark.parametrize(
    ("marks", "stakes", "verdict"),
    [
        # One against one: more stake behind the miner confirms, one voice against it is not enough.
        ("+- ", {A: 2, B: 1}, "CONFIRMED"),
        ("+- ", {A: 1, B: 2}, "INCONCLUSIVE"),
        ("+M ", {A: 1, B: 10**18}, "INCONCLUSIVE"),
        # One each: whatever its stake, one voice does not acquit against two, and does not punish.
        ("+-M", {A: 10**18, B: 1, C: 1}, "INCONCLUSIVE"),
        ("+-M", {A: 1, B: 1, C: 10**18}, "INCONCLUSIVE"),
        # Two are more than one, whatever the stake.
        ("++M", {A: 0, B: 0, C: 10**18}, "CONFIRMED"),
        ("+MM", {A: 10**18, B: 0, C: 0}, "FAKE"),
    ],
)
def test_ties_go_by_stake(marks: str, stakes: dict[Hotkey, int], verdict: str) -> None:
    assert merged(marks, stakes) == verdict


def test_two_against_two_go_by_stake() -> None:
    validators = tuple(Hotkey(v) for v in "abcd")
    row = replace(ROW, validators=validators)
    voices = {v: check("m", "p:1", SHORT[mark]) for v, mark in zip(validators, "++MM", strict=True)}
    for stakes, verdict in (
        ((5, 5, 4, 5), Merged.CONFIRMED),
        ((5, 5, 9, 2), Merged.FAKE),
        ((5, 5, 5, 5), Merged.INCONCLUSIVE),
    ):
        by_validator = dict(zip(validators, stakes, strict=True))
        assert merge_row(row, voices, by_validator, vouched=False).verdict == verdict


def test_where_only_one_validator_was_assigned_its_voice_counts() -> None:
    assert merged("M", assigned=(A,)) == "FAKE"
    assert merged("-", assigned=(A,)) == "CONTRADICTED"
    assert merged("M", assigned=(A, B)) == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("marks", "verdict"),
    [
        ("NNN", "INCONCLUSIVE"),  # enough others reported it: delisted, not invented
        ("NN+", "CONFIRMED"),
        ("NN-", "INCONCLUSIVE"),  # a single voice is left
        ("MMM", "FAKE"),  # another home under its id is a fake, whoever vouches
        ("MMN", "FAKE"),
    ],
)
def test_not_found_where_others_vouch(marks: str, verdict: str) -> None:
    assert merged(marks, vouched=True) == verdict


MARKS = st.lists(st.sampled_from(" +-MN?"), min_size=3, max_size=3).map("".join)


@given(MARKS, st.lists(st.integers(0, 3), min_size=3, max_size=3), st.booleans())
def test_who_speaks_first_never_matters(marks: str, stakes: list[int], vouched: bool) -> None:
    by_validator = dict(zip((A, B, C), stakes, strict=True))
    voices = {
        v: check("m", "p:1", SHORT[mark], f"{v} says {mark}")
        for v, mark in zip((A, B, C), marks, strict=True)
        if mark != " "
    }
    results = {
        merge_row(ROW, dict(order), by_validator, vouched=vouched)
        for order in itertools.permutations(voices.items())
    }
    assert len(results) == 1
    result = results.pop()
    assert result.voices == len(voices)
    # Neither one voice nor silence ever punishes.
    against = sum(mark in "-MN" for mark in marks)
    if against < 2:
        assert result.verdict not in (Merged.FAKE, Merged.CONTRADICTED)


SAMPLED = [
    SampledRow(Hotkey("m"), "p:1", 0, 0, (A, B), 8),
    SampledRow(Hotkey("m"), "p:2", 1, 0, (B, C), 8),
]


def test_what_does_not_count() -> None:
    evidence = [
        Evidence(
            A,
            (
                check("m", "p:1", Verdict.CONFIRMED),
                check("m", "p:1", Verdict.NOT_FOUND),  # a second check of the row
                check("m", "p:2", Verdict.NOT_FOUND),  # not assigned to a
                check("m", "p:9", Verdict.NOT_FOUND),  # outside the sample
                check("n", "p:1", Verdict.NOT_FOUND),  # of another miner
            ),
            None,
        ),
        Evidence(B, (check("m", "p:2", Verdict.CONFIRMED),), None),
    ]
    voices = voices_by_row(evidence, SAMPLED)
    assert {k: {v: c.verdict for v, c in by.items()} for k, by in voices.items()} == {
        ("m", "p:1"): {A: Verdict.CONFIRMED},
        ("m", "p:2"): {B: Verdict.CONFIRMED},
    }


@given(st.data())
def test_the_order_of_evidence_never_matters(data: st.DataObject) -> None:
    verdicts = st.sampled_from(list(Verdict))
    evidence = [
        Evidence(v, tuple(check("m", i, data.draw(verdicts)) for i in ("p:1", "p:2")), None)
        for v in (A, B, C)
    ]
    shuffled = list(evidence)
    random.Random(data.draw(st.integers())).shuffle(shuffled)
    assert voices_by_row(evidence, SAMPLED) == voices_by_row(shuffled, SAMPLED)
