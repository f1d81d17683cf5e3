"""The epochs: drawn in time, readable only once begun, completed once ended."""

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

import structlog
from sqlalchemy.exc import SQLAlchemyError

from sn46.api.database import reason_of
from sn46.api.drawing import Drawer
from sn46.api.problems import Problem, unknown_epoch
from sn46.api.records import Records, StoredEpoch
from sn46.api.settings import ApiSettings
from sn46.client.metagraph import Metagraph
from sn46.clock import Clock
from sn46.mechanism.assignment import read_assignment
from sn46.mechanism.canonical import canonical_json, sha256_hex
from sn46.mechanism.chainview import Block
from sn46.mechanism.epochs import Epoch, epoch_at, parse_epoch_id
from sn46.mechanism.errors import AssignmentError, DrawError, EpochError, MechanismError
from sn46.mechanism.signing import Signer, address_of
from sn46.zipcodes import ZipTableError

log = structlog.get_logger(__name__)

_LONGEST_PAUSE = timedelta(seconds=15)
_RETRY_PAUSE = timedelta(seconds=2)
_BLOCKS_LATE = timedelta(seconds=1_200)
_MINUTE = timedelta(minutes=1)
_KEPT = 8


@dataclass(frozen=True, eq=False)
class Served:
    """Bytes to send, with the tag that names them; one object for all who are sent them."""

    document: bytes
    etag: str


