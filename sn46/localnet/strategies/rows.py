"""Cheats with the rows. Each takes what an honest miner would upload and spoils it.

What is made up follows from the epoch's nonce and the ZIP, so that a run can be repeated.
"""

import math
import random
import re
from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.listings import listings_frame
from sn46.mechanism.names import ZipCode
from sn46.miner.cleaning import Frames
from sn46.miner.pipeline import pack_clean

PADDED_SHARE: Final = 0.05
MOVED_SHARE: Final = 0.04
INVENTED_SHARE: Final = 0.30
_DIGITS: Final = re.compile(r"[0-9]+")


def pack_padded(assignment: Assignment, frames: Frames) -> Frames:
    """One home in twenty a second time, under another id and another spelling of its address."""
    honest = pack_clean(assignment, frames)
    return {z: _padded(frame) for z, frame in honest.items()}


def pack_wrong_zip(assignment: Assignment, frames: Frames) -> Frames:
    """One home in twenty-five into the folder of the next ZIP: what a miner does who fills up
    ZIPs that are hard to scrape with homes of those that are not."""
    honest = pack_clean(assignment, frames)
    zips = sorted(honest)
    moved = {z: math.ceil(honest[z].height * MOVED_SHARE) for z in zips}
    return {
        z: pl.concat([honest[z].slice(moved[z]), honest[before].head(moved[before])])
        for before, z in zip([*zips[-1:], *zips[:-1]], zips, strict=True)
    }


def pack_fabricated(assignment: Assignment, frames: Frames) -> Frames:
    """Real ids and addresses; of two homes in three, price, rooms and area are made up."""
    honest = pack_clean(assignment, frames)
    return {z: _fabricated(assignment, z, frame) for z, frame in honest.items()}


def pack_invented(assignment: Assignment, frames: Frames) -> Frames:
    """Beside the real homes, three in ten that do not exist, each modelled on a real one."""
    honest = pack_clean(assignment, frames)
    return {z: _invented(assignment, z, frame) for z, frame in honest.items()}


def _padded(frame: pl.DataFrame) -> pl.DataFrame:
    repeated = frame.head(math.ceil(frame.height * PADDED_SHARE)).with_columns(
        listing_id=pl.col("listing_id") + "-2",
        address=pl.col("address").str.to_lowercase().str.replace_all(" ", "  ") + ".",
    )
    return pl.concat([frame, repeated])


def _fabricated(assignment: Assignment, zipcode: ZipCode, frame: pl.DataFrame) -> pl.DataFrame:
    chance = _chance("fabricator", assignment, zipcode)
    rows = frame.to_dicts()
    for number, row in enumerate(rows):
        if number % 3:
            row["sale_price"] = round(row["sale_price"] * chance.uniform(1.1, 1.4))
            row["bedrooms"] = (row["bedrooms"] or 2) + chance.choice((1, 2))
            row["bathrooms"] = (row["bathrooms"] or 1) + 1
            if row["living_area_sqft"]:
                # Price and area grow together, so that the price of a square foot looks right.
                row["living_area_sqft"] = round(row["living_area_sqft"] * chance.uniform(1.1, 1.4))
    return listings_frame(rows)


def _invented(assignment: Assignment, zipcode: ZipCode, frame: pl.DataFrame) -> pl.DataFrame:
    chance = _chance("inventor", assignment, zipcode)
    count = round(frame.height * INVENTED_SHARE)
    models = chance.sample(frame.to_dicts(), count)
    return pl.concat([frame, listings_frame([_invent(model, chance) for model in models])])


def _invent(model: Mapping[str, Any], chance: random.Random) -> dict[str, Any]:
    """A home like ``model`` with other numbers in its id and its address."""
    source, _, identity = str(model["listing_id"]).partition(":")
    digits = _other_digits(identity, chance)
    address = str(model["address"])
    renamed = (
        address.replace(identity, digits)
        if identity in address
        else _DIGITS.sub(lambda match: _other_digits(match.group(), chance), address, count=1)
    )
    return {
        **model,
        "listing_id": f"{source}:{digits}",
        "source_url": str(model["source_url"]).replace(identity, digits),
        "address": renamed,
        "parcel_id": digits if model["parcel_id"] else None,
        "sale_price": round(model["sale_price"] * chance.uniform(0.9, 1.1)),
    }


def _other_digits(text: str, chance: random.Random) -> str:
    """Another text of the same form: every digit drawn anew, and never all the same."""
    while True:
        made = _DIGITS.sub(lambda m: "".join(chance.choices("0123456789", k=len(m.group()))), text)
        if made != text or not _DIGITS.search(text):
            return made


def _chance(cheat: str, assignment: Assignment, zipcode: ZipCode) -> random.Random:
    return random.Random(f"{cheat}:{assignment.nonce}:{zipcode}")
