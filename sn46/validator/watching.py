"""Looking at a validator from another process: its status file and its journal."""

import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast

from sn46.mechanism.names import PPM
from sn46.mechanism.times import parse_time, time_left
from sn46.processes import is_alive
from sn46.validator.health import PULSE_EVERY
from sn46.validator.journal import Journal, kept_epochs
from sn46.validator.progress import ending_of

SILENT_AFTER: Final = 6 * PULSE_EVERY


class NoSuchValidator(Exception):
    """No validator left a status here. The message says what to do."""


@dataclass(frozen=True)
class Seen:
    """The status that a validator wrote last. ``parts`` are by name, each well or not, with a
    sentence; moments are None where none is named."""

    host: str
    pid: int
    hotkey: str
    phase: str
    done: int
    of: int
    note: str
    epoch_id: str
    updated_at: datetime
    until: datetime | None
    deadline: datetime | None
    alive: bool
    relay: Mapping[str, Any] | None
    parts: Mapping[str, tuple[bool, str]] = field(default_factory=dict[str, tuple[bool, str]])

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Seen":
        """Raises KeyError, TypeError or ValueError where it is no validator's status."""
        parts = cast(Mapping[str, Mapping[str, Any]], value.get("parts") or {})
        return cls(
            host=str(value["host"]),
            pid=int(value["pid"]),
            hotkey=str(value.get("hotkey") or ""),
            phase=str(value["phase"]),
            done=int(value.get("done") or 0),
            of=int(value.get("of") or 0),
            note=str(value.get("note") or ""),
            epoch_id=str(value.get("epoch_id") or ""),
            updated_at=parse_time(value["updated_at"]),
            until=_moment(value.get("until")),
            deadline=_moment(value.get("deadline")),
            alive=bool(value.get("alive", True)),
            relay=value.get("relay"),
            parts={n: (bool(p["ok"]), str(p["detail"])) for n, p in parts.items()},
        )


def _moment(text: object) -> datetime | None:
    return None if text is None else parse_time(text)


def read_status(path: Path) -> Seen:
    """The status that a validator wrote last.

    Raises:
        NoSuchValidator: where there is none that can be read.
    """
    try:
        return Seen.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoSuchValidator(
            f"There is no validator's status at {path}. Start it with sn46 validator, or set "
            "DATA_DIR or STATUS_FILE to where it works."
        ) from error


def why_not_running(seen: Seen, now: datetime) -> str | None:
    """Why a validator is not at work, going by its status; None where it is."""
    if seen.phase == "stopped":
        return "The validator was stopped. Start it with sn46 validator."
    if seen.host == socket.gethostname() and not is_alive(seen.pid):
        return (
            f"The validator's process {seen.pid} is gone; its last sign of life is "
            f"{_ago(now - seen.updated_at)} old. Start it again: it goes on where it was."
        )
    silent = now - seen.updated_at
    if silent > SILENT_AFTER:
        return (
            f"The validator has given no sign of life for {_ago(silent)}. Look into its log, and "
            "start it again: it goes on where it was."
        )
    if not seen.alive:
        return (
            f"The epoch loop hangs. {seen.parts['loop'][1]}"
            if "loop" in seen.parts
            else ("The epoch loop hangs. Start the validator again: it goes on where it was.")
        )
    return None


def _ago(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"


def status_lines(seen: Seen, now: datetime) -> Iterator[str]:
    """What it is doing, and how fit its parts are."""
    count = f" {seen.done} of {seen.of}" if seen.of else ""
    note = f" {seen.note}" if seen.note else ""
    until = f", {time_left(seen.until, now)} to go" if seen.until else ""
    yield f"{seen.phase}{count}{note}: epoch {seen.epoch_id or 'unknown'}{until}"
    yield f"hotkey {seen.hotkey or 'unknown'}, process {seen.pid} on {seen.host}"
    if seen.deadline is not None:
        yield f"{'deadline':10} in {time_left(seen.deadline, now)}"
    for name, (ok, detail) in seen.parts.items():
        yield f"{name:10} {'ok' if ok else 'NOT WELL'}: {detail}"
    if seen.relay is not None:
        share = int(seen.relay["share"]) * 100 // PPM
        yield f"{'agreement':10} {share} % of the stake holds the leading assignment"


def epoch_lines(data_dir: Path, count: int) -> Iterator[str]:
    """How the last epochs ended, oldest first, a line each."""
    ended = [j for j in reversed(kept_epochs(data_dir)) if ending_of(j) is not None][:count]
    for journal in reversed(ended):
        yield _epoch_line(journal)


def _epoch_line(journal: Journal) -> str:
    ending = ending_of(journal)
    result = "unknown" if ending is None else ending.result.value
    told = ending.detail if ending is not None else ""
    weights, report = journal.get("weights"), journal.get("report")
    if not told and weights is not None:
        how = "committed" if weights.get("committed_only") else "set"
        winners = len((report or {}).get("top_3_winners", []))
        consensus = str((report or {}).get("consensus_hash", ""))[:16]
        told = f"weights {how} in block {weights.get('block')}, {winners} winners, {consensus}"
    return f"{journal.epoch_id}  {result}{f': {told}' if told else ''}"
