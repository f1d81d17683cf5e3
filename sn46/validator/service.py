"""The validator as a service: epoch after epoch, for months."""

import asyncio
import contextlib
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
from sn46.mechanism.epochs import Epoch, epoch_at
from sn46.mechanism.errors import MechanismError
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
from sn46.validator.journal import Journal
from sn46.validator.progress import Progress
from sn46.validator.relay import Relay, RelayParts
from sn46.validator.relay_assignments import Assignments
from sn46.validator.settings import ValidatorSettings

_log = structlog.get_logger("sn46.validator")


class Validator:
    """One validator of the subnet."""

    def __init__(
        self,
        parts: Parts,
        current: Callable[[], Awaitable[ReceivedAssignment]] | None = None,
    ) -> None:
        """``current`` gives the running epoch's assignment, raising as the API's client does, which
        is asked by default."""
        self._parts = parts
        self._current = current or parts.api.current
        self._clock = parts.clock

    async def run(self) -> None:
        """Validate epoch after epoch, for ever. Faults of one epoch never end the loop."""
        while True:
            seconds = await self._epoch_seconds()
            epoch = epoch_at(self._clock.now(), seconds).previous()
            await self._try_epoch(epoch)
            ahead = epoch.next()
            if self._clock.now() < ahead.end:
                self._parts.progress.show("waiting", note="for its end", epoch_id=ahead.id)
            await sleep_until(self._clock, ahead.end)

    async def _epoch_seconds(self) -> int:
        """The length of epochs, from the newest assignment; asked for until there is one."""
        while True:
            try:
                current = await self._current()
                assignment = current.assignment
                journal = Journal(self._parts.data_dir, assignment.epoch_id)
                journal.put("assignment", current.document)
            except (*PASSING, MechanismError) as error:
                self._parts.progress.show("waiting", note=f"for an assignment: {error}")
                _log.info("no assignment yet", detail=str(error))
                await self._clock.sleep(timedelta(seconds=5))
                continue
            return assignment.epoch.seconds

    async def _try_epoch(self, epoch: Epoch) -> None:
        """Validate an epoch; where this machine's disk refuses a step, again until its time is
        over."""
        while True:
            try:
                await self._validate(epoch)
                return
            except OSError as error:
                _log.error("epoch interrupted", epoch=epoch.id, detail=str(error))
                self._parts.progress.show("interrupted", note=str(error), epoch_id=epoch.id)
            await self._clock.sleep(timedelta(seconds=5))

    async def _validate(self, epoch: Epoch) -> None:
        if Journal(self._parts.data_dir, epoch.id).get("weights") is not None:
            return
        try:
            await EpochRun(self._parts, epoch).run()
        except NoSuchEpochError:
            _log.info("no such epoch was drawn; nothing to validate", epoch=epoch.id)
        except EpochLostError as error:
            _log.error("epoch lost", epoch=epoch.id, detail=str(error))
            self._parts.progress.show("lost", note=str(error), epoch_id=epoch.id)
        except MechanismError as error:
            _log.error("epoch cannot be validated", epoch=epoch.id, detail=str(error))
            self._parts.progress.show("refused", note=str(error), epoch_id=epoch.id)


def _sources(
    settings: ValidatorSettings, clock: Clock, options: SourceOptions
) -> list[ListingSource]:
    return [open_source(setting, clock=clock, options=options) for setting in settings.sources]


async def _serve(settings: ValidatorSettings) -> None:
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
            progress=Progress(settings.status_file, clock),
            data_dir=data_dir,
            api_hotkey=settings.api_hotkey,
        )
        try:
            await _run_with_relay(settings, parts)
        finally:
            examiner.close()
            cache.close()
            for source in sources:
                await source.close()
            await parts.api.close()
            await chain.close()


async def _run_with_relay(settings: ValidatorSettings, parts: Parts) -> None:
    """Validate for ever, and beside that hold assignments and pass them on."""
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
    try:
        async with relay.running():
            await Validator(replace(parts, chosen=assignments.chosen), assignments.current).run()
    finally:
        await client.close()
        await chain.close()


async def _until_signalled(settings: ValidatorSettings) -> None:
    task = asyncio.ensure_future(_serve(settings))
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
        OSError: where the data folder cannot be used.
    """
    configure_logs(settings.log_format, settings.log_level)
    asyncio.run(_until_signalled(settings))
