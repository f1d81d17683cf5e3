"""The API's answers and validators' reports as the snapshot's values.

Whatever is not as it should be is refused as a whole (:class:`Unreadable`), or, in a report, is
not there: reports are written by others, and a page must neither break nor fill the memory by one.
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final, TypeVar, cast

import orjson

from sn46.dashboard.snapshot import (
    Agreed,
    Announced,
    Checks,
    DrawRecord,
    EpochRow,
    Leader,
    MinerRow,
    PublishedEpoch,
    ReasonRow,
    Running,
    Stats,
    TableAge,
    Tier,
)
from sn46.mechanism.agreement import MAX_REPORT_BYTES, consensus_hash
from sn46.mechanism.assignment import Assignment, read_assignment, seed_commitment
from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.errors import AssignmentError, MechanismError
from sn46.mechanism.names import EpochId, Hotkey
from sn46.mechanism.signing import is_hotkey
from sn46.mechanism.submission import load_document
from sn46.mechanism.times import parse_time

MOST_MINERS: Final = 1_024
"""A subnet has 256 places; a report on more than this is none that the dashboard keeps."""

MOST_REASONS: Final = 8
"""Of one miner; so many are kept."""

MOST_DETAIL: Final = 300
"""Characters of a reason's sentence."""

MOST_TEXT: Final = 200_000
"""Characters of all sentences of one report."""

_LINE: Final = 500
_LARGEST: Final = 10**12
_T = TypeVar("_T")


class Unreadable(Exception):
    """An answer that is not what it should be; the text says what."""


