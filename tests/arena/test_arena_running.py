"""Strategies beside honest work, over some epochs."""

from statistics import fmean

import pytest

from sn46.arena.market import Market
from sn46.arena.page import claim, write_page
from sn46.arena.rounds import FIRST_EPOCH, HOMES, ZIPS, Round
from sn46.arena.running import (
    LEAKING,
    Results,
    Standing,
    Tally,
    chosen,
    registered,
    run,
)
from sn46.arena.strategies import FAST_MINUTES, STRATEGIES, Turn, others_moves
from sn46.mechanism.rules import Rules


@pytest.fixture(scope="module")
def results() -> Results:
    return run("a seed", 2, chosen(["invented-many", "padding-1-percent", "share-3"]))


def test_the_same_seed_gives_the_same(results: Results) -> None:
    names = list(results.tallies)
    again = run("a seed", 2, [STRATEGIES[name] for name in names], jobs=2)
    assert again == results
    shorter = run("a seed", 1, [STRATEGIES[name] for name in names])
    for name, tally in shorter.tallies.items():
        assert tally.earned == results.tallies[name].earned[:1]
    assert run("another", 1, [STRATEGIES["honest"]]) != run("a seed", 1, [STRATEGIES["honest"]])


def test_what_it_stands_beside_is_played_too(results: Results) -> None:
    assert list(results.tallies) == [
        "honest",
        "honest-tenth",
        "honest-2-parts",
        "padding-1-percent",
        "invented-many",
        "share-3",
    ]
    with pytest.raises(KeyError, match="nonsense"):
        chosen(["nonsense"])


def test_nobody_is_paid_what_is_not_there(results: Results) -> None:
    for tally in results.tallies.values():
        for earned, others in zip(tally.earned, tally.others, strict=True):
            assert 0 <= earned + others * tally.strategy.others <= 1_000_000


def test_a_cheat_is_beside_honest_work_that_takes_no_more(results: Results) -> None:
    beside = {s.tally.name: s for s in results.cheats()}
    invented = beside["invented-many"]
    assert invented.beside is results.tallies["honest-tenth"]
    assert invented.tally.requests == invented.beside.requests
    assert invented.tally.earned == [0, 0]
    assert invented.tally.reasons == {"fake_listing": 2}
    assert not invented.earns_more
    assert beside["padding-1-percent"].verdict in ("the same", "no clear difference")


def test_efforts_are_those_of_the_honest_beside() -> None:
    # One epoch shows them. An archive takes a tenth less than what it stands beside.
    names = ["archive", "archive-fresh", "crowd", "made-up", "stapled", "unseen-bait", "vouch-2"]
    played = run("a seed", 1, chosen(names))
    for standing in played.cheats():
        assert standing.beside is not None
        ratio = fmean(standing.tally.requests) / fmean(standing.beside.requests)
        assert 0.9 < ratio < 1.1, standing.tally.name


def test_an_archive_that_is_brought_up_to_date_has_every_home_once() -> None:
    round_ = Round(
        Market("a seed", FIRST_EPOCH.start.date(), zips=ZIPS, homes=HOMES),
        "a seed",
        0,
        registered(0),
        Rules(),
    )
    turn = Turn(round_, others_moves(round_)[LEAKING])
    old, fresh = (STRATEGIES[name].play(turn) for name in ("archive", "archive-fresh"))
    [archived], [move] = old.moves, fresh.moves
    assert archived.minutes < move.minutes < FAST_MINUTES
    assert old.requests < fresh.requests <= round_.whole
    for zipcode in round_.zipcodes:
        shown = round_.market.shown(zipcode, round_.today)
        sales = {row["listing_id"]: row["sale_date"] for row in shown.to_dicts()}
        rows = move.frames[zipcode]
        assert rows["listing_id"].is_unique().all()
        assert rows.height > archived.frames[zipcode].height
        # No sale that was followed by another one since.
        assert {row["listing_id"]: row["sale_date"] for row in rows.to_dicts()}.items() <= (
            sales.items()
        )


def test_the_page_compares_an_archive_with_more_machines() -> None:
    early = Rules(grace_percent=6)
    names = ["archive", "archive-fresh", "honest-fast"]
    played = run("a seed", 2, chosen(names), rules=early)
    page = write_page(played)
    fast = played.tallies["honest-fast"]
    text = "For comparison, honest-fast (scrapes everything in 15 minutes"
    assert page.count(text) == sum(s.earns_more for s in played.cheats()) > 0
    assert f"of the requests and earned {fmean(fast.earned):,.0f}; archive" in page
    difference = fmean(played.tallies["archive"].earned) - fmean(fast.earned)
    assert f": a difference of {difference:+,.0f} ± " in page
    # Where it was not played, nothing is said of it.
    alone = run("a seed", 2, chosen(["archive"]), rules=early)
    assert "EARNS MORE" in write_page(alone)
    assert text not in write_page(alone)


def test_how_often_honest_miners_are_left_without_is_counted(results: Results) -> None:
    for tally in results.tallies.values():
        # Nine are in line, three of these win, and three of the others are drawn.
        assert 0 < tally.checked["drawn"] <= 3 * results.epochs
        assert 0 < tally.checked["line"] <= 6 * results.epochs
        for group in ("drawn", "line"):
            assert tally.checked[f"{group}_unconfirmed"] <= tally.checked[group]
    drawn = sum(t.checked["drawn"] for t in results.honest())
    unpaid = sum(t.checked["drawn_unconfirmed"] for t in results.honest())
    line = f"| drawn by lot | {drawn} | {unpaid} ({100 * unpaid / drawn:.1f} %) |"
    assert line in write_page(results)


def standing_of(*gains: int) -> Standing:
    cheat, honest = Tally("archive"), Tally("honest")
    for gain in gains:
        cheat.requests.append(900_000)
        cheat.hotkeys.append(1)
        cheat.earned.append(100_000 + gain)
        honest.earned.append(100_000)
    results = Results("a seed", len(gains), {"honest": honest, "archive": cheat})
    return results.cheats()[0]


def test_a_gain_counts_where_it_is_no_luck() -> None:
    assert standing_of(5, 5, 5, 5).earns_more
    assert standing_of(5, 5, 5, 5).verdict == "EARNS MORE"
    assert standing_of(100, -90, 80, -70).verdict == "no clear difference"
    assert standing_of(0, 0).verdict == "the same"
    assert standing_of(-5, -6, -5).verdict == "earns less"


def test_figures_survive_their_json(results: Results) -> None:
    assert Results.from_json(results.to_json()) == results
    broken = results.to_json()
    broken["strategies"]["nonsense"] = broken["strategies"]["honest"]
    with pytest.raises(KeyError, match="nonsense"):
        Results.from_json(broken)


def test_the_page_says_what_was_played(results: Results) -> None:
    page = write_page(results)
    assert claim(results) in page
    assert "--epochs 2 --seed 'a seed'" in page
    for name in results.tallies:
        assert f"| {name} |" in page
