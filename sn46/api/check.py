"""``sn46 api check``: whether everything the server needs is there, a line each with the mend.

The database is only read (an SQLite file that is not there yet comes into being, empty), and what
is written to the buckets to try them is removed again.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable

import httpx
from sqlalchemy.exc import SQLAlchemyError

from sn46.api.database import Database, DatabaseError, reason_of
from sn46.api.migrating import BASE
from sn46.api.server import opened
from sn46.api.services import store_access
from sn46.api.settings import ApiSettings
from sn46.api.tables import TableFile
from sn46.certificates import trusted
from sn46.chain.base import Chain, ChainError
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
    """Look at database, ZIP table, chain, wallet and both buckets, in this order."""
    yield await _found("database", lambda: _database(settings))
    yield await _found("ZIP table", lambda: _table(settings, clock))
    try:
        async with opened(settings, clock) as outside:
            yield await _found("chain", lambda: _chain(outside.chain, outside.signer, clock))
    except (ChainError, StoreError) as error:
        yield Finding("wallet", False, str(error))
    async with httpx.AsyncClient(verify=trusted()) as http:
        for name in (settings.miner_bucket, settings.validated_bucket):
            async for finding in _bucket(settings, name, http, clock):
                yield finding


async def _found(part: str, look: Callable[[], Awaitable[str]]) -> Finding:
    try:
        return Finding(part, True, await look())
    except SQLAlchemyError as error:
        return Finding(part, False, f"It cannot be used (DATABASE_URL): {reason_of(error)}.")
    except _FAULTS as error:
        return Finding(part, False, " ".join(str(error).split()))


async def _database(settings: ApiSettings) -> str:
    database = Database(settings.database_url)
    try:
        pending = await database.pending()
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


async def _chain(chain: Chain, signer: Signer, clock: Clock) -> str:
    view = await chain.view()
    age = (clock.now() - view.block.timestamp).total_seconds()
    if signer.ss58_address not in view.by_hotkey:
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
