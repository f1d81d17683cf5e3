"""``sn46 zipcodes`` as its user meets it: what it prints, and its exit codes."""

import csv
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from zipfiles import SMALL, as_csv, write_owner, write_zillow

from sn46.cli import main
from sn46.zipcodes import load_bundled_table, load_table, save_table

TODAY = datetime.now(UTC).date()
OLD = TODAY - timedelta(days=45)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ZIPCODE_TABLE", "MIN_ZIPCODE_LISTINGS", "TARGET_LISTINGS", "LOOKBACK_DAYS"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str) -> int:
    return main(["zipcodes", *arguments])


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that succeeds prints; nothing may stand on standard error."""
    assert run(*arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def complaint(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    """The one line of a command that fails."""
    assert run(*arguments) == code
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    return line


def test_what_is_off_by_itself_has_no_option_that_turns_it_off(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``--no-eligible`` read as if it listed the ZIPs that cannot be drawn."""
    assert main(["zipcodes", "list", "--no-eligible"]) == 2
    assert main(["zipcodes", "import", "a.csv", "--no-dry-run"]) == 2
    assert "No such option: --no-dry-run" in capsys.readouterr().err


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys)
    for command in (
        "import",
        "init",
        "confirm",
        "undo",
        "show",
        "list",
        "export",
        "freshness",
        "history",
    ):
        assert command in text


def test_import_says_what_it_took_and_what_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_table(SMALL, tmp_path / "zipcodes.parquet")
    write_owner(tmp_path / "mine.csv", f"8701,1007,{OLD}", "99999,5,", "98103,-5,", "98103,300,")
    text = said(capsys, "import", "mine.csv", "--rejects", "bad.csv")
    assert "Read mine.csv as owner: 4 rows, figures for 2 ZIPs." in text
    assert "repaired: 1 ZIPs had lost leading zeros" in text
    assert "line 3, 99999, unknown_zip: '99999'" in text
    assert "line 4, 98103, value: '-5'" in text
    assert "ZIPs with figures: 2 (2 new, 0 changed, 0 dropped); estimated: 2." in text
    version = load_table(tmp_path / "zipcodes.parquet").version
    assert f"zipcodes.parquet is now version {version}." in text
    with (tmp_path / "bad.csv").open(newline="") as file:
        assert [row["line"] for row in csv.DictReader(file)] == ["3", "4"]
    again = said(capsys, "import", "mine.csv")
    assert "This very file was imported on" in again
    listed = said(capsys, "history").splitlines()
    assert len(listed) == 2
    assert listed[1].startswith(version[:12])
    assert "owner mine.csv (" in listed[1]


def test_a_zip_shows_where_its_figure_came_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_table(SMALL, tmp_path / "zipcodes.parquet")
    write_owner(tmp_path / "mine.csv", f"11211,1007,{TODAY}", f"98103,600,{OLD}")
    said(capsys, "import", "mine.csv")
    text = said(capsys, "show", "11211")
    assert f"1,007 (source: owner, updated {TODAY})" in text
    assert "eligible           yes" in text
    assert f"owner: expected 1,007 as of {TODAY}" in text
    assert "45 days old, over MAX_DATA_AGE_DAYS 30" in said(capsys, "show", "98103")
    lakewood = said(capsys, "show", "8701")
    assert lakewood.startswith("08701 Lakewood, Ocean County, NJ")
    assert "(source: estimate)" in lakewood
    assert "estimates are not drawn" in lakewood
    assert "no: it has no expected listings" in said(capsys, "show", "00501")
    assert "99999 is not in" in complaint(capsys, 1, "show", "99999")
    assert "five digits are needed" in complaint(capsys, 2, "show", "Lakewood")


def test_lists_are_filtered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_table(SMALL, tmp_path / "zipcodes.parquet")
    write_owner(tmp_path / "mine.csv", f"11211,1007,{TODAY}", f"98103,600,{OLD}")
    said(capsys, "import", "mine.csv")

    def zips(*options: str) -> list[str]:
        return [line[:5] for line in said(capsys, "list", *options).splitlines()[1:-1]]

    assert zips() == ["11211", "98103", "08701", "07030", "00501"]
    assert zips("--limit", "2") == ["11211", "98103"]
    assert zips("--state", "nj") == ["08701", "07030"]
    assert zips("--source", "estimate") == ["08701", "07030"]
    assert zips("--eligible") == ["11211"]


def test_exports_carry_the_source_and_earlier_versions_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_table(SMALL, tmp_path / "zipcodes.parquet")
    write_owner(tmp_path / "a.csv", f"11211,1007,{TODAY}")
    write_owner(tmp_path / "b.csv", f"11211,1008,{TODAY}")
    said(capsys, "import", "a.csv")
    first = load_table(tmp_path / "zipcodes.parquet")
    said(capsys, "import", "b.csv")
    said(capsys, "export", "now.parquet")
    now = {row["zipcode"]: row for row in pl.read_parquet("now.parquet").iter_rows(named=True)}
    assert (now["11211"]["expected_listings"], now["11211"]["source"]) == (1008, "owner")
    assert now["08701"]["source"] == "estimate"
    assert now["00501"]["source"] == ""
    said(capsys, "export", "then.csv", "--version", first.version[:10])
    with (tmp_path / "then.csv").open(newline="") as file:
        then = {row["zipcode"]: row for row in csv.DictReader(file)}
    assert then["11211"]["expected_listings"] == "1007"
    assert "neither .csv nor .parquet" in complaint(capsys, 2, "export", "now.xlsx")
    assert "another name" in complaint(capsys, 2, "export", "zipcodes.parquet")
    assert "no version" in complaint(capsys, 1, "export", "x.csv", "--version", "zz")


