"""One field of miners, from what they upload to the weights, through the rules themselves.

Simulated are the store (uploads are bytes in memory with a time), the network and the portal's
answers; everything that is decided is decided by ``sn46.mechanism``.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final

import polars as pl

from sn46.arena.accounts import signer
from sn46.arena.market import SOURCE
from sn46.arena.rounds import VALIDATORS, Finding, Frames, Round, Validator
from sn46.mechanism.canonical import hash_json, sha256_hex
from sn46.mechanism.credibility import (
    Credibility,
    Record,
    agreed_records,
    credibilities,
    read_record,
)
from sn46.mechanism.evidence import (
    Check,
    Evidence,
    checks_key,
    evidence_key,
    read_evidence,
    write_evidence,
)
from sn46.mechanism.judge import Outcome, conclude, line_up, plan_checks
from sn46.mechanism.listings import write_listings
from sn46.mechanism.names import EpochId, Hotkey
from sn46.mechanism.quick import QuickResult, Upload, examine
from sn46.mechanism.report import build_report
from sn46.mechanism.sampling import SampledRow
from sn46.mechanism.submission import (
    EPOCH_METADATA,
    NONCE_METADATA,
    Manifest,
    ManifestFile,
    ObjectInfo,
    manifest_key,
    miner_file_key,
    new_manifest,
)
from sn46.mechanism.verdicts import Verdict

BLOCKED: Final = 0.08
"""So many of an honest validator's checks end without an answer."""


class Submission:
    """What one hotkey uploads in an epoch, and what quick validation makes of it.

    Args:
        round_: the epoch.
        name: whose key signs.
        frames: rows by ZIP.
        at: the store's time of the manifest.
    """

    def __init__(self, round_: Round, name: str, frames: Frames, at: datetime) -> None:
        self._round = round_
        self._signer = signer(name)
        self._frames = frames
        self._at = at
        self.hotkey = Hotkey(self._signer.ss58_address)
        self._checks: dict[tuple[str, str], Check] = {}

    @cached_property
    def result(self) -> QuickResult:
        """Quick validation of the real bytes. It depends on nothing else, so where strategies
        upload the same, it is done once."""
        manifest, files = self._files()
        known = self._round.results
        key = (self.hotkey, hash_json(manifest.to_json()))
        if key not in known:
            signed = self._upload(
                manifest_key(self.hotkey, self._round.epoch.id), manifest.sign(self._signer)
            )
            known[key] = examine(
                self._round.assignment, self._round.view, self.hotkey, signed, files
            )
        return known[key]

    def check(self, validator: str, listing_id: str) -> Check:
        """What an honest validator finds of a row, if the portal answers it."""
        key = (validator, listing_id)
        if key not in self._checks:
            round_ = self._round
            if round_.luck(f"blocked:{validator}:{listing_id}") < BLOCKED:
                found = Finding(Verdict.INCONCLUSIVE, "The source gave no answer: 403.", 0)
            else:
                found = round_.found(self._rows[listing_id])
            self._checks[key] = _check(round_, self.hotkey, listing_id, found)
        return self._checks[key]

    @cached_property
    def _rows(self) -> dict[str, dict[str, Any]]:
        rows = pl.concat([self._frames[z] for z in sorted(self._frames)]).to_dicts()
        return {row["listing_id"]: row for row in reversed(rows)}

    def _files(self) -> tuple[Manifest, dict[str, Upload]]:
        assignment = self._round.assignment
        files: dict[str, Upload] = {}
        entries: list[ManifestFile] = []
        for zipcode, frame in self._frames.items():
            body = write_listings(frame)
            key = miner_file_key(self.hotkey, assignment.epoch_id, zipcode)
            files[key] = self._upload(key, body)
            entries.append(ManifestFile(key, zipcode, frame.height, len(body), sha256_hex(body)))
        manifest = new_manifest(
            epoch_id=assignment.epoch_id,
            nonce=assignment.nonce,
            hotkey=self.hotkey,
            made_at=self._at,
            files=tuple(entries),
        )
        return manifest, files

    def _upload(self, key: str, body: bytes) -> Upload:
        assignment = self._round.assignment
        metadata = {EPOCH_METADATA: assignment.epoch_id, NONCE_METADATA: assignment.nonce}
        return Upload(ObjectInfo(key, len(body), self._at, metadata), body)


