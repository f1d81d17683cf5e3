"""Six epochs of the county's homes, as a local network publishes them: drawn by the draw itself
with a local network's settings, each home as its portal shows it.

Three miners are honest: one has every home, one misses every tenth, one has every second.
"""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from mechanism.builders import hotkey
from publishing import Publications, rows_frame

from sn46.localnet.defaults import TARGET_LISTINGS
from sn46.localnet.portal import expected_counts, read_homes
from sn46.localnet.portal.homes import STATE, Home
from sn46.mechanism.assignment import selection_seed
from sn46.mechanism.draw import DrawHistory, DrawRules, draw_zipcodes
from sn46.mechanism.epochs import Epoch
from sn46.zipcodes import load_bundled_table, with_expected

EPOCHS = 6
FIRST = Epoch(datetime(2026, 1, 5, tzinfo=UTC))
SECRET = b"the county's six epochs"
MINER = hotkey("complete")
RULES = DrawRules(
    target_listings=TARGET_LISTINGS,
    min_zipcode_listings=50,
    cooldown_hours=0,
    eligible_states=frozenset({STATE}),
    max_state_share=100,
    max_region_share=100,
)


def listing_of(home: Home, number: int, epoch: Epoch) -> dict[str, Any]:
    """A home as the portal's source reads it."""
    return {
        "listing_id": f"portal:{home.id}",
        "source": "portal",
        "source_url": f"https://portal.example/api/property?id={home.id}",
        "address": home.street_address,
        "city": home.city,
        "state": STATE,
        "zipcode": home.zipcode,
        "property_type": "SINGLE_FAMILY",
        "sale_price": home.latest.price,
        "sale_date": home.latest.sold_on,
        "scraped_at": epoch.start,
        "bedrooms": home.bedrooms,
        "bathrooms": home.bathrooms,
        "living_area_sqft": home.living_sqft,
        "lot_sqft": home.lot_sqft,
        "year_built": home.year_built,
        "latitude": home.latitude,
        "longitude": home.longitude,
        "parcel_id": home.id,
        "stories": home.floors,
        "county": home.county,
        "confirmations": 1 + (number % 10 != 0) + number % 2,
    }


def county(epochs: int = EPOCHS) -> Publications:
    """What three validators that agree publish."""
    table = with_expected(load_bundled_table(), expected_counts(), date(2026, 1, 1))
    homes = list(enumerate(read_homes()))
    made, epoch = Publications(), FIRST
    drawn: list[tuple[datetime, list[str]]] = []
    for _ in range(epochs):
        seed = selection_seed(SECRET, epoch.id)
        draw = draw_zipcodes(table.rows, DrawHistory.of(drawn), RULES, epoch, seed)
        zipcodes = {zip_.zipcode for zip_ in draw.zipcodes}
        drawn.append((epoch.start, sorted(zipcodes)))
        rows = [listing_of(h, n, epoch) for n, h in homes if h.zipcode in zipcodes]
        frame = rows_frame(epoch.id, rows, (MINER,))
        made.all_agree(epoch.id, frame, winners=(MINER,))
        epoch = epoch.next()
    return made


if __name__ == "__main__":
    import sys

    county().write(Path(sys.argv[1]))
