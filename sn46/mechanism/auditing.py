"""A draw made again from what anyone can read, and compared with what was published (mechanism 3).

Pure: who calls it fetches the record. It cannot know what follows from the owner's secret (the
nonce), from the owner alone (the rules, a ``fixed`` target) or from the chain (permits).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sn46.mechanism.assignment import (
    AssignedZip,
    Assignment,
    read_assignment,
    seed_commitment,
)
from sn46.mechanism.draw import ALGORITHM, Draw, draw_zipcodes
from sn46.mechanism.drawinputs import DrawHistory
from sn46.mechanism.drawtable import DrawTable
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.errors import AssignmentError, DrawError
from sn46.mechanism.names import ZipCode
from sn46.mechanism.reported import AnnouncedReport, active_validators, reported_epochs
from sn46.mechanism.selection import AdaptiveTarget, FixedTarget
from sn46.mechanism.times import format_time


@dataclass(frozen=True)
class Difference:
    """One field in which what was published is not what follows from the public data."""

    field: str
    published: str
    follows: str

    def __str__(self) -> str:
        return f"{self.field}: published is {self.published}; it should be {self.follows}."


@dataclass(frozen=True)
class PublishedDraw:
    """A draw as it is published once its epoch has ended: the signed assignment, and the seed,
    which needs no signature as it must hash to the commitment."""

    document: Mapping[str, Any]
    seed: str
    drawn_at: datetime


@dataclass(frozen=True)
class PastDraw:
    """A draw as the history lists it."""

    epoch: Epoch
    target_listings: int
    zipcodes: tuple[ZipCode, ...]


@dataclass(frozen=True)
class PublicTable:
    """The table that is published under the version that a draw names, and the version that its
    content has."""

    version: str
    rows: DrawTable


@dataclass(frozen=True)
class PublicRecord:
    """What is public of all that a draw follows from.

    ``before`` is the newest draw before it, ``before_document`` that draw's signed assignment,
    ``targets`` what earlier epochs asked for by their start. ``table`` is a text that says why
    where the API does not give one that can be read.
    """

    history: DrawHistory
    before: PastDraw | None
    before_document: Mapping[str, Any] | None
    table: PublicTable | str
    reports: Sequence[AnnouncedReport]
    targets: Mapping[datetime, int]


@dataclass(frozen=True)
class DrawAudit:
    """What an audit found. ``assignment`` is None where the document is none that can be used,
    ``drawn`` the draw as it was made again, None where it could not be."""

    epoch_id: str
    assignment: Assignment | None
    drawn: Draw | None
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        return not self.differences


class DrawTracker:
    """The history of draws as it grows, draw by draw."""

    def __init__(self) -> None:
        self._last: dict[ZipCode, datetime] = {}
        self._first: datetime | None = None
        self.targets: dict[datetime, int] = {}
        self.newest: PastDraw | None = None

    def add(self, past: PastDraw) -> None:
        """Add a draw that is later than all before it.

        Raises:
            ValueError: where it is not.
        """
        start = past.epoch.start
        if self.newest is not None and start <= self.newest.epoch.start:
            raise ValueError(f"the draw for {past.epoch.id} is not after that before it")
        self._first = self._first or start
        self._last.update(dict.fromkeys(past.zipcodes, start))
        self.targets[start] = past.target_listings
        self.newest = past

    @property
    def history(self) -> DrawHistory:
        """The history up to now; it changes with what is added."""
        return DrawHistory(self._last, self._first)


def read_published(
    epoch_id: str, published: PublishedDraw, api_hotkey: str | None = None
) -> Assignment | DrawAudit:
    """A published draw's assignment with its seed; an audit that is over where there is none.

    Args:
        epoch_id: the epoch that was asked for, or ``previous``.
        published: the answer.
        api_hotkey: who must have signed; None trusts the one that the document names.
    """
    try:
        assignment = read_assignment(published.document, api_hotkey)
    except AssignmentError as error:
        reason = Difference("assignment", f"one that cannot be used ({error})", "one that can")
        return DrawAudit(epoch_id, None, None, (reason,))
    if epoch_id not in ("previous", assignment.epoch_id):
        other = Difference("epoch_id", assignment.epoch_id, f"{epoch_id}, which was asked for")
        return DrawAudit(epoch_id, None, None, (other,))
    return assignment


def audit_draw(assignment: Assignment, published: PublishedDraw, record: PublicRecord) -> DrawAudit:
    """Make a draw again and compare.

    Args:
        assignment: as :func:`read_published` read it.
        published: where it was read from.
        record: the public record of what was before this draw.
    """
    differences = [
        *_time(assignment.epoch, published.drawn_at),
        *_seed(assignment, published.seed),
        *_before(assignment, record),
        *_table(assignment, record.table),
        *_target(assignment, record),
        *_validators(assignment, record.reports),
    ]
    drawn, found = _drawn_again(assignment, published.seed, record)
    notes = tuple(_notes(assignment, published, record))
    return DrawAudit(assignment.epoch_id, assignment, drawn, (*differences, *found), notes)


def compare_history(past: PastDraw, assignment: Assignment) -> list[Difference]:
    """Whether the history, which is not signed, lists a draw as its signed assignment has it."""
    found: list[Difference] = []
    where = f"history of {past.epoch.id}"
    signed = tuple(z.zipcode for z in assignment.zipcodes)
    if past.epoch != assignment.epoch:
        found.append(
            Difference(where, _times(past.epoch), f"{_times(assignment.epoch)}, as is signed")
        )
    if sorted(past.zipcodes) != sorted(signed):
        found.append(
            Difference(where, ", ".join(past.zipcodes), f"{', '.join(signed)}, as is signed")
        )
    if past.target_listings != assignment.target_listings:
        signed_target = f"{assignment.target_listings} listings, as is signed"
        found.append(Difference(where, f"a target of {past.target_listings}", signed_target))
    return found


def _times(epoch: Epoch) -> str:
    return f"{format_time(epoch.start)} to {format_time(epoch.end)}"


def _time(epoch: Epoch, drawn_at: datetime) -> Iterator[Difference]:
    if not epoch.draw_at <= drawn_at < epoch.end:
        span = f"from {format_time(epoch.draw_at)} and before {format_time(epoch.end)}"
        yield Difference("drawn_at", format_time(drawn_at), span)


def _seed(assignment: Assignment, seed: str) -> Iterator[Difference]:
    selection = assignment.selection
    found = seed_commitment(seed)
    if found != selection.commitment:
        yield Difference(
            "seed", f"{seed}, whose hash is {found}", f"one that hashes to {selection.commitment}"
        )
    if selection.seed is not None and selection.seed != seed:
        yield Difference("seed", f"{seed} beside the assignment", f"{selection.seed}, as is signed")


def _before(assignment: Assignment, record: PublicRecord) -> Iterator[Difference]:
    """The draw before: it is listed as it was signed, and it committed to this one's seed."""
    if record.before is None:
        return
    # The owner may have changed the length of epochs meanwhile: the committed seed stays the same.
    follows_it = record.before.epoch.end == assignment.epoch.start
    if record.before_document is None:
        if follows_it:
            yield Difference(f"draw of {record.before.epoch.id}", "none", "that of a listed epoch")
        return
    try:
        before = read_assignment(record.before_document)
    except AssignmentError as error:
        field = f"assignment of {record.before.epoch.id}"
        yield Difference(field, f"one that cannot be used ({error})", "one that can")
        return
    yield from compare_history(record.before, before)
    committed = before.selection.next_commitment
    if follows_it and committed != assignment.selection.commitment:
        yield Difference(
            "commitment",
            assignment.selection.commitment,
            f"{committed}, as epoch {before.epoch_id} committed to",
        )


