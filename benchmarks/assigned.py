"""An assignment for benchmarks, as the API would draw one."""

from collections.abc import Mapping

from sn46.mechanism.assignment import (
    AssignedZip,
    Assignment,
    assignment_nonce,
    seed_commitment,
    selection_seed,
)
from sn46.mechanism.draw import ALGORITHM, DrawRules
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.names import Hotkey, ZipCode
from sn46.mechanism.rules import Rules
from sn46.mechanism.selection import FixedTarget, Selection
from sn46.zipcodes import load_bundled_table

SECRET = b"a benchmark's secret, of no worth to anyone"


def assigned(
    expected: Mapping[ZipCode, int], epoch: Epoch, api_hotkey: Hotkey, rules: Rules
) -> Assignment:
    """These ZIPs of the bundled table, with so many expected listings, in their order."""
    places = load_bundled_table().by_zipcode
    zips = tuple(
        AssignedZip(
            zipcode, count, places[zipcode].state, places[zipcode].city, places[zipcode].county,
            "standard", places[zipcode].latitude, places[zipcode].longitude,
        )
        for zipcode, count in expected.items()
    )  # fmt: skip
    return Assignment(
        epoch=epoch,
        nonce=assignment_nonce(SECRET, epoch, zips),
        rules=rules,
        validators=(),
        zipcodes=zips,
        selection=Selection(
            algorithm=ALGORITHM,
            commitment=seed_commitment(selection_seed(SECRET, epoch.id)),
            next_commitment=seed_commitment(selection_seed(SECRET, epoch.next().id)),
            seed=None,
            table_version="0" * 64,
            draw_rules=DrawRules(target_listings=sum(z.expected_listings for z in zips)),
            target_basis=FixedTarget(),
        ),
        api_hotkey=api_hotkey,
    )
