"""The validator as a service: epoch after epoch, for months."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import httpx
import structlog

from sn46.certificates import trusted
from sn46.chain.connect import open_chain
from sn46.chain.wallets import load_hotkey
from sn46.client.api import ApiClient, ReceivedAssignment
from sn46.client.proxyfeed import followed_options
from sn46.client.relay import RelayClient, allows_private
from sn46.clock import Clock, SystemClock, sleep_until
from sn46.logs import configure_logs
from sn46.mechanism.assignment import read_assignment
from sn46.mechanism.epochs import Epoch, epoch_at, parse_epoch_id
from sn46.mechanism.errors import EpochError, MechanismError
from sn46.mechanism.times import format_time
from sn46.sources.base import ListingSource
from sn46.sources.options import SourceOptions
from sn46.sources.registry import open_source
from sn46.validator.checking import RecordCache, SpotChecker
from sn46.validator.epoch_run import (
    PASSING,
    EpochLostError,
    EpochRun,
    NoSuchEpochError,
    Parts,
)
from sn46.validator.examiner import Examiner
from sn46.validator.health import Health, watched
from sn46.validator.heart import HeartClock
from sn46.validator.journal import Journal, kept_epochs, prune
from sn46.validator.progress import Ending, Progress, Result, ending_of
from sn46.validator.relay import Relay, RelayParts
from sn46.validator.relay_assignments import Assignments
from sn46.validator.settings import ValidatorSettings
from sn46.validator.systemd import Notifier

_log = structlog.get_logger("sn46.validator")


class Validator:
    """One validator of the subnet."""

    def __init__(
        self,
        parts: Parts,
        current: Callable[[], Awaitable[ReceivedAssignment]] | None = None,
        *,
        keep: timedelta = timedelta(days=60),
    ) -> None:
        """
        Args:
            current: gives the running epoch's assignment, raising as the API's client does, which
                is asked by default.
            keep: how long what was done for an epoch stays on disk.
        """
        self._parts = replace(parts, clock=HeartClock(parts.clock, parts.progress.heart))
        self._current = current or parts.api.current
        self._clock = self._parts.clock
        self._progress = parts.progress
        self._keep = keep

    async def run(self) -> None:
        """Validate epoch after epoch, for ever. Faults of one epoch never end the loop."""
        kept = reversed(kept_epochs(self._parts.data_dir))
        endings = (ending_of(journal) for journal in kept)
        self._progress.of(self._parts.hotkey, next((e for e in endings if e is not None), None))
        while True:
            seconds = await self._epoch_seconds()
            self._progress.heart.of_epochs(timedelta(seconds=seconds))
            epoch = epoch_at(self._clock.now(), seconds).previous()
            self._tell_missed(epoch)
            self._progress.deadline = epoch.results_deadline
            await self._try_epoch(epoch)
            self._tidy(epoch)
            ahead = epoch.next()
            self._progress.deadline = ahead.end
            if self._clock.now() < ahead.end:
                self._progress.show("waiting", note="for its end", epoch_id=ahead.id)
                self._progress.expect(ahead.end)
            await sleep_until(self._clock, ahead.end)

    async def _epoch_seconds(self) -> int:
        """The length of epochs, from the newest assignment; asked for until there is one. What is
        known from before goes where the API is away: weights can be set without it."""
        while True:
            try:
                current = await self._current()
                assignment = current.assignment
                journal = Journal(self._parts.data_dir, assignment.epoch_id)
                journal.put("assignment", current.document)
            except (*PASSING, MechanismError) as error:
                kept = self._kept_seconds()
                if kept is not None:
                    _log.warning("no assignment of the running epoch", detail=str(error))
                    return kept
                self._progress.show("waiting", note=f"for an assignment: {error}")
                _log.info("no assignment yet", detail=str(error))
                await self._clock.sleep(timedelta(seconds=5))
                continue
            return assignment.epoch.seconds

    def _kept_seconds(self) -> int | None:
        for journal in reversed(kept_epochs(self._parts.data_dir)):
            try:
                document = journal.get("assignment")
                if document is not None:
                    return read_assignment(document, self._parts.api_hotkey).epoch.seconds
            except (OSError, MechanismError):
                continue
        return None

    def _tell_missed(self, epoch: Epoch) -> None:
        """Say which epochs went by while this validator did not run. They are not made up for:
        the weights of an epoch are due within the next one."""
        for journal in reversed(kept_epochs(self._parts.data_dir)):
            ending = ending_of(journal)
            if ending is not None:
                break
        else:
            return
        try:
            last = parse_epoch_id(ending.epoch_id, epoch.seconds)
        except EpochError:  # The epochs had another length then.
            return
        count = (epoch.start - last.start) // epoch.length - 1
        if count > 0:
            first, newest = last.next().id, epoch.previous().id
            _log.warning("epochs were missed", count=count, first=first, last=newest)
            self._progress.missed(count)

    async def _try_epoch(self, epoch: Epoch) -> None:
        """Validate an epoch; where this machine's disk refuses a step, again until its time is
        over."""
        while True:
            try:
                await self._validate(epoch)
                return
            except OSError as error:
                _log.error("epoch interrupted", epoch=epoch.id, detail=str(error))
                self._progress.show("interrupted", note=str(error), epoch_id=epoch.id)
            await self._clock.sleep(timedelta(seconds=5))

    async def _validate(self, epoch: Epoch) -> None:
        journal = Journal(self._parts.data_dir, epoch.id)
        before = ending_of(journal)
        if before is not None and before.result is Result.JUDGED:
            return
        try:
            await EpochRun(self._parts, epoch).run()
            self._end(journal, Result.JUDGED)
        except NoSuchEpochError:
            _log.info("no such epoch was drawn; nothing to validate", epoch=epoch.id)
            self._end(journal, Result.NOT_DRAWN)
        except EpochLostError as error:
            if journal.get("weights") is not None:
                _log.error("the report never came out", epoch=epoch.id, detail=str(error))
                self._end(journal, Result.JUDGED, error.doing, f"no report: {error}")
                return
            _log.error("epoch lost", epoch=epoch.id, detail=str(error))
            self._progress.show("lost", note=str(error), epoch_id=epoch.id)
            self._end(journal, Result.LOST, error.doing, str(error))
        except MechanismError as error:
            _log.error("epoch cannot be validated", epoch=epoch.id, detail=str(error))
            self._progress.show("refused", note=str(error), epoch_id=epoch.id)
            self._end(journal, Result.REFUSED, type(error).__name__, str(error))

    def _end(self, journal: Journal, result: Result, reason: str = "", detail: str = "") -> None:
        """Note how an epoch ended. A disk that refuses the note costs nothing but the note."""
        at = format_time(self._clock.now())
        ending = Ending(journal.epoch_id, result, at, reason, detail)
        try:
            journal.put("outcome", ending.to_json())
        except OSError as error:
            _log.warning("how the epoch ended cannot be kept", detail=str(error))
        self._progress.ended(ending)

    def _tidy(self, epoch: Epoch) -> None:
        """Let go of what is old, of this epoch and its neighbours nothing."""
        self._parts.checker.forget_stale()
        near = {epoch.previous().id, epoch.id, epoch.next().id}
        try:
            prune(self._parts.data_dir, before=self._clock.now() - self._keep, keep=near)
        except OSError as error:
            _log.warning("old epochs cannot be removed", detail=str(error))


def _sources(
    settings: ValidatorSettings, clock: Clock, options: SourceOptions
) -> list[ListingSource]:
    return [open_source(setting, clock=clock, options=options) for setting in settings.sources]


async def _serve(settings: ValidatorSettings, notifier: Notifier) -> None:
    clock = SystemClock()
    data_dir = settings.data_dir
    data_dir.mkdir(parents=True, exist_ok=True)
    signer = load_hotkey(settings.wallet_name, settings.wallet_hotkey, settings.wallet_path)
    chain = open_chain(settings.chain_endpoint, netuid=settings.netuid, signer=signer, clock=clock)
    cache = RecordCache(data_dir / "records.sqlite", clock)
    examiner = Examiner(
        seconds=settings.examine_seconds,
        memory_mb=settings.examine_memory_mb,
        workers=settings.examine_workers,
    )
    async with (
        followed_options(settings, clock) as options,
        httpx.AsyncClient(verify=trusted()) as http,
    ):
        sources = _sources(settings, clock, options)
        parts = Parts(
            api=ApiClient(
                settings.api_url,
                api_hotkey=settings.api_hotkey,
                signer=signer,
                clock=clock,
            ),
            chain=chain,
            http=http,
            signer=signer,
            checker=SpotChecker(sources, cache, clock, concurrency=settings.check_concurrency),
            examiner=examiner,
            clock=clock,
            progress=Progress(settings.status_path(), clock),
            data_dir=data_dir,
            api_hotkey=settings.api_hotkey,
        )
        try:
            await _run_with_relay(settings, parts, notifier)
        finally:
            parts.progress.stopped()
            examiner.close()
            cache.close()
            for source in sources:
                await source.close()
            await parts.api.close()
            await chain.close()


async def _run_with_relay(settings: ValidatorSettings, parts: Parts, notifier: Notifier) -> None:
    """Validate for ever, and beside that hold assignments and pass them on, and tell how it is."""
    clock = parts.clock
    assignments = Assignments(
        parts.api,
        folder=settings.data_dir / "assignments",
        api_hotkey=settings.api_hotkey,
        clock=clock,
        keep=timedelta(hours=settings.assignment_cache_hours),
    )
    # A connection of its own: what goes wrong on it does not reach the validation.
    chain = open_chain(
        settings.chain_endpoint, netuid=settings.netuid, signer=parts.signer, clock=clock
    )
    client = RelayClient(api_hotkey=settings.api_hotkey, signer=parts.signer, clock=clock)
    relay = Relay(
        RelayParts(
            assignments=assignments,
            client=client,
            chain=chain,
            clock=clock,
            progress=parts.progress,
            address=settings.relay_address(),
            private=allows_private(settings.chain_endpoint),
        )
    )
    health = Health(
        progress=parts.progress,
        metagraph=relay.metagraph,
        assignments=assignments,
        data_dir=settings.data_dir,
        clock=clock,
    )
    validator = Validator(
        replace(parts, chosen=assignments.chosen),
        assignments.current,
        keep=timedelta(days=settings.keep_days),
    )
    try:
        async with (
            watched(
                health,
                progress=parts.progress,
                clock=clock,
                notifier=notifier,
                host=settings.health_host,
                port=settings.health_port,
            ),
            relay.running(),
        ):
            await validator.run()
    finally:
        await client.close()
        await chain.close()


async def _until_signalled(settings: ValidatorSettings) -> None:
    notifier = Notifier.from_environment(os.environ, os.getpid())
    task = asyncio.ensure_future(_serve(settings, notifier))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def run_validator(settings: ValidatorSettings) -> None:
    """Validate until SIGTERM or Ctrl-C.

    Raises:
        ChainError: where the wallet or the chain endpoint cannot be used.
        SourceSettingError: where a source setting names none.
        HealthError: where HEALTH_PORT cannot be listened at.
        OSError: where the data folder cannot be used.
    """
    configure_logs(settings.log_format, settings.log_level)
    asyncio.run(_until_signalled(settings))
