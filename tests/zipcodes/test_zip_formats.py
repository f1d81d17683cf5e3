"""Each format that figures come in, with what real files have in them."""

import csv
import gzip
import json
import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zipfiles import (
    NEWEST,
    REDFIN_COLUMNS,
    SMALL,
    TODAY,
    ZILLOW_PLACE,
    as_csv,
    month_before,
    redfin_row,
    redfin_windows,
    write_owner,
    write_realtor,
    write_redfin,
    write_zillow,
    zillow_place,
)

from sn46.zipcodes import Source, ZipTableError
from sn46.zipcodes.figures import FileFigures, Quantity, Reason, RejectList
from sn46.zipcodes.formats import Recent, read_figures
from sn46.zipcodes.values import read_count, read_day, read_dollars, read_month, read_zip

MONTHS_36 = [month_before(ago) for ago in reversed(range(36))]


def read(path: Path, source: Source | None = None, as_of: date | None = None) -> FileFigures:
    return read_figures(path, SMALL, today=TODAY, source=source, as_of=as_of)


def values(found: FileFigures, quantity: Quantity) -> dict[str, int]:
    return {f.zipcode: f.value for f in found.figures if f.quantity is quantity}


def reasons(found: FileFigures) -> dict[str, int]:
    return {str(reason): count for reason, count in found.rejected.items()}


class TestValues:
    @pytest.mark.parametrize(
        ("text", "zipcode", "repaired"),
        [
            ("08701", "08701", False),
            ("8701", "08701", True),
            ("501", "00501", True),
            ("8701.0", "08701", True),
            (" 98103 ", "98103", False),
            ("98103-1234", "98103", False),
            ("Zip Code: 08701", "08701", False),
            ("ZCTA5 08701", "08701", False),
            ("8600000US08701", "08701", False),
            ("860Z200US08701", "08701", False),
        ],
    )
    def test_a_zip_is_read_in_every_form_it_comes_in(
        self, text: str, zipcode: str, repaired: bool
    ) -> None:
        assert read_zip(text) == (zipcode, repaired)

    @pytest.mark.parametrize(
        "text", ["", "12", "987654", "0870l", "８701", "US", "8701.5", "-8701", "1,000"]
    )
    def test_what_is_no_zip_is_none(self, text: str) -> None:
        assert read_zip(text) is None

    @pytest.mark.parametrize(
        ("text", "count"),
        [("12", 12), ("12.0", 12), ("0", 0), ("1,234", 1_234), ("12.5", None), ("-1", None),
         ("1e3", None), ("inf", None), ("١٢", None), ("1,23", None)],
    )  # fmt: skip
    def test_a_count_is_whole_and_not_negative(self, text: str, count: int | None) -> None:
        assert read_count(text) == count

    @pytest.mark.parametrize(
        ("text", "dollars"),
        [("412345.49", 412_345), ("412345.5", 412_346), ("$1,250,000", 1_250_000),
         ("2,000,000+", 2_000_000), ("10,000-", 10_000), ("-5", None), ("nan", None)],
    )  # fmt: skip
    def test_dollars_are_rounded_half_up(self, text: str, dollars: int | None) -> None:
        assert read_dollars(text) == dollars

    def test_days_and_months(self) -> None:
        assert read_day("2026-10-31 14:31:02.000 Z") == date(2026, 10, 31)
        assert read_day("10/31/2026") == date(2026, 10, 31)
        assert read_day("2026-02-30") is None
        assert read_month("202602") == read_month("2026-02") == date(2026, 2, 28)
        assert read_month("2026-02-01") == date(2026, 2, 28)
        assert read_month("202613") is None


class TestRecent:
    @given(st.permutations(range(60)))
    def test_the_newest_three_years_count_in_whatever_order_they_come(
        self, order: list[int]
    ) -> None:
        recent = Recent()
        for month in order:
            recent.put(24_000 + month, month, line=2)
        assert recent.total() == sum(range(24, 60))
        # Windows of three months: those that end with the newest month and every third before it.
        assert recent.total(step=3) == sum(range(59, 23, -3))

    def test_missing_months_count_as_the_others_do(self) -> None:
        recent = Recent()
        for month in (0, 1, 2, 3, 4, 5, 12, 13, 14, 15, 35):
            recent.put(24_000 + month, 10, line=2)
        assert recent.total() is None  # 11 months: less than a year
        recent.put(24_020, 22, line=2)
        assert recent.total() == 132 * 36 // 12


