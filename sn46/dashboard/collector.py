"""What fills the snapshot: one task that asks the API and the bucket, whoever looks at the pages.

Parts are asked for one after the other, each when it is due: readiness and the running epoch at
every refresh, what changes with an epoch at every third one, a past draw or report once. While the
API does not answer, only the first two are asked for, at growing distances.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from sn46.clock import Clock
from sn46.dashboard import reading
from sn46.dashboard.asking import Asker, AskError, PaceReached
from sn46.dashboard.published import Reports
from sn46.dashboard.reading import Unreadable
from sn46.dashboard.snapshot import (
    DrawRecord,
    EpochRow,
    Look,
    Part,
    ReadyPart,
    Snapshot,
)
from sn46.mechanism.names import EpochId, Hotkey
from sn46.store.base import StoreError

SLOW: Final = 3
"""What changes with an epoch is asked for at every so manieth refresh."""

LONGEST_PAUSE: Final = timedelta(minutes=2)
"""Between two tries while the API does not answer."""

_PREFIX: Final = "/api/v1"
_MANY: Final = 4
"""From so many missing draws on they come as a page of a hundred."""

_VOICES: Final = 3
"""So many of those who agree are asked for their report on an epoch."""

_TOGETHER: Final = timedelta(seconds=1)
"""What is due so soon is asked for now."""

_SETTLED: Final = timedelta(seconds=5)
"""After an epoch's end its draw is public by any clock that is nearly right."""

_QUICK: Final = (Part.STATS, Part.READY)

_log = structlog.get_logger("sn46.dashboard")


@dataclass(frozen=True)
class Manners:
    """How often is asked, and how much is kept."""

    refresh: timedelta = timedelta(seconds=20)
    epochs: int = 42
    api_hotkey: Hotkey | None = None


