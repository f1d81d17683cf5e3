"""``sn46 plan`` and ``sn46 simulate-draws``: figures, files, pages, and what they complain of."""

import json
import re
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sn46.cli import main
from sn46.zipcodes import MasterTable, load_bundled_table, save_table, with_estimates, with_expected

DAY = date(2026, 1, 1)


@pytest.fixture(autouse=True)
def _plain_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without .env, and no setting in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("TARGET_LISTINGS", "MIN_ZIPCODE_LISTINGS", "ZIPCODE_TABLE", "ELIGIBLE_STATES"):
        monkeypatch.delenv(name, raising=False)


def a_table(path: Path) -> Path:
    """A twelfth of the country, its figures estimated; one city tries to break out of a page."""
    rows = load_bundled_table().rows[::12]
    odd = next(n for n, row in enumerate(rows) if row.property_count > 20_000)
    named = [
        replace(row, city="</script><b>Odd & Co") if n == odd else row for n, row in enumerate(rows)
    ]
    measured = with_expected(MasterTable(tuple(named)), {rows[odd].zipcode: 1_000}, DAY)
    save_table(with_estimates(measured, DAY), path)
    return path


class Page(HTMLParser):
    """What a page is made of, and all that it could load from elsewhere."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.scripts: list[str] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.outside += [name for name, _ in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script":
            self.scripts.append(data)


def check_page(path: Path, maps: int) -> Page:
    page = Page(path)
    assert page.outside == []
    assert not re.search(r"https?://|@import|url\(", page.text)
    assert "default-src 'none'" in page.text
    assert page.tags.count("svg") >= maps + 1
    zips = json.loads(page.scripts[0])
    assert len(zips) > 300
    assert any("Odd & Co" in text and "</script>" in text for _, _, text in zips)
    assert "<b>Odd" not in page.text
    return page


def test_simulate_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = a_table(tmp_path / "table.parquet")
    arguments = [
        "simulate-draws", "--table", str(table), "--days", "20", "--target", "3000",
        "--json", "found.json", "--html", "page.html",
    ]  # fmt: skip
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "ok   0 of 120 draws miss the tolerance" in captured.out
    assert "120 of 120 draws" in captured.err
    found = json.loads(Path("found.json").read_text())
    assert (found["draws"], found["tolerance_misses"], found["cooldown_violations"]) == (120, 0, 0)
    assert found["rules"]["target_listings"] == 3_000
    assert found["criteria"][0]["holds"] is True
    assert 0 < found["covered_in_30_days"]["listings"]["mean"] <= found["eligible_listings"]
    page = check_page(Path("page.html"), maps=2)
    assert "Listings of each epoch" in page.text
    # The same seed finds the same, another one does not.
    assert main([*arguments[:-4], "--json", "again.json"]) == 0
    assert json.loads(Path("again.json").read_text()) == found
    assert main([*arguments[:-4], "--json", "other.json", "--seed", "other"]) == 0
    assert json.loads(Path("other.json").read_text())["totals"] != found["totals"]


def test_simulate_draws_with_miners(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = a_table(tmp_path / "table.parquet")
    done = main([
        "simulate-draws", "--table", str(table), "--days", "16", "--miners-can", "12000,8000",
        "--html", "page.html", "--json", "found.json",
    ])  # fmt: skip
    said = capsys.readouterr().out
    assert done == 0, said
    assert "ok   miners who can do 12,000: the target settles after" in said
    assert "ok   miners who can do 8,000: the target settles after" in said
    found = json.loads(Path("found.json").read_text())
    assert [settled["holds"] for settled in found["settling"]] == [True, True]
    assert len(set(found["targets"])) > 3
    assert "The adaptive target" in Path("page.html").read_text(encoding="utf-8")


def test_what_does_not_hold_is_said_and_exits_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = a_table(tmp_path / "table.parquet")
    # A draw an epoch, and nothing may be drawn again for 20 days: it runs dry.
    done = main([
        "simulate-draws", "--table", str(table), "--days", "20", "--target", "10000",
        "--cooldown-hours", "480",
    ])  # fmt: skip
    assert done == 1
    assert re.search(r"FAIL \d+ of 120 draws miss the tolerance, \d+ of them were not possible",
                     capsys.readouterr().out)  # fmt: skip


def test_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = a_table(tmp_path / "table.parquet")
    done = main([
        "plan", "--table", str(table), "--listings", "230000", "--days", "20", "--target", "2000",
        "--html", "page.html", "--json", "found.json", "--proxy-rate", "2.5",
    ])  # fmt: skip
    captured = capsys.readouterr()
    assert done == 0
    assert "Goal: 230,000 different listings in 20 days" in captured.out
    assert "drawing:" in captured.err
    found = json.loads(Path("found.json").read_text())
    assert found["without_redraws"] == -(-230_000 // 120)
    assert found["ways"][0]["min_zipcode_listings"] == 200
    if found["supply"]["eligible"]["listings"] < 230_000:
        assert "out of reach" in captured.out
        assert "impossible" in captured.out
    needed = next(way["in_time"] for way in found["ways"] if way["in_time"])
    assert needed["listings"] >= 230_000
    assert needed["proxies"] == -(-needed["target"] * 10 // (240 * 25))
    check_page(Path("page.html"), maps=1)


def test_settings_come_from_the_environment_and_options_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = a_table(tmp_path / "table.parquet")
    monkeypatch.setenv("ZIPCODE_TABLE", str(table))
    monkeypatch.setenv("MIN_ZIPCODE_LISTINGS", "150")
    Path(".env").write_text("TARGET_LISTINGS=4000\nMAX_STATE_SHARE=40\n")
    assert main(["simulate-draws", "--days", "1", "--json", "found.json"]) == 0
    rules = json.loads(Path("found.json").read_text())["rules"]
    assert (rules["target_listings"], rules["min_zipcode_listings"]) == (4_000, 150)
    assert rules["max_state_share"] == 40
    arguments = ["simulate-draws", "--days", "1", "--json", "found.json", "--states", "ca, tx"]
    main([*arguments, "--target", "900", "--min-listings", "120", "--cooldown-hours", "8"])
    found = json.loads(Path("found.json").read_text())
    assert found["rules"]["target_listings"] == 900
    assert found["rules"]["min_zipcode_listings"] == 120
    assert found["rules"]["cooldown_hours"] == 8
    assert found["rules"]["eligible_states"] == ["CA", "TX"]
    assert {share["name"] for share in found["states"]} <= {"CA", "TX"}
    assert str(table) in found["table"]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan"], "Missing option '--listings'"),
        (["plan", "--listings", "0"], "Invalid value for '--listings'"),
        (["plan", "--listings", "9", "--html", "nowhere/page.html"], "there is no folder"),
        (["simulate-draws", "--days", "0"], "Invalid value for '--days'"),
        (["simulate-draws", "--target", "0"], "TARGET_LISTINGS must be at least 1"),
        (["simulate-draws", "--min-listings", "4000"], "MAX_ZIPCODE_LISTINGS"),
        (["simulate-draws", "--states", "XX"], "no ZIP of the bundled table"),
        (["simulate-draws", "--days", "1", "--miners-can", "many"], "Write listings an epoch"),
        (["simulate-draws", "--days", "1", "--miners-can", "1,2,3,4,5,6,7"], "more parts than"),
    ],
)
def test_what_is_asked_wrongly_exits_with_2_and_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert said in captured.err


def test_a_table_that_is_not_there_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate-draws", "--days", "1", "--table", "nowhere.parquet"]) == 1
    assert "There is no ZIP table at nowhere.parquet" in capsys.readouterr().err
