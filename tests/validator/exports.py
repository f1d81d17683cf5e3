"""An export made by hand: an epoch of honest and other miners, three validators, one of them a
liar."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from mechanism.builders import (
    EPOCH,
    FULL_OPTIONAL,
    Submission,
    assigned_zip,
    chain_view,
    hotkey,
    key,
    listing,
    new_assignment,
)

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.credibility import history_of
from sn46.mechanism.evidence import Check, checks_key, evidence_key, write_evidence
from sn46.mechanism.judge import Outcome
from sn46.mechanism.listings import listings_frame
from sn46.mechanism.names import Hotkey
from sn46.mechanism.quick import Upload
from sn46.mechanism.report import build_report, data_key, report_key, write_published
from sn46.mechanism.submission import ObjectInfo, manifest_key, miner_file_key, miner_prefix
from sn46.mechanism.verdicts import Verdict
from sn46.store.snapshot import MINER_DATA, VALIDATED_DATA, write_export
from sn46.validator.examiner import Examiner
from sn46.validator.folder import ASSIGNMENT, CHAIN, epoch_folder, write_document
from sn46.validator.historyfile import write_history
from sn46.validator.judging import Judging

MINERS = (
    "ann",
    "bob",
    "cid",
    "dan",
    "fabricator",
    "inventor",
    "padder",
    "malformed",
    "liar",
    "big",
)
HONEST_VALIDATORS = ("vali", "other")
LIAR = "villain"
STAKES = {hotkey("vali"): 30_000, hotkey("other"): 20_000, hotkey(LIAR): 90_000}
INVENTED = 50_000
"""Homes of this number or more do not exist."""
ZIPS = ("15213", "15217")
BIG = 100 * 1024 * 1024


@dataclass
class Frozen:
    """Frozen objects at hand, as a bucket has them."""

    uploads: dict[str, Upload] = field(default_factory=dict)

    def add(self, *uploads: Upload) -> None:
        self.uploads.update((upload.info.key, upload) for upload in uploads)

    @property
    def objects(self) -> Sequence[ObjectInfo]:
        return [self.uploads[key_].info for key_ in sorted(self.uploads)]

    async def read(self, key: str) -> bytes:
        return self.uploads[key].body


@dataclass
class Scene:
    """All that an export is made of, and what should come of it."""

    assignment: Assignment
    view: ChainView
    miners: Frozen
    results: Frozen
    outcome: Outcome

    def copy(self) -> "Scene":
        """The same, of objects that may be changed without changing these."""
        miners, results = Frozen(dict(self.miners.uploads)), Frozen(dict(self.results.uploads))
        return replace(self, miners=miners, results=results)

    async def write(self, folder: Path) -> Path:
        await write_export(folder, MINER_DATA, self.miners)
        await write_export(folder, VALIDATED_DATA, self.results)
        place = epoch_folder(folder, EPOCH.id)
        write_history(folder, EPOCH, {past.id: [] for past in history_of(EPOCH)})
        write_document(place / CHAIN, self.view.to_json())
        write_document(place / ASSIGNMENT, self.assignment.sign(key("api")))
        return folder


def homes(zipcode: str, first: int, count: int, **changes: Any) -> list[dict[str, Any]]:
    filled = dict(list(FULL_OPTIONAL.items())[:9])
    return [listing(n, zipcode, **filled) | changes for n in range(first, first + count)]


def submitted(
    name: str, rows: Mapping[str, list[dict[str, Any]]], assignment: Assignment, minutes: int
) -> Submission:
    frames = {zipcode: listings_frame(found) for zipcode, found in rows.items()}
    at = EPOCH.start + timedelta(minutes=minutes)
    return Submission(assignment, key(name), frames, at=at)


def all_submissions(assignment: Assignment) -> list[Submission]:
    """ann, bob and cid are honest, each later than the one before, and all after the grace; dan has
    half of it."""
    truth = {zipcode: homes(zipcode, 1_000 * n, 100) for n, zipcode in enumerate(ZIPS, 1)}
    false = {z: [r | {"sale_price": r["sale_price"] * 2} for r in truth[z]] for z in ZIPS}
    invented = {z: truth[z][:70] + homes(z, INVENTED + 100 * n, 30) for n, z in enumerate(ZIPS)}
    padded = {
        z: truth[z] + [r | {"listing_id": f"{r['listing_id']}-2"} for r in truth[z][:10]]
        for z in ZIPS
    }
    good = {
        "ann": (truth, 140),
        "bob": (truth, 150),
        "cid": (truth, 160),
        "dan": ({z: truth[z][:50] for z in ZIPS}, 170),
        "fabricator": (false, 5),
        "inventor": (invented, 6),
        "padder": (padded, 7),
    }
    made = [submitted(n, rows, assignment, minutes) for n, (rows, minutes) in good.items()]
    lying = submitted("liar", truth, assignment, 8)
    corrupt = bytearray(lying.files()[miner_file_key(lying.hotkey, EPOCH.id, ZIPS[0])].body)
    corrupt[100:2_000] = bytes(1_900)  # The footer behind these pages is in order.
    return [*made, lying.with_body(ZIPS[0], bytes(corrupt), 100)]


def odd_keys(name: str) -> list[str]:
    """What anyone with an upload policy may call objects of its folder."""
    prefix = miner_prefix(hotkey(name), EPOCH.id)
    tricks = (
        "../../../../etc/passwd", "..", ".", "a//b", "/", "manifest.json/x", "manifest.json ",
        "MANIFEST.JSON", "zipcode=15213/listings.parquet/deeper", "zipcode=15213/../manifest.json",
        "zipcode=00000/listings.parquet", "zipcode=15213/other.parquet", "x\x00y", "ü" * 200,
        "n\nl", "\\..\\..", "con", "%2e%2e%2f", "a" * 900,
    )  # fmt: skip
    return [f"{prefix}{trick}" for trick in tricks] + [
        f"{prefix}{'d/' * depth}file" for depth in range(1, 82)
    ]


def upload(key_: str, body: bytes, assignment: Assignment, size: int | None = None) -> Upload:
    metadata = {"epoch-id": assignment.epoch_id, "nonce": assignment.nonce}
    at = EPOCH.start + timedelta(minutes=3)
    return Upload(ObjectInfo(key_, len(body) if size is None else size, at, metadata), body)


def verdict_of(row: Mapping[str, Any], miner: str) -> Verdict:
    """What the source says of a row."""
    if int(str(row["listing_id"]).split(":")[1]) >= INVENTED:
        return Verdict.NOT_FOUND
    return Verdict.CONTRADICTED if miner == hotkey("fabricator") else Verdict.CONFIRMED


def evidence_of(name: str, checks: Iterable[Check], assignment: Assignment) -> list[Upload]:
    body, document = write_evidence(checks, epoch_id=assignment.epoch_id, signer=key(name))
    at = EPOCH.evidence_deadline - timedelta(minutes=1)
    named = {
        checks_key(hotkey(name), EPOCH.id): body,
        evidence_key(hotkey(name), EPOCH.id): json.dumps(document).encode(),
    }
    return [Upload(ObjectInfo(k, len(b), at, {}), b) for k, b in named.items()]


async def make_scene(examiner: Examiner) -> Scene:
    assignment = new_assignment(
        [assigned_zip(z) for z in ZIPS], validators=[hotkey(v) for v in (*HONEST_VALIDATORS, LIAR)]
    )
    view = chain_view({hotkey(name): f"cold of {name}" for name in MINERS}, STAKES)
    miners = Frozen()
    for given in all_submissions(assignment):
        miners.add(given.manifest_upload(), *given.files().values())
    for name, body, size in (("malformed", b'{"files": [' * 500, None), ("big", b"", BIG)):
        miners.add(upload(manifest_key(hotkey(name), EPOCH.id), body, assignment, size))
    miners.add(*(upload(k, b"odd", assignment) for k in odd_keys("ann")))
    judging = Judging(assignment, view, miners, examiner)
    stage = await judging.quick()
    results = Frozen()
    for name in (*HONEST_VALIDATORS, LIAR):
        checks: list[Check] = []
        for row in stage.plan.rows_of(hotkey(name)):
            kept = (await judging.kept(row.miner)).row(row.index, named=True)
            verdict = verdict_of(kept, row.miner)
            if name == LIAR:
                right = verdict == Verdict.CONFIRMED
                verdict = Verdict.NOT_FOUND if right else Verdict.CONFIRMED
            at = EPOCH.end + timedelta(minutes=40)
            checks.append(Check(row.miner, row.listing_id, verdict, "portal", name, at, row.filled))
        results.add(*evidence_of(name, checks, assignment))
    outcome, rows = await judging.conclude(stage, results, {})
    for number, name in enumerate(HONEST_VALIDATORS):
        results.add(*published(name, outcome, write_published(rows), rows.height, number))
    return Scene(assignment, view, miners, results, outcome)


def published(name: str, outcome: Outcome, data: bytes, listings: int, number: int) -> list[Upload]:
    at = EPOCH.weights_by + timedelta(minutes=number)
    report = build_report(
        outcome,
        validator=Hotkey(hotkey(name)),
        finished_at=at,
        duration_seconds=number,
        listings_validated=listings,
    )
    named = {
        data_key(hotkey(name), EPOCH.id): data,
        report_key(hotkey(name), EPOCH.id): json.dumps(report).encode(),
    }
    return [Upload(ObjectInfo(k, len(b), at, {}), b) for k, b in named.items()]


def set_body(frozen: Frozen, key_: str, body: bytes) -> None:
    """Another body under the same key, honestly indexed."""
    old = frozen.uploads[key_]
    frozen.uploads[key_] = Upload(replace(old.info, size=len(body)), body)
