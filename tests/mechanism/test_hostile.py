"""What strangers upload: nothing of it raises, ends the process or takes memory without bound."""

import copy
import io
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sn46.mechanism.canonical import canonical_json
from sn46.mechanism.listings import SCHEMA, listings_frame, write_listings
from sn46.mechanism.names import Hotkey
from sn46.mechanism.parquetfile import FileSchemaFault, FileSizeFault, decode
from sn46.mechanism.parquetfooter import FILE_SHAPE, MAX_ROW_GROUPS
from sn46.mechanism.quick import QuickResult, examine
from sn46.mechanism.signing import sign_document
from sn46.mechanism.thriftread import ListOf, ThriftFault, ThriftReader

from .builders import (
    EPOCH,
    FULL_OPTIONAL,
    Submission,
    chain_view,
    key,
    listing,
    listings,
    new_assignment,
    submission,
)
from .test_assignment import OTHER_VALUES, parent, paths
from .test_quick import check_accounting, codes

ASSIGNMENT = new_assignment()
HONEST = submission(20)
VIEW = chain_view({HONEST.hotkey: "cold"})
MANIFEST = json.loads(HONEST.manifest_upload().body)
FILES = HONEST.files()
LIMIT = 10_000


def judged(body: bytes) -> QuickResult:
    """The honest submission with other bytes in manifest.json's place."""
    upload = replace(HONEST.manifest_upload(), body=body)
    result = examine(ASSIGNMENT, VIEW, HONEST.hotkey, upload, FILES)
    check_accounting(result)
    # A reason goes into the report, whose hash every validator must be able to take.
    canonical_json([reason.to_json() for reason in result.reasons])
    return result


@given(st.binary(max_size=300))
def test_a_manifest_of_any_bytes(body: bytes) -> None:
    assert not judged(body).valid


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(JSON_VALUES)
def test_a_manifest_of_any_json(value: Any) -> None:
    assert not judged(json.dumps(value).encode()).valid


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b'{"files":' + b"[" * 900 + b"]" * 900 + b"}",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b'{"rows": ' + b"9" * 5_000 + b"}",
        b'{"rows": NaN, "files": [Infinity, -Infinity, 1e999]}',
        b" " * (4 * 1024 * 1024 + 1),
        b"null",
        b'"text"',
    ],
    ids=lambda body: repr(body[:12]),
)
def test_manifests_made_to_break_a_reader(body: bytes) -> None:
    assert codes(judged(body)) == ["manifest_signature"]


def test_what_one_version_of_python_reads_and_another_does_not() -> None:
    """3.11 reads 980 levels, 3.13 some 10,000, and the digits of a number are a setting: what is
    no submission for one validator must be none for all, for the same reason."""

    def told(body: bytes) -> list[str]:
        return [reason.detail for reason in judged(body).reasons]

    def signed(more: Any) -> bytes:
        return json.dumps(sign_document({**MANIFEST, "more": more}, key("miner"))).encode()

    def nested(depth: int) -> Any:
        return json.loads("[" * depth + "]" * depth)

    assert told(signed(nested(63))) == told(signed(int("9" * 64))) == told(signed(1))
    [refusal] = told(signed(nested(64)))
    assert "nested at most 64 deep" in refusal
    for body in (signed(nested(900)), signed(int("9" * 65)), b'{"a": 1,}', b"[" * 5_000, b"\xff"):
        assert told(body) == [refusal]


def test_a_field_that_comes_twice_is_not_what_was_signed() -> None:
    body = json.dumps(MANIFEST).replace('"nonce"', '"nonce": "0", "nonce"', 1)
    assert codes(judged(body.encode())) == []  # the last one counts, and it is the signed one
    body = json.dumps(MANIFEST).replace('"files"', '"nonce": "0", "files"', 1)
    assert "manifest_signature" in codes(judged(body.encode()))


@pytest.mark.parametrize("field", ["miner_hotkey", "epoch_id", "nonce"])
@pytest.mark.parametrize("text", ["\ud800", "\x1b[2J\n", "\x00", "x" * 100_000])
def test_texts_that_no_report_should_carry(field: str, text: str) -> None:
    result = judged(json.dumps(MANIFEST | {field: text}).encode())
    assert not result.valid
    for reason in result.reasons:
        assert reason.detail.isprintable()
        assert len(reason.detail) < 1_000


