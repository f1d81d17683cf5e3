"""The assignments that a validator holds: fetched soon after each epoch's start, kept on disk."""

import asyncio
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final, cast

import orjson
import structlog

from sn46.client.api import ApiClient, ApiError, ApiUnavailable, ReceivedAssignment
from sn46.clock import Clock, sleep_until
from sn46.durable import write_whole
from sn46.mechanism.assignment import read_assignment
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.errors import AssignmentError
from sn46.mechanism.names import EpochId, Hotkey

FIRST_PAUSE: Final = timedelta(seconds=1)
LONGEST_PAUSE: Final = timedelta(seconds=15)
_LONGEST_JITTER: Final = timedelta(seconds=5)
_KEPT: Final = 4

_log = structlog.get_logger("sn46.validator")


@dataclass(frozen=True)
class Held:
    """An assignment that is held. ``agreed`` tells that other validators hold it too, and more
    stake than any other of its epoch."""

    received: ReceivedAssignment
    agreed: bool = False

    @property
    def epoch(self) -> Epoch:
        return self.received.assignment.epoch

    @property
    def epoch_id(self) -> EpochId:
        return self.received.assignment.epoch_id

    @cached_property
    def hash(self) -> str:
        return self.received.assignment.hash

    @cached_property
    def body(self) -> bytes:
        """The document as it is sent on."""
        return orjson.dumps(dict(self.received.document))


class Assignments:
    """One assignment an epoch, of the newest epochs, each a file in ``folder``.

    A disk that refuses is told in the log and never stops anything: then they are held in memory
    alone.
    """

    def __init__(
        self,
        api: ApiClient,
        *,
        folder: Path,
        api_hotkey: Hotkey,
        clock: Clock,
        keep: timedelta = timedelta(hours=6),
    ) -> None:
        """``api_hotkey`` is who must have signed; ``keep`` is how long after its epoch's start an
        assignment is served (ASSIGNMENT_CACHE_HOURS)."""
        self._api = api
        self._folder = folder
        self._api_hotkey = api_hotkey
        self._clock = clock
        self._keep = keep
        self._asking = asyncio.Lock()
        self._told = ""
        self._held = {held.epoch_id: held for held in self._read()}

    def latest(self) -> Held | None:
        """The newest that is still served; None where there is none."""
        now = self._clock.now()
        young = [held for held in self._held.values() if now < held.epoch.start + self._keep]
        return max(young, key=lambda held: held.epoch.start, default=None)

    def running(self) -> Held | None:
        """The running epoch's; None where it is not held."""
        now = self._clock.now()
        return next((held for held in self._held.values() if held.epoch.contains(now)), None)

    async def current(self) -> ReceivedAssignment:
        """The running epoch's assignment: the one held, else as the API gives it now.

        Raises:
            ApiError, ApiUnavailable: where the API gives none.
            AssignmentError: where it gives one that cannot be trusted or understood.
        """
        async with self._asking:
            held = self.running()
            if held is not None:
                return held.received
            received = await self._api.current()
            self.hold(Held(received))
            return received

    def hold(self, held: Held) -> None:
        """Hold this one of its epoch from now on."""
        self._held[held.epoch_id] = held
        newest = sorted(self._held.values(), key=lambda h: h.epoch.start)[-_KEPT:]
        self._held = {kept.epoch_id: kept for kept in newest}
        value = {"agreed": held.agreed, "document": dict(held.received.document)}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._path(held.epoch_id), json.dumps(value).encode())
            kept_names = {self._path(epoch_id).name for epoch_id in self._held}
            for path in self._folder.glob("*.json"):
                if path.name not in kept_names:
                    path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("an assignment cannot be kept on disk", detail=str(error))

    def chosen(self, served: ReceivedAssignment) -> ReceivedAssignment:
        """The assignment to validate an epoch by: as the API serves it at the end, unless other
        validators agreed on another one, signed by the same API (mechanism 11)."""
        held = self._held.get(served.assignment.epoch_id)
        if held is None or not held.agreed or held.hash == served.assignment.hash:
            return served
        _log.error(
            "the API now serves another assignment than validators agreed on; theirs is used",
            epoch=held.epoch_id,
            agreed=held.hash,
            served=served.assignment.hash,
        )
        return held.received

    async def run(self) -> None:
        """Fetch each epoch's assignment soon after its start, for ever."""
        pause = FIRST_PAUSE
        while True:
            try:
                received = await self.current()
            except (ApiError, ApiUnavailable, AssignmentError) as error:
                self._tell(error)
                await self._clock.sleep(pause * (1 + random.random()))
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            self._told, pause = "", FIRST_PAUSE
            epoch = received.assignment.epoch
            # Not all validators in one moment; soon, since miners may come for it.
            jitter = min(_LONGEST_JITTER, epoch.length / 64) * random.random()
            await sleep_until(self._clock, max(epoch.end, self._clock.now()) + jitter)

    def _tell(self, error: Exception) -> None:
        """Warn of each new kind of reason once; asking goes on."""
        kind = error.code if isinstance(error, ApiError) else str(error)
        if kind != self._told:
            _log.warning("no assignment to pass on yet; asking again", reason=str(error))
        self._told = kind

    def _path(self, epoch_id: EpochId) -> Path:
        return self._folder / f"{epoch_id.replace(':', '-')}.json"

    def _read(self) -> list[Held]:
        """What an earlier run kept; files that cannot be read or trusted are passed over."""
        found: list[Held] = []
        for path in sorted(self._folder.glob("*.json"))[-_KEPT:]:
            try:
                value: Any = json.loads(path.read_bytes())
                document = cast(Mapping[str, Any], value["document"])
                received = ReceivedAssignment(read_assignment(document, self._api_hotkey), document)
                found.append(Held(received, value["agreed"] is True))
            except (OSError, ValueError, KeyError, TypeError, AttributeError, AssignmentError):
                _log.warning("a kept assignment cannot be used", file=str(path))
        return found
