"""An epoch of submissions for a benchmark: an export as ``sn46 export`` writes it, of real homes.

The homes are the county's that the local network's portal shows, in the ZIPs that have most of
them. Where more are asked for than there are, they are taken again with another id and another
address, so that no two rows of the epoch are the same home: the most that a validator can have to
hold. The county's records name no streets; addresses are composed in the county's style from the
parcel's digits, one in five with a unit, so that normalising them is the work that it is.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.assigned import SECRET, assigned
from benchmarks.world import hotkeys
from sn46.localnet.portal import expected_counts, read_homes
from sn46.mechanism.assignment import Assignment
from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.chainview import Block, ChainView, Neuron
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.listings import SCHEMA, listings_frame, write_listings
from sn46.mechanism.names import Coldkey, Hotkey, Uid, ZipCode
from sn46.mechanism.rules import Rules
from sn46.mechanism.submission import (
    EPOCH_METADATA,
    NONCE_METADATA,
    ManifestFile,
    ObjectInfo,
    manifest_key,
    miner_file_key,
    new_manifest,
)
from sn46.mechanism.times import format_time
from sn46.store.snapshot import MINER_DATA, VALIDATED_DATA
from sn46.validator.folder import ASSIGNMENT, CHAIN, epoch_folder, write_document

LOOKBACK_DAYS = 36_525
"""The homes were sold in 2014 and 2015."""
_NUMBERED_STREETS = 300
_STREETS = ("Street", "Avenue", "Place", "Court", "Drive", "Lane", "Road", "Boulevard")
_SIDES = ("Northeast", "NW", "Southeast", "SW", "North", "South", "E", "West")


@dataclass(frozen=True)
class Shape:
    """How many miners, with how many ZIPs and rows each."""

    miners: int
    zips: int
    rows: int

    @property
    def rows_of_a_zip(self) -> int:
        return math.ceil(self.rows / self.zips)

    @property
    def all_rows(self) -> int:
        return self.miners * self.zips * self.rows_of_a_zip


def write_epoch(folder: Path, shape: Shape, epoch: Epoch) -> None:
    """Write the export, its index last."""
    keys = hotkeys(shape.miners + 2)
    owner, api, miners = keys[0], keys[1], keys[2:]
    assignment = new_assignment(shape, api, epoch)
    place = epoch_folder(folder, epoch.id)
    write_document(place / ASSIGNMENT, assignment.sign(api))
    write_document(place / CHAIN, _view(owner, miners, epoch).to_json())
    homes = _homes([z.zipcode for z in assignment.zipcodes], epoch)
    lines: list[str] = []
    for number, miner in enumerate(miners):
        at = epoch.start + timedelta(minutes=20, seconds=number)
        for info, body in submission(assignment, miner, number, homes, shape.rows_of_a_zip, at):
            path = folder / MINER_DATA / info.key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
            lines.append(index_line(info))
    (folder / f"{MINER_DATA}.index.jsonl").write_text("".join(lines))
    (folder / f"{VALIDATED_DATA}.index.jsonl").write_text("")


def index_line(info: ObjectInfo) -> str:
    return json.dumps({
        "key": info.key,
        "size": info.size,
        "last_modified": format_time(info.last_modified),
        "metadata": dict(info.metadata),
    }) + "\n"  # fmt: skip


def new_assignment(shape: Shape, api: Any, epoch: Epoch) -> Assignment:
    """The county's ZIPs with most homes, each expected to have what each miner has of it."""
    counts = expected_counts()
    largest = sorted(counts, key=lambda zipcode: (-counts[zipcode], zipcode))
    if shape.zips > len(largest):
        raise SystemExit(f"The county has {len(largest)} ZIPs; --zips {shape.zips} is too many.")
    expected = dict.fromkeys(sorted(largest[: shape.zips]), shape.rows_of_a_zip)
    rules = Rules(lookback_days=LOOKBACK_DAYS)
    return assigned(expected, epoch, Hotkey(api.ss58_address), rules)


