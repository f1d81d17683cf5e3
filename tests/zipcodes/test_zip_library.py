"""The library: how sources become a table, what each import changes, and what survives a crash."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from zipfiles import (
    NEWEST,
    SMALL,
    TODAY,
    SetClock,
    month_before,
    redfin_row,
    redfin_windows,
    small_library,
    write_owner,
    write_realtor,
    write_redfin,
    write_zillow,
    zip_row,
)

from sn46.api.tables import TableFile
from sn46.mechanism.draw import DrawHistory, DrawRules, eligible_rows
from sn46.mechanism.epochs import epoch_at
from sn46.mechanism.names import ZipCode
from sn46.zipcodes import Library, MasterTable, ZipTableError, load_table, save_table
from sn46.zipcodes.composing import Composing, StandingFigure, compose
from sn46.zipcodes.figures import Figure, Quantity, Source

MONTHS_36 = [month_before(ago) for ago in reversed(range(36))]


def expected(library: Library) -> dict[str, int]:
    """The figures that a source gave, out of the published table."""
    table = load_table(library.table)
    origins = library.origins(table.version)
    return {
        row.zipcode: row.expected_listings
        for row in table.rows
        if row.expected_listings is not None and origins[row.zipcode] != "estimate"
    }


def origins(library: Library) -> dict[str, str]:
    return dict(library.origins(load_table(library.table).version))


def everything(folder: Path) -> dict[str, bytes]:
    """All files under a folder but the database and the lock, with their content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("library.sqlite", "lock")
    }