def clean(text: object, most: int = _LINE) -> str:
    """A text of others for a page: one line, without control characters and without those that
    turn the direction of what follows, and no longer than ``most``."""
    piece = str(text)[: most * 4]
    kept = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in piece)
    line = " ".join(kept.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def read(parse: Callable[[Any], _T], body: bytes) -> _T:
    """Parse an answer.

    Raises:
        Unreadable: where it is no JSON, or not of the form that this program knows.
    """
    try:
        return parse(orjson.loads(body))
    except (
        KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError,
        MechanismError,
    ) as error:  # fmt: skip
        said = clean(f"{type(error).__name__}: {error}", 160)
        raise Unreadable(
            f"the answer cannot be read ({said}); the API may be of another version"
        ) from error


# The API's answers -------------------------------------------------------------------------------


def ready_parts(answer: Any) -> list[tuple[str, bool, str]]:
    """Name, fitness and detail of each part."""
    parts = cast(Mapping[str, Mapping[str, Any]], answer["parts"])
    return [
        (clean(name, 40), part["ok"] is True, clean(part["detail"]))
        for name, part in list(parts.items())[:20]
    ]


def stats(answer: Any) -> Stats:
    timing, current = answer["timing"], answer["current_epoch"]
    seconds = _count(timing["epoch_seconds"])
    deadline = parse_time(timing["submission_deadline"])
    epoch = Epoch(deadline, seconds).previous()
    participation, coverage = answer["participation"], answer["coverage"]
    return Stats(
        now=parse_time(answer["now"]),
        running=None if current is None else _running(current, seconds),
        epoch=epoch,
        grace_end=parse_time(timing["grace_end"]),
        next_draw_at=parse_time(timing["next_draw_at"]),
        tiers=tuple(
            Tier(clean(name, 40), _count(t["zipcodes"]), _count(t["listings"]))
            for name, t in sorted(answer["tiers"].items())
        ),
        credentials=_count(participation["upload_credentials"]),
        statuses={
            clean(name, 40): _count(n) for name, n in list(participation["statuses"].items())[:20]
        },
        drawn_epochs=_count(coverage["epochs"]),
        zipcodes_ever=_count(coverage["zipcodes_ever"]),
        zipcodes_lately=_count(coverage["zipcodes_30_days"]),
        draw_error=None if answer["draw_error"] is None else clean(answer["draw_error"]),
    )


def _running(value: Mapping[str, Any], seconds: int) -> Running:
    return Running(
        epoch=Epoch(parse_time(value["epoch_start"]), seconds),
        target=_count(value["target_listings"]),
        listings=_count(value["total_expected_listings"]),
        eligible=_count(value["eligible_zipcodes"]),
        relaxed=_names(value["relaxed"]),
    )


def epochs(answer: Any) -> tuple[EpochRow, ...]:
    found: list[EpochRow] = []
    for entry in cast(Sequence[Mapping[str, Any]], answer["epochs"]):
        start, end = parse_time(entry["start"]), parse_time(entry["end"])
        agreed = entry["agreement"]
        found.append(
            EpochRow(
                epoch=Epoch(start, int((end - start).total_seconds())),
                target=_count(entry["target_listings"]),
                listings=_count(entry["total_listings"]),
                zipcodes=_count(entry["zipcodes"]),
                relaxed=_names(entry["relaxed"]),
                agreed=Agreed(
                    validators=_count(agreed["validators"]),
                    consensus_hash=_hash(agreed["consensus_hash"]),
                    hash_share=_count(agreed["consensus_share"]),
                    top=_hotkeys(agreed["top_3"]),
                    top_share=_count(agreed["top_3_share"]),
                ),
            )
        )
    return tuple(sorted(found, key=lambda row: row.epoch, reverse=True))


def results(answer: Any) -> dict[EpochId, tuple[Announced, ...]]:
    return {
        EpochId(clean(epoch["epoch_id"], 40)): tuple(
            Announced(
                validator=_hotkey(report["validator_hotkey"]),
                consensus_hash=clean(report["consensus_hash"], 64),
                top=_hotkeys(report["top_3"]),
                participants=_count(report["participants"]),
                reached=_count(report["reached_95"]),
                at=parse_time(report["announced_at"]),
            )
            for report in epoch["reports"]
        )
        for epoch in answer["epochs"]
    }


def leaders(answer: Any) -> tuple[int, tuple[Leader, ...]]:
    """How many epochs count, and the miners."""
    miners = cast(Sequence[Mapping[str, Any]], answer["miners"])[:MOST_MINERS]
    return _count(answer["epochs"]), tuple(
        Leader(_hotkey(m["hotkey"]), _count(m["first"]), _count(m["second"]), _count(m["third"]))
        for m in miners
    )


def draws(answer: Any, api_hotkey: str | None) -> list[DrawRecord]:
    """The draws of a page with documents."""
    return [draw(entry["draw"], api_hotkey) for entry in answer["draws"]]


def draw(answer: Any, api_hotkey: str | None) -> DrawRecord:
    """One draw, with what does not hold of it."""
    seed = clean(answer["seed"], 80)
    assignment: Assignment | None = None
    fault = None
    try:
        assignment = read_assignment(answer["assignment"], api_hotkey)
        if seed_commitment(seed) != assignment.selection.commitment:
            fault = "The seed is not the one that was committed to."
    except AssignmentError as error:
        fault = clean(error)
    return DrawRecord(
        epoch_id=EpochId(clean(answer["epoch_id"], 40)),
        drawn_at=parse_time(answer["drawn_at"]),
        seed=seed,
        assignment=assignment,
        fault=fault,
    )


def table_age(body: bytes, version: str) -> TableAge:
    """How old the figures of a table are: the last field of each of its rows is a day or null.

    Raises:
        Unreadable: where it is not the table of that version.
    """
    if sha256_hex(body) != version:
        raise Unreadable("the ZIP table is not the one that its version names")

    def parse(rows: list[list[Any]]) -> TableAge:
        days = [date.fromisoformat(row[-1]) for row in rows if row[-1] is not None]
        return TableAge(
            version, len(rows), len(days), max(days, default=None), min(days, default=None)
        )

    return read(parse, body)


# Reports -----------------------------------------------------------------------------------------


def report(
    body: bytes, validator: Hotkey, epoch_id: EpochId, announced_hash: str
) -> PublishedEpoch:
    """A published report.

    Raises:
        Unreadable: where it is not the one that was announced, or its scores and weights do not
            give its consensus_hash.
    """
    try:
        document = load_document(body, "the report", MAX_REPORT_BYTES)
        if document.get("epoch_id") != epoch_id or document.get("validator_hotkey") != validator:
            raise Unreadable("the report is of another epoch or validator than its place")
        miners = cast(Mapping[Hotkey, Mapping[str, Any]], document["miners"])
        weights = cast(Mapping[Hotkey, Any], document["weights"])
        if len(miners) > MOST_MINERS or len(weights) > MOST_MINERS:
            raise Unreadable(f"the report is on more than {MOST_MINERS} hotkeys")
        scores = {hotkey: miner["final"] for hotkey, miner in miners.items()}
        if consensus_hash(epoch_id, scores, dict(weights)) != announced_hash:
            raise Unreadable("its scores and weights do not give the announced consensus_hash")
        left = [MOST_TEXT]
        return PublishedEpoch(
            epoch_id=epoch_id,
            validator=validator,
            consensus_hash=announced_hash,
            miners={h: _miner(m, left) for h, m in miners.items() if is_hotkey(h)},
            weights={h: n for h, w in weights.items() if is_hotkey(h) and (n := _number(w))},
        )
    except (
        KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError,
        MechanismError,
    ) as error:  # fmt: skip
        said = clean(f"{type(error).__name__}: {error}", 160)
        raise Unreadable(f"the report cannot be read ({said})") from error


def _miner(entry: Mapping[str, Any], left: list[int]) -> MinerRow:
    """``left`` is how much text of the report may still be kept."""
    checks = entry.get("checks")
    return MinerRow(
        valid=entry.get("valid") is True,
        participant=entry.get("participant") is True,
        candidate=entry.get("candidate") is True,
        disqualified=entry.get("disqualified") is True,
        rank=_number(entry.get("rank")),
        speed=_number(entry.get("speed")),
        completeness=_number(entry.get("completeness")),
        volume=_number(entry.get("volume")),
        accuracy=_number(entry.get("accuracy")),
        quality=_number(entry.get("quality")),
        final=_number(entry.get("final")),
        credibility=_number(entry.get("credibility")),
        credibility_epochs=_number(entry.get("credibility_epochs")),
        weight=_number(entry.get("weight")),
        rows=_number(entry.get("rows")),
        rows_kept=_number(entry.get("rows_kept")),
        zipcodes=_number(entry.get("zipcodes")),
        checks=_checks(cast(Mapping[str, Any], checks)) if isinstance(checks, dict) else None,
        submitted_at=_moment(entry.get("submission_time")),
        reasons=_reasons(entry.get("reasons"), left),
    )


def _checks(value: Mapping[str, Any]) -> Checks:
    names = ("confirmed", "contradicted", "fake", "inconclusive")
    confirmed, contradicted, fake, inconclusive = (_number(value.get(n)) or 0 for n in names)
    return Checks(confirmed, contradicted, fake, inconclusive)


def _reasons(value: Any, left: list[int]) -> tuple[ReasonRow, ...]:
    if not isinstance(value, list):
        return ()
    found: list[ReasonRow] = []
    for reason in cast(list[Any], value)[:MOST_REASONS]:
        if not isinstance(reason, dict):
            continue
        entry = cast(Mapping[str, Any], reason)
        detail = clean(entry.get("detail", ""), MOST_DETAIL)
        if len(detail) > left[0]:
            detail = ""
        left[0] -= len(detail)
        found.append(
            ReasonRow(clean(entry.get("code", ""), 40), _number(entry.get("count")) or 0, detail)
        )
    return tuple(found)


def _number(value: Any) -> int | None:
    """A whole number of a report; anything else is not there."""
    return value if type(value) is int and 0 <= value <= _LARGEST else None


def _moment(value: Any) -> datetime | None:
    try:
        return parse_time(value)
    except ValueError:
        return None


# Values ------------------------------------------------------------------------------------------


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise ValueError(f"{value!r} is no count")
    return value


def _hash(value: Any) -> str | None:
    return None if value is None else clean(value, 64)


def _hotkey(value: Any) -> Hotkey:
    if not isinstance(value, str) or not is_hotkey(value):
        raise ValueError("a hotkey is none")
    return Hotkey(value)


def _hotkeys(values: Any) -> tuple[Hotkey, ...]:
    return tuple(_hotkey(value) for value in list(values)[:3])


def _names(values: Any) -> tuple[str, ...]:
    return tuple(clean(value, 40) for value in list(values)[:10])
