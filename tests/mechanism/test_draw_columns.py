"""The draw over columns equals the plain one, bit for bit, and is exact where floats are not."""

import hashlib
import hmac
import importlib.util
import random
import sys
from datetime import timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sn46.mechanism.draw import DrawHistory, DrawRules, DrawTable, ZipRow, draw_zipcodes
from sn46.mechanism.drawtable import NEAR, LastDrawn, hmac_digests, logarithms
from sn46.mechanism.errors import DrawError
from sn46.mechanism.regions import CENSUS_REGIONS

from .builders import EPOCH, zip_row
from .country import country, country_columns


def _load_naive() -> ModuleType:
    """``benchmarks.naive``, which is beside the tests and not in the package."""
    path = Path(__file__).parents[2] / "benchmarks" / "naive.py"
    spec = importlib.util.spec_from_file_location("naive_draw_of_benchmarks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


naive = _load_naive()


def made_up(number: int, size: int) -> tuple[list[ZipRow], DrawHistory, DrawRules]:
    """A table, a history and rules that take every branch now and then."""
    made = random.Random(number)
    states = made.sample(sorted([*CENSUS_REGIONS, "PR", "GU"]), made.randint(1, 40))
    rows = [
        zip_row(
            10_000 + i,
            expected_listings=made.choice([None, made.randint(1, 4_000), made.randint(150, 900)]),
            state=made.choice(states),
            population=made.choice([0, made.randint(0, 60_000)]),
            property_count=made.choice([0, made.randint(0, 40_000)]),
            home_value=made.choice([None, 250_000, made.randint(20_000, 2_000_000)]),
            updated_on=made.choice([None, EPOCH.start.date() - timedelta(made.randint(0, 33))]),
        )
        for i in range(size)
    ]
    made.shuffle(rows)
    draws = [
        (EPOCH.start - timedelta(hours=4 * back), made.sample([r.zipcode for r in rows], size // 9))
        for back in range(1, made.randint(1, 300), 3)
    ]
    target = made.choice([500, 2_000, 10_000, 50_000])
    rules = DrawRules(
        target_listings=target,
        tolerance_percent=made.choice([0, 5, 10, 20]),
        min_zipcode_listings=made.choice([1, 150, 200]),
        cooldown_hours=made.choice([0, 24, 100]),
        eligible_states=made.choice([None, frozenset(made.sample(states, 1 + len(states) // 2))]),
        max_state_share=made.choice([25, 60]),
        tier_shares=made.choice([(30, 50, 20), (0, 100, 0), (34, 33, 33)]),
    )
    return rows, DrawHistory.of(draws), rules


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 300), st.binary(min_size=32, max_size=32))
def test_it_equals_the_plain_draw(number: int, size: int, seed: bytes) -> None:
    rows, history, rules = made_up(number, size)
    expected = naive.naive_draw(rows, history, rules, EPOCH, seed.hex())
    for table in (rows, DrawTable(rows)):
        try:
            draw = draw_zipcodes(table, history, rules, EPOCH, seed.hex())
        except DrawError:
            assert expected is None
        else:
            names = [z.zipcode for z in draw.zipcodes]
            assert (names, draw.total, draw.eligible, draw.relaxed) == expected


def test_it_equals_the_plain_draw_over_the_whole_country() -> None:
    rows = country().rows
    past: list[tuple[object, list[str]]] = []
    epoch = EPOCH
    for number, target in enumerate((10_000, 5_000, 50_000)):
        history, rules = DrawHistory.of(past), DrawRules(target_listings=target)  # type: ignore[arg-type]
        draw = draw_zipcodes(country_columns(), history, rules, epoch, f"{number:064x}")
        assert draw == draw_zipcodes(rows, history, rules, epoch, f"{number:064x}")
        names = [z.zipcode for z in draw.zipcodes]
        found = naive.naive_draw(rows, history, rules, epoch, f"{number:064x}")
        assert found == (names, draw.total, draw.eligible, draw.relaxed)
        past.append((epoch.start, [str(name) for name in names]))
        epoch = epoch.next()


@settings(max_examples=12, deadline=None)
@given(st.integers(5_000, 50_000), st.integers(0, 10**9))
@example(5_000, 0)
@example(50_000, 0)
def test_every_target_is_met_over_the_whole_country(target: int, number: int) -> None:
    rules = DrawRules(target_listings=target)
    history = DrawHistory()
    epoch = EPOCH
    for step in range(3):
        draw = draw_zipcodes(country_columns(), history, rules, epoch, f"{number + step:064x}")
        assert rules.least <= draw.total <= rules.most
        assert draw.relaxed in ((), ("large-zip",))
        drawn = [(epoch.start, [str(z.zipcode) for z in draw.zipcodes])]
        history = DrawHistory.of([*((t, [z]) for z, t in history.last_drawn.items()), *drawn])
        epoch = epoch.next()


@settings(deadline=None)
@given(st.binary(max_size=200), st.lists(st.binary(max_size=12), max_size=5))
def test_hmac_is_that_of_the_standard_library(key: bytes, messages: list[bytes]) -> None:
    expected = [hmac.digest(key, message, hashlib.sha256) for message in messages]
    assert hmac_digests(key, messages) == expected


digests = st.one_of(
    st.integers(0, 2**256 - 1),
    st.integers(0, 2**80),  # u close to 0
    st.integers(2**256 - 2**200, 2**256 - 1),  # u close to 1, where winners are
    st.integers(2**255 - 2**210, 2**255 + 2**210),  # where one logarithm takes over from the other
)


@settings(max_examples=300, deadline=None)
@given(digests)
@example(0)
@example(2**256 - 1)
@example(2**255)
@example(2**255 - 1)
def test_logarithms_are_good_to_far_less_than_what_counts_as_near(drawn: int) -> None:
    with localcontext() as context:
        context.prec = 120
        exact = (Decimal(drawn + 1) / Decimal(2**256 + 1)).ln()
        found = Decimal(float(logarithms([drawn.to_bytes(32, "big")])[0]))
        assert abs(found / exact - 1) < Decimal(NEAR) / 5_000


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**9))
def test_weights_are_good_to_far_less_than_what_counts_as_near(number: int) -> None:
    rows, history, _ = made_up(number, 40)
    rows = [row for row in rows if row.expected_listings]
    table = DrawTable(rows)
    every = np.arange(len(rows))
    found = table.weights(every, LastDrawn.of(table, history), EPOCH)
    with localcontext() as context:
        context.prec = 60
        for row, weight in zip(rows, found.tolist(), strict=True):
            drawn = naive.digest_of(row, "00")
            ln_u = (Decimal(drawn + 1) / (2**256 + 1)).ln()
            exact = ln_u / naive.exact_key(row, history, EPOCH, "00")
            assert abs(Decimal(weight) / exact - 1) < Decimal(NEAR) / 5_000


def test_equal_keys_go_by_zip() -> None:
    """Rows of one ZIP's figures twice over: only the ZIP is left to tell them apart."""
    table = DrawTable([zip_row(number) for number in (3, 1, 2)])
    same = [b"\x80" + bytes(31)] * 3
    order = table.order(np.arange(3), LastDrawn.none(table), EPOCH, same)
    assert [table.rows[place].zipcode for place in order.tolist()] == ["00001", "00002", "00003"]


@pytest.mark.parametrize("hours", [0, 23, 24, 25])
def test_columns_keep_the_cooldown(hours: int) -> None:
    history = DrawHistory.of([(EPOCH.start - timedelta(hours=hours), ["00001"])])
    table = DrawTable([zip_row(1)])
    chosen = table.eligible(LastDrawn.of(table, history), DrawRules(), EPOCH)
    assert chosen.tolist() == ([0] if hours >= 24 else [])
