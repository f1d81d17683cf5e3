"""Quick validation (mechanism 6): every fault gives its own reason, and every row is accounted
for."""

import math
import random
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_series_equal

from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.errors import SubmissionError
from sn46.mechanism.listings import OPTIONAL, listings_frame, write_listings
from sn46.mechanism.names import PPM
from sn46.mechanism.quick import (
    KEPT_COLUMNS,
    MAX_ROWS_FLOOR,
    QuickResult,
    Upload,
    completeness_score,
    counted_rows,
    examine,
    filled_fields,
    haversine,
    is_filled,
    judge_rows,
    kept_listings,
    most_rows,
    range_rules,
    volume_score,
)
from sn46.mechanism.reasons import Code
from sn46.mechanism.rules import Rules
from sn46.mechanism.submission import miner_file_key

from .builders import (
    EPOCH,
    FULL_OPTIONAL,
    Submission,
    assigned_zip,
    chain_view,
    changed,
    hotkey,
    key,
    listing,
    listings,
    new_assignment,
    submission,
)

HOMES = [listing(n) for n in range(1, 101)]
SECOND = timedelta(seconds=1)


def codes(result: QuickResult) -> list[str]:
    return [reason.code.value for reason in result.reasons]


def check_accounting(result: QuickResult) -> None:
    """Rows are kept, dropped as duplicates or dropped as out of range, and never lost."""
    if result.rows is None:
        assert result.rows_kept is None
        assert not result.valid
        return
    assert result.duplicates is not None
    assert result.out_of_range is not None
    assert result.rows == (result.rows_kept or 0) + result.duplicates + result.out_of_range
    assert result.kept.height == (result.rows_kept if result.valid else 0)
    assert result.kept.columns == list(KEPT_COLUMNS)


def test_an_honest_submission_takes_part() -> None:
    result = submission(100).examine()
    assert result.valid
    assert result.participant
    assert codes(result) == []
    assert (result.rows, result.rows_kept, result.duplicates, result.out_of_range) == (
        100, 100, 0, 0)  # fmt: skip
    assert (result.zipcodes, result.volume, result.completeness) == (1, PPM, 0)
    assert result.submission_time == EPOCH.start + timedelta(minutes=30)
    check_accounting(result)


def test_an_unregistered_hotkey() -> None:
    result = submission().examine(chain_view({}))
    assert codes(result) == ["hotkey_not_registered"]
    assert result.rows is None


def test_a_missing_manifest() -> None:
    made = submission()
    view = chain_view({made.hotkey: "cold"})
    result = examine(made.assignment, view, made.hotkey, None, made.files())
    assert codes(result) == ["manifest_missing"]
    assert result.submission_time is None


def signed_by_another(made: Submission) -> Upload:
    upload = made.manifest_upload()
    return replace(upload, body=made.manifest().sign(key("mallory")))


def unsigned(made: Submission) -> Upload:
    upload = made.manifest_upload()
    return replace(upload, body=upload.body.replace(b'"signature"', b'"autograph"'))


def altered(made: Submission) -> Upload:
    upload = made.manifest_upload()
    return replace(upload, body=upload.body.replace(b'"rows": 100', b'"rows": 200'))


def garbled(made: Submission) -> Upload:
    return replace(made.manifest_upload(), body=b"{]")


@pytest.mark.parametrize("tamper", [signed_by_another, unsigned, altered, garbled])
def test_a_manifest_that_is_not_the_hotkeys_own(tamper: Any) -> None:
    made = submission()
    view = chain_view({made.hotkey: "cold"})
    result = examine(made.assignment, view, made.hotkey, tamper(made), made.files())
    assert codes(result) == ["manifest_signature"]


