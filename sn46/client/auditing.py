"""Audits over HTTP: the public record is fetched, each draw is made again and compared."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Final

from sn46.client.api import ApiError, ApiUnavailable
from sn46.client.public import ListedDraw, PublicClient
from sn46.mechanism.assignment import Assignment
from sn46.mechanism.auditing import (
    DrawAudit,
    DrawTracker,
    PublicRecord,
    PublicTable,
    PublishedDraw,
    audit_draw,
    compare_history,
    read_published,
)
from sn46.mechanism.drawtable import DrawTable
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.reported import (
    VALIDATOR_EPOCHS,
    AnnouncedReport,
    ReportHistory,
    counted_until,
)
from sn46.mechanism.target import EPOCHS_LOOKED_AT
from sn46.zipcodes import ZipTableError

_TABLES_KEPT: Final = 4


class Auditor:
    """Audits draws by what one API publishes. Tables are fetched once a version."""

    def __init__(self, api: PublicClient, api_hotkey: str | None = None) -> None:
        """``api_hotkey`` is whom to trust; None trusts the hotkey that each assignment names."""
        self._api = api
        self._api_hotkey = api_hotkey
        self._tables: dict[str, PublicTable | str] = {}

    async def audit(self, epoch_id: str = "previous") -> DrawAudit:
        """Audit the draw of one ended epoch.

        Raises:
            ApiError: where the API has no such draw, or refuses.
            ApiUnavailable: where it cannot be reached, or its answers cannot be read.
        """
        published = await self._api.draw(epoch_id)
        assignment = read_published(epoch_id, published, self._api_hotkey)
        if isinstance(assignment, DrawAudit):
            return assignment
        epoch = assignment.epoch
        tracker = await self._history(epoch)
        document = await self._document_before(epoch, tracker)
        reports = ReportHistory(await self._reports_before(epoch))
        record = await self._record(assignment, tracker, document, reports)
        return audit_draw(assignment, published, record)

    async def audit_last(
        self, count: int | None, progress: Callable[[int, int], None] = lambda done, of: None
    ) -> AsyncIterator[DrawAudit]:
        """Audit the draws of the last ended epochs, all where ``count`` is None, oldest first.
        The history, which is not signed, is held against each signed assignment on the way.

        Args:
            count: how many.
            progress: called with how many are done, of how many.

        Raises:
            ApiError, ApiUnavailable: as ``audit``.
        """
        wanted = await self._documents(count)
        if not wanted:
            return
        oldest = wanted[-1].past.epoch
        tracker = await self._history(oldest)
        document = await self._document_before(oldest, tracker)
        reports = ReportHistory(await self._reports_before(wanted[0].past.epoch, oldest))
        for done, entry in enumerate(reversed(wanted), 1):
            assert entry.published is not None
            yield await self._audit_listed(entry, entry.published, tracker, document, reports)
            tracker.add(entry.past)
            document = entry.published.document
            progress(done, len(wanted))

    async def _audit_listed(
        self,
        entry: ListedDraw,
        published: PublishedDraw,
        tracker: DrawTracker,
        before: Mapping[str, Any] | None,
        reports: ReportHistory,
    ) -> DrawAudit:
        assignment = read_published(entry.past.epoch.id, published, self._api_hotkey)
        if isinstance(assignment, DrawAudit):
            return assignment
        record = await self._record(assignment, tracker, before, reports)
        found = audit_draw(assignment, published, record)
        listed = compare_history(entry.past, assignment)
        return DrawAudit(
            found.epoch_id,
            assignment,
            found.drawn,
            (*found.differences, *(d for d in listed if d not in found.differences)),
            found.notes,
        )

    async def _documents(self, count: int | None) -> list[ListedDraw]:
        """The last ended epochs, newest first."""
        found: list[ListedDraw] = []
        async for entry in self._api.draws(documents=True):
            found.append(entry)
            if len(found) == count:
                break
        return found

    async def _history(self, epoch: Epoch) -> DrawTracker:
        """All draws before an epoch."""
        listed = [entry.past async for entry in self._api.draws(epoch.id)]
        if listed and listed[0].epoch.start >= epoch.start:
            raise ApiUnavailable(f"The API lists later draws among those before {epoch.id}.")
        tracker = DrawTracker()
        for past in reversed(listed):
            tracker.add(past)
        return tracker

    async def _document_before(
        self, epoch: Epoch, tracker: DrawTracker
    ) -> Mapping[str, Any] | None:
        """The signed assignment of the epoch directly before; None where the history has none, or
        the API says that it has none."""
        if tracker.newest is None or tracker.newest.epoch.end != epoch.start:
            return None
        try:
            return (await self._api.draw(tracker.newest.epoch.id)).document
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    async def _reports_before(
        self, newest: Epoch, oldest: Epoch | None = None
    ) -> list[AnnouncedReport]:
        """All reports that draws from the oldest to the newest epoch can depend on."""
        oldest = oldest or newest
        first = oldest.start - VALIDATOR_EPOCHS * oldest.length
        until = counted_until(oldest)
        found: list[AnnouncedReport] = []
        counted: set[object] = set()
        async for report in self._api.reports(newest.id):
            enough = len(counted) >= EPOCHS_LOOKED_AT and report.start not in counted
            if enough and report.start < first:
                break
            found.append(report)
            if report.start < oldest.start and report.announced_at <= until:
                counted.add(report.start)
        return found

    async def _record(
        self,
        assignment: Assignment,
        tracker: DrawTracker,
        before: Mapping[str, Any] | None,
        reports: ReportHistory,
    ) -> PublicRecord:
        return PublicRecord(
            history=tracker.history,
            before=tracker.newest,
            before_document=before,
            table=await self._table(assignment.selection.table_version),
            reports=reports.before(assignment.epoch),
            targets=tracker.targets,
        )

    async def _table(self, version: str) -> PublicTable | str:
        if version not in self._tables:
            while len(self._tables) >= _TABLES_KEPT:
                self._tables.pop(next(iter(self._tables)))
            self._tables[version] = await self._fetched_table(version)
        return self._tables[version]

    async def _fetched_table(self, version: str) -> PublicTable | str:
        """The table, or why there is none that can be used."""
        try:
            table = await self._api.table(version)
        except ZipTableError as error:
            return str(error).rstrip(".")
        except ApiError as error:
            if error.status != 404:
                raise
            return "the API has none"
        return PublicTable(table.version, DrawTable(table.rows))


def summary(audits: Iterable[DrawAudit]) -> dict[str, Any]:
    """The audits as JSON."""
    entries = [
        {
            "epoch_id": audit.epoch_id,
            "agrees": audit.agrees,
            "api_hotkey": audit.assignment.api_hotkey if audit.assignment else None,
            "zipcodes": [z.zipcode for z in audit.drawn.zipcodes] if audit.drawn else None,
            "total_expected_listings": audit.drawn.total if audit.drawn else None,
            "differences": [vars(difference) for difference in audit.differences],
            "notes": list(audit.notes),
        }
        for audit in audits
    ]
    return {"agrees": all(entry["agrees"] for entry in entries), "audits": entries}
