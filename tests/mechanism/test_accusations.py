"""How often an honest row is accused, and a fabricated one found, over the county's real sales,
where the source differs from itself as portals do: from answer to answer, and scrape to check."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

import pytest

from sn46.localnet.portal.homes import Home, read_homes
from sn46.mechanism.evidence import Merged, merge_row
from sn46.mechanism.names import Hotkey
from sn46.mechanism.sampling import SampledRow
from sn46.mechanism.verdicts import Verdict, compare

from .builders import check

HOMES: Final = 5_000
VALIDATORS: Final = (Hotkey("a"), Hotkey("b"), Hotkey("c"))
STREETS: Final = ("Rainier", "Queen Anne", "Martin Luther King", "Lake City", "1st", "148th")
SUFFIXES: Final = (("Avenue", "Ave", "AVE."), ("Street", "St", "St."), ("Place", "Pl", "PL"))
DIRECTIONS: Final = (("North", "N", "N."), ("Southeast", "SE", "S.E."), ("", "", ""))
UNITS: Final = ("Apt {}", "APT #{}", "Unit {}", "#{}", "unit {}", "Ste {}")


@dataclass(frozen=True)
class Noise:
    """Chances, for each field of each answer, that it is written in another way or left out."""

    missing: float = 0.1
    price_rounded: float = 0.1
    area_rounded: float = 0.2
    a_day_off: float = 0.3
    sold_again: float = 0.002
    delisted: float = 0.002
    unit_left_out: float = 0.01


def spelled(home: Home, luck: random.Random, noise: Noise) -> str:
    """The county's file has no street addresses: the parcel's number makes one, and each answer
    spells it in its own way."""
    made = random.Random(home.id)
    direction, suffix = made.choice(DIRECTIONS), made.choice(SUFFIXES)
    words = [str(made.randint(100, 19_999)), luck.choice(direction), made.choice(STREETS)]
    words.append(luck.choice(suffix))
    if made.random() < 0.3:
        unit = luck.choice(UNITS).format(made.randint(1, 400))
        words.append("" if luck.random() < noise.unit_left_out else unit)
    text = " ".join(word for word in words if word)
    return luck.choice((text, text.upper(), text.replace(" ", "  ", 1)))


def answer(home: Home, luck: random.Random, noise: Noise) -> dict[str, Any]:
    """What the source says of a home in one answer."""
    price, sold = home.latest.price, home.latest.sold_on
    if luck.random() < noise.sold_again:
        price, sold = int(price * luck.uniform(0.8, 1.3)), sold + timedelta(days=120)
    if luck.random() < noise.price_rounded:
        price = round(price, -3)
    if luck.random() < noise.a_day_off:
        sold += timedelta(days=luck.choice((-1, 1)))
    area = home.living_sqft
    if luck.random() < noise.area_rounded:
        area = round(area, -1)
    optional: dict[str, Any] = {
        "bedrooms": home.bedrooms,
        "bathrooms": home.bathrooms,
        "living_area_sqft": area,
        "year_built": home.year_built,
    }
    return {
        "listing_id": f"portal:{home.id}",
        "address": spelled(home, luck, noise),
        "zipcode": home.zipcode,
        "property_type": "SINGLE_FAMILY",
        "sale_price": price,
        "sale_date": sold,
        **{name: None if luck.random() < noise.missing else v for name, v in optional.items()},
    }


def some_homes() -> list[Home]:
    homes = list(read_homes())
    return random.Random(46).sample(homes, HOMES)


def looks(
    home: Home, row: dict[str, Any], luck: random.Random, noise: Noise
) -> Iterator[tuple[Verdict, str]]:
    """What each of three validators finds, at different moments. Of a delisted home all find
    nothing."""
    gone = luck.random() < noise.delisted
    for _ in VALIDATORS:
        yield compare(row, None if gone else answer(home, luck, noise))


def judged(home: Home, row: dict[str, Any], luck: random.Random) -> tuple[list[Verdict], Merged]:
    """Each verdict on a row, and the common one; others reported the home, so a delisted one is
    vouched for."""
    found = [verdict for verdict, _ in looks(home, row, luck, Noise())]
    voices = {v: check("m", home.id, f) for v, f in zip(VALIDATORS, found, strict=True)}
    sampled = SampledRow(Hotkey("m"), home.id, 0, 0, VALIDATORS, 4)
    return found, merge_row(sampled, voices, dict.fromkeys(VALIDATORS, 1), vouched=True).verdict


def test_an_honest_row_is_hardly_ever_accused() -> None:
    luck = random.Random(7)
    single: Counter[Verdict] = Counter()
    common: Counter[Merged] = Counter()
    for home in some_homes():
        found, merged = judged(home, answer(home, luck, Noise()), luck)
        single.update(found)
        common[merged] += 1
    assert single[Verdict.MISIDENTIFIED] == 0
    assert single[Verdict.CONTRADICTED] < 0.01 * single.total()
    assert common[Merged.CONTRADICTED] < 0.01 * HOMES
    assert common[Merged.FAKE] == 0
    assert common[Merged.CONFIRMED] > 0.97 * HOMES


def raised(percent: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda row: {"sale_price": int(row["sale_price"] * (1 + percent / 100))}


@pytest.mark.parametrize("percent", [-25, -5, -2.1, 2.1, 5, 25])
def test_a_fabricated_price_is_found(percent: float) -> None:
    """Of prices that are off by more than 2 %."""
    luck = random.Random(8)
    homes = some_homes()[: HOMES // 5]
    found = 0
    for home in homes:
        row = answer(home, luck, replace(Noise(), sold_again=0, price_rounded=0))
        row |= raised(percent)(row)
        found += judged(home, row, luck)[1] in (Merged.CONTRADICTED, Merged.FAKE)
    assert found >= 0.99 * len(homes)
