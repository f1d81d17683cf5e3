"""The API process: settings in, parts opened, one HTTP server until it is told to stop."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count

import structlog
from limits.errors import ConfigurationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Receive, Scope, Send

from sn46.api.app import create_app, running
from sn46.api.database import DatabaseError, reason_of
from sn46.api.services import Outside, store_access
from sn46.api.settings import ApiSettings
from sn46.chain.base import ChainError
from sn46.chain.connect import open_chain
from sn46.chain.wallets import load_hotkey
from sn46.clock import Clock, SystemClock
from sn46.logs import configure_logs
from sn46.serving import StartError, check_port, serve_app
from sn46.store.base import StoreError
from sn46.store.s3 import S3Bucket

EXIT_FAILED = 1
log = structlog.get_logger(__name__)


@asynccontextmanager
async def opened(settings: ApiSettings, clock: Clock) -> AsyncGenerator[Outside]:
    """The real chain, wallet and buckets that the settings name.

    Raises:
        ChainError: where the wallet or the chain's endpoint is not usable.
        StoreError: where the store's settings are not usable.
    """
    signer = load_hotkey(settings.wallet_name, settings.wallet_hotkey, settings.wallet_path)
    access = store_access(settings)
    chain = open_chain(settings.chain_endpoint, netuid=settings.netuid, clock=clock)
    miners = S3Bucket(access, settings.miner_bucket)
    results = S3Bucket(access, settings.validated_bucket)
    try:
        yield Outside(clock=clock, chain=chain, signer=signer, miners=miners, results=results)
    finally:
        await chain.close()
        await miners.close()
        await results.close()


def _settle_memory() -> None:
    """What is loaded by now stays, so the garbage collector need not walk through it again. It
    also comes by less often than by default: after every 700 new objects it would do little but
    hold up some request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)


def _let_finish() -> bool:
    """Let no thread of this process that wakes take the core from another one in the midst of a
    request (``SCHED_BATCH``, see sched(7)). The HTTP server's thread otherwise does so for each
    part of a request and of an answer; one after the other they take a sixth less time.

    Returns:
        False where the system does not know of it or forbids it; then all is as it was.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except (AttributeError, OSError):
        return False
    return True


_ANSWERS_A_TURN = 8


def _in_turns(app: ASGIApp) -> ASGIApp:
    """The application, which after every few answers lets the HTTP server's thread send them.

    Without that it sends when the clock of the kernel ticks, which is every four milliseconds or
    more, and some answers wait for several ticks.
    """
    answered = count(1)

    async def turns(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        if not next(answered) % _ANSWERS_A_TURN:
            os.sched_yield()

    return turns


async def serve(settings: ApiSettings, clock: Clock) -> None:
    """Run the API until SIGTERM or SIGINT.

    Raises:
        StartError: where it cannot start.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    check_port(settings.host, settings.port)
    waits = _let_finish()
    try:
        async with opened(settings, clock) as outside:
            app = create_app(settings, outside)
            async with running(app):
                log.info(
                    "api_started",
                    address=f"http://{settings.host}:{settings.port}",
                    hotkey=outside.signer.ss58_address,
                    netuid=settings.netuid,
                    epoch_seconds=settings.epoch_seconds,
                )
                _settle_memory()
                served = _in_turns(app) if waits else app
                await serve_app(served, settings.host, settings.port, stop)
    except (DatabaseError, ChainError, StoreError, ConfigurationError, ValueError) as error:
        raise StartError(str(error)) from error
    except (SQLAlchemyError, OSError) as error:
        raise StartError(
            f"The database cannot be opened (DATABASE_URL): {reason_of(error)}."
        ) from error
    log.info("api_stopped")


def run_api(settings: ApiSettings) -> int:
    """Run the API in this process. Returns the exit code: 0 after a signal, 1 where it could not
    start, with one line on standard error."""
    configure_logs(settings.log_format, settings.log_level)
    try:
        asyncio.run(serve(settings, SystemClock()))
    except StartError as error:
        print(f"sn46 api: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0
