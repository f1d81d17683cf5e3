"""What Polars writes is read by patterns: as the reader of all files reads it, or not at all."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sn46.mechanism.evidence import EVIDENCE_SCHEMA
from sn46.mechanism.listings import SCHEMA, listings_frame, write_listings
from sn46.mechanism.parquetfooter import (
    FILE_SHAPE,
    Extent,
    FileSchemaFault,
    FileSizeFault,
    check_file,
)
from sn46.mechanism.parquetusual import Layout, layout_of, usual_extent
from sn46.mechanism.thriftread import ListOf

from .builders import FULL_OPTIONAL, listing, listings
from .test_hostile import parquet, with_footer

LIMIT = 10_000


def layout() -> Layout:
    found = layout_of(tuple(SCHEMA.items()))
    assert found is not None
    return found


def checked(body: bytes, most_rows: int = LIMIT) -> Extent | None:
    try:
        return check_file(body, SCHEMA, most_rows)
    except (FileSchemaFault, FileSizeFault):
        return None


def same_or_nothing(body: bytes) -> None:
    found = usual_extent(body, layout(), LIMIT)
    assert found is None or found == checked(body)


MIXED = listings_frame(
    [
        listing(n, address=f"{n} " + "Long" * (n % 70), **(FULL_OPTIONAL if n % 3 else {}))
        for n in range(1, 400)
    ]
)
POLARS = {
    "one row": write_listings(listings(1)),
    "few": write_listings(listings(3, **FULL_OPTIONAL)),
    "many": write_listings(listings(2_000, **FULL_OPTIONAL)),
    "mixed": write_listings(MIXED),
}


@pytest.mark.parametrize("name", POLARS)
def test_what_miners_write_is_usual(name: str) -> None:
    """Should another Polars write another layout, reading takes longer: then add it."""
    body = POLARS[name]
    assert usual_extent(body, layout(), LIMIT) == check_file(body, SCHEMA, LIMIT)


def test_a_layout_is_of_its_columns_alone() -> None:
    other = layout_of(tuple(EVIDENCE_SCHEMA.items()))
    assert other is not None
    for body in POLARS.values():
        assert usual_extent(body, other, LIMIT) is None


def test_more_rows_than_allowed_are_not_usual() -> None:
    body = POLARS["few"]
    assert usual_extent(body, layout(), 3) == check_file(body, SCHEMA, 3)
    assert usual_extent(body, layout(), 2) is None


@pytest.mark.parametrize(
    "body",
    [
        parquet(listings(30, **FULL_OPTIONAL), row_group_size=10),
        parquet(listings(9), data_page_version="2.0", use_dictionary=False),
        write_listings(listings(0)),
        b"",
        b"PAR1" * 3,
    ],
)
def test_other_files_are_left_to_the_reader(body: bytes) -> None:
    assert usual_extent(body, layout(), LIMIT) is None


def headers(body: bytes) -> list[int]:
    """Where the footer's bytes are, and those of the first two page headers of each column."""
    start = len(body) - 8 - int.from_bytes(body[-8:-4], "little")
    found = list(range(start, len(body)))
    footers: list[dict[int, Any]] = []
    with_footer(body, footers.append)
    for chunk in footers[0][4][0][1]:
        first = chunk[3].get(11, chunk[3][9])
        found += [*range(first, first + 40), *range(chunk[3][9], chunk[3][9] + 40)]
    return found


@pytest.mark.parametrize("name", ["few", "mixed"])
def test_any_byte_of_a_header_may_lie(name: str) -> None:
    """Each of them once, by one bit or altogether, from a fixed seed."""
    made, body = random.Random(46), POLARS[name]
    accepted = 0
    for at in headers(body):
        broken = bytearray(body)
        broken[at] = made.choice([broken[at] ^ 1 << made.randrange(8), made.randrange(256)])
        same_or_nothing(bytes(broken))
        accepted += usual_extent(bytes(broken), layout(), LIMIT) is not None
    assert accepted  # Some bytes matter to nobody, such as those of statistics.


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(POLARS)), st.data())
def test_bytes_may_be_missing_or_too_many(name: str, data: st.DataObject) -> None:
    body = bytearray(POLARS[name])
    at = data.draw(st.sampled_from(headers(bytes(body))))
    if data.draw(st.booleans()):
        del body[at : at + data.draw(st.integers(1, 4))]
    else:
        body[at:at] = data.draw(st.binary(min_size=1, max_size=4))
    if data.draw(st.booleans()):  # The footer's length made to fit again.
        change = len(body) - len(POLARS[name])
        body[-8:-4] = (int.from_bytes(body[-8:-4], "little") + change).to_bytes(4, "little")
    same_or_nothing(bytes(body))


NUMBERS = {"byte": 8, "i16": 16, "i32": 32, "i64": 64}


def spoil(shape: Any, value: Any, data: st.DataObject) -> Any:
    """One thing changed somewhere in what was read in this shape."""
    if isinstance(shape, ListOf):
        if not value or data.draw(st.integers(0, 5)) == 0:
            return data.draw(st.sampled_from([[], value[1:], value * 2, value[::-1]]))
        at = data.draw(st.integers(0, len(value) - 1))
        return [*value[:at], spoil(shape.item, value[at], data), *value[at + 1 :]]
    if isinstance(shape, dict):
        if not value:
            return value
        field = data.draw(st.sampled_from(sorted(value)))
        if data.draw(st.integers(0, 7)) == 0:
            return {n: v for n, v in value.items() if n != field}
        return value | {field: spoil(shape[field], value[field], data)}
    if shape == "bool":
        return not value
    if shape == "binary":
        return data.draw(st.sampled_from([b"", value + b"x", value[1:], b"a" * 127, b"a" * 128]))
    most = 2 ** (NUMBERS[shape] - 1)
    near = st.sampled_from([-2, -1, 1, 2, 1_000]).map(lambda step: value + step)
    far = st.sampled_from([-most, -1, 0, 1, 2, 2**27 - 1, 2**27, 2**31 - 1, most - 1])
    return min(max(data.draw(near | far), -most), most - 1)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(POLARS)), st.data())
def test_any_field_of_the_footer_may_lie(name: str, data: st.DataObject) -> None:
    same_or_nothing(
        with_footer(POLARS[name], lambda footer: footer.update(spoil(FILE_SHAPE, footer, data)))
    )
