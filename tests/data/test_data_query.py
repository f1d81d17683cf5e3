"""``sn46 data query``: answers, forms, and that a question can do nothing but read."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from mechanism.builders import hotkey
from publishing import VALIDATORS, Publications, epoch_ids, home, report, rows_frame, some_epochs

from sn46.cli import main

Ask = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return some_epochs(3).write(tmp_path_factory.mktemp("asked") / "export")


@pytest.fixture
def folder(exported: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three epochs, with a cache that all tests of this file share."""
    monkeypatch.setenv("DATA_CACHE", str(exported.parent / "cache"))
    return exported


def test_the_tables(folder: Path, ask: Ask) -> None:
    assert ask(folder, "SELECT count(*) AS n, count(DISTINCT epoch_id) AS e FROM observations") == [
        {"n": 60, "e": 3}
    ]
    (epoch, *_) = ask(folder, "FROM epochs ORDER BY epoch_id")
    assert epoch["epoch_id"] == epoch_ids(1)[0]
    assert epoch["epoch_start"] == "2026-01-05T00:00:00Z"
    assert (epoch["listings"], epoch["validators"], epoch["differing"]) == (20, 3, [])
    assert sorted(epoch["agreeing"]) == sorted(hotkey(v) for v in VALIDATORS)
    assert ask(folder, "SELECT count(*) AS n, sum(observations) AS o FROM listings") == [
        {"n": 40, "o": 60}
    ]


def test_a_home_shows_its_newest_state_and_all_its_past(tmp_path: Path, ask: Ask) -> None:
    first, second, third = epoch_ids(3)
    made = Publications()
    made.all_agree(first, rows_frame(first, [home(1, sale_price=200_000)], confirmations=2))
    made.all_agree(second, rows_frame(second, [home(2)]))
    made.all_agree(third, rows_frame(third, [home(1, sale_price=250_000)], confirmations=5))
    folder = made.write(tmp_path / "export")
    (row,) = ask(folder, "FROM listings WHERE home_id = 'portal:1'")
    assert (row["sale_price"], row["epoch_id"], row["first_epoch"]) == (250_000, third, first)
    assert (row["observations"], row["sales"]) == (2, 1)
    assert [
        (h["epoch_id"], h["sale_price"], h["sale_date"], h["confirmations"]) for h in row["history"]
    ] == [(first, 200_000, "2024-02-01", 2), (third, 250_000, "2024-02-01", 5)]


def test_one_address_or_one_id_is_one_home(tmp_path: Path, ask: Ask) -> None:
    """A chain: id 1 at A, id 2 at A, id 2 at B, id 3 at B; and 4 at A of another ZIP."""
    ids = epoch_ids(6)
    made = Publications()
    seen = [
        home(1, address="5 Main Street"),
        home(2, address="5 MAIN ST."),
        home(2, address="7 Oak Avenue"),
        home(3, address="7 Oak Ave"),
        home(4, zipcode="15217", address="5 Main Street"),
        home(9, zipcode="15217", address="1 Elm Way"),
    ]
    for epoch_id, row in zip(ids, seen, strict=True):
        made.all_agree(epoch_id, rows_frame(epoch_id, [row]))
    folder = made.write(tmp_path / "export")
    found = ask(folder, "SELECT home_id, listing_ids, observations, address FROM listings "
                        "ORDER BY home_id")  # fmt: skip
    assert [(row["home_id"], row["listing_ids"], row["observations"]) for row in found] == [
        ("portal:1", ["portal:1", "portal:2", "portal:3"], 4),
        ("portal:4", ["portal:4"], 1),
        ("portal:9", ["portal:9"], 1),
    ]
    assert found[0]["address"] == "7 Oak Ave"


