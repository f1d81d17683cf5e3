"""What a validator has done for an epoch, on disk, so that nothing is done twice or forgotten.

Each finished step is one file below ``DATA_DIR/epochs/{epoch}/``, written whole or not at all::

    assignment.json   the assignment as received
    chain.json        the chain at the epoch's validation block
    evidence.json     when own evidence was uploaded
    report.json       the report, built once
    published.json    when the three objects were in the bucket
    announced.json    when the API took the announcement
    attempt.json      when setting the weights was begun
    weights.json      when weights were read back from the chain, and what was read
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

Step = Literal[
    "assignment", "chain", "evidence", "report", "published", "announced", "attempt", "weights"
]


class Journal:
    """The steps of one epoch."""

    def __init__(self, data_dir: Path, epoch_id: str) -> None:
        self._dir = data_dir / "epochs" / epoch_id.replace(":", "-")
        self._dir.mkdir(parents=True, exist_ok=True)

    def get(self, step: Step) -> dict[str, Any] | None:
        """What was written for a step, None where it is not done. A damaged file is not done."""
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
        write_atomically(self._dir / f"{step}.json", json.dumps(value).encode())


def write_atomically(path: Path, body: bytes) -> None:
    """Write a file whole or not at all; what was there before stays until then."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with open(temporary, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