def test_freshness_says_until_when_draws_can_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_table(SMALL, tmp_path / "zipcodes.parquet")
    write_owner(tmp_path / "a.csv", f"11211,1007,{TODAY}",
                f"98103,600,{TODAY - timedelta(days=20)}", f"08701,600,{OLD}")  # fmt: skip
    said(capsys, "import", "a.csv")
    assert run("freshness") == 1
    text = capsys.readouterr().out
    assert text.splitlines()[1].split()[:6] == ["owner", "expected", "1", "1", "1", "0"]
    assert "2 ZIPs with 1,607 listings" in text
    assert "They need 60,000" in text
    assert "That is too few." in text
    (tmp_path / ".env").write_text("TARGET_LISTINGS=250\nLOOKBACK_DAYS=365\n")
    text = said(capsys, "freshness")
    assert "They need 1,500" in text
    lasts = TODAY - timedelta(days=20) + timedelta(days=31)
    assert f"lasts until {lasts}, when 1 ZIPs with 1,007 listings are left" in text
    assert "LOOKBACK_DAYS is 365, but sales were scaled to 1095 days" in text
    assert "scaled to 365 days" in said(capsys, "init", "--lookback-days", "365")
    assert "LOOKBACK_DAYS is" not in said(capsys, "freshness")
    monkeypatch.setenv("TARGET_LISTINGS", "many")
    assert "TARGET_LISTINGS" in complaint(capsys, 2, "freshness")


def test_freshness_measures_the_estimates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = [row for row in load_bundled_table().rows if row.property_count > 4_000][:200]
    lines = (f"{row.zipcode},{row.property_count // 10},{TODAY}" for row in homes)
    write_owner(tmp_path / "a.csv", *lines)
    said(capsys, "import", "a.csv")
    monkeypatch.setenv("TARGET_LISTINGS", "1000")
    text = said(capsys, "freshness")
    assert "31,248 ZIPs have an estimate. Measured on 200 ZIPs with figures" in text
    assert "off by 0% in the median" in text


def test_the_table_is_where_the_api_looks_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_text("ZIPCODE_TABLE=data/master.parquet\n")
    assert "data/master.parquet is now version" in said(capsys, "init")
    assert (tmp_path / "data" / "master.library").is_dir()
    assert len(load_table(tmp_path / "data" / "master.parquet")) == 42_724
    assert "stays as it was" in said(capsys, "init", "--no-draw-estimates")
    said(capsys, "init", "--table", "other.parquet")
    assert (tmp_path / "other.parquet").exists()


def test_undo_takes_the_last_import_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_table(SMALL, tmp_path / "zipcodes.parquet")
    assert "nothing to undo" in complaint(capsys, 1, "undo")
    write_owner(tmp_path / "a.csv", f"11211,1007,{TODAY}")
    said(capsys, "import", "a.csv")
    assert "is now version" in said(capsys, "undo")
    assert load_table(tmp_path / "zipcodes.parquet") == SMALL


def test_what_is_asked_wrongly_says_how_to_ask(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "sn46 zipcodes init makes one" in complaint(capsys, 1, "list")
    assert "cannot be read" in complaint(capsys, 1, "import", "none.csv")
    write_owner(tmp_path / "a.csv", "11211,1007,")
    assert "--format takes owner, redfin" in complaint(
        capsys, 2, "import", "a.csv", "--format", "excel"
    )
    assert "write it as 2026-10-31" in complaint(capsys, 2, "import", "a.csv", "--as-of", "today")
    assert "Did you mean --dry-run?" in complaint(capsys, 2, "import", "a.csv", "--dryrun")
    (tmp_path / "b.csv").write_text(as_csv([["a", "b"], [1, 2]]))
    assert "its columns are a, b." in complaint(capsys, 1, "import", "b.csv")
    assert not (tmp_path / "zipcodes.parquet").exists()


def test_thirty_thousand_zips_of_zillow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    homes = [row for row in load_bundled_table().rows if row.property_count > 0][:30_000]
    months = [date(2024 + n // 12, n % 12 + 1, 1) for n in range(24)]
    rows = ((int(r.zipcode), [r.property_count // 500] * 24) for r in homes)
    write_zillow(tmp_path / "Zip_sales_count_now_uc_sfrcondo_month.csv", months, rows)
    text = said(capsys, "import", "Zip_sales_count_now_uc_sfrcondo_month.csv")
    assert "as zillow: 30,000 rows, figures for 30,000 ZIPs" in text
    assert "ZIPs with figures: 30,000" in text