class Collector:
    """Keeps ``snapshot`` up to date for as long as ``run`` runs."""

    def __init__(
        self,
        asker: Asker,
        *,
        api_url: str,
        clock: Clock,
        manners: Manners | None = None,
        reports: Reports | None = None,
    ) -> None:
        self._asker, self._clock, self._reports = asker, clock, reports
        self._manners = manners or Manners()
        self._due: dict[Part, datetime] = {}
        self._failures: dict[Part, int] = {}
        self._not_before: datetime | None = None
        self._unreadable: dict[EpochId, str] = {}
        self.snapshot = Snapshot(
            api_url=api_url, started_at=clock.now(), reads_reports=reports is not None
        )

    async def run(self) -> None:
        """Work for ever."""
        while True:
            await self._clock.sleep(await self.round())

    async def round(self) -> timedelta:
        """Ask for all that is due. Returns how long to wait before the next round."""
        try:
            await self._ask_due()
        except PaceReached as reached:
            return timedelta(seconds=max(1.0, reached.seconds))
        return self._pause()

    async def _ask_due(self) -> None:
        if self._not_before is not None and self._clock.now() < self._not_before:
            return
        self._not_before = None
        for part, ask in self._parts():
            if part not in _QUICK and self._failures.get(Part.STATS):
                continue
            if self._clock.now() + _TOGETHER < self._due.get(part, self.snapshot.started_at):
                continue
            await self._ask(part, ask)
            if self._not_before is not None:
                return

    def _parts(self) -> Iterable[tuple[Part, Callable[[], Awaitable[None]]]]:
        """In the order in which they build on each other."""
        yield Part.STATS, self._stats
        yield Part.READY, self._ready
        yield Part.EPOCHS, self._epochs
        yield Part.RESULTS, self._results
        yield Part.LEADERS, self._leaders
        yield Part.DRAWS, self._draws
        yield Part.TABLE, self._table
        if self._reports is not None:
            yield Part.REPORTS, self._published

    async def _ask(self, part: Part, ask: Callable[[], Awaitable[None]]) -> None:
        """Ask for a part, and note how it went."""
        try:
            await ask()
        except (AskError, Unreadable, StoreError) as error:
            self._failed(part, error)
        else:
            self._failures.pop(part, None)
            self._due[part] = self._clock.now() + self._every(part)
            self._note(part, self.snapshot.look(part).answered(self._clock.now()))

    def _failed(self, part: Part, error: Exception) -> None:
        now = self._clock.now()
        count = self._failures[part] = self._failures.get(part, 0) + 1
        pause = min(LONGEST_PAUSE, self._every(part) * 2 ** min(count - 1, 16))
        asked = error.retry_after if isinstance(error, AskError) else None
        if asked is not None:
            pause = max(pause, timedelta(seconds=asked))
        self._due[part] = now + pause
        if isinstance(error, AskError) and error.status == 429:
            # The limit is by address: whatever else is asked for now would be refused as well.
            self._not_before = now + pause
        if count == 1:
            _log.warning("cannot_read", part=part.value, reason=str(error))
        text = reading.clean(error).rstrip(".")
        self._note(part, self.snapshot.look(part).failed(now, text))

    def _every(self, part: Part) -> timedelta:
        return self._manners.refresh * (1 if part in _QUICK else SLOW)

    def _pause(self) -> timedelta:
        """Until the next part is due."""
        now = self._clock.now()
        if self._not_before is not None:
            return max(_TOGETHER, self._not_before - now)
        failing = bool(self._failures.get(Part.STATS))
        due = [at for part, at in self._due.items() if part in _QUICK or not failing]
        return max(_TOGETHER, min(due, default=now) - now)

    # Keeping --------------------------------------------------------------------------------

    def _note(self, part: Part, look: Look) -> None:
        self._keep(looks={**self.snapshot.looks, part: look})

    def _keep(self, **changes: Any) -> None:
        self.snapshot = replace(self.snapshot, version=self.snapshot.version + 1, **changes)

    # Asking ---------------------------------------------------------------------------------

    async def _stats(self) -> None:
        before = self._clock.now()
        found = reading.read(
            reading.stats, await self._asker.get(f"{_PREFIX}/zipcode-assignments/stats")
        )
        took = self._clock.now() - before
        self._keep(stats=found, clock_ahead=found.now - (before + took / 2))

    async def _ready(self) -> None:
        body = await self._asker.get("/readyz", 503)
        found = reading.read(reading.ready_parts, body)
        known = {part.name: part for part in self.snapshot.ready}
        now = self._clock.now()

        def since(name: str, ok: bool) -> datetime:
            before = known.get(name)
            return before.since if before is not None and before.ok == ok else now

        self._keep(ready=tuple(ReadyPart(n, ok, text, since(n, ok)) for n, ok, text in found))

    async def _epochs(self) -> None:
        body = await self._asker.get(f"{_PREFIX}/epochs?limit={self._manners.epochs}")
        rows = reading.read(reading.epochs, body)[: self._manners.epochs]
        kept = {row.id for row in rows}
        self._unreadable = {e: why for e, why in self._unreadable.items() if e in kept}
        snapshot = self.snapshot
        self._keep(
            epochs=rows,
            draws={e: d for e, d in snapshot.draws.items() if e in kept},
            published={e: p for e, p in snapshot.published.items() if e in kept},
            results={e: r for e, r in snapshot.results.items() if e in kept},
            unreadable={e: w for e, w in snapshot.unreadable.items() if e in kept},
        )

    async def _results(self) -> None:
        found = reading.read(
            reading.results, await self._asker.get(f"{_PREFIX}/validation-results")
        )
        kept = {row.id for row in self.snapshot.epochs}
        known = {**self.snapshot.results, **found}
        self._keep(results={e: reports for e, reports in known.items() if e in kept})

    async def _leaders(self) -> None:
        body = await self._asker.get(f"{_PREFIX}/leaderboard")
        epochs, miners = reading.read(reading.leaders, body)
        self._keep(leader_epochs=epochs, leaders=miners)

    async def _draws(self) -> None:
        """Those that are missing, and the newest one again: a tag tells whether it changed."""
        now = self.snapshot.api_now(self._clock.now()) - _SETTLED
        ended = [row for row in self.snapshot.epochs if row.epoch.end <= now]
        missing = [row for row in ended if row.id not in self.snapshot.draws]
        if len(missing) >= _MANY:
            body = await self._asker.get(f"{_PREFIX}/draws?documents=true")
            records = reading.read(lambda a: reading.draws(a, self._manners.api_hotkey), body)
            wanted = {row.id for row in ended}
            self._keep_draws(record for record in records if record.epoch_id in wanted)
            return
        for row in missing or ended[:1]:
            await self._draw(row)

    async def _draw(self, row: EpochRow) -> None:
        path = f"{_PREFIX}/epochs/{row.id}/draw"
        known = row.id in self.snapshot.draws
        body = await self._asker.changed(path, known=known)
        if body is not None:
            record = reading.read(lambda a: reading.draw(a, self._manners.api_hotkey), body)
            if record.epoch_id != row.id:
                raise Unreadable("the draw is of another epoch than was asked for")
            self._keep_draws([record])

    def _keep_draws(self, records: Iterable[DrawRecord]) -> None:
        self._keep(draws={**self.snapshot.draws, **{r.epoch_id: r for r in records}})

    async def _table(self) -> None:
        known = [d.assignment for d in self.snapshot.draws.values() if d.assignment is not None]
        if not known:
            return
        version = max(known, key=lambda assignment: assignment.epoch).selection.table_version
        if self.snapshot.table is None or self.snapshot.table.version != version:
            body = await self._asker.get(f"{_PREFIX}/zipcode-tables/{version}")
            # Some megabytes of JSON: in a thread, so that pages are answered meanwhile.
            found = await asyncio.to_thread(reading.table_age, body, version)
            self._keep(table=found)

    async def _published(self) -> None:
        """The reports on epochs of which none is kept that carries the agreed hash. One that
        cannot be read is not asked for again, unless validators agree on another."""
        for row in self.snapshot.reported():
            agreed = row.agreed.consensus_hash
            kept = self.snapshot.published.get(row.id)
            known = (kept.consensus_hash if kept else None, self._unreadable.get(row.id))
            if agreed is None or agreed in known:
                continue
            reports = self.snapshot.results.get(row.id, ())
            voices = [r.validator for r in reports if r.consensus_hash == agreed]
            try:
                await self._read_report(row, agreed, voices[:_VOICES])
            except Unreadable as error:
                self._unreadable[row.id] = agreed
                why = reading.clean(error)
                self._keep(unreadable={**self.snapshot.unreadable, row.id: why})
                _log.warning("report_unreadable", epoch=row.id, reason=why)

    async def _read_report(self, row: EpochRow, agreed: str, voices: Iterable[Hotkey]) -> None:
        """The first of them that can be read.

        Raises:
            Unreadable: where there is none; what is wrong with the last one.
            StoreError: where the bucket cannot be read now.
        """
        assert self._reports is not None
        failed: Unreadable | None = None
        for validator in voices:
            try:
                body = await self._reports.read(validator, row.id)
                # Hashing and parsing a megabyte of JSON: not in the loop that answers pages.
                found = await asyncio.to_thread(reading.report, body, validator, row.id, agreed)
            except Unreadable as error:
                failed = error
                continue
            self._keep(
                published={**self.snapshot.published, row.id: found},
                unreadable={e: w for e, w in self.snapshot.unreadable.items() if e != row.id},
            )
            return
        if failed is not None:
            raise failed