WRONG_NONCE = {"epoch-id": EPOCH.id, "nonce": "0" * 64}
WRONG_EPOCH = {"epoch-id": EPOCH.previous().id, "nonce": new_assignment().nonce}
ONE_MORE = EPOCH.end + timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ({"fields": {"nonce": "0" * 64}}, "nonce_mismatch"),
        ({"metadata": {"manifest.json": WRONG_NONCE}}, "nonce_mismatch"),
        ({"metadata": {"15213": WRONG_NONCE}}, "nonce_mismatch"),
        ({"fields": {"epoch_id": EPOCH.previous().id}}, "epoch_mismatch"),
        ({"metadata": {"manifest.json": WRONG_EPOCH}}, "epoch_mismatch"),
        ({"metadata": {"15213": WRONG_EPOCH}}, "epoch_mismatch"),
        ({"fields": {"miner_hotkey": hotkey("mallory")}}, "manifest_signature"),
        ({"times": {"manifest.json": ONE_MORE}}, "late"),
        ({"times": {"15213": ONE_MORE}}, "late"),
        ({"entries": {"15213": {"key": "miners/elsewhere"}}}, "file_missing"),
        ({"entries": {"15213": {"sha256": "0" * 64}}}, "file_hash_mismatch"),
        ({"entries": {"15213": {"bytes": 7}}}, "file_hash_mismatch"),
        ({"bodies": {"15213": b"other bytes"}}, "file_hash_mismatch"),
        ({"entries": {"15213": {"rows": 101}}}, "file_rows"),
    ],
)
def test_each_fault_gives_its_reason(faults: dict[str, Any], expected: str) -> None:
    result = submission(**faults).examine()
    assert codes(result) == [expected]
    assert not result.valid
    assert not result.participant
    check_accounting(result)


def test_no_metadata_at_all_is_both_mismatches() -> None:
    result = submission(metadata={"15213": {}}).examine()
    assert codes(result) == ["nonce_mismatch", "epoch_mismatch"]


def test_at_the_deadline_is_in_time() -> None:
    result = submission(at=EPOCH.end).examine()
    assert codes(result) == []


def test_a_file_that_is_not_there() -> None:
    made = submission()
    view = chain_view({made.hotkey: "cold"})
    result = examine(made.assignment, view, made.hotkey, made.manifest_upload(), {})
    assert codes(result) == ["file_missing"]


def test_a_file_in_another_miners_folder_does_not_count() -> None:
    made, other = submission(), submission(name="other")
    stolen = {"key": miner_file_key(other.hotkey, EPOCH.id, "15213")}
    made.entries["15213"] = stolen
    view = chain_view({made.hotkey: "cold"})
    files = {**made.files(), **other.files()}
    result = examine(made.assignment, view, made.hotkey, made.manifest_upload(), files)
    assert codes(result) == ["file_missing"]


def test_objects_that_the_manifest_does_not_name_are_ignored() -> None:
    made, stranger = submission(), submission(name="stranger")
    view = chain_view({made.hotkey: "cold"})
    files = made.files()
    extra = next(iter(stranger.files().values()))
    files["miners/x/epoch=y/zipcode=15213/extra.parquet"] = replace(extra, body=b"junk")
    result = examine(made.assignment, view, made.hotkey, made.manifest_upload(), files)
    assert codes(result) == []


@pytest.mark.parametrize(
    "frame",
    [
        listings(3).drop("county"),
        listings(3).with_columns(extra=pl.lit(1)),
        listings(3).select(sorted(listings(3).columns)),  # another order
        listings(3).with_columns(pl.col("sale_price").cast(pl.Int32)),
        listings(3).with_columns(pl.col("sale_price").cast(pl.Float64)),
        listings(3).with_columns(pl.col("zipcode").cast(pl.Int64)),
        listings(3).with_columns(pl.col("sale_date").cast(pl.Datetime("us", "UTC"))),
        listings(3).with_columns(pl.col("scraped_at").cast(pl.Datetime("ns", "UTC"))),
        listings(3).with_columns(pl.col("scraped_at").dt.replace_time_zone(None)),
        listings(3).with_columns(address=pl.concat_list("address")),
    ],
)
def test_another_schema(frame: pl.DataFrame, tmp_path: Any) -> None:
    frame.write_parquet(tmp_path / "f", compression="snappy")
    result = submission(3).with_body("15213", (tmp_path / "f").read_bytes(), 3).examine()
    assert codes(result) == ["file_schema"]


