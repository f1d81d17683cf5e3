"""What validators will say of an epoch's work: their own quick validation, run before they do.

It reads the spool alone: no network and no key. A package that is signed is judged as it is. One
that is not there yet is made as it would be uploaded, and signed with a key that is thrown away.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

import bittensor_core
import polars as pl

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.chainview import Block, ChainView, Neuron
from sn46.mechanism.errors import MechanismError
from sn46.mechanism.lost import FieldFill, ZipVolume, field_fills, zip_volumes
from sn46.mechanism.names import PPM, Coldkey, Hotkey, Ppm, Uid, ZipCode
from sn46.mechanism.parquetfile import decode
from sn46.mechanism.quick import QuickResult, Upload, examine, judge_rows, most_rows
from sn46.mechanism.reasons import Reason
from sn46.mechanism.scoring import QUALITY_WEIGHT, SPEED_STEP, SPEED_WEIGHT, VOLUME_WEIGHT, blend
from sn46.mechanism.signing import Signer, address_of
from sn46.mechanism.submission import (
    EPOCH_METADATA,
    NONCE_METADATA,
    ManifestFile,
    ObjectInfo,
    load_document,
    manifest_key,
    parse_manifest,
)
from sn46.mechanism.times import format_time, parse_time
from sn46.miner.faults import RowFault, merged_faults, row_faults
from sn46.miner.pipeline import Pipeline
from sn46.miner.spool import EpochSpool, Outcome, ScrapedZip

_core: Any = bittensor_core  # a compiled module without type information
WHOLE: Final = SPEED_WEIGHT + QUALITY_WEIGHT + VOLUME_WEIGHT


class NothingToCheck(Exception):
    """The epoch's spool holds no row yet."""


