"""Real inputs of the rules, small and complete: keys, assignments, chain views, submissions.

Everything is deterministic: a name gives a key, a number gives a home.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import bittensor_core
import polars as pl

from sn46.mechanism.assignment import (
    AssignedZip,
    Assignment,
    assignment_nonce,
    seed_commitment,
    selection_seed,
)
from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.chainview import Block, ChainView, Neuron
from sn46.mechanism.draw import ALGORITHM, DrawRules, ZipRow
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.evidence import Check, checks_key, evidence_key, write_evidence
from sn46.mechanism.listings import listings_frame, write_listings
from sn46.mechanism.names import Coldkey, Hotkey, Uid, ZipCode
from sn46.mechanism.quick import QuickResult, Upload, examine
from sn46.mechanism.rules import Rules
from sn46.mechanism.selection import FixedTarget, Selection, TargetBasis
from sn46.mechanism.signing import Signer
from sn46.mechanism.submission import (
    Manifest,
    ManifestFile,
    ObjectInfo,
    manifest_key,
    miner_file_key,
    new_manifest,
)
from sn46.mechanism.verdicts import Verdict

EPOCH = Epoch(datetime(2024, 3, 15, 16, tzinfo=UTC))
SECRET = b"a secret of the API server"
RAO = 10**9
BLOCK_HASH = "0x" + "5a" * 32


@cache
def key(name: str) -> Any:
    """The sr25519 key pair of a name."""
    seed = hashlib.sha256(name.encode()).digest()
    return bittensor_core.Keypair.create_from_seed(seed, bittensor_core.CRYPTO_SR25519)


def hotkey(name: str) -> Hotkey:
    return Hotkey(key(name).ss58_address)


def zip_row(number: int, **changes: Any) -> ZipRow:
    """A row of the master table that may be drawn at EPOCH."""
    row = ZipRow(
        zipcode=ZipCode(f"{number:05d}"),
        expected_listings=500,
        state="PA",
        city="Town",
        county="County",
        latitude=40.0,
        longitude=-75.0,
        population=10_000,
        property_count=4_000,
        home_value=300_000 + number,
        updated_on=date(2024, 3, 10),
    )
    return replace(row, **changes)


def assigned_zip(zipcode: str = "15213", expected: int = 100, **changes: Any) -> AssignedZip:
    zip_ = AssignedZip(
        zipcode=ZipCode(zipcode),
        expected_listings=expected,
        state="PA",
        city="Pittsburgh",
        county="Allegheny",
        market_tier="standard",
        latitude=40.44,
        longitude=-79.95,
    )
    return replace(zip_, **changes)


def new_assignment(
    zips: Iterable[AssignedZip] = (assigned_zip(),),
    *,
    rules: Rules | None = None,
    validators: Iterable[str] = (),
    epoch: Epoch = EPOCH,
    basis: TargetBasis | None = None,
) -> Assignment:
    """An assignment as the API server would make it, of the key named ``api``."""
    ordered = tuple(sorted(zips, key=lambda z: z.zipcode))
    return Assignment(
        epoch=epoch,
        nonce=assignment_nonce(SECRET, epoch, ordered),
        rules=rules or Rules(),
        validators=tuple(sorted(Hotkey(v) for v in validators)),
        zipcodes=ordered,
        selection=Selection(
            algorithm=ALGORITHM,
            commitment=seed_commitment(selection_seed(SECRET, epoch.id)),
            next_commitment=seed_commitment(selection_seed(SECRET, epoch.next().id)),
            seed=None,
            table_version="0" * 64,
            draw_rules=DrawRules(target_listings=sum(z.expected_listings for z in ordered)),
            target_basis=FixedTarget() if basis is None else basis,
        ),
        api_hotkey=hotkey("api"),
    )


def chain_view(miners: Mapping[str, str], validators: Mapping[str, int] | None = None) -> ChainView:
    """A subnet.

    Args:
        miners: hotkey address to coldkey.
        validators: hotkey address to stake in alpha; all of them hold a permit.
    """
    owner = Neuron(Uid(0), hotkey("owner"), Coldkey("owner-cold"), 0, validator_permit=False)
    neurons = [owner]
    for address, coldkey in miners.items():
        uid = Uid(len(neurons))
        neurons.append(Neuron(uid, Hotkey(address), Coldkey(coldkey), 0, validator_permit=False))
    for address, stake in (validators or {}).items():
        uid = Uid(len(neurons))
        coldkey = Coldkey(f"cold of {address}")
        neurons.append(Neuron(uid, Hotkey(address), coldkey, stake * RAO, validator_permit=True))
    block = Block(1_000, BLOCK_HASH, EPOCH.end + timedelta(seconds=6))
    return ChainView(46, hotkey("owner"), block, tuple(neurons))


def listing(number: int, zipcode: str = "15213", **changes: Any) -> dict[str, Any]:
    """A sold home with all required and no optional field."""
    row: dict[str, Any] = {
        "listing_id": f"portal:{number}",
        "source": "portal",
        "source_url": f"https://portal.example/homes/{number}",
        "address": f"{number} Forbes Avenue",
        "city": "Pittsburgh",
        "state": "PA",
        "zipcode": zipcode,
        "property_type": "SINGLE_FAMILY",
        "sale_price": 200_000 + number * 1_000,
        "sale_date": date(2024, 2, 1),
        "scraped_at": EPOCH.start + timedelta(minutes=5),
    }
    return row | changes


FULL_OPTIONAL: Mapping[str, Any] = {
    "bedrooms": 3,
    "bathrooms": 2.5,
    "living_area_sqft": 1_600,
    "lot_sqft": 5_000,
    "year_built": 1_950,
    "latitude": 40.44,
    "longitude": -79.95,
    "list_price": 210_000,
    "days_on_market": 12,
    "hoa_fee_monthly": 0,
    "parcel_id": "0052-A-1",
    "mls_id": "M1",
    "stories": 2.0,
    "garage_spaces": 1,
    "tax_assessed_value": 180_000,
    "county": "Allegheny",
}
"""All 16 optional fields."""


def listings(count: int, zipcode: str = "15213", start: int = 1, **changes: Any) -> pl.DataFrame:
    return listings_frame([listing(n, zipcode, **changes) for n in range(start, start + count)])


@dataclass
class Submission:
    """What a miner uploads, open to tampering before it is signed and frozen.

    ``frames`` are the rows by ZIP; ``bodies`` replaces what stands in the store without the
    manifest's knowing, ``entries`` what the manifest says of a file, ``fields`` the manifest's own
    fields, ``metadata`` that of an object by its key (or ``manifest.json``), ``times`` likewise
    the store's time.
    """

    assignment: Assignment
    signer: Signer
    frames: Mapping[str, pl.DataFrame]
    at: datetime = EPOCH.start + timedelta(minutes=30)
    bodies: dict[str, bytes] = field(default_factory=dict)
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    times: dict[str, datetime] = field(default_factory=dict)
    reverse: bool = False

    @property
    def hotkey(self) -> Hotkey:
        return Hotkey(self.signer.ss58_address)

    def _upload(self, key_: str, body: bytes, name: str) -> Upload:
        metadata = {"epoch-id": self.assignment.epoch_id, "nonce": self.assignment.nonce}
        return Upload(
            ObjectInfo(
                key=key_,
                size=len(body),
                last_modified=self.times.get(name, self.at),
                metadata=self.metadata.get(name, metadata),
            ),
            body,
        )

    def manifest(self) -> Manifest:
        files: list[ManifestFile] = []
        for zipcode, frame in self.frames.items():
            body = write_listings(frame)
            entry = ManifestFile(
                key=miner_file_key(self.hotkey, self.assignment.epoch_id, zipcode),
                zipcode=ZipCode(zipcode),
                rows=frame.height,
                bytes=len(body),
                sha256=sha256_hex(body),
            )
            files.append(replace(entry, **self.entries.get(zipcode, {})))
        made = new_manifest(
            epoch_id=self.assignment.epoch_id,
            nonce=self.assignment.nonce,
            hotkey=self.hotkey,
            made_at=self.at,
            files=tuple(files),
        )
        made = replace(made, **self.fields)
        return replace(made, files=made.files[::-1]) if self.reverse else made

    def files(self) -> dict[str, Upload]:
        found: dict[str, Upload] = {}
        for zipcode, frame in self.frames.items():
            body = self.bodies.get(zipcode, write_listings(frame))
            key_ = miner_file_key(self.hotkey, self.assignment.epoch_id, zipcode)
            found[key_] = self._upload(key_, body, zipcode)
        return found

    def manifest_upload(self) -> Upload:
        key_ = manifest_key(self.hotkey, self.assignment.epoch_id)
        return self._upload(key_, self.manifest().sign(self.signer), "manifest.json")

    def examine(self, view: ChainView | None = None) -> QuickResult:
        view = view or chain_view({self.hotkey: f"cold of {self.hotkey}"})
        return examine(self.assignment, view, self.hotkey, self.manifest_upload(), self.files())

    def with_body(self, zipcode: str, body: bytes, rows: int) -> "Submission":
        """The same with these bytes in a ZIP's place, honestly named in the manifest."""
        return replace(
            self,
            bodies=self.bodies | {zipcode: body},
            entries=self.entries
            | {zipcode: {"rows": rows, "bytes": len(body), "sha256": sha256_hex(body)}},
        )


