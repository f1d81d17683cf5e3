"""``sn46 arena``, and the page that is made of what it found."""

import json
from pathlib import Path

import pytest

from sn46.arena.page import write_page
from sn46.arena.running import Results, run
from sn46.arena.strategies import STRATEGIES
from sn46.cli import main
from sn46.mechanism.rules import Rules

DOCS = Path(__file__).parents[2] / "docs"
FIGURES = DOCS / "arena.json"
AGAIN = 2
"""So many epochs are played again; all of them would take minutes."""


def test_a_cheat_that_earns_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures, page = tmp_path / "figures.json", tmp_path / "page.md"
    asked = ["arena", "--epochs", "2", "--only", "padding", "--jobs", "1"]
    assert main([*asked, "--json", str(figures), "--page", str(page)]) == 0
    said = capsys.readouterr()
    assert "None of 1 cheats earned more" in said.out
    assert "padding" in said.out
    assert "4 of 4 fields played" in said.err
    results = Results.from_json(json.loads(figures.read_text()))
    assert page.read_text() == write_page(results) + "\n"


def test_a_cheat_that_earns_more_is_told_by_the_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The rows of an archive are true; what decides is how much an early upload is worth.
    asked = ["arena", "--epochs", "4", "--only", "archive", "--jobs", "1"]
    assert main([*asked, "--rule", "grace_percent=6"]) == 1
    said = capsys.readouterr().out
    assert "EARNS MORE" in said
    assert "1 of 1 cheats earned more than honest work of the same effort: archive." in said


def test_the_page_names_the_rules_that_it_was_played_by(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    asked = ["arena", "--epochs", "1", "--only", "padding", "--jobs", "1", "--page", str(page)]
    rules = ["--rule", "unclaimed=redistribute", "--rule", "grace_percent=6"]
    assert main([*asked, *rules]) == 0
    assert "--rule unclaimed=redistribute --rule grace_percent=6 --json" in page.read_text()


def test_what_supposes_a_fault_is_shown_apart_and_counts_as_no_cheat(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A copier's rows are true; what keeps it from them is the store's isolation alone.
    page = tmp_path / "page.md"
    asked = ["arena", "--epochs", "8", "--only", "copier", "--only", "padding", "--jobs", "1"]
    assert main([*asked, "--page", str(page)]) == 0
    said = capsys.readouterr().out
    assert "If the isolation of folders failed" in said
    assert "would earn more" in said
    assert "None of 1 cheats earned more" in said
    cheats, supposed = page.read_text().split("## If the isolation of folders failed")
    assert "copier" not in cheats
    assert "This is no cheat of the system as it is" in supposed
    assert "| copier | 0 % |" in supposed


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--only", "archiv"], "Did you mean archive?"),
        (["--epochs", "0"], "--epochs"),
        (["--page", "/nowhere/at/all.md"], "no folder"),
        (["--rule", "grace=6"], "The rules are: lookback_days, "),
        (["--rule", "version=2"], "no rule"),
        (["--rule", "grace_percent"], "such as grace_percent=50"),
        (["--rule", "grace_percent=101"], "cannot be over 100"),
        (["--rule", "unclaimed=keep"], "must be 'burn' or 'redistribute'"),
    ],
)
def test_asked_wrongly(asked: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["arena", *asked]) == 2
    assert said in capsys.readouterr().err


def test_the_page_is_made_of_its_figures() -> None:
    results = Results.from_json(json.loads(FIGURES.read_text()))
    assert results.rules == Rules()
    assert (DOCS / "arena.md").read_text() == write_page(results) + "\n"
    assert set(results.tallies) == set(STRATEGIES)


@pytest.mark.parametrize("part", range(4))
def test_the_figures_are_those_of_the_seed(part: int) -> None:
    written = Results.from_json(json.loads(FIGURES.read_text()))
    names = list(written.tallies)[part::4]
    again = run(written.seed, AGAIN, [STRATEGIES[name] for name in names])
    for name in names:
        was, now = written.tallies[name], again.tallies[name]
        assert now.earned == was.earned[:AGAIN], name
        assert now.requests == was.requests[:AGAIN], name
