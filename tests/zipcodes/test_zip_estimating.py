"""Estimates: their arithmetic, the design's reference point, and how far off they are."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zipfiles import zip_row

import sn46.localnet.portal
from sn46.mechanism.names import ZipCode
from sn46.zipcodes import MasterTable, load_bundled_table, with_estimates, with_expected
from sn46.zipcodes.estimating import hold_out, turnovers

DAY = date(2026, 11, 1)


@pytest.fixture(scope="module")
def bundled() -> MasterTable:
    return load_bundled_table()


def test_one_known_zip_gives_the_country_of_the_design(bundled: MasterTable) -> None:
    table = with_estimates(with_expected(bundled, {ZipCode("11211"): 1_007}, DAY), DAY)
    known = [r.expected_listings for r in table.rows if r.expected_listings is not None]
    assert sum(known) == 3_561_526
    between = [count for count in known if 200 <= count <= 3_000]
    assert (len(known), len(between), sum(between)) == (31_448, 6_720, 2_457_692)
    assert table.by_zipcode[ZipCode("11211")].expected_listings == 1_007


def state(name: str, first: int, figures: list[int | None], units: int = 1_000) -> list[object]:
    return [
        zip_row(f"{first + n:05}", state=name, property_count=units, expected_listings=figure,
                updated_on=None if figure is None else DAY)
        for n, figure in enumerate(figures)
    ]  # fmt: skip


def test_a_state_with_ten_figures_has_its_own_turnover() -> None:
    rows = state("NJ", 10_000, [50] * 10 + [None]) + state("NY", 20_000, [200] * 9 + [None])
    rows += state("WA", 30_000, [None])
    table = with_estimates(MasterTable(tuple(rows)), None)  # type: ignore[arg-type]
    found = {z: r.expected_listings for z, r in table.by_zipcode.items()}
    assert found["10010"] == 50
    country = round((10 * 50 + 9 * 200) / 19)
    assert (found["20009"], found["30000"]) == (country, country)


def test_figures_stay_and_zips_without_homes_get_none() -> None:
    rows = (
        zip_row("10000", expected_listings=70, updated_on=date(2025, 1, 1)),
        zip_row("10001", property_count=0),
        zip_row("10002", property_count=1_000),
    )
    table = with_estimates(MasterTable(rows), DAY)
    found = [(r.expected_listings, r.updated_on) for r in table.rows]
    assert found == [(70, date(2025, 1, 1)), (None, None), (18, DAY)]  # 17.5, half up
    assert with_estimates(MasterTable(rows[1:]), DAY) == MasterTable(rows[1:])


@given(
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 40_000)), min_size=1, max_size=30),
    st.integers(1, 40_000),
)
def test_estimates_are_whole_and_add_up(known: list[tuple[int, int]], units: int) -> None:
    rows = [
        zip_row(f"{10_000 + n:05}", expected_listings=count, property_count=homes, updated_on=DAY)
        for n, (count, homes) in enumerate(known)
    ]
    turnover = turnovers(rows).country
    assert turnover is not None
    share = units * sum(c for c, _ in known) / sum(h for _, h in known)
    assert abs(turnover.estimate(units) - share) <= 0.5 + 1e-6
    assert turnover.estimate(turnover.units) == turnover.listings


def test_the_error_on_real_sales_is_what_the_docs_say() -> None:
    """21,613 sales of a year in 70 ZIPs of King County, three of which make the lookback."""
    sales = Path(sn46.localnet.portal.__path__[0]) / "data" / "king_county_sales.parquet"
    counted = pl.read_parquet(sales).group_by(pl.col("zipcode").cast(pl.String)).len()
    counts = {ZipCode(z): 3 * n for z, n in counted.iter_rows()}
    table = with_expected(load_bundled_table(), counts, DAY)
    found = hold_out(table.rows)
    assert found.zipcodes == 70
    assert abs(found.total_error) < 0.005
    assert found.median_error == pytest.approx(0.25, abs=0.01)
    assert found.within_quarter == pytest.approx(0.49, abs=0.01)
    assert found.within_half == pytest.approx(0.80, abs=0.01)


def test_too_few_figures_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="Too few"):
        hold_out([zip_row("10000", expected_listings=5)])