def _table(assignment: Assignment, table: PublicTable | str) -> Iterator[Difference]:
    named = assignment.selection.table_version
    if isinstance(table, str):
        yield Difference("table", f"none that can be used ({table})", f"the one of version {named}")
    elif table.version != named:
        yield Difference("table", f"one of version {table.version}", f"the one of version {named}")


def _target(assignment: Assignment, record: PublicRecord) -> Iterator[Difference]:
    basis = assignment.selection.target_basis
    if isinstance(basis, FixedTarget):
        return
    if record.before is not None and basis.previous != record.before.target_listings:
        yield Difference(
            "target_basis.previous",
            str(basis.previous),
            f"{record.before.target_listings}, the target of epoch {record.before.epoch.id}",
        )
    yield from _reported(assignment, basis, record)
    if assignment.target_listings != basis.target:
        yield Difference(
            "target_listings",
            str(assignment.target_listings),
            f"{basis.target}, which follows from target_basis",
        )


def _reported(
    assignment: Assignment, basis: AdaptiveTarget, record: PublicRecord
) -> Iterator[Difference]:
    named = {epoch.epoch_id: epoch for epoch in basis.epochs}
    expected = reported_epochs(assignment.epoch, record.reports, record.targets)
    public = {epoch.epoch_id: epoch for epoch in expected}
    for epoch_id in sorted(named.keys() | public.keys()):
        one, other = named.get(epoch_id), public.get(epoch_id)
        if one != other:
            words = [
                "not counted"
                if epoch is None
                else f"{epoch.reached} of {epoch.participants} at a target of {epoch.target}"
                for epoch in (one, other)
            ]
            yield Difference(
                f"target_basis of {epoch_id}", words[0], f"{words[1]}, as its reports say"
            )
    if sorted(named) != [epoch.epoch_id for epoch in basis.epochs]:
        yield Difference("target_basis.epochs", "in another order", "the oldest first, each once")


