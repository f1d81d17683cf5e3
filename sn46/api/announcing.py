"""Announced reports: checked against the bucket, and how far they agree."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sn46.api.problems import Problem
from sn46.api.records import Report, StoredEpoch
from sn46.mechanism.agreement import MAX_REPORT_BYTES
from sn46.mechanism.names import PPM, Hotkey
from sn46.mechanism.signing import is_hotkey
from sn46.mechanism.submission import validator_prefix
from sn46.mechanism.target import REACHED_VOLUME
from sn46.store.base import Bucket

REPORT_FILE = "validation_report.json"
RESULT_FILES = ("epoch_metadata.json", "validated_data.parquet", REPORT_FILE)


@dataclass(frozen=True)
class Agreement:
    """How far an epoch's validators agree, in ppm of those that announced: the share of the most
    frequent consensus_hash, and that of the most frequent top three."""

    validators: int
    consensus_hash: str | None
    consensus_share: int
    top_3: tuple[Hotkey, ...]
    top_3_share: int


def agreement_of(reports: Sequence[Report]) -> Agreement:
    """The agreement over some reports on one epoch; ties by the smaller hash or list."""
    if not reports:
        return Agreement(0, None, 0, (), 0)
    hashes = Counter(report.consensus_hash for report in reports)
    tops = Counter(report.top_3 for report in reports)
    consensus = min(hashes, key=lambda h: (-hashes[h], h))
    top = min(tops, key=lambda t: (-tops[t], t))
    total = len(reports)
    return Agreement(
        total, consensus, hashes[consensus] * PPM // total, top, tops[top] * PPM // total
    )


async def read_report(
    results: Bucket, stored: StoredEpoch, validator: Hotkey, claimed_hash: str, now: datetime
) -> Report:
    """Read an announced report from the bucket; what is kept is what it says itself.

    Raises:
        Problem: 409, where an object is missing or the report does not say what is claimed.
        StoreError: where the store cannot be asked.
    """
    prefix = validator_prefix(validator, stored.epoch_id)
    objects = {o.key: o for o in await results.objects(prefix)}
    missing = [name for name in RESULT_FILES if f"{prefix}{name}" not in objects]
    if missing:
        raise Problem(
            409,
            "report_incomplete",
            f"Missing under {prefix}: {', '.join(missing)}. Upload all of them, then announce.",
        )
    key = f"{prefix}{REPORT_FILE}"
    if objects[key].size > MAX_REPORT_BYTES:
        raise Problem(409, "report_unreadable", f"{REPORT_FILE} is larger than any report.")
    try:
        document = json.loads(await results.get(key))
    except (ValueError, RecursionError, KeyError) as error:
        raise Problem(409, "report_unreadable", f"{REPORT_FILE} is not JSON.") from error
    if not isinstance(document, dict):
        raise Problem(409, "report_unreadable", f"{REPORT_FILE} is not a JSON object.")
    report = cast(Mapping[str, Any], document)
    _check_says(report, "epoch_id", stored.epoch_id)
    _check_says(report, "validator_hotkey", validator)
    _check_says(report, "consensus_hash", claimed_hash)
    _check_says(report, "assignment_hash", stored.assignment_hash)
    participants, reached = _volumes(report)
    return Report(
        epoch_id=stored.epoch_id,
        validator_hotkey=validator,
        start=stored.epoch.start,
        consensus_hash=claimed_hash,
        assignment_hash=stored.assignment_hash,
        top_3=_top_3(report),
        participants=participants,
        reached_95=reached,
        announced_at=now,
    )


def _check_says(report: Mapping[str, Any], field: str, expected: str) -> None:
    if report.get(field) != expected:
        raise Problem(
            409,
            "report_mismatch",
            f"{REPORT_FILE} does not have the {field} that was announced for it.",
        )


def _top_3(report: Mapping[str, Any]) -> tuple[Hotkey, ...]:
    try:
        winners = sorted(report["top_3_winners"], key=lambda winner: int(winner["rank"]))
        return tuple(_hotkey(winner["miner_hotkey"]) for winner in winners[:3])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise Problem(
            409, "report_unreadable", f"{REPORT_FILE}: top_3_winners cannot be read."
        ) from error


def _hotkey(value: Any) -> Hotkey:
    """A winner's hotkey. It is shown to everyone, and JSON has texts that no answer can carry.

    Raises:
        ValueError: where it is none.
    """
    if not isinstance(value, str) or not is_hotkey(value):
        raise ValueError("it is no hotkey")
    return Hotkey(value)


def _volumes(report: Mapping[str, Any]) -> tuple[int, int]:
    """How many took part, and how many of them reached 95 % volume."""
    try:
        volumes = [
            miner["volume"] for miner in report["miners"].values() if miner["participant"] is True
        ]
        return len(volumes), sum(int(volume) >= REACHED_VOLUME for volume in volumes)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise Problem(409, "report_unreadable", f"{REPORT_FILE}: miners cannot be read.") from error