class TestImports:
    def test_an_import_makes_a_version_that_names_its_file(self, tmp_path: Path) -> None:
        library = small_library(tmp_path)
        result = library.import_file(write_owner(tmp_path / "a.csv", "08701,1007,2026-11-01"))
        table = load_table(library.table)
        assert table.by_zipcode[ZipCode("08701")].expected_listings == 1007
        assert table.by_zipcode[ZipCode("08701")].updated_on == date(2026, 11, 1)
        (record,) = library.history()
        assert record == result.record
        assert (record.version, record.what) == (table.version, "owner a.csv")
        assert record.file_sha256 == result.file.sha256
        assert (result.changes.figures, result.changes.new) == (1, 1)
        assert library.load_version(record.version[:8]) == table

    def test_the_bundled_table_is_the_base_where_there_is_none(self, tmp_path: Path) -> None:
        library = Library(tmp_path / "zipcodes.parquet", SetClock())
        library.import_file(write_owner(tmp_path / "a.csv", "11211,1007,"))
        table = load_table(library.table)
        assert len(table) == 42_724
        assert sum(row.expected_listings or 0 for row in table.rows) == 3_561_526
        assert origins(library)["11211"] == "owner"
        assert origins(library)["08701"] == "estimate"

    def test_rejects_never_take_the_place_of_the_file(self, tmp_path: Path) -> None:
        path = write_owner(tmp_path / "a.csv", "08701,1007,2026-11-01")
        before = path.read_bytes()
        (tmp_path / "same.csv").symlink_to(path)
        for rejects in (path, tmp_path / "same.csv"):
            with pytest.raises(ZipTableError, match="need one of their own"):
                small_library(tmp_path).import_file(path, rejects=rejects)
        assert path.read_bytes() == before

    def test_the_same_file_again_makes_no_version(self, tmp_path: Path) -> None:
        clock = SetClock()
        library = small_library(tmp_path, clock)
        path = write_owner(tmp_path / "a.csv", "08701,1007,2026-11-01")
        library.import_file(path)
        before = everything(tmp_path)
        clock.pass_days(3)
        again = library.import_file(path)
        assert again.record is None
        assert again.imported_before is not None
        assert everything(tmp_path) == before
        assert len(library.history()) == 1

    def test_equal_figures_in_another_file_make_no_version(self, tmp_path: Path) -> None:
        library = small_library(tmp_path)
        library.import_file(write_owner(tmp_path / "a.csv", "08701,1007,2026-11-01"))
        other = write_owner(tmp_path / "b.csv", "8701,1007.0,2026-11-01")
        result = library.import_file(other)
        assert (result.taken, result.same, result.record) == (0, 1, None)
        assert len(library.history()) == 1

    def test_an_older_file_overrides_nothing_newer(self, tmp_path: Path) -> None:
        library = small_library(tmp_path)
        library.import_file(
            write_owner(tmp_path / "new.csv", "08701,1007,2026-11-01", "98103,5,2026-09-01")
        )
        lines = ("08701,1,2026-10-01", "98103,6,2026-10-01", "07030,7,2025-01-01")
        result = library.import_file(write_owner(tmp_path / "old.csv", *lines))
        assert (result.taken, result.older) == (2, 1)
        assert expected(library) == {"08701": 1007, "98103": 6, "07030": 7}
        assert (result.changes.new, result.changes.changed, result.changes.dropped) == (1, 1, 0)

    def test_a_restated_figure_of_the_same_day_replaces_the_first(self, tmp_path: Path) -> None:
        library = small_library(tmp_path)
        for sold in (30, 33):
            rows = redfin_windows("08701", sold)
            library.import_file(write_redfin(tmp_path / f"{sold}.tsv", rows))
        assert expected(library) == {"08701": 12 * 33}

    def test_figures_without_a_day_can_be_confirmed(self, tmp_path: Path) -> None:
        clock = SetClock()
        library = small_library(tmp_path, clock)
        path = write_owner(tmp_path / "a.csv", "08701,7", header="zipcode,expected_listings")
        library.import_file(path)
        clock.pass_days(20)
        assert library.import_file(path).record is None
        later = TODAY + timedelta(days=20)
        library.import_file(path, as_of=later)
        row = load_table(library.table).by_zipcode[ZipCode("08701")]
        assert (row.expected_listings, row.updated_on) == (7, later)
        with pytest.raises(ZipTableError, match="cannot be as of 2027"):
            library.import_file(path, as_of=date(2027, 1, 1))

    @pytest.mark.parametrize(
        "content", [b"", b"a,b\n1,2\n", b"zipcode,expected_listings\n99999,5\n", b"\x1f\x8b\x08"]
    )
    def test_a_file_that_cannot_be_used_changes_nothing(
        self, tmp_path: Path, content: bytes
    ) -> None:
        library = small_library(tmp_path)
        (tmp_path / "bad.csv").write_bytes(content)
        before = everything(tmp_path)
        with pytest.raises(ZipTableError):
            library.import_file(tmp_path / "bad.csv")
        assert everything(tmp_path) == before
        assert not library.exists

    def test_a_dry_run_says_what_would_be_and_writes_nothing(self, tmp_path: Path) -> None:
        library = small_library(tmp_path)
        first = write_owner(tmp_path / "a.csv", "08701,1007,2026-11-01")
        second = write_owner(tmp_path / "b.csv", "08701,1008,2026-11-02", "98103,5,2026-11-02")
        before = everything(tmp_path)
        foreseen = library.import_file(first, dry_run=True)
        assert everything(tmp_path) == before
        assert not library.folder.exists()
        assert library.import_file(first).record == foreseen.record
        before = everything(tmp_path)
        foreseen = library.import_file(second, dry_run=True)
        assert everything(tmp_path) == before
        assert (foreseen.changes.new, foreseen.changes.changed) == (1, 1)
        assert library.import_file(second).record == foreseen.record

    def test_the_last_import_can_be_undone_once(self, tmp_path: Path) -> None:
        library = small_library(tmp_path)
        library.import_file(write_owner(tmp_path / "a.csv", "08701,1007,2026-11-01"))
        first = load_table(library.table)
        wrong = write_owner(tmp_path / "b.csv", "08701,3,2026-11-02", "98103,5,2026-11-02")
        library.import_file(wrong)
        record = library.undo()
        assert record is not None
        assert record.what == "undo of owner b.csv"
        assert (record.changes.changed, record.changes.dropped) == (1, 1)
        assert load_table(library.table) == first
        with pytest.raises(ZipTableError, match="only the last one"):
            library.undo()
        assert library.import_file(wrong).taken == 2

    async def test_the_api_reads_the_new_table_without_a_restart(self, tmp_path: Path) -> None:
        library = small_library(tmp_path)
        served = TableFile(library.table)
        assert (await served.load()).version == SMALL.version
        library.import_file(write_owner(tmp_path / "a.csv", "08701,1007,"))
        assert (await served.load()).version == library.history()[0].version


