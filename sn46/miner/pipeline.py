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
    """The ZIPs with the most expected listings first, so that a deadline costs the least score.

    Volume (mechanism 6) weighs a ZIP with its expected listings E and is full at C = min(E, 1000)
    rows, so a row is worth E / C until then and nothing after it. In a ZIP of 1,000 or fewer that
    is 1 for every row: partly scraped ZIPs lose what they lack and no more, and it is no matter
    which of them is cut off. In a larger ZIP its first 1,000 rows are worth more, up to 3 each.
    These rows come first here, and where time is short the collector leaves such a ZIP after them
    until every other one has been begun. What a search costs beside its pages (finding the place,
    splitting) is also spread over the most rows, and since the longest work is begun first, no
    large ZIP is left alone at the end while the other workers have nothing to do.

    The other scores have no say in it: completeness is a mean over the rows that there are, and
    speed is the time of the whole submission.
    """
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