PATHS = paths(MANIFEST)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PATHS), OTHER_VALUES | st.integers(10**4000, 10**4100), st.booleans())
def test_any_field_of_a_signed_manifest_may_be_anything(
    path: tuple[Any, ...], value: Any, signs: bool
) -> None:
    document = copy.deepcopy(MANIFEST)
    parent(document, path)[path[-1]] = value
    if signs and path != ("signature",):
        try:
            document = sign_document(document, key("miner"))
        except UnicodeEncodeError:
            return
    result = judged(json.dumps(document).encode())
    if not signs:
        assert not result.valid or document == MANIFEST


def test_counts_without_bound_are_refused() -> None:
    document = copy.deepcopy(MANIFEST)
    nines = 10**4200 - 1
    entry = document["files"][0]
    document["files"] = [
        entry | {"zipcode": f"{n:05d}", "rows": nines, "key": f"k{n}"} for n in range(30)
    ]
    assert codes(judged(json.dumps(sign_document(document, key("miner"))).encode())) == [
        "manifest_signature"
    ]


def test_a_folder_may_have_any_name() -> None:
    for name in ("", "x", "../..", "5" * 48, "é", "\ud800"):
        made = HONEST.manifest_upload()
        result = examine(ASSIGNMENT, VIEW, Hotkey(name), made, FILES)
        assert not result.valid


# ------------------------------------------------------------------ Parquet


def parquet(frame: pl.DataFrame | pa.Table, **options: Any) -> bytes:
    table = frame.to_arrow() if isinstance(frame, pl.DataFrame) else frame
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **{"compression": "snappy"} | options)
    return buffer.getvalue()


WHOLE = [
    write_listings(listings(3, **FULL_OPTIONAL)),
    parquet(listings(30, **FULL_OPTIONAL), row_group_size=10, compression="none"),
    parquet(listings(9), data_page_version="2.0", use_dictionary=False, write_page_index=True),
]


@pytest.mark.parametrize("body", WHOLE)
def test_files_of_other_writers_are_read(body: bytes) -> None:
    assert decode(body, most_rows=LIMIT).schema == pl.Schema(SCHEMA)


def test_columns_may_be_stored_in_other_ways() -> None:
    frame = listings(9, **FULL_OPTIONAL)
    body = parquet(
        frame,
        use_dictionary=False,
        column_encoding={
            "address": "PLAIN",
            "sale_price": "DELTA_BINARY_PACKED",
            "latitude": "BYTE_STREAM_SPLIT",
        },
    )
    assert decode(body, most_rows=LIMIT).equals(frame)


def survives(body: bytes) -> None:
    """Decoded in full or refused in words; and the submission it is in is judged."""
    try:
        frame = decode(body, most_rows=LIMIT)
    except (FileSchemaFault, FileSizeFault):
        rows = 3
    else:
        assert frame.schema == pl.Schema(SCHEMA)
        assert frame.height <= LIMIT
        rows = frame.height
    result = submission(3).with_body("15213", body, rows).examine()
    check_accounting(result)
    canonical_json([reason.to_json() for reason in result.reasons])


@pytest.mark.parametrize("body", WHOLE)
def test_every_part_of_the_footer_may_lie(body: bytes) -> None:
    """One bit in each of some 120 bytes of the footer, from a fixed seed."""
    made = random.Random(46)
    footer = int.from_bytes(body[-8:-4], "little") + 8
    for at in range(len(body) - footer, len(body), footer // 120):
        broken = bytearray(body)
        broken[at] ^= 1 << made.randrange(8)
        survives(bytes(broken))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(WHOLE), st.data())
def test_broken_files(body: bytes, data: st.DataObject) -> None:
    broken = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(broken) - 1))
        match data.draw(st.sampled_from(["flip", "set", "cut", "insert", "end"])):
            case "flip":
                broken[at] ^= 1 << data.draw(st.integers(0, 7))
            case "set":
                broken[at] = data.draw(st.integers(0, 255))
            case "cut":
                del broken[at : at + data.draw(st.integers(1, 16))]
            case "insert":
                broken[at:at] = data.draw(st.binary(min_size=1, max_size=16))
            case _:
                del broken[max(1, at) :]
        if not broken:
            break
    survives(bytes(broken))


@given(st.binary(max_size=200))
def test_any_bytes_as_a_file(body: bytes) -> None:
    survives(body)
    survives(b"PAR1" + body + len(body).to_bytes(4, "little") + b"PAR1")


