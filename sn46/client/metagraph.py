"""The subnet as a server last saw it: refreshed in the background, never by a request."""

import asyncio
from datetime import timedelta

import structlog

from sn46.chain.base import Chain, ChainError
from sn46.clock import Clock
from sn46.mechanism.chainview import ChainView
from sn46.problems import Problem

_CALL_SECONDS = 60
log = structlog.get_logger(__name__)


class Metagraph:
    """A cached view of the chain that says how old it is, and refuses when that is too old.

    Its age is that of its block, so that a node which stands still, or is far behind, counts as
    no node, also right after a start.
    """

    def __init__(
        self, chain: Chain, clock: Clock, *, max_age: timedelta, refresh_every: timedelta
    ) -> None:
        self._chain = chain
        self._clock = clock
        self._max_age = max_age
        self._refresh_every = refresh_every
        self._view: ChainView | None = None
        self.last_error: str | None = None
        self.asked = asyncio.Event()
        """Set once the chain was asked for the first time, whatever came of it."""

    @property
    def latest(self) -> ChainView | None:
        """The last view, however old; None before the first."""
        return self._view

    @property
    def age(self) -> timedelta | None:
        """How old the view is; None before the first. Not positive where its block is of now, or
        this machine's clock is behind."""
        return None if self._view is None else self._clock.now() - self._view.block.timestamp

    @property
    def is_fresh(self) -> bool:
        age = self.age
        return age is not None and age <= self._max_age

    def trusted(self) -> ChainView:
        """The view to decide by.

        Raises:
            Problem: 503, where there is none young enough.
        """
        if self._view is None or not self.is_fresh:
            raise Problem(
                503,
                "chain_view_too_old",
                "This server has not seen the chain lately and does not decide by an old view. "
                "Try again shortly.",
                retry_after=int(min(self._refresh_every.total_seconds(), 30)),
            )
        return self._view

    async def refresh(self) -> None:
        """Ask the chain once.

        Raises:
            ChainError: where it cannot be asked.
        """
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                view = await self._chain.view()
        except TimeoutError as error:
            raise ChainError(f"The chain did not answer within {_CALL_SECONDS} s.") from error
        self._view = view

    async def run(self) -> None:
        """Refresh for ever; a failure is logged once until it is over."""
        while True:
            try:
                await self.refresh()
            except ChainError as error:
                if self.last_error is None:
                    log.warning("chain_unreachable", error=str(error))
                self.last_error = str(error)
            else:
                if self.last_error is not None:
                    log.info("chain_reachable_again")
                self.last_error = None
            self.asked.set()
            await self._clock.sleep(self._pause())

    def _pause(self) -> timedelta:
        if self.last_error is None:
            return self._refresh_every
        return min(self._refresh_every, timedelta(seconds=5))
