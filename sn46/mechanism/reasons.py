"""Why a score is what it is: stable codes for programs, sentences for people (mechanism 10)."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Code(StrEnum):
    """Every reason that a report can name."""

    HOTKEY_NOT_REGISTERED = "hotkey_not_registered"
    MANIFEST_MISSING = "manifest_missing"
    MANIFEST_SIGNATURE = "manifest_signature"
    NONCE_MISMATCH = "nonce_mismatch"
    EPOCH_MISMATCH = "epoch_mismatch"
    LATE = "late"
    FILE_MISSING = "file_missing"
    FILE_HASH_MISMATCH = "file_hash_mismatch"
    FILE_SCHEMA = "file_schema"
    FILE_ROWS = "file_rows"
    FILE_TOO_LARGE = "file_too_large"
    WRONG_ZIPCODE = "wrong_zipcode"
    DUPLICATES_OVER_LIMIT = "duplicates_over_limit"
    OUT_OF_RANGE_OVER_LIMIT = "out_of_range_over_limit"
    BELOW_MIN_VOLUME = "below_min_volume"
    FAKE_LISTING = "fake_listing"
    LOW_ACCURACY = "low_accuracy"
    COLDKEY_LIMIT = "coldkey_limit"
    TOO_FEW_CHECKS = "too_few_checks"
    FIELDS_NOT_SHOWN = "fields_not_shown"
    NOT_DRAWN = "not_drawn"
    NOTHING_CONFIRMED = "nothing_confirmed"
    LOW_CREDIBILITY = "low_credibility"


@dataclass(frozen=True)
class Reason:
    """One reason: its code, how many rows, files or checks it concerns, and a sentence."""

    code: Code
    count: int
    detail: str

    def to_json(self) -> dict[str, Any]:
        return {"code": self.code.value, "count": self.count, "detail": self.detail}