def test_another_compression(tmp_path: Any) -> None:
    listings(3).write_parquet(tmp_path / "f", compression="zstd")
    result = submission(3).with_body("15213", (tmp_path / "f").read_bytes(), 3).examine()
    assert codes(result) == ["file_schema"]


def test_what_is_no_parquet_file() -> None:
    result = submission(3).with_body("15213", b"PAR1 or not", 3).examine()
    assert codes(result) == ["file_schema"]


def test_too_many_rows_for_the_zip() -> None:
    # 10 × 100 expected are 1,000, and the floor is 10,000.
    assert most_rows(assigned_zip(expected=100)) == MAX_ROWS_FLOOR
    assert most_rows(assigned_zip(expected=2_000)) == 20_000
    result = submission(MAX_ROWS_FLOOR + 1).examine()
    assert codes(result) == ["file_too_large"]
    assert codes(submission(MAX_ROWS_FLOOR).examine()) == []


def test_an_unassigned_zip() -> None:
    made = submission(10)
    made.frames = {"15213": listings(100), "90210": listings(10, "90210", start=500)}
    result = made.examine()
    assert codes(result) == ["wrong_zipcode"]
    assert result.reasons[0].count == 10


def test_a_row_of_another_zip_than_its_folder() -> None:
    result = submission(changed(HOMES, 50, zipcode="15217")).examine()
    assert codes(result) == ["wrong_zipcode"]
    assert result.reasons[0].count == 1
    assert "15217" in result.reasons[0].detail


OUT_OF_RANGE: list[dict[str, Any]] = [
    *({name: None} for name in HOMES[0]),
    *({name: " \t"} for name in HOMES[0] if isinstance(HOMES[0][name], str) and name != "zipcode"),
    {"listing_id": "elsewhere:1"},  # not of its source
    {"property_type": "CASTLE"},
    {"sale_price": 999},
    {"sale_price": 100_000_001},
    {"sale_price": -1},
    {"sale_date": date(2024, 3, 16)},  # after E, 15 March 2024 20:00
    {"sale_date": date(2021, 3, 15)},  # 1,096 days before it
    {"bedrooms": -1},
    {"bedrooms": 51},
    {"scraped_at": EPOCH.start - timedelta(microseconds=1)},
    {"scraped_at": EPOCH.end + timedelta(microseconds=1)},
    {"latitude": 40.44 + 0.451, "longitude": -79.95},  # 0.451° × 111.195 km = 50.1 km
    {"latitude": 40.44, "longitude": float("inf")},
    {"latitude": 0.0, "longitude": 0.0},
    {"latitude": 40.44, "longitude": 1e300},
    {"latitude": 400.44, "longitude": -79.95},
    {"listing_id": "portal:" + "4" * 2_042},
    {"county": "é" * 1_025},  # of two bytes each
]
IN_RANGE: list[dict[str, Any]] = [
    {"sale_price": 1_000},
    {"sale_price": 100_000_000},
    {"sale_date": date(2024, 3, 15)},
    {"sale_date": date(2021, 3, 16)},  # 1,095 days before E
    {"bedrooms": 0},
    {"bedrooms": 50},
    {"scraped_at": EPOCH.start},
    {"scraped_at": EPOCH.end},
    {"latitude": 40.44 + 0.449, "longitude": -79.95},  # 49.9 km
    {"latitude": float("nan"), "longitude": -79.95},  # NaN is no value
    {"latitude": 40.44, "longitude": 280.05},  # a turn further
    {"latitude": 40.44},  # one coordinate alone is no place
    {"listing_id": "portal:" + "4" * 2_041},
    {"county": "é" * 1_024},
]


@pytest.mark.parametrize("change", OUT_OF_RANGE, ids=lambda change: str(change)[:60])
def test_a_row_out_of_range_is_dropped_and_counted(change: dict[str, Any]) -> None:
    result = submission(changed(HOMES, 40, **change)).examine()
    assert codes(result) == []  # 1 of 100 is within the 5 %
    assert (result.rows, result.rows_kept, result.out_of_range) == (100, 99, 1)
    check_accounting(result)


