"""The API asked with patience, whatever it says of when to come back."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from source_doubles import ManualClock
from test_miner_pace import HOTKEY, assignment

from sn46.client.api import ApiUnavailable, ReceivedAssignment
from sn46.miner.delivery import DeliveryFailed
from sn46.miner.desk import Desk
from sn46.miner.spool import Spool
from sn46.store.base import UploadPolicy

DAY = 86_400


class Away:
    """An API that is away for some requests, and names a time to come back that is far too long."""

    def __init__(self, clock: ManualClock, requests: int, answer: Any) -> None:
        self._clock = clock
        self._left = requests
        self._answer = answer
        self.asked_at: list[float] = []

    async def _reply(self) -> Any:
        self.asked_at.append(self._clock.total)
        self._left -= 1
        if self._left >= 0:
            raise ApiUnavailable("maintenance", 10_000 * DAY)
        return self._answer

    async def current(self) -> ReceivedAssignment:
        return await self._reply()

    async def miner_upload(self, epoch_id: str | None = None) -> UploadPolicy:
        return await self._reply()

    async def report_status(self, **report: Any) -> None:
        await self._reply()


async def test_a_retry_after_of_years_is_not_believed(tmp_path: Path) -> None:
    given, clock = assignment(["98103"]), ManualClock()
    clock.moment = given.epoch.start
    api = Away(clock, 4, ReceivedAssignment(given, {}))
    spool = Spool(tmp_path, HOTKEY)
    desk = Desk(api, api_hotkey=HOTKEY, spool=spool, clock=clock)
    assert await desk.next_assignment(None) == given
    assert api.asked_at == [0, 300, 600, 900, 1200]
    spool.close()


async def test_credentials_are_asked_for_until_the_deadline(tmp_path: Path) -> None:
    given, clock = assignment(["98103"]), ManualClock()
    clock.moment = given.epoch.end - timedelta(minutes=20)
    spool, policy = Spool(tmp_path, HOTKEY), object()
    api = Away(clock, 5, policy)
    desk = Desk(api, api_hotkey=HOTKEY, spool=spool, clock=clock)
    assert await desk.policy(given) is policy
    api = Away(clock, 1_000, policy)
    desk = Desk(api, api_hotkey=HOTKEY, spool=spool, clock=clock)
    with pytest.raises(DeliveryFailed, match="maintenance"):
        await desk.policy(given)
    assert given.epoch.end - clock.now() < timedelta(seconds=5)
    assert len(api.asked_at) < 20
    spool.close()