class TestAdoption:
    def test_a_table_that_is_there_is_where_the_library_begins(self, tmp_path: Path) -> None:
        table = tmp_path / "zipcodes.parquet"
        day = date(2026, 11, 1)
        save_table(
            MasterTable(
                (zip_row("08701", expected_listings=900, updated_on=day), zip_row("98103"))
            ),
            table,
        )
        library = Library(table, SetClock())
        library.import_file(write_owner(tmp_path / "a.csv", "98103,5,2026-11-02", "11211,5,"))
        assert expected(library) == {"08701": 900, "98103": 5}
        assert len(load_table(table)) == 2

    def test_a_table_from_elsewhere_is_not_overwritten(self, tmp_path: Path) -> None:
        library = small_library(tmp_path)
        library.import_file(write_owner(tmp_path / "a.csv", "08701,1007,"))
        save_table(MasterTable((zip_row("08701"),)), library.table)
        path = write_owner(tmp_path / "b.csv", "98103,5,")
        with pytest.raises(ZipTableError, match="did not make and would overwrite"):
            library.import_file(path)
        assert len(load_table(library.table)) == 1
        library.table.unlink()
        library.import_file(path)
        assert expected(library) == {"08701": 1007, "98103": 5}

    def test_a_library_that_is_broken_says_what_to_do(self, tmp_path: Path) -> None:
        library = small_library(tmp_path)
        library.import_file(write_owner(tmp_path / "a.csv", "08701,1007,"))
        (library.folder / "library.sqlite").write_bytes(b"not a database" * 100)
        with pytest.raises(ZipTableError, match=r"cannot be used .* move the folder away"):
            library.import_file(write_owner(tmp_path / "b.csv", "98103,5,"))


