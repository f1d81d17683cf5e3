"""Whether a validator is alive and fit, for supervisors: by HTTP, for systemd, in its status file.

Alive is the epoch loop itself: it moved, or it waits for a moment that it named (``heart``). Fit
are its parts: the chain is seen, the running epoch's assignment is held, the disk takes writes,
and the last epoch ended well. Answers name no secret, and no setting but the data folder.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from sn46.background import kept_running
from sn46.client.metagraph import Metagraph
from sn46.clock import Clock
from sn46.durable import write_whole
from sn46.mechanism.times import format_time
from sn46.problems import Problem
from sn46.validator.health_metrics import MEDIA_TYPE, exposition
from sn46.validator.progress import Progress, Result
from sn46.validator.relay_assignments import Assignments
from sn46.validator.relay_server import Answer, RelayServer, Request
from sn46.validator.systemd import Notifier

PULSE_EVERY: Final = timedelta(seconds=5)
_PROBE_EVERY: Final = timedelta(seconds=30)
_PROBE: Final = ".writable"
_WELL: Final = frozenset({Result.JUDGED, Result.NOT_DRAWN, Result.MISSED})

_log = structlog.get_logger("sn46.validator")


class HealthError(Exception):
    """HEALTH_PORT cannot be listened at. The message says what to do."""


@dataclass(frozen=True)
class Part:
    """Something that a validator needs, whether it is well, and a sentence."""

    ok: bool
    detail: str


class Health:
    """Looks at a validator's parts."""

    def __init__(
        self,
        *,
        progress: Progress,
        metagraph: Metagraph,
        assignments: Assignments,
        data_dir: Path,
        clock: Clock,
    ) -> None:
        self._progress = progress
        self._metagraph = metagraph
        self._assignments = assignments
        self._data_dir = data_dir
        self._clock = clock
        self._probed_at: datetime | None = None
        self._disk = Part(True, "not written to yet")

    def alive(self) -> Part:
        """The epoch loop."""
        heart, phase = self._progress.heart, self._progress.phase
        if heart.look():
            return Part(True, f"{phase}; to be heard of again by {format_time(heart.due)}")
        return Part(False, f"{phase}: {heart.why_not()}")

    def parts(self) -> Mapping[str, Part]:
        """Everything, by name."""
        return {
            "loop": self.alive(),
            "chain": self._chain(),
            "assignment": self._assignment(),
            "disk": self._written(),
            "last epoch": self._last(),
        }

    def to_json(self) -> dict[str, Any]:
        parts = self.parts()
        return {
            "alive": parts["loop"].ok,
            "ready": all(part.ok for part in parts.values()),
            "parts": {name: {"ok": p.ok, "detail": p.detail} for name, p in parts.items()},
        }

    def _chain(self) -> Part:
        age, view = self._metagraph.age, self._metagraph.latest
        if age is None or view is None:
            why = self._metagraph.last_error or "it is asked at this moment"
            return Part(False, f"not seen yet: {why}")
        seen = f"block {view.block.number}, {max(0, round(age.total_seconds()))} s old"
        error = self._metagraph.last_error
        return Part(self._metagraph.is_fresh, f"{seen}; {error}" if error else seen)

    def _assignment(self) -> Part:
        held = self._assignments.running()
        if held is None:
            return Part(
                False, "none of the running epoch is held; the API is asked again and again"
            )
        return Part(True, f"of epoch {held.epoch_id}")

    def _written(self) -> Part:
        now = self._clock.now()
        if self._probed_at is None or not timedelta(0) <= now - self._probed_at < _PROBE_EVERY:
            self._probed_at = now
            try:
                write_whole(self._data_dir / _PROBE, b"")
            except OSError as error:
                self._disk = Part(False, f"{self._data_dir} refuses: {error.strerror}")
            else:
                self._disk = Part(True, f"{self._data_dir} takes writes")
        return self._disk

    def _last(self) -> Part:
        last = self._progress.last
        if last is None:
            return Part(True, "none ended yet")
        detail = f": {last.detail}" if last.detail else ""
        return Part(last.result in _WELL, f"{last.epoch_id} {last.result}{detail}")


class HealthDesk:
    """Answers /healthz, /readyz and /metrics."""

    def __init__(self, health: Health, progress: Progress, clock: Clock) -> None:
        self._health = health
        self._progress = progress
        self._clock = clock
        self._pages: Mapping[str, Callable[[], Answer]] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
        }

    def answer(self, request: Request) -> Answer:
        """Raises a Problem where there is no such page."""
        page = self._pages.get(request.path)
        if page is None:
            raise Problem(404, "not_found", f"There are {', '.join(self._pages)}.")
        if request.method not in ("GET", "HEAD"):
            raise Problem(405, "method_not_allowed", "Health is read, with GET.")
        return page()

    def _healthz(self) -> Answer:
        loop = self._health.alive()
        progress, heart = self._progress, self._progress.heart
        return _json(
            loop.ok,
            {
                "alive": loop.ok,
                "detail": loop.detail,
                "phase": progress.phase,
                "epoch_id": progress.epoch_id,
                "until": progress.until,
                "beat_at": format_time(heart.beat_at),
                "due": format_time(heart.due),
            },
        )

    def _readyz(self) -> Answer:
        found = self._health.to_json()
        return _json(found["ready"], found)

    def _metrics(self) -> Answer:
        body = exposition(
            self._progress,
            {name: part.ok for name, part in self._health.parts().items()},
            self._clock.now(),
        )
        return Answer(200, body, MEDIA_TYPE)


def _json(well: bool, value: Mapping[str, Any]) -> Answer:
    return Answer(200 if well else 503, orjson.dumps(value))


@asynccontextmanager
async def watched(
    health: Health,
    *,
    progress: Progress,
    clock: Clock,
    notifier: Notifier,
    host: str,
    port: int | None,
) -> AsyncGenerator[int | None]:
    """Tell how the validator is for as long as this is entered: in the status file and to systemd
    every few seconds, and over HTTP where there is a port (0: a free one), which is given.

    Raises:
        HealthError: where the port cannot be listened at.
    """
    server = RelayServer(HealthDesk(health, progress, clock).answer)
    bound = None
    if port is not None:
        try:
            bound = await server.start(host, port)
        except OSError as error:
            raise HealthError(
                f"Health cannot be served at {host}:{port} ({error.strerror}). Give HEALTH_PORT a "
                "free port, and HEALTH_HOST an address of this machine."
            ) from error
        _log.info("health is served", address=f"http://{host}:{bound}/healthz")
    notifier.ready()

    async def pulse() -> None:
        pause = (
            PULSE_EVERY if notifier.watchdog is None else min(PULSE_EVERY, notifier.watchdog / 3)
        )
        while True:
            found = health.to_json()
            progress.pulse(found)
            tell = notifier.alive if found["alive"] else notifier.unwell
            tell(found["parts"]["loop"]["detail"])
            await clock.sleep(pause)

    task = asyncio.create_task(kept_running("telling how the validator is", pulse))
    try:
        yield bound
    finally:
        notifier.stopping()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await server.close()
