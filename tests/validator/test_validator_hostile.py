"""Hostile uploads through the real worker: none stops, slows or swells a validator, and each costs
its sender alone."""

import json
import multiprocessing
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
import pytest_asyncio
from exports import Frozen, upload
from hypothesis import given, settings
from hypothesis import strategies as st
from mechanism.builders import (
    EPOCH,
    FULL_OPTIONAL,
    Submission,
    assigned_zip,
    chain_view,
    key,
    listings,
    new_assignment,
)
from mechanism.test_hostile import in_column, parquet, with_footer

from sn46.mechanism.listings import SCHEMA, write_listings
from sn46.mechanism.parquetfile import Decoded, Limits, decode, decode_all
from sn46.mechanism.parquetfooter import FileSchemaFault, FileSizeFault
from sn46.mechanism.quick import (
    DECODED_FLOOR,
    FOOTERS_FLOOR,
    STORED_FLOOR,
    QuickResult,
    submission_limits,
)
from sn46.mechanism.signing import sign_document
from sn46.mechanism.submission import MAX_MANIFEST_BYTES, manifest_key, miner_prefix
from sn46.validator.examiner import Examiner
from sn46.validator.judging import Judging
from sn46.workers.messages import packed
from sn46.workers.pool import WorkerProcess

ZIPS = tuple(f"152{number:02d}" for number in range(10, 22))
ASSIGNMENT = new_assignment([assigned_zip(zipcode, expected=20) for zipcode in ZIPS])
ROWS = {zipcode: listings(10, zipcode, 100 * n) for n, zipcode in enumerate(ZIPS)}
SECONDS = 20


def sent(name: str) -> Submission:
    return Submission(ASSIGNMENT, key(name), ROWS)


def with_bodies(made: Submission, body: bytes, rows: int, count: int = len(ZIPS)) -> Submission:
    """The same bytes in the places of some ZIPs, honestly named in the manifest."""
    for zipcode in ZIPS[:count]:
        made = made.with_body(zipcode, body, rows)
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Examiner]:
    made = Examiner(seconds=60, memory_mb=1_500, workers=2)
    yield made
    made.close()


async def examined(examiner: Examiner, made: Submission) -> QuickResult:
    view = chain_view({made.hotkey: "cold"})
    return await examiner.examine(
        ASSIGNMENT, view, made.hotkey, made.manifest_upload(), made.files()
    )


def codes(result: QuickResult) -> list[str]:
    return [reason.code for reason in result.reasons]


def worker_ids() -> set[int]:
    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}


# Files, each of which a stranger can upload -------------------------------------------------------


def bomb() -> bytes:
    """A text of blanks, a hundredth of its size in the store."""
    return write_listings(listings(1, address=" " * 40_000_000))


def dictionary_bomb(*, as_categories: bool) -> bytes:
    """One long text for each of 10,000 rows: some kilobytes in the store, 3 GB as texts."""
    table = listings(10_000).to_arrow()
    texts = pa.DictionaryArray.from_arrays(
        pa.array([0] * 10_000, pa.int32()), pa.array(["a" * 300_000])
    )
    at = table.column_names.index("county")
    table = table.set_column(at, "county", texts)
    return parquet(table, store_schema=as_categories, dictionary_pagesize_limit=2**30)


def nested() -> bytes:
    """A column of lists of lists, a hundred deep."""
    kind: Any = pa.string()
    for _ in range(100):
        kind = pa.list_(kind)
    table = listings(3).to_arrow()
    at = table.column_names.index("county")
    return parquet(table.set_column(at, pa.field("county", kind), pa.nulls(3, kind)))


def twice_a_column() -> bytes:
    table = listings(3).to_arrow()
    return parquet(table.append_column("county", table.column("county")))


def other_types() -> bytes:
    frame = listings(3).with_columns(pl.col("zipcode").cast(pl.Int64))
    return parquet(frame)


def corrupt_pages() -> bytes:
    body = bytearray(write_listings(listings(10, **FULL_OPTIONAL)))
    body[60:1_500] = bytes(1_440)
    return bytes(body)


def big_footer() -> bytes:
    table = listings(3).to_arrow().replace_schema_metadata({"note": "x" * 1_100_000})
    return parquet(table)


def many_pages() -> bytes:
    """A page for each value and each column."""
    frame = listings(2_000)
    return parquet(frame, use_dictionary=False, data_page_size=1, write_batch_size=1)


