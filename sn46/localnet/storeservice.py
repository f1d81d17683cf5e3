"""The S3 server as a service: started again where it dies."""

import asyncio

from sn46.localnet.service import Backoff, Death, Report, Service
from sn46.store.seaweed import SeaweedError, SeaweedServer

_POLL_SECONDS = 0.3
_TAIL_LINES = 12


class StoreService(Service):
    """An embedded S3 server that is kept running. Its keys stay, and its ports while they are
    free. ``is_up`` says whether it answers."""

    def __init__(self, server: SeaweedServer, report: Report, backoff: Backoff | None = None):
        super().__init__("s3", report, backoff)
        self.server = server
        self.is_up = False

    async def _run(self) -> Death | None:
        try:
            await asyncio.to_thread(self.server.start)
        except SeaweedError as error:
            return Death(f"could not be started: {error}")
        self.is_up = True
        while self.server.running and not await self._stopped_within(_POLL_SECONDS):
            pass
        self.is_up = False
        tail = self.server.log_tail(_TAIL_LINES).splitlines()
        await asyncio.to_thread(self.server.stop)
        if self._stopping.is_set():
            return None
        return Death("ended", tuple(tail))
