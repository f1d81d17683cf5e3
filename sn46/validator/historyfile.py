"""The reports on the epochs before, in an export: which ones the judging of an epoch found.

``DIR/epochs/{epoch_id}/history.json`` is ``{"epoch_seconds", "reports"}``. ``reports`` has each of
the 42 epochs before with the validators whose reports on it were there at its results deadline, an
empty list where there was none. The reports themselves are objects of ``DIR/validated-data``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from sn46.mechanism.credibility import WINDOW, Published, Record, history_of
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.errors import ExportError
from sn46.mechanism.names import EpochId, Hotkey
from sn46.store.base import Snapshot
from sn46.validator.folder import epoch_folder, epochs_in, read_document, write_document
from sn46.validator.history import records_in, reports_by_owner

HISTORY: Final = "history.json"

Listed = Mapping[EpochId, list[Hotkey]]
"""Who reported on which epoch."""


def write_history(directory: Path, epoch: Epoch, listed: Listed) -> None:
    """Say which reports an epoch's judging found, once they lie in the export."""
    document = {
        "epoch_seconds": epoch.seconds,
        "reports": {past.id: sorted(listed[past.id]) for past in history_of(epoch)},
    }
    write_document(epoch_folder(directory, epoch.id) / HISTORY, document)


def known_history(directory: Path, seconds: int) -> dict[EpochId, list[Hotkey]]:
    """What an export says already of epochs of this length, for any of its epochs.

    Raises:
        ExportError: where such a file is damaged.
    """
    known: dict[EpochId, list[Hotkey]] = {}
    for epoch_id in epochs_in(directory):
        path = epoch_folder(directory, epoch_id) / HISTORY
        if path.exists():
            known |= _listed(path, seconds)
    return known


async def read_history(directory: Path, epoch: Epoch, results: Snapshot) -> Published:
    """The records that an exported epoch was judged by.

    Raises:
        ExportError: where the export was made without them, lacks one or is damaged.
        StoreError: where an object cannot be read.
    """
    path = epoch_folder(directory, epoch.id) / HISTORY
    if not path.exists():
        raise ExportError(
            f"{path} is missing: the export was made without the reports on the {WINDOW} epochs "
            "before, which scores follow from. Make it again with this version of sn46."
        )
    listed = _listed(path, epoch.seconds)
    published: dict[EpochId, Mapping[Hotkey, Record]] = {}
    for past in history_of(epoch):
        if past.id not in listed:
            raise ExportError(f"{path} says nothing of epoch {past.id}. Make the export again.")
        wanted = set(listed[past.id])
        if not wanted:
            continue
        reports = reports_by_owner(results.objects, past)
        missing = sorted(wanted - set(reports))
        if missing:
            raise ExportError(
                f"The export lacks the report of {missing[0]} on epoch {past.id}, which {path} "
                "names. Make the export again."
            )
        named = {validator: reports[validator] for validator in wanted}
        published[past.id] = await records_in(results, named, past)
    return published


def _listed(path: Path, seconds: int) -> dict[EpochId, list[Hotkey]]:
    """Who reported on which epoch, as a file says; nothing where it is of another length."""
    document = read_document(path)
    reports: Any = document.get("reports")
    if not isinstance(reports, dict):
        raise ExportError(f"{path} names no reports. Make the export again.")
    if document.get("epoch_seconds") != seconds:
        return {}
    found: dict[EpochId, list[Hotkey]] = {}
    for epoch_id, validators in cast(dict[str, Any], reports).items():
        if not isinstance(validators, list) or not all(
            isinstance(v, str) for v in cast(list[Any], validators)
        ):
            raise ExportError(f"{path}: epoch {epoch_id} has no list of validators.")
        found[EpochId(epoch_id)] = [Hotkey(v) for v in cast(list[str], validators)]
    return found
