"""A process that draws one epoch after another as fast as it can: what tests kill and race.

Arguments: database URL, folder of the world, name of the API's hotkey, first epoch's start (Unix
seconds), number of epochs. It prints one line for each epoch that is there after its round.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sn46.api.services import Outside, Services, make_services
from sn46.api.settings import load_settings
from sn46.chain.connect import open_chain
from sn46.chain.wallets import load_hotkey
from sn46.clock import Clock
from sn46.store.s3 import S3Access, S3Bucket


class SteppedClock:
    """Stands still until it is set."""

    def __init__(self, time: datetime) -> None:
        self.time = time

    def now(self) -> datetime:
        return self.time

    async def sleep(self, duration: timedelta) -> None:
        await asyncio.sleep(0)


@asynccontextmanager
async def services_at(url: str, folder: Path, clock: Clock) -> AsyncGenerator[Services]:
    """A server's parts over a database and the folder of a world, without its HTTP."""
    settings = load_settings(
        _env_file=None,
        secret_key="k" * 40,
        s3_access_key="none",
        s3_secret_key="none",
        database_url=url,
        zipcode_table=folder / "zipcodes.parquet",
        cooldown_hours=4,
        # The chain goes by the machine's clock, and not by the one that is stepped.
        metagraph_max_age_seconds=10**7,
    )
    bucket = S3Bucket(S3Access("http://127.0.0.1:9", "us-east-1", "none", "none"), "none")
    chain = open_chain(f"local:{folder}/chain.sqlite", netuid=settings.netuid)
    signer = load_hotkey("api-cold", "api", folder / "wallets")
    services = make_services(settings, Outside(clock, chain, signer, bucket, bucket))
    try:
        yield services
    finally:
        await services.database.close()
        await chain.close()


async def draw(url: str, folder: Path, start: datetime, count: int) -> None:
    clock = SteppedClock(start)
    async with services_at(url, folder, clock) as services:
        await services.database.migrate()
        await services.metagraph.refresh()
        for n in range(count):
            clock.time = start + n * timedelta(seconds=services.settings.epoch_seconds)
            while True:
                await services.scheduler.round()
                if await services.records.epoch(services.epochs.at(clock.time).id) is not None:
                    break
            print(n, flush=True)


if __name__ == "__main__":
    url, folder, start, count = sys.argv[1:]
    asyncio.run(draw(url, Path(folder), datetime.fromtimestamp(int(start), UTC), int(count)))
