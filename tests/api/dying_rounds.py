"""``{"url": …, "folder": …, "moments": [Unix seconds]}``: rounds of a server that has just started.
Steps are those of the last round."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from draw_epochs import SteppedClock, services_at


async def work(order: dict[str, Any], watch: Callable[[], None]) -> None:
    clock = SteppedClock(datetime.fromtimestamp(order["moments"][0], UTC))
    async with services_at(order["url"], Path(order["folder"]), clock) as services:
        await services.database.migrate()
        await services.metagraph.refresh()
        for moment in order["moments"]:
            if moment == order["moments"][-1]:
                watch()
            clock.time = datetime.fromtimestamp(moment, UTC)
            await services.scheduler.round()
            if services.scheduler.last_error is not None:
                raise RuntimeError(services.scheduler.last_error)
