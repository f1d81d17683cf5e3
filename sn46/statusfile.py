"""What a service says it is doing, in a small JSON file that is replaced as a whole."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog


class StatusFile:
    """Where a service's status is written, if anywhere.

    It is a convenience: a disk that refuses it is logged once, and never stops the service.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._failed = False

    def write(self, value: Mapping[str, Any]) -> None:
        if self._path is None:
            return
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(value))
            temporary.replace(self._path)
        except OSError as error:
            if not self._failed:
                structlog.get_logger().warning(
                    "the status file cannot be written; the work goes on without it",
                    file=str(self._path),
                    error=error.strerror,
                )
            self._failed = True
        else:
            self._failed = False
