"""The master table: its content, its version, and its file."""

import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn46.mechanism.draw import ZipRow
from sn46.mechanism.names import ZipCode
from sn46.zipcodes import (
    MasterTable,
    ZipTableError,
    load_bundled_table,
    load_table,
    save_table,
    with_expected,
)


def row(zipcode: str, **fields: object) -> ZipRow:
    base = ZipRow(
        zipcode=ZipCode(zipcode),
        expected_listings=None,
        state="NJ",
        city="Lakewood",
        county="Ocean County",
        latitude=40.08,
        longitude=-74.2,
        population=100,
        property_count=50,
        home_value=300_000,
        updated_on=None,
    )
    return replace(base, **fields)  # type: ignore[arg-type]


SMALL = (
    row("08701", expected_listings=300, updated_on=date(2026, 1, 2)),
    row("00501", home_value=None, population=0, property_count=0),
    row("98103", state="WA", latitude=47.67, longitude=-122.34),
)


@pytest.fixture(scope="module")
def bundled() -> MasterTable:
    return load_bundled_table()


def test_the_bundled_table_holds_every_us_zip_with_the_census(bundled: MasterTable) -> None:
    assert len(bundled) == 42_724
    assert sum(r.home_value is not None for r in bundled.rows) == 31_448
    assert sum(r.population for r in bundled.rows) == 307_592_989
    assert sum(r.property_count for r in bundled.rows) == 131_499_733
    assert all(r.expected_listings is None and r.updated_on is None for r in bundled.rows)


def test_leading_zeros_are_there(bundled: MasterTable) -> None:
    lakewood = bundled.by_zipcode[ZipCode("08701")]
    assert (lakewood.city, lakewood.state, lakewood.county) == ("Lakewood", "NJ", "Ocean County")
    assert bundled.rows[0].zipcode == "00501"
    assert all(len(r.zipcode) == 5 and r.zipcode.isdigit() for r in bundled.rows)


def test_the_version_does_not_depend_on_the_order_of_rows(bundled: MasterTable) -> None:
    shuffled = list(bundled.rows)
    random.Random(5).shuffle(shuffled)
    again = MasterTable(tuple(shuffled))
    assert again == bundled
    assert again.version == bundled.version
    assert len(bundled.version) == 64


@given(st.permutations(SMALL))
def test_any_order_gives_one_version(rows: list[ZipRow]) -> None:
    assert MasterTable(tuple(rows)).version == MasterTable(SMALL).version


@pytest.mark.parametrize(
    "change",
    [
        {"expected_listings": 301},
        {"expected_listings": None},
        {"state": "NY"},
        {"city": "Lakewood Township"},
        {"county": ""},
        {"latitude": 40.081},
        {"longitude": -74.21},
        {"population": 101},
        {"property_count": 51},
        {"home_value": None},
        {"updated_on": date(2026, 1, 3)},
    ],
)
def test_any_change_gives_another_version(change: dict[str, object]) -> None:
    changed = MasterTable((replace(SMALL[0], **change), *SMALL[1:]))  # type: ignore[arg-type]
    assert changed.version != MasterTable(SMALL).version


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((row("8701"),), "five digits"),
        ((row("０8701"),), "five digits"),
        ((row("08701"), row("08701")), "more than once"),
        ((row("08701", latitude=float("nan")),), "latitude"),
        ((row("08701", longitude=200.0),), "longitude"),
        ((row("08701", population=-1),), "population"),
    ],
)
def test_what_cannot_be_is_refused(rows: tuple[ZipRow, ...], said: str) -> None:
    with pytest.raises(ZipTableError, match=said):
        MasterTable(rows)


def test_expected_counts_are_added_with_their_day() -> None:
    table = MasterTable(SMALL)
    today = date(2026, 5, 1)
    updated = with_expected(table, {ZipCode("98103"): 600, ZipCode("00501"): 0}, today)
    figures = {r.zipcode: (r.expected_listings, r.updated_on) for r in updated.rows}
    assert figures == {
        "00501": (0, today),
        "08701": (300, date(2026, 1, 2)),
        "98103": (600, today),
    }
    assert updated.version != table.version
    assert table == MasterTable(SMALL)


def test_counts_of_unknown_zips_and_negative_ones_are_refused() -> None:
    with pytest.raises(ZipTableError, match=r"1 ZIPs .* '8701'"):
        with_expected(MasterTable(SMALL), {ZipCode("8701"): 3}, date(2026, 5, 1))
    with pytest.raises(ZipTableError, match="98103 has expected_listings -1"):
        with_expected(MasterTable(SMALL), {ZipCode("98103"): -1}, date(2026, 5, 1))