@pytest.mark.parametrize("change", IN_RANGE, ids=lambda change: str(change)[:60])
def test_a_row_at_the_edge_is_in_range(change: dict[str, Any]) -> None:
    result = submission(changed(HOMES, 40, **change)).examine()
    assert codes(result) == []
    assert result.rows_kept == 100


def test_the_lookback_is_the_assignments() -> None:
    rows = [listing(n, sale_date=date(2015, 3, 15)) for n in range(1, 101)]
    short = submission(listings_frame(rows))
    assert codes(short.examine()) == ["out_of_range_over_limit"]
    long = new_assignment(rules=Rules(lookback_days=4_000))
    assert codes(submission(listings_frame(rows), assignment=long).examine()) == []


@pytest.mark.parametrize(("bad", "expected"), [(5, []), (6, ["out_of_range_over_limit"])])
def test_five_percent_may_be_out_of_range(bad: int, expected: list[str]) -> None:
    rows = [row | {"sale_price": 1} if n < bad else row for n, row in enumerate(HOMES)]
    result = submission(listings_frame(rows)).examine()
    assert codes(result) == expected
    assert result.out_of_range == bad
    if expected:
        assert result.reasons[0].count == bad
    check_accounting(result)


@pytest.mark.parametrize(("bad", "expected"), [(1, []), (2, ["duplicates_over_limit"])])
@pytest.mark.parametrize("same", ["listing_id", "address"])
def test_one_percent_may_be_duplicates(bad: int, expected: list[str], same: str) -> None:
    rows = [row | {same: HOMES[99][same]} if n < bad else row for n, row in enumerate(HOMES)]
    result = submission(listings_frame(rows)).examine()
    assert codes(result) == expected
    assert result.duplicates == bad
    check_accounting(result)


def test_a_cosmetic_variant_of_an_address_is_a_duplicate() -> None:
    other = {"address": "  1 FORBES ave., ", "listing_id": "portal:other"}
    result = submission(changed(HOMES, 99, **other)).examine()
    assert result.duplicates == 1
    # The later row is the duplicate: the first keeps its place.
    assert result.kept["listing_id"].to_list() == [row["listing_id"] for row in HOMES[:99]]


def test_the_same_address_in_another_zip_is_another_home() -> None:
    zips = (assigned_zip("15213"), assigned_zip("15217"))
    made = Submission(
        new_assignment(zips),
        key("miner"),
        {"15213": listings(50), "15217": listings(50, "15217", start=1)},
    )
    rows = made.examine()
    assert rows.duplicates == 50  # the same ids
    other = listings(50, "15217").with_columns("portal:b" + pl.col("sale_price").cast(pl.String))
    made.frames = {
        "15213": listings(50),
        "15217": other.with_columns(listing_id=other["literal"]).select(listings(1).columns),
    }
    assert made.examine().duplicates == 0


def test_the_range_comes_first_and_duplicates_among_the_rest() -> None:
    # Row 0 is out of range, so its twin at the end is the first of its kind.
    rows = [HOMES[0] | {"sale_price": 1}, *HOMES[1:99], HOMES[0]]
    result = submission(listings_frame(rows)).examine()
    assert (result.out_of_range, result.duplicates, result.rows_kept) == (1, 0, 99)
    assert result.kept["listing_id"].to_list()[-1] == "portal:1"


def test_every_row_counts_for_the_shares() -> None:
    # 2 duplicates of 200 rows are 1 %, of the 195 rows in range they would be more.
    rows = [listing(n) for n in range(1, 201)]
    rows = [r | {"sale_price": 1} if n < 5 else r for n, r in enumerate(rows)]
    rows[-1] |= {"listing_id": "portal:10"}
    rows[-2] |= {"listing_id": "portal:10"}
    assert codes(submission(listings_frame(rows)).examine()) == []


