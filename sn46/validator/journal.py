"""What a validator has done for an epoch, on disk, so that nothing is done twice or forgotten.

Each finished step is one file below ``DATA_DIR/epochs/{epoch}/``, written whole or not at all::

    assignment.json   the assignment as received
    chain.json        the chain at the epoch's validation block
    checks.json       own evidence as it is to be uploaded, the same at each attempt
    evidence.json     when own evidence was uploaded
    report.json       the report, built once
    published.json    when the three objects were in the bucket
    announced.json    when the API took the announcement
    attempt.json      when setting the weights was begun, and what came of it where that is known
    weights.json      when weights were read back from the chain, and what was read
    outcome.json      how the epoch ended for this validator, once no more is done for it
"""

import json
import re
import shutil
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, cast

from sn46.durable import write_whole

Step = Literal[
    "assignment",
    "chain",
    "checks",
    "evidence",
    "report",
    "published",
    "announced",
    "attempt",
    "weights",
    "outcome",
]

_FOLDER: Final = re.compile(r"(\d{4}-\d\d-\d\d-\d\d)-(\d\d)", re.ASCII)
_DOOMED: Final = ".removed-"


class Journal:
    """The steps of one epoch."""

    def __init__(self, data_dir: Path, epoch_id: str) -> None:
        """Nothing is written before the first ``put``."""
        self.epoch_id = epoch_id
        self._dir = data_dir / "epochs" / epoch_id.replace(":", "-")

    def get(self, step: Step) -> dict[str, Any] | None:
        """What was written for a step, None where it is not done. A damaged file is not done.

        Raises:
            OSError: where the disk cannot be read.
        """
        try:
            value = json.loads((self._dir / f"{step}.json").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return cast(dict[str, Any], value) if isinstance(value, dict) else None

    def put(self, step: Step, value: Mapping[str, Any]) -> None:
        """Record a step as done.

        Raises:
            OSError: where the disk is full or not writable; the step is then not recorded.
        """
        self._dir.mkdir(parents=True, exist_ok=True)
        write_whole(self._dir / f"{step}.json", json.dumps(value).encode())


def kept_epochs(data_dir: Path) -> list[Journal]:
    """The epochs that the journal knows, oldest first. An unreadable folder has none."""
    try:
        names = sorted(entry.name for entry in (data_dir / "epochs").iterdir())
    except OSError:
        return []
    found = [_FOLDER.fullmatch(name) for name in names]
    return [Journal(data_dir, f"{match[1]}:{match[2]}") for match in found if match]


def prune(data_dir: Path, *, before: datetime, keep: Collection[str]) -> int:
    """Remove the epochs that began before a moment, but never those named in ``keep``; how many.

    An epoch goes as a whole: its folder is renamed first, so that a process that dies on the way
    leaves none that lacks steps which were done; what it left is removed by the next one.

    Raises:
        OSError: where the disk refuses; the epochs that are left stay whole.
    """
    folder, removed = data_dir / "epochs", 0
    for leftover in folder.glob(f"{_DOOMED}*"):
        shutil.rmtree(leftover)
    for journal in kept_epochs(data_dir):
        if journal.epoch_id not in keep and _began(journal.epoch_id, before) < before:
            name = journal.epoch_id.replace(":", "-")
            doomed = (folder / name).rename(folder / f"{_DOOMED}{name}")
            shutil.rmtree(doomed)
            removed += 1
    return removed


def _began(epoch_id: str, otherwise: datetime) -> datetime:
    try:
        return datetime.strptime(epoch_id, "%Y-%m-%d-%H:%M").replace(tzinfo=UTC)
    except ValueError:
        return otherwise
