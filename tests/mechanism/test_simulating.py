"""Many draws in a row: what they add up to, and that a year of them is as it should be."""

from dataclasses import replace
from datetime import date, timedelta
from itertools import islice, pairwise

import pytest

from sn46.mechanism.assignment import selection_seed
from sn46.mechanism.draw import DrawHistory, DrawRules, DrawTable, draw_zipcodes
from sn46.mechanism.errors import DrawError
from sn46.mechanism.findings import Findings
from sn46.mechanism.regions import CENSUS_REGIONS
from sn46.mechanism.simulating import (
    Chance,
    SimulatedDraw,
    kept_fresh,
    keyed_chance,
    simulated_draws,
    streamed_chance,
)

from .builders import EPOCH, SECRET, zip_row
from .country import country

STATES = sorted(CENSUS_REGIONS)
RULES = DrawRules(target_listings=2_000, min_zipcode_listings=100, max_data_age_days=400)


def small_table() -> DrawTable:
    """200 ZIPs of 100 to 199 listings, in all states and tiers."""
    return DrawTable(
        zip_row(n, expected_listings=100 + n % 100, state=STATES[n % len(STATES)],
                home_value=100_000 + 7_919 * n % 900_000)
        for n in range(200)
    )  # fmt: skip


def run(
    count: int, rules: DrawRules = RULES, chance: Chance | None = None
) -> tuple[DrawTable, list[SimulatedDraw]]:
    table = small_table()
    drawn = simulated_draws(table, rules, EPOCH, chance=chance or keyed_chance(SECRET))
    return table, list(islice(drawn, count))


def test_the_draws_are_those_that_a_server_with_this_secret_makes() -> None:
    table, draws = run(40)
    past: list[tuple[object, list[str]]] = []
    for draw in draws:
        seed = selection_seed(SECRET, draw.epoch.id)
        real = draw_zipcodes(table.rows, DrawHistory.of(past), RULES, draw.epoch, seed)  # type: ignore[arg-type]
        assert sorted(table.rows[p].zipcode for p in draw.places) == [
            z.zipcode for z in real.zipcodes
        ]
        assert (draw.total, draw.eligible, draw.relaxed) == (
            real.total,
            real.eligible,
            real.relaxed,
        )
        past.append((draw.epoch.start, [str(z.zipcode) for z in real.zipcodes]))


def test_the_same_secret_gives_the_same_and_another_gives_others() -> None:
    assert run(10)[1] == run(10)[1]
    assert run(10)[1] != run(10, chance=keyed_chance(b"another"))[1]
    assert run(10, chance=streamed_chance("a"))[1] == run(10, chance=streamed_chance("a"))[1]
    assert run(10, chance=streamed_chance("a"))[1] != run(10, chance=streamed_chance("b"))[1]


def test_figures_that_add_up_to_what_a_plain_count_says() -> None:
    table, draws = run(120)
    found = Findings(table, draws)
    drawn: dict[int, list[int]] = {place: [] for place in range(len(table))}
    for number, draw in enumerate(draws):
        for place in draw.places:
            drawn[place].append(number)
    assert found.times_drawn.tolist() == [len(numbers) for numbers in drawn.values()]
    assert found.undrawn.tolist() == [place for place, numbers in drawn.items() if not numbers]
    waits: list[int] = []
    longest: list[int] = []
    for numbers in drawn.values():
        edges = [0, *numbers, len(draws)]
        own = [b - a for a, b in pairwise(edges) if b > a]
        waits += own
        longest.append(max(own))
    assert sorted(found.waits * 6) == pytest.approx(sorted(waits))
    assert (found.longest_waits * 6).tolist() == pytest.approx(longest)
    listings = sum(draw.total for draw in draws)
    assert found.pass_days == pytest.approx(found.eligible_listings * 20 / listings)
    # Gini: the mean difference of all pairs over twice the mean.
    counts = found.times_drawn.tolist()
    differences = sum(abs(a - b) for a in counts for b in counts)
    assert found.gini == pytest.approx(differences / (2 * len(counts) * sum(counts)))
    by_day = found.covered_by_day
    for day, zipcodes, covered in by_day:
        seen = {place for draw in draws[: day * 6] for place in draw.places}
        assert (zipcodes, covered) == (len(seen), sum(table.expected_numbers[p] for p in seen))
    assert [day for day, _, _ in by_day] == list(range(1, 21))


def test_coverage_is_measured_over_every_stretch_of_days() -> None:
    table, draws = run(60)  # 10 days
    zipcodes, listings = Findings(table, draws).covered(days=4)
    seen = [{p for d in draws[a : a + 24] for p in d.places} for a in range(0, 37, 6)]
    sums = [sum(table.expected_numbers[p] for p in places) for places in seen]
    assert (zipcodes.least, zipcodes.most) == (min(map(len, seen)), max(map(len, seen)))
    assert zipcodes.mean == pytest.approx(sum(map(len, seen)) / len(seen))
    assert (listings.least, listings.most) == (min(sums), max(sums))
    # Where the run is shorter than the stretch, the run is what there is.
    whole, _ = Findings(table, draws).covered(days=30)
    assert whole.least == whole.most == len({p for d in draws for p in d.places})


