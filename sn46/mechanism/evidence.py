"""Evidence: what each validator found, and what all of it together says (mechanism 8)."""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import polars as pl

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.errors import SubmissionError
from sn46.mechanism.names import EpochId, Hotkey
from sn46.mechanism.parquetfile import FileSchemaFault, FileSizeFault, decode
from sn46.mechanism.quick import Upload
from sn46.mechanism.sampling import SampledRow
from sn46.mechanism.signing import Signer, sign_document, verify_document
from sn46.mechanism.submission import load_document, validator_prefix
from sn46.mechanism.verdicts import Verdict

EVIDENCE_SCHEMA: Final[Mapping[str, pl.DataType]] = {
    "miner_hotkey": pl.String(),
    "listing_id": pl.String(),
    "verdict": pl.String(),
    "source": pl.String(),
    "detail": pl.String(),
    "checked_at": pl.Datetime("us", "UTC"),
    "shown": pl.Int64(),
}
MAX_EVIDENCE_ROWS: Final = 100_000
MAX_EVIDENCE_BYTES: Final = 32 * 1024 * 1024
MAX_DETAIL_CHARACTERS: Final = 500
"""What is longer is cut: details of others' evidence go into every validator's report."""
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)


def checks_key(validator: str, epoch_id: str) -> str:
    return f"{validator_prefix(validator, epoch_id)}evidence/spot_checks.parquet"


def evidence_key(validator: str, epoch_id: str) -> str:
    return f"{validator_prefix(validator, epoch_id)}evidence/evidence.json"


@dataclass(frozen=True)
class Check:
    """One validator's check of one row. ``shown`` is how many of the row's filled optional fields
    the source shows, as ``verdicts.shown_fields`` counts them."""

    miner: Hotkey
    listing_id: str
    verdict: Verdict
    source: str
    detail: str
    checked_at: datetime
    shown: int


def write_evidence(
    checks: Iterable[Check], *, epoch_id: EpochId, signer: Signer
) -> tuple[bytes, dict[str, Any]]:
    """spot_checks.parquet, and the signed evidence.json that stands beside it."""
    rows = [
        (c.miner, c.listing_id, c.verdict.value, c.source, c.detail, c.checked_at, c.shown)
        for c in checks
    ]
    frame = pl.DataFrame(rows, schema=dict(EVIDENCE_SCHEMA), orient="row")
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="snappy")
    body = buffer.getvalue()
    document = {
        "epoch_id": epoch_id,
        "validator_hotkey": signer.ss58_address,
        "key": checks_key(signer.ss58_address, epoch_id),
        "rows": frame.height,
        "sha256": sha256_hex(body),
    }
    return body, sign_document(document, signer)


@dataclass(frozen=True)
class Evidence:
    """A validator's evidence that counts, or why none of it does."""

    validator: Hotkey
    checks: tuple[Check, ...]
    ignored: str | None


def read_evidence(
    assignment: Assignment,
    view: ChainView,
    validator: Hotkey,
    document: Upload | None,
    body: Upload | None,
) -> Evidence:
    """Read one validator's evidence out of untrusted objects. Never raises: evidence that is
    late, unsigned, of a hotkey without permit or malformed is ignored, and says why."""
    try:
        return Evidence(validator, _read(assignment, view, validator, document, body), None)
    except (SubmissionError, FileSchemaFault, FileSizeFault) as error:
        return Evidence(validator, (), str(error))


def _read(
    assignment: Assignment,
    view: ChainView,
    validator: Hotkey,
    document: Upload | None,
    body: Upload | None,
) -> tuple[Check, ...]:
    neuron = view.by_hotkey.get(validator)
    if neuron is None or not neuron.validator_permit:
        raise SubmissionError("The hotkey holds no validator permit at the validation block.")
    if document is None or body is None:
        raise SubmissionError("evidence.json or spot_checks.parquet is missing.")
    deadline = assignment.epoch.evidence_deadline
    if max(document.info.last_modified, body.info.last_modified) > deadline:
        raise SubmissionError("The evidence reached the store after the evidence deadline.")
    if len(body.body) > MAX_EVIDENCE_BYTES:
        raise SubmissionError(f"spot_checks.parquet has {len(body.body)} bytes.")
    fields = load_document(document.body, "evidence.json")
    if not verify_document(fields, validator):
        raise SubmissionError("The signature in evidence.json is missing or not the validator's.")
    expected = {
        "epoch_id": assignment.epoch_id,
        "validator_hotkey": validator,
        "key": checks_key(validator, assignment.epoch_id),
        "sha256": sha256_hex(body.body),
    }
    wrong = [name for name, value in expected.items() if fields.get(name) != value]
    if wrong:
        raise SubmissionError(f"evidence.json does not fit: {', '.join(wrong)}.")
    frame = decode(body.body, most_rows=MAX_EVIDENCE_ROWS, schema=EVIDENCE_SCHEMA)
    if fields.get("rows") != frame.height:
        raise SubmissionError("evidence.json names another number of rows than there are.")
    return tuple(_checks(frame))