def encode_thrift(shape: Mapping[int, Any], values: Mapping[int, Any]) -> bytes:
    """A struct as Thrift's compact protocol writes it: to make footers that lie."""
    wires = {"byte": 3, "i16": 4, "i32": 5, "i64": 6, "binary": 8}

    def varint(value: int) -> bytes:
        out = bytearray()
        while value >= 0x80:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        return bytes([*out, value])

    def wire(kind: Any) -> int:
        return 9 if isinstance(kind, ListOf) else 12 if isinstance(kind, Mapping) else wires[kind]

    def write(kind: Any, value: Any) -> bytes:
        if isinstance(kind, ListOf):
            head = bytes([0xF0 | wire(kind.item)]) + varint(len(value))
            return head + b"".join(write(kind.item, item) for item in value)
        if isinstance(kind, Mapping):
            return encode_thrift(kind, value)
        if kind == "binary":
            return varint(len(value)) + value
        if kind == "byte":
            return value.to_bytes(1, "little", signed=True)
        return varint(value << 1 if value >= 0 else (-value << 1) - 1)

    out, before = b"", 0
    for number, value in sorted(values.items()):
        kind = shape[number]
        code = (1 if value else 2) if kind == "bool" else wire(kind)
        out += bytes([(number - before) << 4 | code])
        out += b"" if kind == "bool" else write(kind, value)
        before = number
    return out + b"\x00"


def with_footer(body: bytes, change: Callable[[dict[int, Any]], object]) -> bytes:
    """The file with another footer over the same pages."""
    start = len(body) - 8 - int.from_bytes(body[-8:-4], "little")
    footer = ThriftReader(body, start).struct(FILE_SHAPE)
    change(footer)
    written = encode_thrift(FILE_SHAPE, footer)
    return body[:start] + written + len(written).to_bytes(4, "little") + b"PAR1"


# Fields by their numbers in parquet.thrift: FileMetaData.num_rows 3, .row_groups 4;
# RowGroup.columns 1, .num_rows 3; ColumnChunk.meta_data 3; ColumnMetaData.codec 4, .num_values 5,
# .total_compressed_size 7, .data_page_offset 9, .size_statistics 16.
def in_column(number: int, value: Any) -> Callable[[dict[int, Any]], object]:
    return lambda footer: footer[4][0][1][0][3].update({number: value})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda f: None, None),
        (lambda f: f.update({3: 2**62}), FileSizeFault),
        (lambda f: f.update({3: -1}), FileSizeFault),
        (lambda f: f.update({3: 2}), FileSchemaFault),
        (lambda f: f[4][0].update({3: 2**62}), FileSchemaFault),
        (lambda f: f[4][0].update({3: -1}), FileSchemaFault),
        (lambda f: f.update({4: []}), FileSchemaFault),
        (lambda f: f.update({4: f[4] * (MAX_ROW_GROUPS + 1)}), FileSizeFault),
        (lambda f: f[4][0].update({1: f[4][0][1][:-1]}), FileSchemaFault),
        (in_column(4, -1), FileSchemaFault),  # ended the process: no such codec
        (in_column(4, 6), FileSchemaFault),  # zstd
        (in_column(5, 2**62), FileSchemaFault),
        (in_column(7, 2**62), FileSchemaFault),
        (in_column(7, -1), FileSchemaFault),
        (in_column(9, 2**62), FileSchemaFault),
        (in_column(9, 0), FileSchemaFault),
        (in_column(16, {2: [1], 3: [1, 2]}), None),  # ended the process, and is not needed
        (in_column(3, [b"elsewhere"]), FileSchemaFault),
        (in_column(1, 2), FileSchemaFault),
    ],
)
@pytest.mark.parametrize("body", WHOLE)
def test_footers_that_lie(body: bytes, change: Any, fault: type[Exception] | None) -> None:
    lying = with_footer(body, change)
    if fault is None:
        assert decode(lying, most_rows=LIMIT).equals(decode(body, most_rows=LIMIT))
        return
    with pytest.raises(fault):
        decode(lying, most_rows=LIMIT)


@pytest.mark.parametrize("column", ["address", "listing_id", "county"])
def test_one_long_text_for_every_row_is_a_bomb(column: str) -> None:
    """18 kB in the store, 3 GB in memory: a dictionary of one text that all rows point to."""
    frame = listings(LIMIT).to_arrow()
    text = pa.DictionaryArray.from_arrays(
        pa.array([0] * LIMIT, pa.int32()), pa.array(["a" * 300_000])
    )
    at = frame.column_names.index(column)
    body = parquet(
        frame.set_column(at, column, text), store_schema=False, dictionary_pagesize_limit=2**30
    )
    assert len(body) < 1_500_000
    with pytest.raises(FileSizeFault, match="decode to 3"):
        decode(body, most_rows=LIMIT)