@dataclass(frozen=True)
class Checkup:
    """What to expect of a submission.

    ``signed`` tells whether it was judged as it will be or was uploaded; ``moment`` is when it
    was submitted, or now. Scores are in ppm, None where they were not reached; ``preliminary`` is
    that of the first place in speed, None where it does not take part; each place costs
    ``place_costs``.
    ``faults`` are rows in its files that do not count, ``left_out`` those that the miner did not
    even put there.
    """

    epoch_id: str
    hotkey: Hotkey
    signed: bool
    outcome: Outcome | None
    moment: datetime
    grace_end: datetime
    deadline: datetime
    valid: bool
    participant: bool
    reasons: tuple[Reason, ...]
    files: int
    rows: int
    rows_kept: int
    completeness: Ppm | None
    volume: Ppm | None
    preliminary: Ppm | None
    fields: tuple[FieldFill, ...]
    zips: tuple[ZipVolume, ...]
    faults: tuple[RowFault, ...]
    left_out: tuple[RowFault, ...]

    @property
    def place_costs(self) -> Ppm:
        """What each place in speed costs of the preliminary score."""
        return Ppm(SPEED_STEP * SPEED_WEIGHT // WHOLE)

    @property
    def in_grace(self) -> bool:
        """Whether it is in time to share the first place in speed."""
        return self.moment <= self.grace_end

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field; times as RFC 3339."""
        document = asdict(self)
        for name in ("moment", "grace_end", "deadline"):
            document[name] = format_time(getattr(self, name))
        document["reasons"] = [reason.to_json() for reason in self.reasons]
        for name in ("faults", "left_out"):
            document[name] = [fault.to_json() for fault in getattr(self, name)]
        return document | {"speed_at_first_place": PPM, "speed_place_costs": SPEED_STEP,
                           "preliminary_place_costs": self.place_costs}  # fmt: skip


@dataclass(frozen=True)
class _Package:
    """A submission as the store would hold it."""

    hotkey: Hotkey
    manifest: bytes
    files: tuple[tuple[ManifestFile, bytes], ...]


def check_up(
    assignment: Assignment, spool: EpochSpool, now: datetime, pipeline: Pipeline | None = None
) -> Checkup:
    """Judge what is in an epoch's spool as validators will.

    Args:
        now: when it would be submitted, where it was not.
        pipeline: how a package that is not there yet is made.

    Raises:
        NothingToCheck: where there is no row to submit.
        SpoolError: where a file of the spool is damaged.
    """
    signed = spool.manifest()
    package = _signed_package(spool, signed) if signed else _new_package(
        assignment, spool, now, pipeline or Pipeline()
    )  # fmt: skip
    outcome = spool.outcome()
    moment = _moment(assignment, outcome, now)
    result = _examined(assignment, package, moment)
    judged = judge_rows(assignment, _decoded(assignment, package))
    kept = judged.filter(pl.col("in_range") & ~pl.col("duplicate"))
    records = spool.scraped()
    preliminary = None
    if result.participant and result.completeness is not None and result.volume is not None:
        preliminary = blend(Ppm(PPM), result.completeness, result.volume)
    return Checkup(
        epoch_id=assignment.epoch_id,
        hotkey=spool.hotkey,
        signed=signed is not None,
        outcome=outcome,
        moment=moment,
        grace_end=assignment.grace_end,
        deadline=assignment.epoch.end,
        valid=result.valid,
        participant=result.participant,
        reasons=result.reasons,
        files=len(package.files),
        rows=sum(file.rows for file, _ in package.files),
        rows_kept=kept.height,
        completeness=result.completeness,
        volume=result.volume,
        preliminary=preliminary,
        fields=field_fills(assignment, kept),
        zips=_zips(assignment, kept, records, outcome.unsent if outcome else {}),
        faults=row_faults(assignment, judged),
        left_out=_left_out(assignment, spool, records),
    )


def _signed_package(spool: EpochSpool, manifest: bytes) -> _Package:
    named = parse_manifest(load_document(manifest, "manifest.json"))
    files = tuple((file, spool.packaged(file)) for file in named.files)
    return _Package(spool.hotkey, manifest, files)


def _new_package(
    assignment: Assignment, spool: EpochSpool, now: datetime, pipeline: Pipeline
) -> _Package:
    key: Signer = _core.Keypair.create_from_seed(secrets.token_bytes(32), _core.CRYPTO_SR25519)
    hotkey = address_of(key)
    frames = pipeline.pack(assignment, spool.frames())
    files = tuple(spool.files_for(hotkey, frames))
    if not files:
        notes = "; ".join(sorted({r.note for r in spool.scraped().values() if r.note}))
        raise NothingToCheck(
            f"There is no row of epoch {assignment.epoch_id} to submit yet."
            + (f" {notes}" if notes else "")
        )
    manifest = pipeline.manifest(assignment, hotkey, now, tuple(file for file, _ in files))
    return _Package(hotkey, manifest.sign(key), files)


def _moment(assignment: Assignment, outcome: Outcome | None, now: datetime) -> datetime:
    """When the store has or would have it; one that comes too late is judged as if in time."""
    submitted = outcome is not None and outcome.result == "submitted"
    moment = parse_time(outcome.at) if outcome is not None and submitted else now
    return min(moment, assignment.epoch.end)


def _examined(assignment: Assignment, package: _Package, moment: datetime) -> QuickResult:
    """The validators' own function, over the objects that the store would list."""
    metadata = {EPOCH_METADATA: assignment.epoch_id, NONCE_METADATA: assignment.nonce}

    def upload(key: str, body: bytes) -> Upload:
        return Upload(ObjectInfo(key, len(body), moment, metadata), body)

    return examine(
        assignment,
        _registered(package.hotkey, moment),
        package.hotkey,
        upload(manifest_key(package.hotkey, assignment.epoch_id), package.manifest),
        {file.key: upload(file.key, body) for file, body in package.files},
    )


def _registered(hotkey: Hotkey, moment: datetime) -> ChainView:
    """A chain on which the hotkey is registered; ``doctor`` looks whether it truly is."""
    neuron = Neuron(Uid(0), hotkey, Coldkey(hotkey), 0, False)
    return ChainView(0, hotkey, Block(0, "0x00", moment), (neuron,))


def _decoded(assignment: Assignment, package: _Package) -> list[tuple[ZipCode, pl.DataFrame]]:
    """The files that can be read, in the order of their keys. What is wrong with others,
    ``examine`` has said."""
    assigned = {zip_.zipcode: zip_ for zip_ in assignment.zipcodes}
    frames: list[tuple[ZipCode, pl.DataFrame]] = []
    for file, body in sorted(package.files, key=lambda pair: pair[0].key):
        zip_ = assigned.get(file.zipcode)
        if zip_ is None:
            continue
        try:
            frames.append((file.zipcode, decode(body, most_rows=most_rows(zip_))))
        except MechanismError:
            continue
    return frames


def _zips(
    assignment: Assignment,
    kept: pl.DataFrame,
    records: Mapping[ZipCode, ScrapedZip],
    unsent: Mapping[ZipCode, str],
) -> tuple[ZipVolume, ...]:
    """Every ZIP, with the reason where rows are missing."""

    def why(volume: ZipVolume) -> str:
        if volume.rows >= volume.cap:
            return ""
        known = unsent.get(volume.zipcode)
        return known or _why(volume.rows, records.get(volume.zipcode))

    return tuple(replace(v, why=why(v)) for v in zip_volumes(assignment, kept))


def _why(rows: int, record: ScrapedZip | None) -> str:
    if record is None:
        return "it was not scraped"
    if record.note:
        return record.note
    dropped = sum(fault.count for fault in record.dropped)
    parts = [f"the sources gave {record.rows + dropped} homes"]
    if dropped:
        parts.append(f"{dropped} of them were left out")
    if rows < record.rows:
        parts.append(f"{record.rows - rows} more do not count")
    return ", ".join(parts)


def _left_out(
    assignment: Assignment, spool: EpochSpool, records: Mapping[ZipCode, ScrapedZip]
) -> tuple[RowFault, ...]:
    """What was left out when each ZIP was scraped, and again over all ZIPs when packing."""
    scraped = [fault for record in records.values() for fault in record.dropped]
    frames: Sequence[tuple[ZipCode, pl.DataFrame]] = sorted(
        spool.frames().items(), key=lambda item: item[0]
    )
    return merged_faults([*scraped, *row_faults(assignment, judge_rows(assignment, frames))])
