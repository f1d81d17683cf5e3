"""``{"url": …, "to": …}``: bring a database to a revision."""

from collections.abc import Callable
from typing import Any

from sn46.api.database import Database


async def work(order: dict[str, Any], watch: Callable[[], None]) -> None:
    database = Database(order["url"])
    watch()
    await database.migrate(order["to"])
    await database.close()