def test_all_reasons_are_kept_with_their_counts() -> None:
    rows = [row | ({"sale_price": 1} if n < 10 else {}) for n, row in enumerate(HOMES)]
    rows[50] |= {"listing_id": "portal:99"}
    rows[51] |= {"listing_id": "portal:99"}
    rows[52] |= {"zipcode": "15217"}
    result = submission(listings_frame(rows)).examine()
    found = {reason.code: reason.count for reason in result.reasons}
    assert found == {
        Code.WRONG_ZIPCODE: 1,
        Code.OUT_OF_RANGE_OVER_LIMIT: 10,
        # 98's id comes twice before it (rows 50 and 51): 51 and 98 repeat an earlier row.
        Code.DUPLICATES_OVER_LIMIT: 2,
    }
    check_accounting(result)


@pytest.mark.parametrize(("rows", "takes_part"), [(9, False), (10, True)])
def test_a_tenth_of_the_volume_is_needed(rows: int, takes_part: bool) -> None:
    result = submission(rows).examine()
    assert result.valid
    assert result.participant is takes_part
    assert codes(result) == ([] if takes_part else ["below_min_volume"])
    assert result.volume == rows * 10_000  # of 100 expected
    check_accounting(result)


def test_an_empty_submission_is_valid_and_takes_no_part() -> None:
    made = submission(0)
    assert codes(made.examine()) == ["below_min_volume"]
    made.frames = {}
    result = made.examine()
    assert codes(result) == ["below_min_volume"]
    assert (result.rows, result.rows_kept, result.completeness, result.volume) == (0, 0, 0, 0)


def completeness(rows: pl.DataFrame) -> int:
    return completeness_score(rows.with_columns(filled_fields(rows)))


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "county": st.sampled_from([None, "", " ", "\u2003", "é", "King"]),
                "mls_id": st.sampled_from([None, "17"]),
                "bedrooms": st.sampled_from([None, 0, 3]),
                "parcel_id": st.just("9"),
            },
        ),
        max_size=6,
    )
)
def test_filled_fields_are_counted_as_one_by_one(changes: list[dict[str, Any]]) -> None:
    rows = listings_frame([listing(n, **change) for n, change in enumerate(changes)])
    counts = [is_filled(name).cast(pl.UInt8) for name in OPTIONAL]
    expected = rows.select(filled=pl.sum_horizontal(counts)).to_series()
    assert_series_equal(filled_fields(rows), expected)


def test_completeness_counts_filled_optional_fields() -> None:
    assert completeness(listings(10, **FULL_OPTIONAL)) == PPM
    assert completeness(listings(10)) == 0
    assert completeness(listings(0)) == 0
    # 3 rows: 16 + 2 + 0 fields of 48; 18 × 10^6 // 48 = 375,000. A blank text and NaN are none.
    rows = [
        listing(1, **FULL_OPTIONAL),
        listing(2, bedrooms=0, county="Allegheny", mls_id="  ", parcel_id=""),
        listing(3, stories=float("nan")),
    ]
    assignment = new_assignment()
    judged = judge_rows(assignment, [(assignment.zipcodes[0].zipcode, listings_frame(rows))])
    assert completeness(judged) == 375_000
    assert len(OPTIONAL) == 16


def test_poor_rows_beyond_what_counts_for_volume_cost_no_completeness() -> None:
    """Of a ZIP with more rows than count, the fullest are taken: leaving rows out gains nothing."""
    assignment = new_assignment((assigned_zip("15201", 200), assigned_zip("15202", 3)))
    rows = pl.DataFrame(
        {"zipcode": ["15202", "15202", "15201", "15202", "15202"], "filled": [3, 16, 1, 8, 4]},
        schema_overrides={"filled": pl.UInt8},
    )
    counted = counted_rows(assignment, rows)
    assert counted.rows() == [("15202", 16), ("15201", 1), ("15202", 8), ("15202", 4)]
    # (16 + 1 + 8 + 4) × 10^6 // (4 × 16)
    assert completeness_score(counted) == 453_125
    within = rows.filter(pl.col("filled") != 3)
    assert counted_rows(assignment, within) is within
    few = new_assignment(assignment.zipcodes, rules=Rules(source_result_limit=1))
    assert counted_rows(few, rows).rows() == [("15202", 16), ("15201", 1)]