def test_a_saved_table_is_read_back_whole(bundled: MasterTable, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.parquet"
    save_table(MasterTable(SMALL), path)
    save_table(bundled, path)
    again = load_table(path)
    assert again == bundled
    assert (again.version, again.repaired) == (bundled.version, 0)
    assert [p.name for p in path.parent.iterdir()] == ["table.parquet"]


@pytest.mark.parametrize(
    ("zipcodes", "repaired"),
    [
        (pl.Series("zipcode", [8701, 501, 98103]), 2),
        (pl.Series("zipcode", [8701.0, 501.0, 98103.0]), 2),
        (pl.Series("zipcode", ["8701", "00501", " 98103"]), 1),
        (pl.Series("zipcode", ["08701", "00501", "98103"]), 0),
    ],
)
def test_zips_that_lost_zeros_are_repaired_and_counted(
    tmp_path: Path, zipcodes: pl.Series, repaired: int
) -> None:
    path = tmp_path / "table.parquet"
    frame = MasterTable(SMALL).to_frame().sort("zipcode")
    # to_frame is sorted by ZIP; the series above are in SMALL's order.
    in_order = pl.concat([frame[1:2], frame[0:1], frame[2:3]])
    in_order.with_columns(zipcodes).write_parquet(path)
    table = load_table(path)
    assert table == MasterTable(SMALL)
    assert (table.repaired, table.version) == (repaired, MasterTable(SMALL).version)


def _owner_file(path: Path, **columns: object) -> Path:
    MasterTable(SMALL).to_frame().with_columns(**columns).write_parquet(path)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"zipcode": pl.Series(["08701", "O0501", "98103"])}, "'O0501'"),
        ({"zipcode": pl.Series([8701, 98103, 987654])}, "'987654'"),
        ({"zipcode": pl.Series(["08701", None, "98103"])}, "not ZIP codes"),
        ({"zipcode": pl.Series([8701.5, 1.0, 2.0])}, "fractions in zipcode"),
        ({"zipcode": pl.Series(["8701", "08701", "98103"])}, "08701 stands .* more than once"),
        ({"population": pl.Series(["many", "1", "2"])}, "population"),
        ({"population": pl.Series([1.5, 1.0, 2.0])}, "fractions in population"),
        ({"state": pl.Series(["NJ", None, "WA"])}, "1 gaps in state"),
        ({"latitude": pl.Series([1.0, None, 2.0])}, "1 gaps in latitude"),
        ({"updated_on": pl.Series(["soon", None, None])}, "updated_on"),
    ],
)
def test_values_that_do_not_fit_are_named(
    tmp_path: Path, columns: dict[str, object], said: str
) -> None:
    with pytest.raises(ZipTableError, match=said):
        load_table(_owner_file(tmp_path / "table.parquet", **columns))


def test_gaps_with_a_meaning_are_filled(tmp_path: Path) -> None:
    path = _owner_file(tmp_path / "t.parquet", city=None, county=None, population=None)
    assert {(r.city, r.county, r.population) for r in load_table(path).rows} == {("", "", 0)}


def test_wrong_columns_are_named(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    MasterTable(SMALL).to_frame().rename({"zipcode": "zip", "state": "st"}).write_parquet(path)
    with pytest.raises(ZipTableError, match=r"lacks zipcode, state and has unknown zip, st\."):
        load_table(path)


def test_content_changed_behind_its_label_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    save_table(MasterTable(SMALL), path)
    label = pl.read_parquet_metadata(path)["sn46.table_version"]
    changed = pl.read_parquet(path).with_columns(population=pl.lit(7, dtype=pl.Int64))
    changed.write_parquet(path, metadata={"sn46.table_version": label})
    with pytest.raises(ZipTableError, match="was changed after it was written"):
        load_table(path)


def test_a_missing_and_a_broken_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ZipTableError, match="There is no ZIP table at"):
        load_table(tmp_path / "none.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ZipTableError, match="not a readable Parquet file"):
        load_table(tmp_path / "broken.parquet")
    save_table(MasterTable(SMALL), tmp_path / "cut.parquet")
    whole = (tmp_path / "cut.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ZipTableError, match="not a readable Parquet file"):
        load_table(tmp_path / "cut.parquet")


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ZipTableError, match="cannot be written"):
        save_table(MasterTable(SMALL), tmp_path / "file" / "table.parquet")


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    endless = (
        "import sys; from pathlib import Path; from sn46.zipcodes import *\n"
        "table = load_bundled_table()\n"
        "while True: save_table(table, Path(sys.argv[1]))"
    )
    for _ in range(2):
        writer = subprocess.Popen([sys.executable, "-c", endless, str(path)])
        try:
            before = path.stat().st_mtime_ns if path.exists() else 0
            deadline = time.monotonic() + 30
            while (path.stat().st_mtime_ns if path.exists() else 0) == before:
                assert time.monotonic() < deadline
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        assert len(load_table(path)) == 42_724
