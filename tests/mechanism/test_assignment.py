"""Nonce, commitment and the signed assignment (mechanism 3)."""

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sn46.mechanism.assignment import (
    AssignedZip,
    Assignment,
    assignment_nonce,
    read_assignment,
    seed_commitment,
    selection_seed,
    zipcodes_hash,
)
from sn46.mechanism.canonical import canonical_json, hash_json, hmac_hex, sha256_hex
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.errors import AssignmentError
from sn46.mechanism.names import EpochId, ZipCode
from sn46.mechanism.reported import ReportedEpoch
from sn46.mechanism.rules import MAX_LOOKBACK_DAYS, RULES_VERSION, Rules
from sn46.mechanism.selection import AdaptiveTarget
from sn46.mechanism.signing import sign_document, verify_document, verify_signature

from .builders import (
    EPOCH,
    SECRET,
    assigned_zip,
    chain_view,
    hotkey,
    key,
    new_assignment,
)

ZIPS = (assigned_zip("08701", 350, city="Lakewood", county="Océan"), assigned_zip("15213", 100))
BASIS = AdaptiveTarget(450, 400, 900, (ReportedEpoch(EpochId("2024-03-15-04:00"), 450, 20, 17),))


def with_draw_rules(made: Assignment, **changes: Any) -> Assignment:
    """The assignment as if the owner's settings of the draw had been others."""
    selection = made.selection
    rules = replace(selection.draw_rules, **changes)
    return replace(made, selection=replace(selection, draw_rules=rules))


def served(**options: Any) -> dict[str, Any]:
    """An assignment as it comes over the wire."""
    made = new_assignment(ZIPS, validators=[hotkey("v1"), hotkey("v2")], basis=BASIS, **options)
    return json.loads(json.dumps(made.sign(key("api"))))


def test_canonical_json() -> None:
    value = {"b": [1, 2.5, None, True], "a": "Océan/\n"}
    assert canonical_json(value) == '{"a":"Océan/\\n","b":[1,2.5,null,true]}'.encode()
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            canonical_json([number])


# Computed apart from this code, with the standard library alone, for the secret b"secret".
def test_golden_vectors() -> None:
    seed = selection_seed(b"secret", EpochId("2024-03-15-16:00"))
    assert seed == "e5d68c61418ccaa5bbeb589a5cf958ae747767621ec3b08757fcc2c2ae5054d7"
    assert seed_commitment(seed) == (
        "2ef20f31398163d25db0a7b7ebfd0eda146db892f8e946710d530ad5fc9d780d"
    )
    # SHA-256 of [["08701",350],["15213",100]]
    assert zipcodes_hash(ZIPS) == (
        "67b9cf59a8530d4d0aa443d76bbae5dea8803901df901262f3c3cd91bc38f016"
    )
    # HMAC of 2024-03-15-16:00:1710518400:67b9…f016
    assert assignment_nonce(b"secret", EPOCH, ZIPS) == (
        "543f659432e368703f7dd480fe498db0ba588ca18bc13cfb4b0a26ad445c2c2a"
    )


def test_the_nonce_binds_secret_epoch_and_zips() -> None:
    nonce = assignment_nonce(SECRET, EPOCH, ZIPS)
    assert assignment_nonce(SECRET, EPOCH, ZIPS[::-1]) == nonce  # sorted by ZIP first
    assert assignment_nonce(b"another", EPOCH, ZIPS) != nonce
    assert assignment_nonce(SECRET, EPOCH.next(), ZIPS) != nonce
    assert assignment_nonce(SECRET, EPOCH, ZIPS[:1]) != nonce
    more = (ZIPS[0], assigned_zip("15213", 101))
    assert assignment_nonce(SECRET, EPOCH, more) != nonce


