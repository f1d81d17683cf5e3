"""What miners and validators say they are doing, from the files they write."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast


@dataclass(frozen=True)
class Status:
    """One state of a service: ``done`` of ``of`` steps of a phase, 0 of 0 where it has none."""

    phase: str = "starting"
    done: int = 0
    of: int = 0
    note: str = ""
    epoch_id: str = ""


def read_status(path: Path) -> Status:
    """The state that a miner or a validator wrote last; ``starting`` where none can be read."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return Status()
    if not isinstance(value, dict):
        return Status()
    return _read(cast(dict[str, Any], value))


def _read(value: dict[str, Any]) -> Status:
    phase, epoch_id = str(value.get("phase") or "starting"), str(value.get("epoch_id") or "")
    if "zips_total" not in value:
        return Status(
            phase,
            _count(value, "done"),
            _count(value, "of"),
            str(value.get("note") or ""),
            epoch_id,
        )
    notes = [
        f"{_count(value, 'rows')} homes" if _count(value, "rows") else "",
        f"{_count(value, 'zips_failed')} ZIPs incomplete" if _count(value, "zips_failed") else "",
        str(value.get("detail") or ""),
    ]
    return Status(
        phase,
        _count(value, "zips_done"),
        _count(value, "zips_total"),
        ", ".join(note for note in notes if note),
        epoch_id,
    )


def _count(value: dict[str, Any], name: str) -> int:
    found = value.get(name)
    return found if isinstance(found, int) else 0