def test_shares_are_those_of_the_listings() -> None:
    table, draws = run(60)
    found = Findings(table, draws)
    total = sum(draw.total for draw in draws)
    for share in found.states:
        sums = [
            sum(table.expected_numbers[p] for p in d.places if table.states[p] == share.name)
            for d in draws
        ]
        assert share.drawn == pytest.approx(100 * sum(sums) / total)
        assert share.most == pytest.approx(max(sums) / 20)  # percent of 2,000
        assert share.least == pytest.approx(min(sums) / 20)
    assert sum(share.drawn for share in found.states) == pytest.approx(100)
    assert sum(share.eligible or 0 for share in found.regions) == pytest.approx(100)
    assert [share.quota for share in found.tiers] == [(20, 40), (40, 60), (10, 30)]
    assert sum(share.drawn for share in found.tiers) == pytest.approx(100)


def test_what_goes_wrong_is_found() -> None:
    """Draws that were tampered with: the findings look at them and not at what they claim."""
    table, draws = run(30)

    def criteria(changed: list[SimulatedDraw]) -> dict[str, bool]:
        return {c.name: c.holds for c in Findings(table, changed).criteria()}

    assert criteria(draws) == {"tolerance": True, "quotas": True, "cooldown": True}
    off = replace(draws[3], total=2_201)
    assert not criteria([*draws[:3], off, *draws[4:]])["tolerance"]
    none = replace(draws[3], total=0, places=(), short=1_800)
    assert not criteria([*draws[:3], none, *draws[4:]])["tolerance"]
    again = replace(draws[8], places=draws[3].places, total=draws[3].total)
    assert not criteria([*draws[:8], again, *draws[9:]])["cooldown"]
    heavy = replace(draws[3], by_tier=(0, draws[3].total, 0))
    assert not criteria([*draws[:3], heavy, *draws[4:]])["quotas"]
    said = replace(heavy, relaxed=("tiers",))
    assert criteria([*draws[:3], said, *draws[4:]])["quotas"]
    alaska = [place for place, state in enumerate(table.states) if state == "AK"]
    crowd = replace(draws[3], places=(*draws[3].places[:10], *alaska))
    assert not criteria([*draws[:3], crowd, *draws[4:]])["quotas"]


def test_an_epoch_without_a_draw_is_refused_and_counted() -> None:
    # 200 ZIPs of about 150 listings are 30,000; with a week of cooldown, 42 draws want 84,000.
    rules = replace(RULES, cooldown_hours=168)
    table, draws = run(60, rules)
    found = Findings(table, draws)
    assert 0 < found.refused < 60
    assert found.misses == found.refused
    assert found.cooldown_violations == 0
    refused = next(draw for draw in draws if draw.short)
    past = [
        (d.epoch.start, [table.rows[p].zipcode for p in d.places])
        for d in draws[: draws.index(refused)]
    ]
    seed = selection_seed(SECRET, refused.epoch.id)
    with pytest.raises(DrawError, match=f"{refused.short}\\s+short"):
        draw_zipcodes(table.rows, DrawHistory.of(past), rules, refused.epoch, seed)


def test_targets_can_follow_from_the_draws_before() -> None:
    asked = simulated_draws(
        small_table(), RULES, EPOCH, chance=keyed_chance(SECRET),
        target_of=lambda drawn: 1_500 + 100 * len(drawn),
    )  # fmt: skip
    draws = list(islice(asked, 8))
    assert [draw.target for draw in draws] == [1_500 + 100 * n for n in range(8)]
    assert all(draw.within_tolerance for draw in draws)


def test_figures_are_kept_fresh() -> None:
    until = date(2030, 1, 1)
    known, unknown = kept_fresh([zip_row(1), zip_row(2, updated_on=None)], until)
    assert (known.updated_on, unknown.updated_on) == (until, None)


def test_there_is_nothing_to_find_in_nothing() -> None:
    with pytest.raises(ValueError, match="no draw"):
        Findings(small_table(), [])


def test_a_year_of_the_whole_country_holds_everything_that_is_asked_of_it() -> None:
    table = DrawTable(kept_fresh(country().rows, EPOCH.start.date() + timedelta(days=366)))
    drawn = simulated_draws(table, DrawRules(), EPOCH, chance=streamed_chance("a year"))
    found = Findings(table, list(islice(drawn, 365 * 6)))
    assert {c.name: c.holds for c in found.criteria()} == dict.fromkeys(
        ("tolerance", "quotas", "cooldown", "undrawn", "waits"), True
    )
    assert found.relaxed_draws <= 5
    assert found.covered()[1].mean > 1_500_000
