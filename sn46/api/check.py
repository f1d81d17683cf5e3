"""``sn46 api check``: whether everything the server needs is there, a line each with the mend.

The database is only read (an SQLite file that is not there yet comes into being, empty), and what
is written to the buckets to try them is removed again.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable

import httpx
from limits.errors import StorageError
from sqlalchemy.exc import SQLAlchemyError

from sn46.api.database import Database, DatabaseError, reason_of
from sn46.api.limiting import IN_MEMORY, Limiter
from sn46.api.migrating import BASE
from sn46.api.services import store_access
from sn46.api.settings import ApiSettings
from sn46.api.tables import TableFile
from sn46.certificates import trusted
from sn46.chain.base import ChainError
from sn46.chain.connect import open_chain
from sn46.chain.wallets import load_hotkey
from sn46.clock import Clock
from sn46.finding import Finding
from sn46.mechanism.draw import DrawHistory, draw_zipcodes
from sn46.mechanism.epochs import epoch_at
from sn46.mechanism.errors import MechanismError
from sn46.mechanism.signing import Signer
from sn46.store.base import StoreError
from sn46.store.s3 import S3Bucket
from sn46.store.setup import probe
from sn46.zipcodes import ZipTableError

_MOST_AHEAD = 60
"""Seconds by which a block may be from the future: clocks differ a little."""
_FAULTS = (
    ChainError,
    DatabaseError,
    MechanismError,
    OSError,
    SQLAlchemyError,
    StoreError,
    ZipTableError,
)


async def check_api(settings: ApiSettings, clock: Clock) -> AsyncGenerator[Finding]:
    """Look at database, counters, ZIP table, wallet, chain and both buckets, in this order."""
    yield await _found("database", lambda: _database(settings))
    yield await _found("limits", lambda: _limits(settings))
    yield await _found("ZIP table", lambda: _table(settings, clock))
    signer: Signer | None = None
    try:
        signer = load_hotkey(settings.wallet_name, settings.wallet_hotkey, settings.wallet_path)
    except ChainError as error:
        yield Finding("wallet", False, str(error))
    yield await _found("chain", lambda: _chain(settings, signer, clock))
    async with httpx.AsyncClient(verify=trusted()) as http:
        for name in (settings.miner_bucket, settings.validated_bucket):
            async for finding in _bucket(settings, name, http, clock):
                yield finding


async def _found(part: str, look: Callable[[], Awaitable[str]]) -> Finding:
    try:
        return Finding(part, True, await look())
    except _FAULTS as error:
        return Finding(part, False, " ".join(str(error).split()))


async def _database(settings: ApiSettings) -> str:
    database = Database(settings.database_url)
    try:
        pending = await database.pending()
    except (SQLAlchemyError, OSError) as error:
        raise DatabaseError(
            f"It cannot be used ({reason_of(error).rstrip('.')}), and without it the server does "
            "not start. See that it runs, and that DATABASE_URL names it and who may use it."
        ) from error
    finally:
        await database.close()
    if pending.before == BASE:
        return "it answers; it is empty, and the server will set it up when it starts"
    if pending.before != pending.after:
        return (
            f"it answers; it is at revision {pending.before}, and the server will bring it to "
            f"{pending.after} when it starts"
        )
    return "it answers"


async def _limits(settings: ApiSettings) -> str:
    if settings.limits_storage == IN_MEMORY:
        return "counted in memory, which is right for one server alone"
    try:
        answers = await Limiter(settings.limits_storage).check()
    except StorageError:
        answers = False
    if not answers:
        raise OSError(
            "The Valkey does not answer, and without it signed requests are refused with 503. See "
            "that it runs, and that LIMITS_STORAGE names it and its password."
        )
    return "the Valkey answers"


async def _table(settings: ApiSettings, clock: Clock) -> str:
    """Also a trial draw for the next epoch, with a seed of no meaning."""
    table = await TableFile(settings.zipcode_table).load()
    epoch = epoch_at(clock.now(), settings.epoch_seconds).next()
    draw = draw_zipcodes(
        table.rows, DrawHistory(), settings.draw_rules(settings.target_listings), epoch, "trial"
    )
    relaxed = f", {' and '.join(draw.relaxed)} relaxed" if draw.relaxed else ""
    return (
        f"{len(table)} ZIPs, {draw.eligible} eligible; a trial draw takes {len(draw.zipcodes)} "
        f"with {draw.total} expected listings{relaxed}"
    )


async def _chain(settings: ApiSettings, signer: Signer | None, clock: Clock) -> str:
    chain = open_chain(settings.chain_endpoint, netuid=settings.netuid, clock=clock)
    try:
        view = await chain.view()
    finally:
        await chain.close()
    age = (clock.now() - view.block.timestamp).total_seconds()
    if not -_MOST_AHEAD <= age <= settings.metagraph_max_age_seconds:
        than = "older" if age > 0 else "younger"
        raise ChainError(
            f"The newest final block is {abs(age):.0f} s {than} than this machine's clock says. If "
            "the clock is right, the node stands still (CHAIN_ENDPOINT names another); if not, "
            "epochs begin and end at wrong times: set the clock."
        )
    if signer is not None and signer.ss58_address not in view.by_hotkey:
        raise ChainError(
            f"The API's hotkey {signer.ss58_address} is not registered on subnet {view.netuid}. "
            "It can sign assignments all the same, but check WALLET_NAME and WALLET_HOTKEY."
        )
    return (
        f"subnet {view.netuid} at block {view.block.number}, {age:.0f} s old; "
        f"{len(view.neurons)} neurons, {len(view.permit_holders())} with a validator permit"
    )


async def _bucket(
    settings: ApiSettings, name: str, http: httpx.AsyncClient, clock: Clock
) -> AsyncGenerator[Finding]:
    try:
        bucket = S3Bucket(store_access(settings), name)
    except StoreError as error:
        yield Finding(name, False, str(error))
        return
    try:
        for check in await probe(bucket, http, clock=clock):
            yield Finding(f"{name}: {check.check}", check.ok, check.mend)
    except StoreError as error:
        yield Finding(name, False, str(error))
    finally:
        await bucket.close()