class TestRedfin:
    def test_windows_of_three_months_become_the_sales_of_three_years(self, tmp_path: Path) -> None:
        rows = redfin_windows("08701", 30)
        # The windows in between overlap those that are added up: their figures change nothing.
        rows[-2] = redfin_row("08701", 1, 999)
        found = read(write_redfin(tmp_path / "zip_code_market_tracker.tsv000.gz", rows))
        assert found.source is Source.REDFIN
        assert values(found, Quantity.SOLD) == {"08701": 12 * 30}
        assert {(f.as_of, f.updated_on) for f in found.figures} == {(NEWEST, TODAY)}
        assert (found.rows, found.repaired, found.rejected) == (36, 0, {})

    def test_upper_case_columns_and_numbers_for_zips_are_known(self, tmp_path: Path) -> None:
        rows = [redfin_row("x", ago, "30.0", region="Zip Code: 8701") for ago in range(36)]
        found = read(write_redfin(tmp_path / "t.tsv", rows, upper=True))
        assert values(found, Quantity.SOLD) == {"08701": 360}
        assert found.repaired == 1

    def test_only_all_residential_as_it_was_counted(self, tmp_path: Path) -> None:
        rows = redfin_windows("08701", 30)
        rows += [redfin_row("08701", n, 7, property_type="Townhouse") for n in range(36)]
        rows += [redfin_row("08701", n, 8, is_seasonally_adjusted="true") for n in range(36)]
        found = read(write_redfin(tmp_path / "t.tsv.gz", rows))
        assert values(found, Quantity.SOLD) == {"08701": 360}
        assert found.unused == {"other property types": 36, "seasonally adjusted": 36}

    def test_missing_windows_count_as_the_others_do(self, tmp_path: Path) -> None:
        rows = [redfin_row("08701", ago, 30) for ago in (0, 3, 6, 9)]
        rows += [redfin_row("98103", ago, 30) for ago in (0, 3, 6)]
        rows += [redfin_row("07030", ago, "NA" if ago else 30) for ago in range(36)]
        found = read(write_redfin(tmp_path / "t.tsv", rows))
        assert values(found, Quantity.SOLD) == {"08701": 360}
        assert reasons(found) == {"too_few_months": 2}

    def test_what_cannot_be_used_is_counted_and_listed(self, tmp_path: Path) -> None:
        rows = redfin_windows("08701", 30)
        rows += [
            redfin_row("08701", 0, 30),  # line 38: once more
            redfin_row("08701", 0, 31),  # and with another figure: the first stands
            redfin_row("ABCDE", 0, 30),  # line 40
            redfin_row("99999", 0, 30),
            redfin_row("99999", 1, 30),
            redfin_row("98103", 0, -4),
            redfin_row("98103", 0, "many"),
            redfin_row("98103", 0, 4_000_000),
            redfin_row("98103", 0, 30, period_end="soon"),
            redfin_row("98103", 0, 30, period_begin="2026-10-01", period_duration=30),
            redfin_row("98103", 0, 30, region_type="county"),
            redfin_row("98103", -1, 30),  # a window that has not ended
            redfin_row("98103", 0, 30)[:-1],  # line 50: a field short
        ]
        found = read(write_redfin(tmp_path / "t.tsv", rows))
        assert values(found, Quantity.SOLD) == {"08701": 360}
        assert reasons(found) == {
            "duplicate": 2,
            "value": 2,
            "zipcode": 1,
            "unknown_zip": 1,
            "absurd": 1,
            "date": 1,
            "period": 1,
            "region": 1,
            "future": 1,
            "fields": 1,
        }
        listed = {(r.line, r.reason) for r in found.first_rejects}
        assert {(38, Reason.DUPLICATE), (40, Reason.ZIPCODE), (50, Reason.FIELDS)} <= listed

    def test_a_cut_off_gzip_file_is_refused(self, tmp_path: Path) -> None:
        rows = [row for zipcode in ("08701", "98103") for row in redfin_windows(zipcode, 30)]
        whole = write_redfin(tmp_path / "t.tsv.gz", rows).read_bytes()
        for cut in (len(whole) - 3, len(whole) // 2, 12, 3):
            (tmp_path / "cut.gz").write_bytes(whole[:cut])
            with pytest.raises(ZipTableError, match=r"gzip data .* Nothing was imported"):
                read(tmp_path / "cut.gz")
        damaged = bytearray(whole)
        damaged[len(whole) // 2] ^= 0xFF
        (tmp_path / "damaged.gz").write_bytes(damaged)
        with pytest.raises(ZipTableError, match="gzip data"):
            read(tmp_path / "damaged.gz")

    def test_old_figures_are_as_old_as_they_are(self, tmp_path: Path) -> None:
        rows = [redfin_row("08701", ago, 30) for ago in range(6, 42)]
        (figure,) = read(write_redfin(tmp_path / "t.tsv", rows)).figures
        assert figure.as_of == date(2026, 4, 30)
        assert figure.updated_on == date(2026, 5, 31)

    def test_memory_does_not_grow_with_the_file(self, tmp_path: Path) -> None:
        """Peak memory of a process that reads 4,000 and 120,000 rows (2 and 60 MB unpacked)."""
        script = (
            "import json, resource, sys; from pathlib import Path; from datetime import date\n"
            "from sn46.zipcodes.formats import read_figures\n"
            "from zipfiles import SMALL, TODAY\n"
            "found = read_figures(Path(sys.argv[1]), SMALL, today=TODAY)\n"
            "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "print(json.dumps([found.rows, peak]))"
        )
        lines = as_csv(redfin_windows("08701", 30, months=40), "\t", csv.QUOTE_NONNUMERIC)
        lines = lines.replace("412500.0", "4" * 300)
        header = as_csv([[column.upper() for column in REDFIN_COLUMNS]], "\t")
        peaks: list[int] = []
        for repeats in (100, 3_000):
            path = tmp_path / f"{repeats}.tsv.gz"
            with gzip.open(path, "wt", compresslevel=1) as file:
                file.write(header)
                for _ in range(repeats):
                    file.write(lines)
            done = subprocess.run(
                [sys.executable, "-c", script, str(path)],
                capture_output=True,
                text=True,
                check=True,
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
            )
            rows, peak = json.loads(done.stdout)
            assert rows == 40 * repeats
            peaks.append(peak)
        assert peaks[1] - peaks[0] < 16_000  # kilobytes


class TestZillow:
    def test_sale_counts_of_36_months_are_added_up(self, tmp_path: Path) -> None:
        months = [month_before(ago) for ago in reversed(range(48))]
        path = write_zillow(
            tmp_path / "Zip_sales_count_now_uc_sfrcondo_month.csv",
            months,
            [
                ("8701", [50] * 12 + [10] * 36),  # a ZIP as a number; older months do not count
                ("98103", [50] * 12 + [""] * 12 + ["10.0"] * 24),  # missing months
                ("07030", [50] * 12 + [10] * 24 + [""] * 12),  # nothing newer than a year ago
            ],
        )
        found = read(path)
        assert found.source is Source.ZILLOW
        assert values(found, Quantity.SOLD) == {
            "08701": 360,
            "98103": 360,
            "07030": (12 * 50 + 24 * 10),
        }
        days = {f.zipcode: (f.as_of, f.updated_on) for f in found.figures}
        assert days["98103"] == (NEWEST, TODAY)
        assert days["07030"] == (date(2025, 10, 31), date(2025, 12, 1))
        assert found.repaired == 1

    def test_older_files_name_months_without_days(self, tmp_path: Path) -> None:
        header = ["RegionID", "RegionName", "StateName", "SizeRank"]
        header += [f"{month:%Y-%m}" for month in MONTHS_36]
        row = [61148, 8701, "Cañon", 3, *[10] * 36]
        path = tmp_path / "Sale_Counts_Zip.csv"
        path.write_text(as_csv([header, row]), encoding="latin-1")
        assert values(read(path), Quantity.SOLD) == {"08701": 360}

    def test_home_values_are_the_newest_ones(self, tmp_path: Path) -> None:
        path = write_zillow(
            tmp_path / "Zip_zhvi_uc_sfrcondo_tier_0.33_0.67_sm_sa_month.csv",
            MONTHS_36,
            [
                ("08701", [500_000.5] * 35 + [512_345.5]),
                ("98103", [800_000] * 35 + [""]),
                ("07030", [""] * 36),
            ],
        )
        found = read(path)
        assert found.source is Source.ZILLOW_VALUES
        assert values(found, Quantity.HOME_VALUE) == {"08701": 512_346, "98103": 800_000}
        assert found.unused == {"without a value": 1}

    def test_a_name_that_does_not_tell_asks_for_the_format(self, tmp_path: Path) -> None:
        rows = [("08701", [10] * 36)]
        path = write_zillow(tmp_path / "Zip_zori_uc_sfrcondomfr_sm_month.csv", MONTHS_36, rows)
        with pytest.raises(ZipTableError, match=r"--format zillow .*--format zillow-values"):
            read(path)
        assert values(read(path, Source.ZILLOW), Quantity.SOLD) == {"08701": 360}

    def test_values_taken_for_counts_and_counts_for_values_are_refused(
        self, tmp_path: Path
    ) -> None:
        big = write_zillow(tmp_path / "a.csv", MONTHS_36, [("11211", [9_000] * 36)])
        with pytest.raises(ZipTableError, match=r"gives no figure .* more than can be"):
            read(big, Source.ZILLOW)
        small = write_zillow(tmp_path / "b.csv", MONTHS_36, [("08701", [10] * 36)])
        with pytest.raises(
            ZipTableError, match="read as dollars, but a typical figure in it is 10"
        ):
            read(small, Source.ZILLOW_VALUES)

    def test_rows_that_are_no_zips_and_second_rows_are_listed(self, tmp_path: Path) -> None:
        path = tmp_path / "sales_counts.csv"
        header = [*ZILLOW_PLACE, *MONTHS_36]
        rows = [
            zillow_place("08701") + [10] * 36,
            zillow_place("08701") + [11] * 36,
            zillow_place("Lakewood, NJ", "msa") + [11] * 36,
            zillow_place("98103") + [-5, "x"] + [10] * 34,
        ]
        path.write_text(as_csv([header, *rows]))
        found = read(path)
        assert values(found, Quantity.SOLD) == {"08701": 360, "98103": 360}
        assert reasons(found) == {"value": 2, "duplicate": 1, "region": 1}


class TestRealtor:
    def test_new_listings_of_36_months_are_added_up(self, tmp_path: Path) -> None:
        counts = {"8701": [20.0] * 40, "98103": [20, "", *[20] * 30], "07030": [20] * 5}
        found = read(write_realtor(tmp_path / "RDC_Inventory_Core_Metrics_Zip_History.csv", counts))
        assert found.source is Source.REALTOR
        assert values(found, Quantity.NEW_LISTINGS) == {"08701": 720, "98103": 720}
        assert reasons(found) == {"fields": 1, "too_few_months": 1}  # the note at the end
        assert found.unused == {"older than three years": 4, "without a count": 1}

    def test_one_month_alone_says_that_it_is_too_little(self, tmp_path: Path) -> None:
        path = write_realtor(tmp_path / "RDC_Inventory_Core_Metrics_Zip.csv", {"08701": [20]})
        with pytest.raises(ZipTableError, match="less than a year"):
            read(path)

    def test_the_hotness_file_lacks_the_column(self, tmp_path: Path) -> None:
        path = tmp_path / "RDC_Inventory_Hotness_Metrics_Zip_History.csv"
        path.write_text("month_date_yyyymm,postal_code,hotness_score\n202610,08701,40\n")
        with pytest.raises(ZipTableError, match="no column new_listing_count"):
            read(path)


class TestCensus:
    def test_tables_of_data_census_gov(self, tmp_path: Path) -> None:
        path = tmp_path / "ACSDT5Y2024.csv"
        path.write_text(
            '"GEO_ID","NAME","B01003_001E","B25001_001E","B25077_001E"\n'
            '"Geography","Geographic Area Name","Estimate!!Total","Total","Median value"\n'
            '"860Z200US08701","ZCTA5 08701","135000","30000","412300"\n'
            '"860Z200US98103","ZCTA5 98103","50,000","27000","2,000,000+"\n'
            '"860Z200US00501","ZCTA5 00501","12","0","-666666666"\n'
            '"860Z200US07030","ZCTA5 07030","-9","x","-"\n'
        )
        found = read(path, as_of=date(2024, 12, 31))
        assert found.source is Source.CENSUS
        assert values(found, Quantity.POPULATION) == {
            "08701": 135_000,
            "98103": 50_000,
            "00501": 12,
        }
        assert values(found, Quantity.PROPERTY_COUNT) == {
            "08701": 30_000,
            "98103": 27_000,
            "00501": 0,
        }
        assert values(found, Quantity.HOME_VALUE) == {"08701": 412_300, "98103": 2_000_000}
        assert reasons(found) == {"value": 2}
        assert found.unused == {"without a value": 2, "a line of labels": 1}
        assert {f.as_of for f in found.figures} == {date(2024, 12, 31)}

    def test_a_plain_one_with_numbers_for_zips(self, tmp_path: Path) -> None:
        path = write_owner(tmp_path / "c.csv", "8701,135000,30000", "501,1,0",
                           header="ZIP,population,housing_units")  # fmt: skip
        found = read(path)
        assert values(found, Quantity.PROPERTY_COUNT) == {"08701": 30_000, "00501": 0}
        assert found.repaired == 2


class TestOwner:
    def test_figures_with_their_days(self, tmp_path: Path) -> None:
        path = write_owner(tmp_path / "mine.csv", "8701,1007,2026-11-01", '98103,"1,200",')
        found = read(path)
        assert values(found, Quantity.EXPECTED) == {"08701": 1007, "98103": 1200}
        days = {f.zipcode: (f.as_of, f.updated_on) for f in found.figures}
        # The owner's day is the day of the figure; only monthly files come out later.
        assert days["08701"] == (date(2026, 11, 1), date(2026, 11, 1))
        assert days["98103"] == (TODAY, TODAY)

    def test_bad_rows_are_listed_and_the_others_taken(self, tmp_path: Path) -> None:
        path = write_owner(
            tmp_path / "mine.csv",
            "08701,1007,2026-11-01",
            "08701,900,2026-10-01",  # older: the newer one stands, wherever it is
            "98103,300,2026-10-01",
            "98103,310,2026-11-01",
            "99999,5,",
            "07030,-5,",
            "07030,9000000,",
            "07030,12.5,",
            "07030,5,yesterday",
            f"07030,5,{TODAY + timedelta(days=1)}",
            "07030",
            "",
            "07030,NA,",
        )
        found = read(path)
        assert values(found, Quantity.EXPECTED) == {"08701": 1007, "98103": 310}
        assert reasons(found) == {
            "duplicate": 2,
            "value": 2,
            "unknown_zip": 1,
            "absurd": 1,
            "date": 1,
            "future": 1,
            "fields": 1,
        }
        assert found.rows == 12
        assert found.unused == {"without a figure": 1}
        negative = next(r for r in found.first_rejects if r.value == "-5")
        assert (negative.line, negative.zipcode) == (7, "07030")

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
    @pytest.mark.parametrize("delimiter", [",", "\t", ";"])
    def test_spreadsheets_write_it_in_many_ways(
        self, tmp_path: Path, encoding: str, delimiter: str
    ) -> None:
        path = tmp_path / "mine.csv"
        rows = [["ZipCode ", "Expected_Listings"], ["08701", "1007"], ["98103", "300"]]
        text = as_csv(rows, delimiter, csv.QUOTE_ALL).replace("\n", "\r\n")
        path.write_bytes(text.encode(encoding))
        assert values(read(path), Quantity.EXPECTED) == {"08701": 1007, "98103": 300}

    def test_an_export_can_be_edited_and_imported(self, tmp_path: Path) -> None:
        header = "zipcode,expected_listings,state,updated_on,source"
        lines = ("08701,1007,NJ,2026-11-01,redfin", "98103,300,WA,,estimate", "07030,,NJ,,")
        found = read(write_owner(tmp_path / "export.csv", *lines, header=header))
        assert values(found, Quantity.EXPECTED) == {"08701": 1007}
        assert found.unused == {"estimates": 1, "without a figure": 1}

    def test_every_reject_is_written_where_it_is_asked_for(self, tmp_path: Path) -> None:
        lines = [f"{n:05},5," for n in range(10_000, 10_300)]
        path = write_owner(tmp_path / "mine.csv", "08701,7,", *lines)
        with RejectList(tmp_path / "rejects.csv") as rejects:
            found = read_figures(path, SMALL, today=TODAY, rejects=rejects)
        assert found.rejected == {Reason.UNKNOWN_ZIP: 300}
        assert len(found.first_rejects) == 20
        with (tmp_path / "rejects.csv").open(newline="") as file:
            written = list(csv.DictReader(file))
        assert len(written) == 300
        assert written[0] == {
            "line": "3",
            "zipcode": "10000",
            "reason": "unknown_zip",
            "value": "10000",
        }

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
    @pytest.mark.parametrize("count", [1, 5_000])
    def test_rejects_that_cannot_be_written_are_said(self, tmp_path: Path, count: int) -> None:
        path = write_owner(tmp_path / "mine.csv", "08701,7,", *["xx,1,"] * count)
        with pytest.raises(ZipTableError, match="/dev/full cannot be written: No space left"):
            rejected_into(Path("/dev/full"), path)


def rejected_into(rejects: Path, path: Path) -> FileFigures:
    with RejectList(rejects) as taken:
        return read_figures(path, SMALL, today=TODAY, rejects=taken)


class TestFiles:
    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "is empty"),
            (b"\n\n", "no header"),
            (b"PK\x03\x04rest", "a ZIP archive"),
            (b"PAR1rest", "a Parquet file"),
            (b"a,b,c\n1,2,3\n", r"no known format: its columns are a, b, c\. Known are"),
            (b"zipcode,expected_listings\n", "gives no figure in 0 rows"),
            (b"zipcode,expected_listings\n1,2\n", "1 not a ZIP code"),
            (b'zipcode,expected_listings\n08701,"5\n' + b"x" * 200_000, "separated values"),
            (gzip.compress(b"", mtime=0), "is empty"),
            (b"zipcode,expected_listings," + b"x" * 200_000 + b"\n08701,5,\n", "separated values"),
            (
                gzip.compress(b"zipcode,expected_listings\n08701,5\n" + b"9" * 5_000_000, 1),
                "a line of over 4,194,304 characters",
            ),
        ],
    )
    def test_what_is_no_table_of_figures_is_refused(
        self, tmp_path: Path, content: bytes, said: str
    ) -> None:
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(ZipTableError, match=said):
            read(tmp_path / "file")

    def test_a_missing_file_and_a_folder(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none.csv", tmp_path):
            with pytest.raises(ZipTableError, match="cannot be read"):
                read(path)

    def test_progress_reaches_the_end_of_the_file(self, tmp_path: Path) -> None:
        path = write_redfin(tmp_path / "t.tsv.gz", redfin_windows("08701", 30))
        told: list[tuple[int, int]] = []
        read_figures(path, SMALL, today=TODAY, progress=lambda d, of: told.append((d, of)))
        assert told[-1] == (path.stat().st_size, path.stat().st_size)

    def test_lines_are_numbered_as_an_editor_shows_them(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.csv"
        path.write_text('zipcode,expected_listings,note\n08701,5,"two\nlines"\n\n12,5,x\n')
        (reject,) = read(path).first_rejects
        assert (reject.line, reject.value) == (5, "12")

    def test_zillow_regions_of_real_files_are_known_zips(self) -> None:
        """Runs where the recorded region columns are at hand."""
        regions = Path(__file__).parents[3] / "shared/data/zillow_research_zip_regions.csv"
        if not regions.exists():
            pytest.skip("no recorded data here")
        from sn46.zipcodes import load_bundled_table

        base = load_bundled_table().by_zipcode
        with regions.open(newline="", encoding="utf-8-sig") as file:
            names = [row["RegionName"] for row in csv.DictReader(file)]
        lost = [str(int(name)) for name in names]
        for texts in (names, lost):
            zips = {r.zipcode for text in texts if (r := read_zip(text))}
            assert len(zips) == len(names)
            assert sum(z not in base for z in zips) <= 5