@given(
    st.lists(st.tuples(st.sampled_from(["15201", "15202"]), st.integers(0, 16)), max_size=30),
    st.data(),
)
def test_leaving_rows_out_of_a_full_zip_never_pays(
    rows: list[tuple[str, int]], data: st.DataObject
) -> None:
    assignment = new_assignment((assigned_zip("15201", 4), assigned_zip("15202", 9)))

    def scores(some: list[tuple[str, int]]) -> tuple[int, int]:
        schema = {"zipcode": pl.String(), "filled": pl.UInt8()}
        kept = pl.DataFrame(some, schema=schema, orient="row")
        return volume_score(assignment, kept), completeness_score(counted_rows(assignment, kept))

    left = [row for row in rows if data.draw(st.booleans())]
    (volume, completeness), (smaller, other) = scores(rows), scores(left)
    if smaller == volume:
        assert other <= completeness


def test_volume_has_a_cap() -> None:
    zips = (
        assigned_zip("15201", 200),
        assigned_zip("15202", 3_000),
        assigned_zip("15203", 300),
    )
    assignment = new_assignment(zips)
    kept = pl.DataFrame({"zipcode": ["15201"] * 500 + ["15202"] * 999 + ["15203"] * 100})
    # 15201: 500 of min(200, 1000), so 10^6; 15202: 999 of min(3000, 1000), so 999,000;
    # 15203: 100 × 10^6 // 300 = 333,333.
    # (200 × 1,000,000 + 3,000 × 999,000 + 300 × 333,333) // 3,500
    #   = (200,000,000 + 2,997,000,000 + 99,999,900) // 3,500 = 3,296,999,900 // 3,500
    assert volume_score(assignment, kept) == 941_999
    full = pl.DataFrame({"zipcode": ["15201"] * 200 + ["15202"] * 1_000 + ["15203"] * 300})
    assert volume_score(assignment, full) == PPM
    lower = new_assignment(zips, rules=Rules(source_result_limit=10))
    ten = pl.DataFrame({"zipcode": ["15201"] * 10 + ["15202"] * 10 + ["15203"] * 10})
    assert volume_score(lower, ten) == PPM


ZIPS = tuple(assigned_zip(f"152{n:02d}", 20) for n in range(4))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_order_of_files_never_matters(data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(1, 40), min_size=10, max_size=60))
    frames: dict[str, pl.DataFrame] = {}
    for at, zip_ in enumerate(ZIPS):
        rows = [listing(n, zip_.zipcode) for n in numbers[at :: len(ZIPS)]]
        frames[zip_.zipcode] = listings_frame(rows)
    order = data.draw(st.permutations(list(frames)))
    made = Submission(new_assignment(ZIPS), key("miner"), frames)
    shuffled = replace(made, frames={z: frames[z] for z in order}, reverse=True)
    one, other = made.examine(), shuffled.examine()
    check_accounting(one)
    assert one.kept.equals(other.kept)
    assert replace(one, kept=other.kept) == other


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 60),  # the id
            st.integers(1, 60),  # the address
            st.sampled_from([999, 1_000, 300_000, None]),
            st.booleans(),
        ),
        max_size=80,
    ),
    st.randoms(use_true_random=False),
)
def test_rows_are_never_lost(
    homes: list[tuple[int, int, int | None, bool]], shuffle: random.Random
) -> None:
    rows = [
        listing(
            number,
            address=f"{address} Forbes {'Ave' if short else 'AVENUE'}",
            listing_id=f"portal:{number}",
            sale_price=price,
        )
        for number, address, price, short in homes
    ]
    assignment = new_assignment()
    zipcode = assignment.zipcodes[0].zipcode
    judged = judge_rows(assignment, [(zipcode, listings_frame(rows))])
    assert judged.height == len(rows)
    kept: set[tuple[int, int]] = set()
    seen_ids: set[int] = set()
    seen_addresses: set[int] = set()
    for (number, address, price, _), in_range, duplicate in zip(
        homes, judged["in_range"], judged["duplicate"], strict=True
    ):
        assert in_range == (price in (1_000, 300_000))
        assert duplicate == (in_range and (number in seen_ids or address in seen_addresses))
        if in_range:
            seen_ids.add(number)
            seen_addresses.add(address)
            if not duplicate:
                kept.add((number, address))
    shuffle.shuffle(rows)
    again = judge_rows(assignment, [(zipcode, listings_frame(rows))])
    assert int(again["in_range"].sum()) == int(judged["in_range"].sum())