def test_long_chains_of_links_are_followed(tmp_path: Path, ask: Ask) -> None:
    """Each epoch's home shares its address with the one before and its id with the next."""
    made = Publications()
    for number, epoch_id in enumerate(epoch_ids(25)):
        row = home(100 - (number + 1) // 2, address=f"{number // 2} Main Street")
        made.put("vali", epoch_id, rows_frame(epoch_id, [row]))
    folder = made.write(tmp_path / "export")
    assert ask(folder, "SELECT home_id, observations FROM listings") == [
        {"home_id": "portal:100", "observations": 25}
    ]


def test_csv_parquet_and_files(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sql = "SELECT listing_id, sale_date, scraped_at, bathrooms, history FROM listings ORDER BY 1"
    for name in ("a.csv", "a.json", "a.parquet"):
        assert main(["data", "query", sql, "--from", str(folder), "--out", name]) == 0
    rows = list(csv.DictReader(io.StringIO(Path("a.csv").read_bytes().decode())))
    named = json.loads(Path("a.json").read_text())
    frame = pl.read_parquet("a.parquet")
    assert len(rows) == len(named) == frame.height == 40
    assert rows[0]["listing_id"] == named[0]["listing_id"] == frame["listing_id"][0] == "portal:1"
    assert rows[0]["sale_date"] == named[0]["sale_date"] == "2024-02-01"
    assert rows[0]["scraped_at"] == named[0]["scraped_at"]
    assert rows[0]["scraped_at"].endswith("Z")
    assert json.loads(rows[0]["history"]) == named[0]["history"]
    assert {file.name for file in tmp_path.iterdir()} == {"a.csv", "a.json", "a.parquet"}
    assert main(["data", "query", sql, "--from", str(folder), "--format", "csv"]) == 0
    assert capfd.readouterr().out == Path("a.csv").read_bytes().decode()


def test_a_table_shows_what_a_terminal_would_obey(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = Publications()
    epoch_id = epoch_ids(1)[0]
    made.all_agree(epoch_id, rows_frame(epoch_id, [home(1, city="\x1b[2J[red]Evil\u202e\n", hoa_fee_monthly=None)]))  # noqa: E501  # fmt: skip
    folder = made.write(tmp_path / "export")
    sql = "SELECT city, hoa_fee_monthly, sale_price, 1.5 AS half, epoch_start FROM observations"
    assert main(["data", "query", sql, "--from", str(folder)]) == 0
    out = capfd.readouterr().out
    assert "\\x1b[2J[red]Evil\\u202e\\n" in out
    assert "\x1b" not in out
    assert "2026-01-05 00:00:00" in out
    assert "201000" in out
    assert "1 row\n" in out


def test_a_long_table_is_cut_and_says_so(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "query", "FROM range(5000)", "--from", str(folder)]) == 0
    out = capfd.readouterr().out
    assert "The first 1000 rows" in out
    assert len(out.splitlines()) < 1_010


def test_more_columns_than_there_is_room_for_are_lines(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sql = "SELECT * FROM observations ORDER BY listing_id, epoch_id LIMIT 2"
    assert main(["data", "query", sql, "--from", str(folder)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == ["row 1", "row 2", "2 rows"]
    shown = [line.split(maxsplit=1) for line in lines if line.startswith(" ")]
    assert ["city", "Pittsburgh"] in shown
    assert ["property_type", "SINGLE_FAMILY"] in shown
    assert all(len(pair) == 2 for pair in shown)


WRONG = {
    "SELECT prise FROM listings": 'Referenced column "prise" not found',
    "SELEC 1": "syntax error",
    "SELECT * FROM homes": "homes does not exist",
    "SELECT 1; SELECT 2": "2 statements were given",
    "": "There is no question",
    "SELECT address::INT FROM listings": "Could not convert string",
    "SELECT sum(city) FROM observations": "No function matches",
    "SELECT 'infinity'::TIMESTAMP": "cannot be written as table",
    "SELECT '10000-01-01'::DATE": "column::VARCHAR",
    "PIVOT listings ON state USING count(*)": "Of a PIVOT, name the values",
}


@pytest.mark.parametrize("sql", WRONG)
def test_a_wrong_question_is_one_line(
    folder: Path, capfd: pytest.CaptureFixture[str], sql: str
) -> None:
    assert main(["data", "query", sql, "--from", str(folder)]) == 2
    said = capfd.readouterr()
    assert WRONG[sql] in said.err
    assert said.err.startswith("sn46 data query: ")
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


WRITING = (
    "COPY epochs TO '{to}'",
    "COPY (SELECT 1) TO '{cache}/x.csv'",
    "EXPORT DATABASE '{to}'",
    "ATTACH '{to}'",
    "CREATE TABLE t AS SELECT 1",
    "DROP VIEW listings",
    "DELETE FROM epochs",
    "INSERT INTO epochs SELECT * FROM epochs",
    "SET enable_external_access = true",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA database_list",
    "CHECKPOINT",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{to}'",
    "PREPARE p AS COPY (SELECT 1) TO '{to}'",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{to}''')",
    "WITH x AS (COPY (SELECT 1) TO '{to}') SELECT 1",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/hostname')",
    "SELECT * FROM '/etc/hostname'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM read_text('{cache}/../../export/validated-data.index.jsonl')",
    "SELECT * FROM read_parquet('http://127.0.0.1:9/x.parquet')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM parquet_metadata('/etc/passwd')",
    "SELECT getenv('HOME')",
    "FROM answer",
)


def _files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("sql", WRITING)
def test_a_question_changes_and_reads_nothing_else(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], sql: str
) -> None:
    to = tmp_path / "stolen"
    assert main(["data", "query", "SELECT count(*) FROM listings", "--from", str(folder)]) == 0
    before = _files(tmp_path, folder.parent)
    capfd.readouterr()
    asked = sql.format(to=to, cache=next((folder.parent / "cache").iterdir()))
    assert main(["data", "query", asked, "--from", str(folder)]) == 2, asked
    said = capfd.readouterr()
    assert len(said.err.splitlines()) == 1
    assert "root:" not in said.out
    assert _files(tmp_path, folder.parent) == before


@pytest.mark.parametrize(
    "sql", ["FROM read_csv('/nowhere/x.csv')", "FROM read_csv('http://127.0.0.1:9/x.csv')"]
)
def test_nothing_is_looked_for_to_understand_a_question(
    folder: Path, capfd: pytest.CaptureFixture[str], sql: str
) -> None:
    assert main(["data", "query", sql, "--from", str(folder)]) == 2
    assert "file system operations are disabled" in capfd.readouterr().err


def test_who_copies_the_hash_does_not_name_the_winners(tmp_path: Path, ask: Ask) -> None:
    """The winners are not under it; the first validator in order was believed."""
    (epoch_id,) = epoch_ids(1)
    rows = rows_frame(epoch_id, [home(1)])
    made = Publications()
    made.all_agree(epoch_id, rows)
    first = next(n for n in map(str, range(99)) if hotkey(n) < min(map(hotkey, VALIDATORS)))
    eve = {"top_3_winners": [{"miner_hotkey": hotkey("eve")}]}
    made.put(first, epoch_id, rows, report(first, epoch_id, 1, **eve))
    (epoch,) = ask(made.write(tmp_path / "export"), "FROM epochs")
    assert epoch["winners"] == [hotkey("ann"), hotkey("bob")]


def test_tables_are_joined_on_a_column(folder: Path, ask: Ask) -> None:
    sql = "SELECT count(*) AS n FROM observations JOIN listings USING (listing_id)"
    assert ask(folder, sql) == [{"n": 60}]


def test_what_is_asked_wrongly(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cases = {
        ("--format", "xml"): "'xml' is no format. Write one of: table, csv, json, parquet.",
        ("--out", "nowhere/a.csv"): "There is no folder nowhere for --out.",
        ("--validator", "me"): "TRUSTED_VALIDATORS: 'me' is no hotkey",
        ("--memory", "1"): "Invalid value for '--memory'",
    }
    for options, told in cases.items():
        assert main(["data", "query", "FROM epochs", "--from", str(folder), *options]) == 2
        assert told in capfd.readouterr().err
    (tmp_path / "bare").mkdir()
    assert main(["data", "query", "FROM epochs", "--from", "bare"]) == 1
    assert "is no complete export" in capfd.readouterr().err


def test_an_export_without_any_epoch(tmp_path: Path, ask: Ask) -> None:
    folder = Publications().write(tmp_path / "export")
    for table in ("epochs", "listings", "observations"):
        assert ask(folder, f"SELECT * FROM {table}") == []
    assert ask(folder, "SELECT * FROM listings WHERE epoch_id = '2026-01-05-00:00'") == []


def test_what_is_kept_can_be_asked_offline(exported: Path, ask: Ask) -> None:
    folder = exported
    assert ask(folder, "SELECT count(*) AS n FROM observations", "--offline") == [{"n": 0}]
    assert ask(folder, "SELECT count(*) AS n FROM observations") == [{"n": 60}]
    assert ask(folder, "SELECT count(*) AS n FROM observations", "--offline") == [{"n": 60}]


def test_only_trusted_validators(tmp_path: Path, ask: Ask) -> None:
    made = some_epochs(1)
    epoch_id = epoch_ids(1)[0]
    made.put("mine", epoch_id, rows_frame(epoch_id, [home(7)]), report("mine", epoch_id, 1))
    folder = made.write(tmp_path / "export")
    sql = "SELECT count(*) AS n FROM observations"
    assert ask(folder, sql) == [{"n": 20}]
    assert ask(folder, sql, "--validator", hotkey("mine")) == [{"n": 1}]


def test_the_columns_are_those_that_are_listed(
    folder: Path, ask: Ask, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "tables"]) == 0
    listed: dict[str, list[list[str]]] = {}
    for line in capfd.readouterr().out.splitlines():
        if line and not line.startswith(" "):
            columns = listed[line.partition(":")[0]] = []
        elif line:
            columns.append(line.split(maxsplit=2))
    for table, columns in listed.items():
        described = ask(folder, f"DESCRIBE {table}")
        assert [d["column_name"] for d in described] == [c[0] for c in columns], table
        for found, column in zip(described, columns, strict=True):
            assert found["column_type"].startswith(column[1].removesuffix("…")), (table, column)


def test_too_little_memory_is_said(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT list(range) FROM range(100000000)"
    assert main(["data", "query", sql, "--from", str(folder), "--memory", "128"]) == 1
    said = capfd.readouterr().err
    assert "needs more memory or disk than it may take" in said
    assert "--memory" in said
    assert len(said.splitlines()) == 1


def test_more_homes_than_one_part_holds(
    tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answer, whatever the size of a part."""
    made = some_epochs(4, homes=300)
    sql = "SELECT home_id, observations, sale_price, len(history) AS h FROM listings ORDER BY 1"
    whole = ask(made.write(tmp_path / "one"), sql)
    monkeypatch.setattr("sn46.data.homes._ROWS_OF_A_PART", 100)
    parts = ask(made.write(tmp_path / "two"), sql)
    assert whole == parts
    assert len(whole) == 750
    assert len(duckdb.sql(f"FROM glob('{tmp_path}/cache/*/homes/*/*.parquet')").fetchall()) > 5