class Epochs:
    """The drawn epochs as a caller may see them: none before its start."""

    def __init__(
        self, records: Records, settings: ApiSettings, signer: Signer, clock: Clock
    ) -> None:
        self._records = records
        self._settings = settings
        self._signer = signer
        self._clock = clock
        self._cache: dict[str, StoredEpoch] = {}
        self._running: StoredEpoch | None = None
        self._latest: Epoch | None = None

    def at(self, moment: datetime) -> Epoch:
        """The epoch that a moment falls into, drawn or not. One that was drawn before
        EPOCH_SECONDS changed lasts as long as its assignment says."""
        running = self._running
        if running is not None and running.epoch.contains(moment):
            return running.epoch
        return self.by_settings(moment)

    def by_settings(self, moment: datetime) -> Epoch:
        """The epoch of the length that is set now."""
        latest = self._latest
        if latest is None or not latest.contains(moment):
            latest = self._latest = epoch_at(moment, self._settings.epoch_seconds)
        return latest

    def is_before_genesis(self, epoch: Epoch) -> bool:
        genesis = self._settings.epoch_genesis
        return genesis is not None and epoch.start < genesis

    async def current(self) -> StoredEpoch:
        """The running epoch.

        Raises:
            Problem: 404 ``no_epoch_yet`` before the first one, and between the last one of an
                earlier length and the first of the new; 503 ``epoch_not_drawn`` where its draw
                failed or is not done yet.
        """
        now = self._clock.now()
        running = self._running
        if running is not None and running.epoch.contains(now):
            return running
        epoch = self.by_settings(now)
        if self.is_before_genesis(epoch):
            raise self._no_epoch_yet(now)
        stored = await self._records.epoch_at(now)
        if stored is None:
            ended = await self._records.last_ended(now)
            if ended is not None and ended.epoch.end > epoch.start:
                raise _begins("The next epoch", epoch.next(), now)
            raise Problem(
                503,
                "epoch_not_drawn",
                f"The ZIP codes of epoch {epoch.id} are not drawn yet. Ask again shortly.",
                retry_after=min(30, max(1, epoch.seconds // 32)),
            )
        self._running = stored
        return stored

    async def begun(self, text: str) -> StoredEpoch:
        """An epoch by its id, ``current`` or ``previous``, once it has begun.

        Raises:
            Problem: 404 where there is none, or it is drawn and has not begun.
        """
        if text == "current":
            return await self.current()
        now = self._clock.now()
        if text == "previous":
            stored = await self._last_ended(now)
        else:
            try:
                epoch = named_epoch(text, self._settings.epoch_seconds)
            except EpochError as error:
                raise Problem(404, "unknown_epoch", str(error)) from error
            stored = None if epoch.start > now else await self._stored(epoch.id)
        if stored is None or stored.epoch.start > now:
            raise unknown_epoch(text)
        return stored

    async def served(self, stored: StoredEpoch) -> Served:
        """What is sent for an epoch: with its seed once it has ended."""
        if self._clock.now() >= stored.epoch.end:
            stored = await self.revealed(stored)
        return _served(stored.revealed_document or stored.document)

    async def revealed(self, stored: StoredEpoch) -> StoredEpoch:
        """The epoch with its completed document, which is signed and kept once."""
        if stored.revealed_document is not None:
            return stored
        try:
            assignment = read_assignment(json.loads(stored.document))
        except AssignmentError:
            # Drawn by a program whose assignments this one does not read: it stays as it is.
            return stored
        if assignment.api_hotkey != address_of(self._signer):
            # Drawn under an earlier hotkey of this server, which alone can sign it again.
            return stored
        document = assignment.with_seed(stored.seed).sign(self._signer)
        await self._records.reveal(stored.epoch_id, canonical_json(document))
        kept = await self._records.epoch(stored.epoch_id)
        if kept is None:
            return stored
        self._keep(kept)
        return kept

    async def reveal_ended(self) -> None:
        """Complete what has ended."""
        for epoch_id in await self._records.unrevealed(self._clock.now()):
            stored = await self._stored(epoch_id)
            if stored is not None:
                await self.revealed(stored)

    async def _last_ended(self, now: datetime) -> StoredEpoch | None:
        """Asks no database where the running epoch, and the one that it follows, are known."""
        running = self._running
        if running is not None and running.epoch.contains(now):
            for known in self._cache.values():
                if known.epoch.end == running.epoch.start:
                    return known
        stored = await self._records.last_ended(now)
        if stored is not None:
            self._keep(stored)
        return stored

    async def _stored(self, epoch_id: str) -> StoredEpoch | None:
        """A stored epoch never changes but for its reveal, so it is read once."""
        if epoch_id not in self._cache:
            stored = await self._records.epoch(epoch_id)
            if stored is None:
                return None
            self._keep(stored)
        return self._cache[epoch_id]

    def _keep(self, stored: StoredEpoch) -> None:
        self._cache.pop(stored.epoch_id, None)
        while len(self._cache) >= _KEPT:
            self._cache.pop(next(iter(self._cache)))
        self._cache[stored.epoch_id] = stored

    def _no_epoch_yet(self, now: datetime) -> Problem:
        genesis = self._settings.epoch_genesis or now
        first = self.by_settings(genesis)
        if first.start < genesis:
            first = first.next()
        return _begins("The first epoch", first, now)


def named_epoch(text: str, seconds: int) -> Epoch:
    """The epoch of a length that an id names, or else one that may have been drawn while another
    length was set: its start and its id are right then.

    Raises:
        EpochError: where the text is no epoch's id.
    """
    try:
        return parse_epoch_id(text, seconds)
    except EpochError as error:
        try:
            # An epoch may start in any minute.
            return parse_epoch_id(text, 60)
        except EpochError:
            raise error from None


def _begins(what: str, epoch: Epoch, now: datetime) -> Problem:
    wait = int((epoch.start - now).total_seconds()) + 1
    text = f"{what} is {epoch.id}; it begins in {wait} s."
    return Problem(404, "no_epoch_yet", text, retry_after=wait)


@lru_cache(maxsize=_KEPT)
def _served(document: bytes) -> Served:
    return Served(document, f'"{sha256_hex(document)[:32]}"')


def _shown(error: Exception) -> str:
    """What anyone may read of a failure. What other parts say of themselves, such as a row that
    the database could not take, a file's place or a node's address, is for the log."""
    if isinstance(error, MechanismError):
        return f"{type(error).__name__}: {error}"
    part = "the ZIP table" if isinstance(error, ZipTableError) else "the database or a file"
    return f"{type(error).__name__}: {part} cannot be used; the server's log says why"


class Scheduler:
    """Draws each epoch an eighth of its length ahead, and at once what is missing."""

    def __init__(
        self,
        epochs: Epochs,
        drawer: Drawer,
        records: Records,
        metagraph: Metagraph,
        settings: ApiSettings,
        clock: Clock,
    ) -> None:
        self._epochs = epochs
        self._drawer = drawer
        self._records = records
        self._metagraph = metagraph
        self._settings = settings
        self._clock = clock
        self._newest: Epoch | None = None
        self.heartbeat: datetime | None = None
        self.last_error: str | None = None

    @property
    def pause(self) -> timedelta:
        """How long one round waits for the next."""
        return min(_LONGEST_PAUSE, timedelta(seconds=self._settings.epoch_seconds) / 64)

    async def run(self) -> None:
        """Work for ever. What fails is logged, kept in ``last_error``, which is public, and tried
        again."""
        await self._metagraph.asked.wait()
        while True:
            await self.round()
            self.heartbeat = self._clock.now()
            await self._clock.sleep(self._until_next())

    async def round(self) -> None:
        """One round: draw what is due, complete what has ended."""
        try:
            await self._draw_due()
            await self._epochs.reveal_ended()
        except (MechanismError, ZipTableError, SQLAlchemyError, OSError) as error:
            message = _shown(error)
            if message != self.last_error:
                log.error("epoch_not_ready", error=f"{type(error).__name__}: {reason_of(error)}")
            self.last_error = message
        else:
            self.last_error = None

    async def _draw_due(self) -> None:
        now = self._clock.now()
        current = self._epochs.by_settings(now)
        due = [current]
        if now >= current.next().draw_at:
            due.append(current.next())
        failure: DrawError | None = None
        if self._newest is not None and self._newest.start - self._newest.length > now:
            failure = DrawError(
                f"Epoch {self._newest.id} is drawn already, as the clock was ahead at the time or "
                "is behind now. No epoch before it is drawn any more; set the clock if it is wrong."
            )
        for epoch in due:
            if self._epochs.is_before_genesis(epoch) or self._is_taken(epoch):
                continue
            try:
                await self._draw(epoch)
            except DrawError as error:
                failure = error
        if failure is not None:
            raise failure

    async def _draw(self, epoch: Epoch) -> None:
        """Draw one epoch unless it, or a later one, is there: a draw follows from all before it,
        so none is made afterwards."""
        self._newest = await self._records.newest_epoch()
        if self._is_taken(epoch):
            return
        view = self._metagraph.latest
        if view is None:
            raise DrawError(
                "The chain has not been seen since this server started, so it cannot name the "
                f"validators of epoch {epoch.id}."
            )
        if self._newest is None or self._newest.end != epoch.start:
            self._check_clock(epoch, view.block)
        inputs = await self._drawer.inputs(epoch, view)
        stored, zipcodes, table = await asyncio.to_thread(self._drawer.draw, inputs)
        kept = await self._records.add_epoch(stored, zipcodes, after=inputs.newest, table=table)
        self._newest = await self._records.newest_epoch()
        if kept:
            log.info(
                "epoch_drawn",
                epoch_id=epoch.id,
                zipcodes=len(zipcodes),
                listings=stored.total_listings,
                eligible=stored.eligible,
                relaxed=list(stored.relaxed),
            )

    def _check_clock(self, epoch: Epoch, block: Block) -> None:
        """A draw that leaves out epochs ends them for good, and a clock far ahead leaves out many.
        (The one that follows the newest draw leaves out none, so that a chain which stands still
        costs no epoch its draw.)

        Raises:
            DrawError: where the chain is seen, and its newest block is of another time.
        """
        apart = abs(self._clock.now() - block.timestamp)
        most = timedelta(seconds=self._settings.metagraph_max_age_seconds)
        if self._metagraph.last_error is None and apart > max(most, _BLOCKS_LATE):
            raise DrawError(
                f"This machine's clock and the chain's newest block are {apart // _MINUTE} minutes "
                f"apart: one of both is wrong, and epoch {epoch.id} would leave out epochs before "
                "it."
            )

    def _is_taken(self, epoch: Epoch) -> bool:
        """Whether some of its time belongs to an epoch that is drawn: itself, a later one, or one
        from before EPOCH_SECONDS changed, which runs to its own end."""
        return self._newest is not None and self._newest.end > epoch.start

    def _until_next(self) -> timedelta:
        """To the next moment at which something is due, or the pause where that is sooner."""
        now = self._clock.now()
        current = self._epochs.by_settings(now)
        moments = (current.next().draw_at, current.end)
        due = [moment - now for moment in moments if moment > now]
        pause = self.pause if self.last_error is None else min(self.pause, _RETRY_PAUSE)
        return min([pause, *due])