def _checks(frame: pl.DataFrame) -> Iterable[Check]:
    known = [verdict.value for verdict in Verdict]
    sound = frame.filter(
        pl.col("verdict").is_in(known)
        # A time that no datetime can hold would not raise here, it would panic.
        & pl.col("checked_at").is_between(_EARLIEST, _LATEST)
        & pl.all_horizontal(pl.all().is_not_null())
    )
    for miner, listing_id, verdict, source, detail, checked_at, shown in sound.iter_rows():
        yield Check(
            Hotkey(miner),
            listing_id,
            Verdict(verdict),
            source,
            detail[:MAX_DETAIL_CHARACTERS],
            checked_at,
            shown,
        )


class Merged(StrEnum):
    """What all evidence together says of one row."""

    CONFIRMED = "CONFIRMED"
    CONTRADICTED = "CONTRADICTED"
    FAKE = "FAKE"
    INCONCLUSIVE = "INCONCLUSIVE"


_MERGED_OF: Final = {
    Verdict.CONFIRMED: Merged.CONFIRMED,
    Verdict.CONTRADICTED: Merged.CONTRADICTED,
    Verdict.MISIDENTIFIED: Merged.FAKE,
    Verdict.NOT_FOUND: Merged.FAKE,
    Verdict.INCONCLUSIVE: Merged.INCONCLUSIVE,
}
_AGAINST: Final = frozenset({Merged.CONTRADICTED, Merged.FAKE})


@dataclass(frozen=True)
class MergedRow:
    """A sampled row's merged verdict, how many voices it had, the sentence of one that gave it,
    and how many of its ``row.filled`` optional fields the source shows: None where the verdict
    does not say that the source knows the home."""

    row: SampledRow
    verdict: Merged
    voices: int
    detail: str
    shown: int | None


def voices_by_row(
    evidence: Iterable[Evidence], sampled: Iterable[SampledRow]
) -> dict[tuple[Hotkey, str], dict[Hotkey, Check]]:
    """The checks that count, by (miner, listing_id) and validator. Ignored are checks of rows
    outside the sample, by validators that a row was not assigned to, and a second check of a row
    by the same validator."""
    assigned = {(row.miner, row.listing_id): row.validators for row in sampled}
    voices: dict[tuple[Hotkey, str], dict[Hotkey, Check]] = {key: {} for key in assigned}
    for source in sorted(evidence, key=lambda e: e.validator):
        for check in source.checks:
            key = (check.miner, check.listing_id)
            if source.validator in assigned.get(key, ()):
                voices[key].setdefault(source.validator, check)
    return voices


def merge_row(
    row: SampledRow,
    voices: Mapping[Hotkey, Check],
    stakes: Mapping[Hotkey, int],
    *,
    vouched: bool,
) -> MergedRow:
    """The common verdict on one row (mechanism 8).

    Of CONFIRMED, CONTRADICTED and FAKE the one that most validators gave; on a tie the one with
    more stake behind it; a tie again, or none of them, is INCONCLUSIVE. Where two or more
    validators were assigned, one voice alone neither punishes, nor acquits against two.

    Of what those with the common verdict say of shown fields, the middle one counts, of two in the
    middle the higher: one voice alone does not take a field away.

    Args:
        row: the sampled row, with the validators it was assigned to.
        voices: each validator's check of it.
        stakes: stake by validator hotkey, in rao.
        vouched: whether enough others reported the home that NOT_FOUND counts as INCONCLUSIVE.
    """
    given: dict[Merged, list[Hotkey]] = {}
    for validator, check in voices.items():
        verdict = _MERGED_OF[check.verdict]
        if check.verdict == Verdict.NOT_FOUND and vouched:
            verdict = Merged.INCONCLUSIVE
        if verdict != Merged.INCONCLUSIVE:
            given.setdefault(verdict, []).append(validator)
    verdict = _strongest(given, stakes)
    supporters = given.get(verdict, [])
    against = sum(len(given.get(v, [])) for v in _AGAINST)
    if len(supporters) == 1 and len(row.validators) >= 2:
        punishes_alone = verdict in _AGAINST
        acquits_alone = verdict == Merged.CONFIRMED and against >= 2
        if punishes_alone or acquits_alone:
            verdict = Merged.INCONCLUSIVE
    details = [voices[v].detail for v in sorted(supporters)]
    shown = None
    if verdict in (Merged.CONFIRMED, Merged.CONTRADICTED):
        counts = sorted(min(max(voices[v].shown, 0), row.filled) for v in supporters)
        shown = counts[len(counts) // 2]
    return MergedRow(row, verdict, len(voices), details[0] if details else "", shown)


def _strongest(given: Mapping[Merged, list[Hotkey]], stakes: Mapping[Hotkey, int]) -> Merged:
    if not given:
        return Merged.INCONCLUSIVE
    strength = {
        verdict: (len(validators), sum(stakes.get(v, 0) for v in validators))
        for verdict, validators in given.items()
    }
    best = max(strength.values())
    winners = [verdict for verdict, value in strength.items() if value == best]
    return winners[0] if len(winners) == 1 else Merged.INCONCLUSIVE