class TestPrecedence:
    def test_the_stated_order_decides(self, tmp_path: Path) -> None:
        library = small_library(tmp_path)
        zips = ("08701", "07030", "98103", "11211")
        library.import_file(write_realtor(tmp_path / "r.csv", {z: [20] * 36 for z in zips}))
        assert expected(library) == dict.fromkeys(zips, 720 * 3 // 4)
        counts = [(z, [9] * 36) for z in zips[:3]]
        library.import_file(write_zillow(tmp_path / "sales_count.csv", MONTHS_36, counts))
        rows = [row for z in zips[:2] for row in redfin_windows(z, 30)]
        library.import_file(write_redfin(tmp_path / "redfin.tsv", rows))
        library.import_file(write_owner(tmp_path / "mine.csv", f"08701,7,{NEWEST}"))
        assert expected(library) == {"08701": 7, "07030": 360, "98103": 324, "11211": 540}
        assert origins(library) == {
            "08701": "owner",
            "07030": "redfin",
            "98103": "zillow",
            "11211": "realtor",
        }
        assert [f.source for f in sorted(library.figures_of(ZipCode("08701")))] == [
            "owner",
            "realtor",
            "redfin",
            "zillow",
        ]

    def test_a_figure_gives_way_to_one_that_is_much_newer(self, tmp_path: Path) -> None:
        library = small_library(tmp_path)
        library.import_file(
            write_owner(
                tmp_path / "mine.csv",
                f"08701,7,{TODAY - timedelta(days=90)}",
                f"98103,7,{TODAY - timedelta(days=91)}",
            )
        )
        rows = [row for z in ("08701", "98103") for row in redfin_windows(z, 30)]
        library.import_file(write_redfin(tmp_path / "redfin.tsv", rows))
        assert expected(library) == {"08701": 7, "98103": 360}

    def test_the_order_of_imports_does_not_matter(self, tmp_path: Path) -> None:
        files = [
            write_owner(tmp_path / "mine.csv", f"08701,7,{NEWEST}"),
            write_redfin(tmp_path / "redfin.tsv", redfin_windows("08701", 30)),
            write_realtor(tmp_path / "realtor.csv", {"98103": [20] * 36}),
            write_owner(tmp_path / "c.csv", "08701,5,6", header="zipcode,population,housing_units"),
        ]
        versions: set[str] = set()
        for turn in range(len(files)):
            (tmp_path / str(turn)).mkdir()
            library = small_library(tmp_path / str(turn))
            for path in files[turn:] + files[:turn]:
                library.import_file(path)
            versions.add(load_table(library.table).version)
        assert len(versions) == 1

    def test_zillow_values_go_before_the_census_and_both_before_the_base(
        self, tmp_path: Path
    ) -> None:
        library = small_library(tmp_path)
        values = [("08701", [400_000] * 36)]
        library.import_file(write_zillow(tmp_path / "zip_zhvi.csv", MONTHS_36, values))
        header = "zipcode,population,housing_units,median_home_value"
        lines = ("08701,11,6,390000", "98103,12,5,880000")
        library.import_file(write_owner(tmp_path / "c.csv", *lines, header=header))
        rows = load_table(library.table).by_zipcode
        found = {
            z: (r.home_value, r.population, r.property_count, r.expected_listings)
            for z, r in rows.items()
        }
        assert found["08701"] == (400_000, 11, 6, None)
        assert found["98103"] == (880_000, 12, 5, None)
        assert found["07030"] == (300_000, 9_000, 2_000, None)

    def test_new_listings_count_by_the_share_that_is_seen_to_sell(self) -> None:
        """Over 100 ZIPs that two sources know, the share is measured and not assumed."""
        base = MasterTable(tuple(zip_row(f"{n:05}") for n in range(10_000, 10_101)))

        def said(source: Source, quantity: Quantity, n: int, value: int) -> StandingFigure:
            zipcode = ZipCode(f"{n:05}")
            return StandingFigure(source, Figure(zipcode, quantity, value, NEWEST, TODAY))

        listed = [
            said(Source.REALTOR, Quantity.NEW_LISTINGS, n, 500) for n in range(10_000, 10_101)
        ]
        sold = [said(Source.REDFIN, Quantity.SOLD, n, 450) for n in range(10_000, 10_100)]
        measured = compose(base, listed + sold, Composing())
        assert measured.table.by_zipcode[ZipCode("10100")].expected_listings == 450
        halved = compose(base, listed + sold, Composing(lookback_days=365))
        assert halved.table.by_zipcode[ZipCode("10100")].expected_listings == 150
        assumed = compose(base, listed + sold[:99], Composing())
        assert assumed.table.by_zipcode[ZipCode("10100")].expected_listings == 375


class TestChoices:
    def test_estimates_are_marked_and_not_drawn_unless_the_owner_says_so(
        self, tmp_path: Path
    ) -> None:
        clock = SetClock()
        library = small_library(tmp_path, clock)
        library.import_file(write_owner(tmp_path / "a.csv", "11211,1007,2026-11-20"))
        row = load_table(library.table).by_zipcode[ZipCode("08701")]
        assert (row.expected_listings, row.updated_on) == (108, None)  # 4,000 × 1,007 / 37,180
        assert origins(library) == dict.fromkeys(("08701", "07030", "98103"), "estimate") | {
            "11211": "owner"
        }
        rules = DrawRules(min_zipcode_listings=1)
        epoch = epoch_at(clock.now())

        def drawable() -> set[str]:
            rows = load_table(library.table).rows
            return {r.zipcode for r in eligible_rows(rows, DrawHistory(), rules, epoch)}

        assert drawable() == {"11211"}
        library.initialise(draw_estimates=True)
        assert drawable() == {"11211", "08701", "07030", "98103"}
        assert load_table(library.table).by_zipcode[ZipCode("08701")].updated_on == date(
            2026, 11, 20
        )
        library.import_file(write_owner(tmp_path / "b.csv", "08701,9,2026-11-21"))
        assert library.choices().draw_estimates
        library.initialise(draw_estimates=False)
        assert drawable() == {"11211", "08701"}

    def test_sales_are_scaled_to_the_lookback_and_the_owners_figures_are_not(
        self, tmp_path: Path
    ) -> None:
        library = small_library(tmp_path)
        library.import_file(write_redfin(tmp_path / "t.tsv", redfin_windows("08701", 30)))
        library.import_file(write_owner(tmp_path / "a.csv", "98103,50,"))
        record = library.initialise(lookback_days=365)
        assert record is not None
        assert record.what == "init, lookback 365 days, estimates not drawn"
        assert expected(library) == {"08701": 120, "98103": 50}
        assert library.initialise() is None
        with pytest.raises(ZipTableError, match="at least 1"):
            library.initialise(lookback_days=0)

    def test_monthly_figures_can_be_confirmed_while_the_next_are_not_out(
        self, tmp_path: Path
    ) -> None:
        clock = SetClock()
        library = small_library(tmp_path, clock)
        with pytest.raises(ZipTableError, match="nothing to confirm"):
            library.confirm()
        library.import_file(write_redfin(tmp_path / "t.tsv", redfin_windows("08701", 30)))
        library.import_file(write_owner(tmp_path / "a.csv", f"98103,50,{TODAY}"))
        assert library.confirm() is None
        updated: list[tuple[date | None, date | None]] = []
        for days in (3, 30):
            clock.pass_days(days)
            record = library.confirm()
            assert record is not None
            assert (record.what, record.changes.changed) == ("confirmed", 0)
            rows = load_table(library.table).by_zipcode
            updated.append((rows[ZipCode("08701")].updated_on, rows[ZipCode("98103")].updated_on))
        # October's figures: not later than December 1st. The owner's have a day of their own.
        assert updated == [(TODAY + timedelta(days=3), TODAY), (date(2026, 12, 1), TODAY)]
        assert library.confirm() is None

    def test_ages_by_source(self, tmp_path: Path) -> None:
        library = small_library(tmp_path)
        rows = redfin_windows("08701", 30)
        rows += [redfin_row("98103", ago, 30) for ago in range(6, 42)]
        library.import_file(write_redfin(tmp_path / "t.tsv", rows))
        assert [(a.source, a.updated_on, a.count) for a in library.ages()] == [
            ("redfin", TODAY, 1),
            ("redfin", date(2026, 5, 31), 1),
        ]


IMPORTER = """
import os, signal, sys
from pathlib import Path
from zipfiles import SetClock
from sn46.zipcodes import Library

table, file, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def watch(event, args):
    global steps
    # Every file that is written takes its name by a rename: the moments that a crash could split.
    if event == "os.rename":
        if steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        steps -= 1

sys.addaudithook(watch)
Library(table, SetClock()).import_file(file)
print("done")
"""


def start_import(table: Path, file: Path, steps: int = 1_000) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", IMPORTER, str(table), str(file), str(steps)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
    )


