"""The parts of an export folder that are not buckets (mechanism 13)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from sn46.durable import write_whole
from sn46.mechanism.epochs import parse_epoch_id
from sn46.mechanism.errors import EpochError, ExportError

ASSIGNMENT = "assignment.json"
CHAIN = "chain.json"


def epoch_folder(directory: Path, epoch_id: str) -> Path:
    return directory / "epochs" / epoch_id


def epochs_in(directory: Path) -> list[str]:
    """The epochs that a folder holds, sorted; empty where it holds none."""
    root = directory / "epochs"
    return sorted(p.name for p in root.iterdir()) if root.is_dir() else []


def write_document(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(value, indent=1).encode())


def read_document(path: Path) -> dict[str, Any]:
    """A JSON object of an export.

    Raises:
        ExportError: where it is missing or is no JSON object.
    """
    try:
        value = json.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{path} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise ExportError(f"{path} is not a JSON object.")
    return cast(dict[str, Any], value)


def find_epoch(directory: Path, text: str) -> str:
    """The epoch of a folder that a person named, in either form of its id.

    Raises:
        ExportError: where the text is no epoch id or the folder does not hold that epoch.
    """
    try:
        # Any length will do here: the id names a minute, the assignment says the rest.
        wanted = str(parse_epoch_id(text, 60).id)
    except EpochError as error:
        raise ExportError(str(error)) from error
    held = epochs_in(directory)
    if wanted not in held:
        raise ExportError(
            f"{directory} does not hold epoch {wanted}. It holds: {', '.join(held) or 'none'}."
        )
    return wanted