def submission(
    rows: int | pl.DataFrame = 100,
    *,
    name: str = "miner",
    assignment: Assignment | None = None,
    **options: Any,
) -> Submission:
    """A submission for the one ZIP of ``new_assignment()``."""
    frame = listings(rows) if isinstance(rows, int) else rows
    return Submission(assignment or new_assignment(), key(name), {"15213": frame}, **options)


def changed(rows: Sequence[dict[str, Any]], index: int, **changes: Any) -> pl.DataFrame:
    """A frame of these rows, one of them changed."""
    return listings_frame([r | changes if i == index else r for i, r in enumerate(rows)])


def check(
    miner: str,
    listing_id: str,
    verdict: Verdict = Verdict.CONFIRMED,
    detail: str = "",
    checked_at: datetime | None = None,
    shown: int = 16,
) -> Check:
    at = checked_at or EPOCH.end + timedelta(minutes=40)
    return Check(Hotkey(miner), listing_id, verdict, "portal", detail, at, shown)


def evidence_uploads(
    signer: Signer,
    checks: Iterable[Check],
    *,
    at: datetime = EPOCH.end + timedelta(hours=1),
    epoch: Epoch = EPOCH,
) -> tuple[Upload, Upload]:
    """evidence.json and spot_checks.parquet as a validator uploads them."""
    body, document = write_evidence(checks, epoch_id=epoch.id, signer=signer)
    text = json.dumps(document).encode()
    who = signer.ss58_address
    return (
        Upload(ObjectInfo(evidence_key(who, epoch.id), len(text), at, {}), text),
        Upload(ObjectInfo(checks_key(who, epoch.id), len(body), at, {}), body),
    )
