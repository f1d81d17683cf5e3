"""Scores, verdicts and reasons in plain words: the same wherever a person reads them."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sn46.mechanism.names import PPM

_SHORT: Final = {
    "hotkey_not_registered": "not registered",
    "manifest_missing": "no manifest in time",
    "manifest_signature": "manifest wrongly signed",
    "nonce_mismatch": "another epoch's nonce",
    "epoch_mismatch": "another epoch's manifest",
    "late": "late",
    "file_missing": "a file is missing",
    "file_hash_mismatch": "a file was changed",
    "file_schema": "a file cannot be read",
    "file_rows": "rows miscounted",
    "file_too_large": "a file is too large",
    "wrong_zipcode": "wrong ZIP code",
    "duplicates_over_limit": "too many duplicates",
    "out_of_range_over_limit": "too many impossible rows",
    "below_min_volume": "too few homes",
    "fake_listing": "a home that does not exist",
    "low_accuracy": "does not agree with the portal",
    "coldkey_limit": "its coldkey has won already",
    "too_few_checks": "too little of it could be checked",
    "nothing_confirmed": "nothing of it could be confirmed",
}


def reason_words(code: str) -> str:
    """A reason's code in a few words."""
    return _SHORT.get(code, code.replace("_", " "))


def verdict(entry: Mapping[str, Any]) -> str:
    """Whether a miner's part of a report counts, and why not, in a few words."""
    codes = [str(reason["code"]) for reason in entry.get("reasons") or []]
    return verdict_words(
        codes, valid=bool(entry.get("valid")), disqualified=bool(entry.get("disqualified"))
    )


def verdict_words(codes: Iterable[str], *, valid: bool, disqualified: bool) -> str:
    """The same of its parts; ``codes`` are those of its reasons."""
    why = ", ".join(map(reason_words, dict.fromkeys(codes)))
    if not valid:
        return f"no: {why}" if why else "no"
    if disqualified:
        return f"disqualified: {why}"
    return f"yes, but {why}" if why else "yes"


def result_words(
    *,
    valid: bool,
    disqualified: bool,
    participant: bool,
    rank: int | None,
    places: int,
    final: int,
    weight: int,
) -> str:
    """What became of a submission, in a sentence; ``places`` is how many have a rank."""
    if not valid:
        return "INVALID: its submission does not count, its score is 0 and it is paid nothing."
    if disqualified:
        return "DISQUALIFIED by deep validation: its score is 0 and it is paid nothing."
    if not participant:
        return "VALID, but it does not take part: its score is 0 and it is paid nothing."
    return (
        f"Place {rank} of {places}: {points(final)} of 100 points, "
        f"{percent(weight)} of the epoch's rewards."
    )


def part_words(name: str, score: int, weight: int) -> str:
    """A part of the score, and how many of its ``weight`` points it brings."""
    brought = points(score * weight // 100)
    return f"{name}: {percent(score)}, which is {brought} of {weight} points"


def points(score: int) -> str:
    """A score in ppm as points of 100."""
    return f"{score / (PPM // 100):.2f}"


def percent(share: int) -> str:
    """A share in ppm."""
    return f"{share / 10_000:.2f} %"


def short(hotkey: str) -> str:
    """An address that a person can tell from others."""
    return f"{hotkey[:6]}…{hotkey[-4:]}"