def _view(owner: Any, miners: list[Any], epoch: Epoch) -> ChainView:
    neurons = [
        Neuron(Uid(n), Hotkey(k.ss58_address), Coldkey(f"cold {n}"), 0, validator_permit=False)
        for n, k in enumerate([owner, *miners])
    ]
    block_hash = "0x" + hashlib.sha256(SECRET).hexdigest()
    block = Block(1_000, block_hash, epoch.end + timedelta(seconds=6))
    return ChainView(46, Hotkey(owner.ss58_address), block, tuple(neurons))


def _homes(zipcodes: list[ZipCode], epoch: Epoch) -> Mapping[ZipCode, pl.DataFrame]:
    """The county's homes in these ZIPs as rows, the parcel's digits for an address."""
    rows: dict[ZipCode, list[dict[str, object]]] = {zipcode: [] for zipcode in zipcodes}
    for home in read_homes():
        if home.zipcode in rows:
            rows[home.zipcode].append({
                "listing_id": f"portal:{home.id}",
                "source": "portal",
                "source_url": f"https://portal.example/homedetails/{home.id}_zpid/",
                "address": home.id,
                "city": home.city,
                "state": "WA",
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
            })  # fmt: skip
    return {zipcode: listings_frame(found) for zipcode, found in rows.items()}


def rows_of(homes: pl.DataFrame, count: int, miner: int) -> pl.DataFrame:
    """So many rows of one ZIP, each another home than any other miner's."""
    copies = math.ceil(count / homes.height)
    frame = pl.concat([homes] * copies).head(count)
    number, digits = pl.int_range(pl.len()), pl.col("address").cast(pl.Int64)
    copy = number // homes.height * 1_000 + miner
    address = pl.format(
        "{} {} {}th {}",
        10 * number + miner % 10,
        pl.lit(pl.Series(_SIDES)).gather(digits % len(_SIDES)),
        (digits // 7 + miner) % _NUMBERED_STREETS,
        pl.lit(pl.Series(_STREETS)).gather(digits // 8 % len(_STREETS)),
    )
    unit = pl.when(number % 5 == 0).then(pl.format(", Unit #{}", digits % 400))
    return frame.with_columns(
        pl.format("{}-{}", "listing_id", copy).alias("listing_id"),
        pl.format("{}-{}", "parcel_id", copy).alias("parcel_id"),
        pl.format("{}?from={}", "source_url", copy).alias("source_url"),
        (address + unit.otherwise(pl.lit(""))).alias("address"),
        (pl.col("scraped_at") + pl.duration(milliseconds=pl.int_range(pl.len()) * 40))
        .dt.cast_time_unit("us")
        .alias("scraped_at"),
    ).select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())


def submission(
    assignment: Assignment,
    miner: Any,
    number: int,
    homes: Mapping[ZipCode, pl.DataFrame],
    rows: int,
    at: datetime,
) -> Iterator[tuple[ObjectInfo, bytes]]:
    """A miner's objects with their bytes, the manifest last."""
    hotkey = Hotkey(miner.ss58_address)
    metadata = {EPOCH_METADATA: assignment.epoch_id, NONCE_METADATA: assignment.nonce}
    entries: list[ManifestFile] = []
    for zipcode, of_zip in homes.items():
        body = write_listings(rows_of(of_zip, rows, number))
        key = miner_file_key(hotkey, assignment.epoch_id, zipcode)
        entries.append(ManifestFile(key, zipcode, rows, len(body), sha256_hex(body)))
        yield ObjectInfo(key, len(body), at, metadata), body
    manifest = new_manifest(
        epoch_id=assignment.epoch_id,
        nonce=assignment.nonce,
        hotkey=hotkey,
        made_at=at,
        files=tuple(entries),
    ).sign(miner)
    key = manifest_key(hotkey, assignment.epoch_id)
    yield ObjectInfo(key, len(manifest), at, metadata), manifest