def test_a_bomb_of_just_over_four_gigabytes_is_counted_in_full() -> None:
    """Its texts come to 2^32 bytes and some kilobytes: no narrow number counts them."""
    size = -(-(2**32) // LIMIT)
    frame = listings(LIMIT).to_arrow()
    text = pa.DictionaryArray.from_arrays(pa.array([0] * LIMIT, pa.int32()), pa.array(["a" * size]))
    at = frame.column_names.index("county")
    body = parquet(
        frame.set_column(at, "county", text), store_schema=False, dictionary_pagesize_limit=2**30
    )
    with pytest.raises(FileSizeFault, match=f"decode to {2**32 // 10**8}"):
        decode(body, most_rows=LIMIT)


def test_pages_that_decode_to_too_much_are_a_bomb() -> None:
    # One row of 2 MB of blanks, 100 kB as snappy has it: 16 kB a row are allowed, and 1 MB.
    body = write_listings(listings(1, address=" " * 2_000_000))
    assert len(body) < 200_000
    with pytest.raises(FileSizeFault, match="decode to"):
        decode(body, most_rows=LIMIT)
    assert codes(submission(1).with_body("15213", body, 1).examine()) == ["file_too_large"]


def test_texts_that_repeat_the_one_before_are_refused() -> None:
    body = parquet(
        listings(50), use_dictionary=False, column_encoding={"address": "DELTA_BYTE_ARRAY"}
    )
    with pytest.raises(FileSchemaFault, match="encoded"):
        decode(body, most_rows=LIMIT)


def test_text_that_is_not_utf8() -> None:
    table = listings(3).to_arrow()
    at = table.column_names.index("address")
    bad = pa.array([b"\xff\xfe", b"ok", b"\xc3"], pa.binary()).view(pa.string())
    body = parquet(table.set_column(at, "address", bad), store_schema=False)
    assert codes(submission(3).with_body("15213", body, 3).examine()) == ["file_schema"]


def test_more_row_groups_than_allowed() -> None:
    body = parquet(listings(MAX_ROW_GROUPS + 1), row_group_size=1)
    with pytest.raises(FileSizeFault, match="row groups"):
        decode(body, most_rows=LIMIT)
    assert decode(parquet(listings(64), row_group_size=1), most_rows=LIMIT).height == 64


INT64 = st.integers(-(2**63), 2**63 - 1)
EXTREME: dict[str, st.SearchStrategy[Any]] = {
    "sale_price": INT64,
    "bedrooms": INT64,
    "living_area_sqft": INT64,
    "latitude": st.floats(),
    "longitude": st.floats(),
    "bathrooms": st.floats(),
    "address": st.text(max_size=20),
    "zipcode": st.text(max_size=6),
    "county": st.text(max_size=3),
}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.fixed_dictionaries({}, optional=EXTREME), max_size=8),
    st.integers(-(2**31), 2**31 - 1),
    INT64,
)
def test_extreme_values_are_judged(rows: list[dict[str, Any]], day: int, moment: int) -> None:
    frame = listings_frame([listing(n, **row) for n, row in enumerate(rows, 1)]).with_columns(
        sale_date=pl.when(pl.int_range(pl.len()) % 2 == 0)
        .then(pl.lit(day, dtype=pl.Int32).cast(pl.Date))
        .otherwise("sale_date"),
        scraped_at=pl.when(pl.int_range(pl.len()) % 3 == 0)
        .then(pl.lit(moment, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")))
        .otherwise("scraped_at"),
    )
    made = Submission(ASSIGNMENT, key("miner"), {"15213": frame})
    result = made.examine()
    check_accounting(result)
    assert result.rows == len(rows)


def test_no_sale_is_too_old_or_too_new_for_a_comparison() -> None:
    rows = [listing(1, sale_date=date.min), listing(2, sale_date=date.max)]
    rows += [listing(3, scraped_at=datetime.min.replace(tzinfo=UTC))]
    rows += [listing(4, scraped_at=datetime.max.replace(tzinfo=UTC) - timedelta(days=1))]
    result = submission(listings_frame(rows)).examine()
    assert result.out_of_range == 4
    assert EPOCH.start > datetime.min.replace(tzinfo=UTC)


@given(st.binary(max_size=120))
def test_any_bytes_as_thrift(data: bytes) -> None:
    reader = ThriftReader(data)
    try:
        found = reader.struct(FILE_SHAPE)
    except ThriftFault:
        return
    # What is accepted has one meaning: written again and read again it is the same.
    assert ThriftReader(encode_thrift(FILE_SHAPE, found)).struct(FILE_SHAPE) == found