def test_an_assignment_is_read_as_it_was_made() -> None:
    made = new_assignment(ZIPS, validators=[hotkey("v1"), hotkey("v2")], basis=BASIS)
    assert read_assignment(served(), hotkey("api")) == made
    assert read_assignment(served()) == made
    assert served()["total_expected_listings"] == 450  # 350 + 100
    assert served()["submission_deadline"] == "2024-03-15T20:00:00Z"


def test_revealing_the_seed_changes_the_document_and_not_the_hash() -> None:
    before = new_assignment(ZIPS)
    after = before.with_seed(selection_seed(SECRET, EPOCH.id))
    assert after.selection.seed == selection_seed(SECRET, EPOCH.id)
    assert after.hash == before.hash == hash_json(before.to_json())
    assert after.to_json() != before.to_json()
    assert read_assignment(after.sign(key("api"))) == after
    with pytest.raises(AssignmentError, match="commitment"):
        before.with_seed(selection_seed(SECRET, EPOCH.next().id))


@pytest.mark.parametrize(
    "other",
    [
        new_assignment(ZIPS[:1]),
        new_assignment(ZIPS, validators=[hotkey("v1")]),
        new_assignment(ZIPS, rules=Rules(min_volume_percent=11)),
        new_assignment(ZIPS, epoch=EPOCH.next()),
        new_assignment(ZIPS, basis=BASIS),
        with_draw_rules(new_assignment(ZIPS), cooldown_hours=25),
    ],
)
def test_the_hash_tells_assignments_apart(other: Assignment) -> None:
    assert other.hash != new_assignment(ZIPS).hash


def test_only_the_key_that_it_names_signs_an_assignment() -> None:
    with pytest.raises(AssignmentError, match="signed by the hotkey"):
        new_assignment(ZIPS).sign(key("mallory"))


def test_an_assignment_of_another_server_is_not_trusted() -> None:
    with pytest.raises(AssignmentError, match="trusts"):
        read_assignment(served(), hotkey("another api"))


NESTED = orjson.loads(b"[" * 1_020 + b"]" * 1_020)


@pytest.mark.parametrize(
    "named", [None, 5, {}, NESTED, "5" * 1_000_000], ids=lambda n: type(n).__name__
)
def test_what_stands_for_the_apis_hotkey_may_be_anything(named: Any) -> None:
    """It comes from any validator, unsigned, and its refusal goes into logs."""
    with pytest.raises(AssignmentError, match="hotkey") as refusal:
        read_assignment({"api_hotkey": named}, hotkey("api"))
    assert len(str(refusal.value)) < 300