HOSTILE_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "bomb": (bomb, "file_too_large"),
    "dictionary": (lambda: dictionary_bomb(as_categories=False), "file_too_large"),
    "categories": (lambda: dictionary_bomb(as_categories=True), "file_too_large"),
    "2^31 rows": (
        lambda: with_footer(write_listings(listings(3)), lambda f: f.update({3: 2**31})),
        "file_too_large",
    ),
    "2^31 values": (
        lambda: with_footer(write_listings(listings(3)), in_column(5, 2**31)),
        "file_schema",
    ),
    "nested": (nested, "file_schema"),
    "twice a column": (twice_a_column, "file_schema"),
    "other types": (other_types, "file_schema"),
    "corrupt pages": (corrupt_pages, "file_schema"),
    "big footer": (big_footer, "file_too_large"),
    "many pages": (many_pages, "file_too_large"),
    "no bytes": (lambda: b"", "file_schema"),
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", HOSTILE_FILES)
async def test_a_hostile_file_is_refused_by_a_worker_that_lives_on(
    shared: Examiner, name: str
) -> None:
    """By limits that are the same everywhere: no time, no memory, no killed worker decides."""
    make, code = HOSTILE_FILES[name]
    await examined(shared, sent("ann"))
    before, began = worker_ids(), time.monotonic()
    result = await examined(shared, sent("eve").with_body(ZIPS[3], make(), 3))
    assert codes(result) == [code]
    assert result.reasons[0].count == 1
    assert time.monotonic() - began < SECONDS
    assert before <= worker_ids()


# Submissions of files that are each allowed -------------------------------------------------------


