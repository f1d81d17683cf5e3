"""What the portal answers when nothing goes wrong, against the raw file."""

from datetime import date, timedelta

import httpx
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from portal_process import CALM, portal

from sn46.certificates import trusted
from sn46.localnet.portal import bundled_sales_path, expected_counts, read_homes


def all_pages(url: str, **params: object) -> list[dict[str, object]]:
    homes: list[dict[str, object]] = []
    page = 1
    with httpx.Client(base_url=url, verify=trusted()) as client:
        while True:
            answer = client.get("/api/search", params={**params, "page": page})
            answer.raise_for_status()
            found = answer.json()
            homes += found["homes"]
            if page * found["pageSize"] >= found["totalResults"]:
                return homes
            page += 1


def test_each_home_counts_once_however_often_it_was_sold(latest_sales: pl.DataFrame) -> None:
    counts = expected_counts()
    assert (len(counts), sum(counts.values())) == (70, 21_436)
    assert counts["98103"] == 600  # type: ignore[index]
    raw = pl.read_parquet(bundled_sales_path())
    per_zip = raw.group_by("zipcode").agg(pl.col("id").n_unique().alias("homes"))
    assert counts == {str(z): n for z, n in per_zip.iter_rows()}
    assert latest_sales.height == 21_436


def test_homes_have_a_ten_digit_id_and_a_place() -> None:
    homes = {home.id: home for home in read_homes()}
    assert len(homes) == 21_436
    assert all(len(i) == 10 and i.isdigit() for i in homes)
    assert homes["0001000102"].latest.price == 300_000
    assert homes["7129300520"].city == "Seattle"
    assert {home.county for home in homes.values()} == {"King County"}


def test_the_pages_of_a_zip_hold_each_of_its_homes_once(
    calm_portal: str, latest_sales: pl.DataFrame
) -> None:
    homes = all_pages(calm_portal, zip="98103")
    ids = [str(home["propertyId"]) for home in homes]
    wanted = latest_sales.filter(pl.col("zipcode") == 98103)["id"].cast(pl.String).str.zfill(10)
    assert len(ids) == len(set(ids)) == 600
    assert set(ids) == set(wanted)
    dates = [str(home["soldDate"]) for home in homes]
    assert dates == sorted(dates, reverse=True)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    zipcode=st.sampled_from(["98103", "98039", "98105"]),
    start=st.dates(date(2014, 4, 25), date(2015, 6, 5)),
    days=st.integers(-1, 120),
    low=st.none() | st.integers(0, 3_000_000),
    high=st.none() | st.integers(0, 3_000_000),
)
def test_filters_are_inclusive_and_exact(
    calm_portal: str,
    latest_sales: pl.DataFrame,
    zipcode: str,
    start: date,
    days: int,
    low: int | None,
    high: int | None,
) -> None:
    end = start + timedelta(days=days)
    params: dict[str, object] = {"zip": zipcode, "soldFrom": start, "soldTo": end}
    wanted = latest_sales.filter(
        (pl.col("zipcode") == int(zipcode)) & (pl.col("date") >= start) & (pl.col("date") <= end)
    )
    if low is not None:
        params["minPrice"] = low
        wanted = wanted.filter(pl.col("price") >= low)
    if high is not None:
        params["maxPrice"] = high
        wanted = wanted.filter(pl.col("price") <= high)
    homes = all_pages(calm_portal, **params)
    assert sorted(str(h["propertyId"]) for h in homes) == sorted(
        str(i).zfill(10) for i in wanted["id"]
    )


def test_a_page_has_forty_homes_and_the_last_one_the_rest(calm_portal: str) -> None:
    def page(number: int) -> list[object]:
        params = {"zip": "98105", "page": number}  # 229 homes
        return httpx.get(f"{calm_portal}/api/search", params=params, verify=trusted()).json()[
            "homes"
        ]

    assert [len(page(n)) for n in (1, 5, 6, 7)] == [40, 40, 29, 0]


def test_a_zip_without_sales_has_none(calm_portal: str) -> None:
    answer = httpx.get(f"{calm_portal}/api/search", params={"zip": "90210"}, verify=trusted())
    assert (answer.status_code, answer.json()["totalResults"]) == (200, 0)


def test_no_page_shows_results_past_the_limit() -> None:
    with portal(*CALM, "--result-limit", "100") as url:
        shown: list[int] = []
        for page in (1, 2, 3):
            answer = httpx.get(
                f"{url}/api/search", params={"zip": "98103", "page": page}, verify=trusted()
            ).json()
            assert (answer["totalResults"], answer["resultLimit"]) == (600, 100)
            shown.append(len(answer["homes"]))
        assert shown == [40, 40, 20]
        beyond = httpx.get(
            f"{url}/api/search", params={"zip": "98103", "page": 4}, verify=trusted()
        )
        assert beyond.status_code == 400
        assert beyond.json()["error"]["code"] == "page_beyond_limit"


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"zip": "8103"},
        {"zip": "981033"},
        {"zip": "９8103"},
        {"zip": "98103", "page": "0"},
        {"zip": "98103", "page": "-1"},
        {"zip": "98103", "page": "two"},
        {"zip": "98103", "page": "9" * 5000},
        {"zip": "98103", "minPrice": "1.5"},
        {"zip": "98103", "soldFrom": "yesterday"},
        {"zip": "98103", "soldTo": "2015-02-30"},
    ],
)
def test_parameters_it_does_not_understand_are_400(
    calm_portal: str, params: dict[str, str]
) -> None:
    answer = httpx.get(f"{calm_portal}/api/search", params=params, verify=trusted())
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")


def test_a_property_page_shows_every_sale_and_the_latest_as_its_price(calm_portal: str) -> None:
    raw = pl.read_parquet(bundled_sales_path())
    thrice = raw.filter(pl.len().over("id") == 3).sort("date", descending=True)
    home_id = str(thrice["id"][0]).zfill(10)
    found = httpx.get(
        f"{calm_portal}/api/property", params={"id": home_id}, verify=trusted()
    ).json()["property"]
    sales = [{"date": d.isoformat(), "price": p} for d, p in thrice.select("date", "price").rows()]
    assert found["saleHistory"] == sales
    assert (found["soldDate"], found["soldPrice"]) == (sales[0]["date"], sales[0]["price"])
    assert found["streetAddress"] == f"PARCEL {home_id}"


@pytest.mark.parametrize(
    "property_id",
    ["0000000001", "", "x", "../search", "7129300520 ", "07129300520", "7129300520/", "é", "\0"],
)
def test_an_id_that_is_none_of_its_own_is_positively_unknown(
    calm_portal: str, property_id: str
) -> None:
    answer = httpx.get(f"{calm_portal}/api/property", params={"id": property_id}, verify=trusted())
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_such_property")


def test_a_page_that_is_not_there_says_nothing_of_a_property(calm_portal: str) -> None:
    answer = httpx.get(
        f"{calm_portal}/api/properties", params={"id": "7129300520"}, verify=trusted()
    )
    assert answer.status_code == 404
    assert "no_such_property" not in answer.text
    assert httpx.post(f"{calm_portal}/api/search", verify=trusted()).status_code == 405


def test_health_tells_what_it_serves(calm_portal: str) -> None:
    assert httpx.get(f"{calm_portal}/health", verify=trusted()).json() == {
        "status": "ok",
        "homes": 21_436,
        "zipcodes": 70,
        "resultLimit": 1000,
        "pageSize": 40,
    }
