"""The steps of a miner that another miner might do differently.

``Pipeline()`` is this project's own, and an honest one. To mine in your own way, replace a step
and give the result to the service: ``replace(Pipeline(), order=my_order)``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sn46.mechanism.assignment import AssignedZip, Assignment
from sn46.mechanism.names import Hotkey
from sn46.mechanism.submission import Manifest, ManifestFile, new_manifest
from sn46.miner.cleaning import Frames, clean

Order = Callable[[Assignment], Sequence[AssignedZip]]
"""The ZIPs to scrape, first things first."""

Pack = Callable[[Assignment, Frames], Frames]
"""What was scraped to what is uploaded. It gets every ZIP that has rows, and its result may lack
some. It must give the same for the same: after a crash it is asked again."""

ManifestFor = Callable[[Assignment, Hotkey, datetime, tuple[ManifestFile, ...]], Manifest]
"""The manifest of finished files, made at a moment. The service signs it."""

ManifestAt = Callable[[Assignment, datetime], datetime]
"""When the manifest is uploaded, given the moment at which all else is. What is past is now."""


def largest_first(assignment: Assignment) -> tuple[AssignedZip, ...]:
    """ZIPs by what they count for in the volume score, which weighs each by its expected
    listings: what a deadline cuts off is then what costs least."""
    return tuple(sorted(assignment.zipcodes, key=lambda z: (-z.expected_listings, z.zipcode)))


def pack_clean(assignment: Assignment, frames: Frames) -> Frames:
    """What a validator would keep."""
    return clean(assignment, frames).frames


def manifest_for(
    assignment: Assignment, hotkey: Hotkey, made_at: datetime, files: tuple[ManifestFile, ...]
) -> Manifest:
    """The manifest as mechanism 4 wants it."""
    return new_manifest(
        epoch_id=assignment.epoch_id,
        nonce=assignment.nonce,
        hotkey=hotkey,
        made_at=made_at,
        files=files,
    )


def at_once(assignment: Assignment, ready: datetime) -> datetime:
    return ready


@dataclass(frozen=True)
class Pipeline:
    """How a submission is made. See the type of each step."""

    order: Order = largest_first
    pack: Pack = pack_clean
    manifest: ManifestFor = manifest_for
    manifest_at: ManifestAt = at_once