def chance_texts(rows: int, size: int) -> pl.DataFrame:
    """Rows with texts that no compression makes smaller."""
    texts = [os.urandom(size // 2).hex() for _ in range(rows)]
    return listings(rows).with_columns(source_url=pl.Series(texts))


@pytest.mark.asyncio(loop_scope="module")
async def test_more_rows_than_a_submission_may_have(shared: Examiner) -> None:
    most = submission_limits(ASSIGNMENT).rows
    body = write_listings(listings(most // 2))
    result = await examined(shared, with_bodies(sent("eve"), body, most // 2, 3))
    assert codes(result) == ["file_too_large"]
    assert f"over {most} rows" in result.reasons[0].detail


@pytest.mark.asyncio(loop_scope="module")
async def test_a_manifest_that_claims_few_rows_hides_none(shared: Examiner) -> None:
    most = submission_limits(ASSIGNMENT).rows
    body = write_listings(listings(most // 2))
    result = await examined(shared, with_bodies(sent("eve"), body, 1, 3))
    assert codes(result) == ["file_too_large"]


@pytest.mark.asyncio(loop_scope="module")
async def test_more_text_than_a_submission_may_have(shared: Examiner) -> None:
    """Each row within what a row may have, each file within what a file may."""
    frame = listings(1_000).with_columns(source_url=pl.lit("a" * 15_000))
    body = parquet(frame, store_schema=False)
    assert len(body) < 200_000
    assert DECODED_FLOOR < 1_000 * 15_000 * 5
    result = await examined(shared, with_bodies(sent("eve"), body, 1_000, 5))
    assert codes(result) == ["file_too_large"]
    assert "decoded bytes" in result.reasons[0].detail
    assert codes(await examined(shared, with_bodies(sent("eve"), body, 1_000, 3))) != codes(result)


@pytest.mark.asyncio(loop_scope="module")
async def test_more_footers_than_a_submission_may_have(shared: Examiner) -> None:
    table = listings(10).to_arrow().replace_schema_metadata({"note": "x" * 200_000})
    body = parquet(table)
    assert (len(body) - pages_end(body)) * 5 > FOOTERS_FLOOR
    result = await examined(shared, with_bodies(sent("eve"), body, 10, 5))
    assert codes(result) == ["file_too_large"]
    assert "footer bytes" in result.reasons[0].detail


@pytest.mark.asyncio(loop_scope="module")
async def test_too_many_bytes_are_not_even_fetched(shared: Examiner) -> None:
    """Counted before anything is read, in the manifest or not."""
    frozen = Frozen()
    made = sent("eve")
    frozen.add(made.manifest_upload())
    each = STORED_FLOOR // len(ZIPS) + 1
    for file in made.files().values():
        frozen.add(upload(file.info.key, file.body, ASSIGNMENT, size=each))
    reads = Reads(frozen)
    view = chain_view({made.hotkey: "cold"})
    stage = await Judging(ASSIGNMENT, view, reads, shared).quick()
    assert codes(stage.lined_up.results[made.hotkey]) == ["file_too_large"]
    assert reads.keys == [manifest_key(made.hotkey, EPOCH.id)]


class Reads(Frozen):
    """Frozen objects that note which of them are read."""

    def __init__(self, frozen: Frozen) -> None:
        super().__init__(frozen.uploads)
        self.keys: list[str] = []

    async def read(self, key: str) -> bytes:
        self.keys.append(key)
        return await super().read(key)


# Folders ------------------------------------------------------------------------------------------


@pytest.mark.asyncio(loop_scope="module")
async def test_a_hundred_thousand_tiny_files_are_never_read(shared: Examiner) -> None:
    made = sent("eve")
    frozen = Frozen()
    frozen.add(made.manifest_upload(), *made.files().values())
    prefix = miner_prefix(made.hotkey, EPOCH.id)
    for number in range(100_000):
        frozen.add(upload(f"{prefix}zipcode={number:05d}/x{number}", b"x", ASSIGNMENT))
    reads, began = Reads(frozen), time.monotonic()
    view = chain_view({made.hotkey: "cold"})
    stage = await Judging(ASSIGNMENT, view, reads, shared).quick()
    assert codes(stage.lined_up.results[made.hotkey]) == []
    assert len(reads.keys) == 1 + len(ZIPS)
    assert time.monotonic() - began < SECONDS


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("size", [MAX_MANIFEST_BYTES + 1, 100 * 2**20])
async def test_a_manifest_of_many_bytes_is_never_read(shared: Examiner, size: int) -> None:
    made = sent("eve")
    frozen = Frozen()
    frozen.add(*made.files().values())
    place = manifest_key(made.hotkey, EPOCH.id)
    frozen.add(upload(place, made.manifest_upload().body, ASSIGNMENT, size=size))
    reads = Reads(frozen)
    view = chain_view({made.hotkey: "cold"})
    stage = await Judging(ASSIGNMENT, view, reads, shared).quick()
    result = stage.lined_up.results[made.hotkey]
    assert codes(result) == ["manifest_signature"]
    assert f"{size} bytes" in result.reasons[0].detail
    assert place not in reads.keys


@pytest.mark.asyncio(loop_scope="module")
async def test_a_manifest_full_of_entries_is_read_in_no_time(shared: Examiner) -> None:
    """As many entries as fit into it, all but the first for ZIPs that nobody was assigned."""
    made = sent("eve")
    document = json.loads(made.manifest_upload().body)
    entry = document["files"][0]
    document["files"] = [entry | {"zipcode": f"{n:05d}"} for n in range(99_999, 89_999, -1)]
    body = json.dumps(sign_document(document, made.signer)).encode()
    assert len(body) < MAX_MANIFEST_BYTES
    began = time.monotonic()
    result = await shared.examine(
        ASSIGNMENT,
        chain_view({made.hotkey: "cold"}),
        made.hotkey,
        upload(manifest_key(made.hotkey, EPOCH.id), body, ASSIGNMENT),
        made.files(),
    )
    assert codes(result) == ["wrong_zipcode"]
    assert len(result.reasons[0].detail) < 1_000
    assert time.monotonic() - began < SECONDS


@pytest.mark.asyncio(loop_scope="module")
async def test_a_manifest_cannot_name_files_elsewhere(shared: Examiner) -> None:
    """Keys that lead into another's folder, or nowhere."""
    ann = sent("ann")
    others = {f.info.key for f in ann.files().values()}
    for place in [*sorted(others)[:2], "../../etc/passwd", "", "a" * 5_000, "x\x00"]:
        made = sent("eve")
        made.entries[ZIPS[0]] = {"key": place}
        files = made.files() | ann.files()
        view = chain_view({made.hotkey: "cold"})
        result = await shared.examine(ASSIGNMENT, view, made.hotkey, made.manifest_upload(), files)
        assert codes(result) == ["file_missing"]


def sent_back(rows: int, size: int) -> int:
    """How many bytes a worker sends for half of the rows, where the other half has long texts."""
    frame = pl.DataFrame({"text": ["x" * size, "listing 1"] * (rows // 2)})
    return sum(map(len, packed(frame.filter(pl.col("text").str.len_bytes() < size))))


async def test_the_texts_of_dropped_rows_stay_with_the_worker() -> None:
    """Or each miner could have a validator hold as much as it may upload, until the epoch ends."""
    worker = WorkerProcess(1_000 * 2**20)
    try:
        assert await worker.ask(60, sent_back, 2_000, 10_000) < 100_000
    finally:
        worker.close()


# Who pays -----------------------------------------------------------------------------------------


def frozen_of(*submissions: Submission) -> Frozen:
    frozen = Frozen()
    for made in submissions:
        frozen.add(made.manifest_upload(), *made.files().values())
    return frozen


async def test_a_worker_that_is_killed_costs_its_sender_alone() -> None:
    """Where memory runs out the worker ends. It is tried once more, alone; everybody else's
    submission is judged as if nothing had been, at whatever moment of the epoch."""
    names = [f"miner {n}" for n in range(4)]
    swollen = with_bodies(sent("eve"), write_listings(chance_texts(900, 5_000)), 900, 3)
    honest = [sent(name) for name in names]
    view = chain_view({made.hotkey: f"cold {made.hotkey}" for made in [*honest, swollen]})
    scarce = Examiner(seconds=60, memory_mb=24, workers=2)
    try:
        stage = await Judging(ASSIGNMENT, view, frozen_of(*honest, swollen), scarce).quick()
    finally:
        scarce.close()
    results = stage.lined_up.results
    assert codes(results[swollen.hotkey]) == ["file_schema"]
    assert "decoding crashed" in results[swollen.hotkey].reasons[0].detail
    for made in honest:
        expected = made.examine(view)
        found = results[made.hotkey]
        assert replace(found, kept=expected.kept) == expected
        assert found.kept.equals(expected.kept)


async def test_the_verdict_of_many_workers_is_that_of_one() -> None:
    made = [sent(f"miner {n}") for n in range(4)]
    bad = [sent(f"bad {n}").with_body(ZIPS[n], corrupt_pages(), 10) for n in range(2)]
    view = chain_view({one.hotkey: f"cold {one.hotkey}" for one in [*made, *bad]})
    stages = []
    for workers in (1, 2):
        examiner = Examiner(seconds=60, memory_mb=1_500, workers=workers)
        try:
            stages.append(await Judging(ASSIGNMENT, view, frozen_of(*made, *bad), examiner).quick())
        finally:
            examiner.close()
    one, many = stages
    assert one.plan == many.plan
    assert one.lined_up.standings == many.lined_up.standings
    assert list(one.lined_up.results) == list(many.lined_up.results)
    for hotkey_, result in one.lined_up.results.items():
        other = many.lined_up.results[hotkey_]
        assert replace(result, kept=other.kept) == other
        assert result.kept.equals(other.kept)


# Fuzzing of the readers ---------------------------------------------------------------------------

PLAIN = [
    write_listings(listings(3, **FULL_OPTIONAL)),
    parquet(listings(30, **FULL_OPTIONAL), row_group_size=10, compression="none"),
    parquet(listings(40), compression="none", data_page_version="2.0"),
    parquet(
        listings(20, **FULL_OPTIONAL),
        compression="none",
        use_dictionary=False,
        column_encoding={"sale_price": "DELTA_BINARY_PACKED", "latitude": "BYTE_STREAM_SPLIT"},
    ),
]
WIDE = Limits(rows=10**6, pages=10**6, footer_bytes=10**8, decoded_bytes=10**8)


def pages_end(body: bytes) -> int:
    return len(body) - 8 - int.from_bytes(body[-8:-4], "little")


def read_alone(body: bytes) -> Decoded:
    try:
        return decode(body, most_rows=10_000)
    except (FileSchemaFault, FileSizeFault) as fault:
        return fault


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(PLAIN), st.sampled_from(PLAIN), st.data())
def test_files_read_together_are_what_they_are_alone(
    body: bytes, other: bytes, data: st.DataObject
) -> None:
    """Broken pages behind a sound footer, beside files in order: one call for all of them gives
    what a call for each gives, and one file's fault is never another's."""
    broken = bytearray(body)
    for _ in range(data.draw(st.integers(0, 4))):
        broken[data.draw(st.integers(4, pages_end(body) - 1))] = data.draw(st.integers(0, 255))
    bodies = [other, bytes(broken), other]
    together = decode_all([(one, 10_000) for one in bodies], WIDE)
    for one, found in zip(bodies, together, strict=True):
        alone = read_alone(one)
        if isinstance(alone, pl.DataFrame):
            assert isinstance(found, pl.DataFrame)
            assert found.equals(alone)
            assert found.schema == pl.Schema(SCHEMA)
        else:
            assert (type(found), str(found)) == (type(alone), str(alone))
    assert isinstance(together[0], pl.DataFrame)
    assert isinstance(together[2], pl.DataFrame)