def _validators(assignment: Assignment, reports: Iterable[AnnouncedReport]) -> Iterator[Difference]:
    active = active_validators(assignment.epoch, reports)
    strangers = sorted(set(assignment.validators) - active)
    if active and strangers:
        yield Difference(
            "validators",
            f"{', '.join(strangers)} among them",
            f"only such as announced a report on one of the six epochs before, namely "
            f"{', '.join(sorted(active))} (unless none of these held a permit)",
        )


def _drawn_again(
    assignment: Assignment, seed: str, record: PublicRecord
) -> tuple[Draw | None, list[Difference]]:
    selection, table = assignment.selection, record.table
    if selection.algorithm != ALGORITHM:
        known = f"{ALGORITHM}, which this program knows; a newer sn46 may know the other"
        return None, [Difference("algorithm", selection.algorithm, known)]
    usable = isinstance(table, PublicTable) and table.version == selection.table_version
    if not usable or seed_commitment(seed) != selection.commitment:
        return None, []
    assert isinstance(table, PublicTable)
    try:
        drawn = draw_zipcodes(
            table.rows, record.history, selection.draw_rules, assignment.epoch, seed
        )
    except DrawError as error:
        return None, [Difference("zipcodes", "a draw", f"none ({error})")]
    return drawn, [*_zipcodes(assignment.zipcodes, drawn.zipcodes), *_figures(assignment, drawn)]


def _figures(assignment: Assignment, drawn: Draw) -> Iterator[Difference]:
    if assignment.total_expected_listings != drawn.total:
        total = str(assignment.total_expected_listings)
        yield Difference("total_expected_listings", total, str(drawn.total))
    relaxed = assignment.selection.relaxed
    if relaxed != drawn.relaxed:
        words = [", ".join(names) or "no quota" for names in (relaxed, drawn.relaxed)]
        yield Difference("relaxed", words[0], words[1])


def _zipcodes(
    published: Iterable[AssignedZip], drawn: Iterable[AssignedZip]
) -> Iterator[Difference]:
    ours = {z.zipcode: z for z in published}
    theirs = {z.zipcode: z for z in drawn}
    for zipcode in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(zipcode), theirs.get(zipcode)
        if one is None or other is None:
            words = ["drawn" if zip_ else "not drawn" for zip_ in (one, other)]
            yield Difference(f"ZIP {zipcode}", words[0], words[1])
            continue
        for field in fields(AssignedZip):
            values = getattr(one, field.name), getattr(other, field.name)
            if values[0] != values[1]:
                yield Difference(f"ZIP {zipcode} {field.name}", str(values[0]), str(values[1]))


def _notes(assignment: Assignment, published: PublishedDraw, record: PublicRecord) -> Iterator[str]:
    epoch = assignment.epoch
    if record.before is None:
        yield "This is the first draw on record, so nothing committed to its seed beforehand."
    elif record.before.epoch.end != epoch.start:
        yield (
            f"The epoch before is not on record (the last one is {record.before.epoch.id}), so "
            "nothing committed to this seed beforehand."
        )
    elif (
        record.before_document and record.before_document.get("api_hotkey") != assignment.api_hotkey
    ):
        yield "The epoch before was signed by another hotkey."
    if published.drawn_at >= epoch.start:
        late = int((published.drawn_at - epoch.start).total_seconds())
        yield f"It was drawn {late} s after the epoch began."
    left_out = sorted(active_validators(epoch, record.reports) - set(assignment.validators))
    if left_out:
        yield (
            f"Announced a report and not named as validators: {', '.join(left_out)}. The chain "
            "tells whether they held a permit when it was drawn."
        )