BLANKS = [
    "",
    " ",
    "\t",
    "\u2003",
    "\x1f",
    "\u200b",
    "!",
    "~",
    "\x7f",
    " x",
    "\u00a0é",
    "é",
    "portal",
]
DEGREES = st.sampled_from([None, float("nan"), float("inf"), -90.0, 180.0]) | st.floats(-0.7, 0.7)
ROWS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ("source", "listing_id", "address", "zipcode", "county", "property_type"),
            st.none() | st.sampled_from([*BLANKS, "portal:1", " :1", "CONDO"]),
        ),
        "latitude": DEGREES.map(lambda off: None if off is None else 40.44 + off),
        "longitude": DEGREES.map(lambda off: None if off is None else -79.95 + off),
        "bedrooms": st.sampled_from([None, -1, 0, 50, 51]),
    },
)


@given(st.lists(st.tuples(*[st.floats(-90, 90)] * 2, st.floats(-360, 360)), min_size=1))
def test_distances_are_the_same_on_every_machine(places: list[tuple[float, float, float]]) -> None:
    """Polars computes them as plain arithmetic does, to the bit, and as trigonometry does."""
    columns = ("latitude", "other", "longitudes")
    frame = pl.DataFrame(places, schema=columns, orient="row")
    computed = frame.select(haversine(*map(pl.col, columns))).to_series().to_list()
    assert computed == [haversine(*place) for place in places]
    for (latitude, other, longitudes), value in zip(places, computed, strict=True):
        lat, lon = math.radians(other - latitude) / 2, math.radians(longitudes) / 2
        across = math.cos(math.radians(latitude)) * math.cos(math.radians(other))
        if abs(longitudes) <= 180:
            expected = math.sin(lat) ** 2 + across * math.sin(lon) ** 2
            assert value == pytest.approx(expected, rel=1e-12, abs=1e-15)


@settings(max_examples=200)
@given(st.lists(ROWS, min_size=1, max_size=10))
def test_what_is_surely_in_range_is_in_range(changes: list[dict[str, Any]]) -> None:
    """Each rule's short way never keeps a row that the rule does not, and decides nothing."""
    rows = listings_frame([listing(n, **change) for n, change in enumerate(changes)])
    assignment = new_assignment()
    judged = judge_rows(assignment, [(assignment.zipcodes[0].zipcode, rows)])
    rules = range_rules(assignment)
    for rule in rules:
        assert not judged.select((rule.surely & ~rule.keeps).any()).item(), rule.broken
    keeps = judged.select(pl.all_horizontal([rule.keeps for rule in rules])).to_series()
    assert judged["in_range"].to_list() == keeps.to_list()


def test_a_participants_rows_can_be_read_again() -> None:
    rows = [row | {"sale_price": 1} if n == 3 else row for n, row in enumerate(HOMES)]
    made = submission(listings_frame(rows))
    result = made.examine()
    full = kept_listings(made.assignment, made.hotkey, made.manifest_upload(), made.files())
    assert full.with_columns(filled_fields(full)).select(KEPT_COLUMNS).equals(result.kept)
    assert full.height == 99
    made.bodies["15213"] = b"gone"
    with pytest.raises(SubmissionError, match="no longer"):
        kept_listings(made.assignment, made.hotkey, made.manifest_upload(), made.files())


def test_a_file_of_64_mebibytes_is_not_opened() -> None:
    body = b"PAR1" + bytes(64 * 1024 * 1024)
    result = submission(3).with_body("15213", body, 3).examine()
    assert codes(result) == ["file_too_large"]


def test_the_listings_own_writer_is_read_back() -> None:
    frame = listings(3, **FULL_OPTIONAL)
    assert sha256_hex(write_listings(frame)) == sha256_hex(write_listings(frame))
    with pytest.raises(ValueError, match="schema"):
        write_listings(frame.drop("county"))