class TestCrashes:
    @pytest.mark.parametrize("begun", [False, True])
    def test_a_killed_import_leaves_the_old_table_or_the_new_one(
        self, tmp_path: Path, begun: bool
    ) -> None:
        """Killed before each of its renames in turn: base, sources, version, published table."""
        killed = 0
        file = write_owner(tmp_path / "b.csv", "08701,8,2026-11-02")
        for steps in range(10):
            folder = tmp_path / str(steps)
            folder.mkdir()
            library = small_library(folder)
            if begun:
                library.import_file(write_owner(folder / "a.csv", "08701,7,2026-11-01"))
            old = load_table(library.table)
            running = start_import(library.table, file, steps)
            output, errors = running.communicate(timeout=60)
            if running.returncode == 0:
                assert output == "done\n"
                break
            assert running.returncode == -signal.SIGKILL, errors
            killed += 1
            new = replace(old.by_zipcode[ZipCode("08701")], expected_listings=8)
            seen = load_table(library.table)
            assert seen == old or seen.by_zipcode[ZipCode("08701")] == new
            library.import_file(file)
            assert load_table(library.table).version == library.history()[0].version
            assert expected(library) == {"08701": 8}
            assert [p for p in folder.rglob("*") if ".new-" in p.name] == []
        assert killed == (3 if begun else 4)

    def test_two_imports_at_once_both_count(self, tmp_path: Path) -> None:
        library = small_library(tmp_path)
        files = [write_owner(tmp_path / f"{z}.csv", f"{z},8,") for z in ("08701", "98103")]
        both = [start_import(library.table, file) for file in files]
        for running in both:
            output, errors = running.communicate(timeout=60)
            assert (output, errors) == ("done\n", "")
        assert expected(library) == {"08701": 8, "98103": 8}
        assert len(library.history()) == 2
