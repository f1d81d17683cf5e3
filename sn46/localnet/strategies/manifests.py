"""Cheats with the manifest: what it says, and when it comes."""

from datetime import datetime, timedelta
from typing import Final

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.names import EpochId, Hotkey
from sn46.mechanism.submission import Manifest, ManifestFile
from sn46.miner.pipeline import manifest_for

LATE_BY: Final = timedelta(seconds=2)


class StaleNonce:
    """Manifests with the nonce of the epoch before, as of work that was done in advance.

    In its first epoch there is none before, and a hash of that epoch's name stands for it.
    """

    def __init__(self) -> None:
        self._current: tuple[EpochId, str] | None = None
        self._before: str | None = None

    def __call__(
        self,
        assignment: Assignment,
        hotkey: Hotkey,
        made_at: datetime,
        files: tuple[ManifestFile, ...],
    ) -> Manifest:
        if self._current is None:
            self._before = sha256_hex(assignment.epoch.previous().id)
        elif self._current[0] != assignment.epoch_id:
            self._before = self._current[1]
        self._current = (assignment.epoch_id, assignment.nonce)
        honest = manifest_for(assignment, hotkey, made_at, files)
        return Manifest(
            epoch_id=honest.epoch_id,
            nonce=self._before or "",
            miner_hotkey=honest.miner_hotkey,
            submission_timestamp=honest.submission_timestamp,
            files=honest.files,
        )


def back_dated(
    assignment: Assignment, hotkey: Hotkey, made_at: datetime, files: tuple[ManifestFile, ...]
) -> Manifest:
    """A manifest that claims to have been made as the epoch began."""
    return manifest_for(assignment, hotkey, assignment.epoch.start, files)


def at_leisure(assignment: Assignment, ready: datetime) -> datetime:
    """Well after the grace."""
    epoch = assignment.epoch
    moment = assignment.grace_end + epoch.length / 16
    return min(moment, epoch.end - epoch.length / 8)


def after_the_deadline(assignment: Assignment, ready: datetime) -> datetime:
    """A moment after the deadline, by the store's clock too."""
    return assignment.submission_deadline + LATE_BY
