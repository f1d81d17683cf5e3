"""Chance and nothing else: how often ZIPs are drawn follows their weights, and only the secret
decides which."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import islice, pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from sn46.mechanism.assignment import selection_seed
from sn46.mechanism.draw import DrawHistory, DrawRules, DrawTable, draw_weight, draw_zipcodes
from sn46.mechanism.drawtable import LastDrawn
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.regions import CENSUS_REGIONS

from .builders import EPOCH, SECRET, zip_row

DRAWS = 10_000
TAKEN = 5
FREE = DrawRules(  # no quota binds
    target_listings=500 * TAKEN,
    min_zipcode_listings=1,
    max_state_share=200,
    max_region_share=200,
    tier_tolerance=100,
)
ROWS = [
    zip_row(n, state=sorted(CENSUS_REGIONS)[n], population=10 ** (2 + n % 5), property_count=n)
    for n in range(30)
]
HISTORY = DrawHistory.of(
    [(EPOCH.start - timedelta(days=1 + n), [row.zipcode]) for n, row in enumerate(ROWS[::2])]
)
TABLE = DrawTable(ROWS)
LAST = LastDrawn.of(TABLE, HISTORY)
EVERY = np.arange(len(ROWS))
WEIGHTS = np.array([draw_weight(row, HISTORY, EPOCH) for row in ROWS])


def seeds(secret: bytes, count: int) -> list[str]:
    """Seeds as a server with this secret has them for its next epochs."""
    found: list[str] = []
    epoch = EPOCH
    for _ in range(count):
        found.append(selection_seed(secret, epoch.id))
        epoch = epoch.next()
    return found


@pytest.fixture(scope="module")
def orders() -> NDArray[np.int64]:
    """The whole order of 10,000 draws of one table and one history."""
    return np.array(
        [TABLE.order(EVERY, LAST, EPOCH, TABLE.digests(EVERY, s)) for s in seeds(SECRET, DRAWS)]
    )


def chi_square(seen: NDArray[np.int64], expected: NDArray[np.float64]) -> float:
    return float(((seen - expected) ** 2 / expected).sum())


def chi_square_limit(freedom: int) -> float:
    """What one in about 10,000 fair runs exceeds (Wilson and Hilferty, 1931; 3.719 is the normal
    distribution's quantile)."""
    part = 2 / (9 * freedom)
    return freedom * (1 - part + 3.719 * part**0.5) ** 3


def test_the_weights_differ_enough_to_tell() -> None:
    assert WEIGHTS.max() / WEIGHTS.min() > 9


def test_the_first_is_drawn_in_proportion_to_its_weight(orders: NDArray[np.int64]) -> None:
    seen = np.bincount(orders[:, 0], minlength=len(ROWS))
    expected = DRAWS * WEIGHTS / WEIGHTS.sum()
    assert chi_square(seen, expected) < chi_square_limit(len(ROWS) - 1)


def test_the_second_is_drawn_in_proportion_among_the_rest(orders: NDArray[np.int64]) -> None:
    # P(second = j) = Σ over i ≠ j of w_i / W × w_j / (W − w_i).
    total = WEIGHTS.sum()
    after = np.outer(WEIGHTS / total / (total - WEIGHTS), WEIGHTS)
    np.fill_diagonal(after, 0)
    seen = np.bincount(orders[:, 1], minlength=len(ROWS))
    assert chi_square(seen, DRAWS * after.sum(axis=0)) < chi_square_limit(len(ROWS) - 1)


def inclusion(weights: NDArray[np.float64], taken: int) -> NDArray[np.float64]:
    """How likely each is to be among the first ``taken``.

    Arrival times of independent exponential clocks with these rates are in the same order, so ZIP
    i is in where fewer than ``taken`` others ring before it: ∫ w e^(−w t) P(fewer than taken) dt,
    the others' number following from their probabilities one after the other.
    """
    rates = weights / weights.sum()
    # Even steps of s = 1 − e^(−t / 20) have fine steps of t where the first ones ring.
    s = (np.arange(4_000) + 0.5) / 4_000
    times = -20 * np.log1p(-s)
    step = 20 / (1 - s) / 4_000
    found: list[float] = []
    for i, rate in enumerate(rates):
        ways = np.zeros((taken, len(s)))
        ways[0] = 1
        for j, other in enumerate(rates):
            if j != i:
                rung = -np.expm1(-other * times)
                ways[1:] = ways[1:] * (1 - rung) + ways[:-1] * rung
                ways[0] *= 1 - rung
        found.append(float((rate * np.exp(-rate * times) * ways.sum(axis=0) * step).sum()))
    return np.array(found)


def test_whole_draws_include_zips_as_often_as_their_weights_say(
    orders: NDArray[np.int64],
) -> None:
    # All expect 500, so a draw of 2,500 listings is the first five of the order.
    for seed, order in islice(zip(seeds(SECRET, DRAWS), orders, strict=True), 200):
        draw = draw_zipcodes(TABLE, HISTORY, FREE, EPOCH, seed)
        assert {z.zipcode for z in draw.zipcodes} == {ROWS[i].zipcode for i in order[:TAKEN]}
    likely = inclusion(WEIGHTS, TAKEN)
    assert likely.sum() == pytest.approx(TAKEN, abs=1e-3)
    seen = np.bincount(orders[:, :TAKEN].ravel(), minlength=len(ROWS))
    off = (seen - DRAWS * likely) / np.sqrt(DRAWS * likely * (1 - likely))
    assert np.abs(off).max() < 4.5  # one in 5,000 fair runs of 30 ZIPs has a larger one


def test_two_secrets_have_nothing_to_do_with_each_other(orders: NDArray[np.int64]) -> None:
    """Knowing the table, the history and all draws of another secret says nothing of the next."""
    count = 2_000
    others = [
        TABLE.order(EVERY, LAST, EPOCH, TABLE.digests(EVERY, seed))
        for seed in seeds(b"another secret of the API server", count)
    ]
    likely = inclusion(WEIGHTS, TAKEN)
    shared = [
        len({*mine[:TAKEN].tolist()} & {*other[:TAKEN].tolist()})
        for mine, other in zip(orders[:count], others, strict=True)
    ]
    # Two independent draws share Σ p² on average.
    expected, error = float((likely**2).sum()), float(np.std(shared)) / count**0.5
    assert abs(float(np.mean(shared)) - expected) < 4.5 * error


def test_one_epoch_says_nothing_of_the_next(orders: NDArray[np.int64]) -> None:
    likely = inclusion(WEIGHTS, TAKEN)
    shared = [
        len({*one[:TAKEN].tolist()} & {*following[:TAKEN].tolist()})
        for one, following in pairwise(orders)
    ]
    error = float(np.std(shared)) / len(shared) ** 0.5
    assert abs(float(np.mean(shared)) - float((likely**2).sum())) < 4.5 * error


def test_nothing_but_the_seed_decides_the_chances() -> None:
    """What is public about a ZIP besides its figures moves nothing: place, names, neighbours."""
    seed = selection_seed(SECRET, EPOCH.id)
    draw = draw_zipcodes(ROWS, HISTORY, FREE, EPOCH, seed)
    moved = [
        replace(row, city="Elsewhere", county="Other", latitude=1.0, longitude=2.0)
        for row in reversed(ROWS)
    ]
    again = draw_zipcodes(moved, HISTORY, FREE, EPOCH, seed)
    assert [z.zipcode for z in again.zipcodes] == [z.zipcode for z in draw.zipcodes]
    # The same seed in another epoch of the same length of wait draws the same.
    later = Epoch(EPOCH.start + timedelta(days=7))
    waited = DrawHistory(
        {zipcode: at + timedelta(days=7) for zipcode, at in HISTORY.last_drawn.items()},
        None if HISTORY.first_draw is None else HISTORY.first_draw + timedelta(days=7),
    )
    fresh = [replace(row, updated_on=later.start.date()) for row in ROWS]
    shifted = draw_zipcodes(fresh, waited, FREE, later, seed)
    assert [z.zipcode for z in shifted.zipcodes] == [z.zipcode for z in draw.zipcodes]


def test_seeds_of_epochs_and_secrets_are_all_different() -> None:
    found = Counter(
        seed for secret in (SECRET, SECRET + b"!", b"") for seed in seeds(secret, 3_000)
    )
    assert max(found.values()) == 1