@dataclass(frozen=True)
class Heat:
    """One field in one epoch. Miners in ``favoured`` are in league with the validator that lies."""

    round: Round
    submissions: Mapping[Hotkey, Submission]
    favoured: frozenset[Hotkey] = frozenset()

    def play(self, past: "Past") -> Outcome:
        """From uploads to weights. What the validators publish goes into ``past``."""
        round_ = self.round
        results = [submission.result for submission in self.submissions.values()]
        lined_up = line_up(round_.assignment, round_.view, results)
        plan = plan_checks(lined_up)
        there = [v for v in VALIDATORS if self._is_there(v)]
        evidence = [self._published(v, plan.rows_of(v.hotkey)) for v in there]
        outcome = conclude(lined_up, plan, evidence, past.credibilities(round_))
        past.note(round_, outcome, there)
        return outcome

    def _is_there(self, validator: Validator) -> bool:
        return self.round.luck(f"there:{validator.name}") >= validator.away

    def _published(self, validator: Validator, rows: Iterable[SampledRow]) -> Evidence:
        """A validator's evidence, written and signed, and read back as all others read it."""
        round_ = self.round
        epoch_id = round_.epoch.id
        checks = [self._check(validator, row) for row in rows]
        body, document = write_evidence(checks, epoch_id=epoch_id, signer=signer(validator.name))
        text = json.dumps(document).encode()
        at = round_.epoch.end + timedelta(hours=1)
        infos = (
            ObjectInfo(evidence_key(validator.hotkey, epoch_id), len(text), at, {}),
            ObjectInfo(checks_key(validator.hotkey, epoch_id), len(body), at, {}),
        )
        return read_evidence(
            round_.assignment,
            round_.view,
            validator.hotkey,
            Upload(infos[0], text),
            Upload(infos[1], body),
        )

    def _check(self, validator: Validator, row: SampledRow) -> Check:
        if not validator.lies:
            return self.submissions[row.miner].check(validator.name, row.listing_id)
        if row.miner in self.favoured:
            told = Finding(Verdict.CONFIRMED, "", row.filled)
        else:
            told = Finding(Verdict.CONTRADICTED, "sale_price: a lie.", 0)
        return _check(self.round, row.miner, row.listing_id, told)


def _check(round_: Round, miner: Hotkey, listing_id: str, found: Finding) -> Check:
    at = round_.epoch.end + timedelta(minutes=40)
    return Check(miner, listing_id, found.verdict, SOURCE, found.detail, at, found.shown)


class Past:
    """The reports that validators published on the epochs of one field, as later ones read them."""

    def __init__(self) -> None:
        self._published: dict[EpochId, dict[Hotkey, Record]] = {}

    def credibilities(self, round_: Round) -> dict[Hotkey, Credibility]:
        """Every miner's credibility as an epoch begins to be judged."""
        return credibilities(agreed_records(self._published, round_.epoch, round_.view))

    def note(self, round_: Round, outcome: Outcome, validators: Iterable[Validator]) -> None:
        """Keep what the validators that were there report. The one that lies says that all
        failed."""
        epoch = round_.epoch
        report = build_report(
            outcome,
            validator=VALIDATORS[0].hotkey,
            finished_at=epoch.weights_by,
            duration_seconds=60,
            listings_validated=0,
        )
        record = read_record(json.dumps(report).encode(), epoch) or {}
        self._published[epoch.id] = {
            v.hotkey: dict.fromkeys(record, False) if v.lies else record for v in validators
        }