def same_meaning(one: Any, other: Any) -> bool:
    """Equal but for the case of the signature's hex digits."""
    return {**one, "signature": str(one.get("signature")).lower()} == {
        **other,
        "signature": str(other.get("signature")).lower(),
    }


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_byte_can_be_changed(data: st.DataObject) -> None:
    document = served()
    body = bytearray(json.dumps(document, ensure_ascii=False).encode())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255).filter(lambda b: b != body[at]))
    try:
        tampered = json.loads(body)
    except ValueError:
        return
    if isinstance(tampered, dict) and same_meaning(tampered, document):
        return
    with pytest.raises(AssignmentError):
        read_assignment(tampered, hotkey("api"))


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a JSON value."""
    inner: list[tuple[Any, ...]] = [path] if path else []
    if isinstance(value, dict):
        for name, part in value.items():
            inner += paths(part, (*path, name))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            inner += paths(part, (*path, index))
    return inner


def parent(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path[:-1]:
        value = value[step]
    return value


PATHS = paths(served())
OTHER_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.just([]),
    st.just({}),
    st.just([[]]),
    st.just("0001-01-01T00:00:00+23:59"),
)


@pytest.mark.parametrize("path", PATHS, ids=lambda p: ".".join(map(str, p)))
def test_no_field_can_be_taken_away_or_replaced(path: tuple[Any, ...]) -> None:
    taken = served()
    del parent(taken, path)[path[-1]]
    replaced = served()
    parent(replaced, path)[path[-1]] = "something else"
    for document in (taken, replaced):
        with pytest.raises(AssignmentError):
            read_assignment(document, hotkey("api"))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(PATHS), OTHER_VALUES)
def test_a_signed_but_malformed_assignment_is_refused_in_words(
    path: tuple[Any, ...], value: Any
) -> None:
    document = copy.deepcopy(served())
    parent(document, path)[path[-1]] = value
    try:
        signed = sign_document(document, key("api"))
        found = read_assignment(signed)
    except (AssignmentError, UnicodeEncodeError):
        return
    unsigned = {name: part for name, part in signed.items() if name != "signature"}
    assert found.to_json() == unsigned  # nothing was read into it


@pytest.mark.parametrize(
    "zips",
    [
        (),
        (ZIPS[1], ZIPS[0]),  # not sorted
        (ZIPS[0], ZIPS[0]),  # twice the same
        (assigned_zip("15213", 0),),  # nothing to expect: volume would divide by it
    ],
)
def test_zips_that_cannot_be_scored_are_refused(zips: tuple[AssignedZip, ...]) -> None:
    document = new_assignment(ZIPS).to_json()
    document["zipcodes"] = [vars(z) for z in zips]
    document["total_expected_listings"] = sum(z.expected_listings for z in zips)
    with pytest.raises(AssignmentError):
        read_assignment(sign_document(document, key("api")))


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"eligible_states": frozenset({"PA", "NJ"})},
        {"eligible_states": frozenset()},
        {"tier_shares": (0, 100, 0), "tier_tolerance": 0, "cooldown_hours": 0},
    ],
)
def test_the_draws_rules_come_through(rules: dict[str, Any]) -> None:
    made = with_draw_rules(new_assignment(ZIPS), **rules)
    assert read_assignment(json.loads(json.dumps(made.sign(key("api"))))) == made


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eligible_states", ["PA", "NJ"]),  # not sorted
        ("eligible_states", ["PA", "PA"]),
        ("eligible_states", "PA"),
        ("tier_shares", [30, 50, 30]),  # more than the whole
        ("tier_shares", [30, 70]),
        ("cooldown_hours", 24.0),
        ("cooldown_hours", True),
        ("cooldown_hours", -1),
        ("max_data_age_days", 10**30),
        ("min_zipcode_listings", 4_000),  # over the maximum
        ("target_listings", 450),  # stands in the assignment itself
    ],
)
def test_rules_of_a_draw_that_cannot_be(name: str, value: Any) -> None:
    document = new_assignment(ZIPS).to_json()
    document["selection"]["draw_rules"][name] = value
    with pytest.raises(AssignmentError):
        read_assignment(sign_document(document, key("api")))


@pytest.mark.parametrize(
    "basis",
    [
        {"mode": "free"},
        {"mode": "fixed", "previous": 450},
        BASIS.to_json() | {"mode": "fixed"},
        BASIS.to_json() | {"previous": "450"},
        BASIS.to_json() | {"epochs": None},
        BASIS.to_json() | {"epochs": [vars(BASIS.epochs[0]) | {"reached": 21}]},  # of 20
        {**BASIS.to_json(), "epochs": [{**vars(BASIS.epochs[0]), "more": 1}]},
    ],
)
def test_a_basis_of_the_target_that_cannot_be(basis: Any) -> None:
    document = new_assignment(ZIPS, basis=BASIS).to_json()
    document["selection"]["target_basis"] = basis
    with pytest.raises(AssignmentError):
        read_assignment(sign_document(document, key("api")))


@pytest.mark.parametrize("version", [RULES_VERSION + 1, 1.5, "2", None])
def test_rules_of_another_version_ask_for_an_upgrade(version: Any) -> None:
    document = new_assignment(ZIPS).to_json()
    document["rules"]["version"] = version
    with pytest.raises(AssignmentError, match="Upgrade"):
        read_assignment(sign_document(document, key("api")))


def test_rules_of_an_earlier_version_are_not_judged_by_these() -> None:
    document = new_assignment(ZIPS).to_json()
    document["rules"]["version"] = RULES_VERSION - 1
    with pytest.raises(AssignmentError, match="Use the sn46 of its time"):
        read_assignment(sign_document(document, key("api")))


@pytest.mark.parametrize(
    "changes",
    [
        {"lookback_days": 0},
        {"lookback_days": MAX_LOOKBACK_DAYS + 1},
        {"min_volume_percent": 101},
        {"min_volume_percent": -1},
        {"spot_check_percentage": 101},
        {"min_accuracy_percent": 101},
        {"source_result_limit": 0},
        {"spot_check_replicas": 0},
        {"credibility_exponent": 9},
        {"max_winners_per_coldkey": 0},
        {"grace_percent": 101},
        {"deep_validation_top": True},
        {"deep_validation_top": 6.0},
        {"unclaimed": "keep"},
    ],
)
def test_rules_that_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(AssignmentError, match="rules"):
        Rules(**changes)


def test_the_grace_is_a_part_of_the_epoch() -> None:
    epoch = Epoch(datetime(2024, 3, 15, 16, tzinfo=UTC))
    assert Rules().grace_end(epoch) == datetime(2024, 3, 15, 18, tzinfo=UTC)
    assert Rules(grace_percent=0).grace_end(epoch) == epoch.start
    assert Rules(grace_percent=100).grace_end(epoch) == epoch.end
    minute = Epoch(epoch.start, 60)  # 7 % of 60 s
    assert Rules(grace_percent=7).grace_end(minute) - minute.start == timedelta(seconds=4.2)


def test_rules_are_read_whole() -> None:
    rules = Rules(lookback_days=4_000, unclaimed="redistribute")
    assert Rules.from_json(rules.to_json()) == rules
    lacking = {k: v for k, v in rules.to_json().items() if k != "unclaimed"}
    with pytest.raises(AssignmentError, match="lack unclaimed"):
        Rules.from_json(lacking)
    with pytest.raises(AssignmentError, match="no rules"):
        Rules.from_json(None)


def test_the_zip_is_a_text() -> None:
    assert served()["zipcodes"][0]["zipcode"] == "08701"
    assert read_assignment(served()).zipcodes[0].zipcode == ZipCode("08701")


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=5))
def test_a_signature_holds_for_its_document_and_key_only(document: dict[str, Any]) -> None:
    document.pop("signature", None)
    signed = sign_document(document, key("api"))
    assert verify_document(signed, hotkey("api"))
    assert verify_document({**signed, "signature": "0x" + signed["signature"]}, hotkey("api"))
    assert not verify_document(signed, hotkey("mallory"))
    assert not verify_document({**signed, "more": 1}, hotkey("api"))
    assert not verify_document(document, hotkey("api"))


@given(st.binary(max_size=80), st.text(max_size=140), st.text(max_size=60))
def test_a_malformed_signature_is_no_signature(message: bytes, signature: str, who: str) -> None:
    assert not verify_signature(message, signature, who)
    assert not verify_signature(message, "00" * 64, who)
    assert not verify_signature(message, signature, hotkey("api"))


def test_hashes() -> None:
    # The SHA-256 of nothing, and RFC 4231's second HMAC test case.
    assert (
        sha256_hex("")
        == sha256_hex(b"")
        == ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    )
    assert hmac_hex(b"Jefe", "what do ya want for nothing?") == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def test_a_chain_view_survives_its_json() -> None:
    view = chain_view({hotkey("m"): "cold"}, {hotkey("v"): 7})
    read = type(view).from_json(json.loads(json.dumps(view.to_json())))
    assert read == view
    assert read.permit_holders() == (hotkey("v"),)
    assert read.coldkey_of(hotkey("m")) == "cold"
    assert read.coldkey_of(hotkey("stranger")) == hotkey("stranger")
    assert read.is_registered(hotkey("m"))
    assert not read.is_registered(hotkey("stranger"))
