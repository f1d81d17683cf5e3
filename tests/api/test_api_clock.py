"""A clock that jumps: what it would draw too early would stand in the way of all epochs before."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from apinet import NETUID, World
from draw_epochs import SteppedClock

from sn46.api.services import Outside, Services, make_services
from sn46.chain.connect import open_chain
from sn46.mechanism.epochs import Epoch
from sn46.problems import Problem

DAY = timedelta(days=1)


class Machine:
    """A server without its HTTP, its clock, and that of the chain."""

    def __init__(self, services: Services, clock: SteppedClock, blocks: SteppedClock) -> None:
        self.services = services
        self.clock = clock
        self.blocks = blocks

    async def round_at(self, moment: datetime) -> str | None:
        """A round of the scheduler by the server's clock; what it says went wrong."""
        self.clock.time = moment
        await self.services.metagraph.refresh()
        await self.services.scheduler.round()
        return self.services.scheduler.last_error

    async def newest(self) -> Epoch | None:
        return await self.services.records.newest_epoch()


@asynccontextmanager
async def machine(world: World, **changes: Any) -> AsyncGenerator[Machine]:
    settings = world.settings(**changes)
    clock, blocks = (SteppedClock(world.clock.now()) for _ in range(2))
    chain = open_chain(settings.chain_endpoint, netuid=NETUID, clock=blocks)
    signer = world.wallets["api"].hotkey
    services = make_services(settings, Outside(clock, chain, signer, world.miners, world.results))
    try:
        await services.database.migrate()
        yield Machine(services, clock, blocks)
    finally:
        await services.database.close()
        await chain.close()


async def test_a_clock_far_from_the_chains_leaves_out_no_epochs(world: World) -> None:
    async with machine(world, metagraph_max_age_seconds=1_200) as server:
        now = server.clock.now()
        assert await server.round_at(now) is None
        first = await server.newest()
        assert first is not None
        assert first.contains(now)
        for jump in (DAY, -DAY):
            told = await server.round_at(now + jump)
            assert told is not None
            assert "clock" in told
            assert await server.newest() == first
        server.blocks.time = first.next().draw_at
        assert await server.round_at(server.blocks.time) is None
        assert await server.newest() == first.next()


async def test_a_chain_that_stands_still_costs_no_epoch_its_draw(world: World) -> None:
    """The one that follows the newest draw leaves out none, whatever the time is."""
    async with machine(world, metagraph_max_age_seconds=1_200) as server:
        assert await server.round_at(server.clock.now()) is None
        for _ in range(3):
            newest = await server.newest()
            assert newest is not None
            assert await server.round_at(newest.next().draw_at) is None
            assert await server.newest() == newest.next()
        assert server.clock.now() - server.blocks.now() > 2 * newest.length


async def test_a_chain_that_is_away_holds_no_draw_up(world: World) -> None:
    async with machine(world, metagraph_max_age_seconds=1_200) as server:
        now = server.clock.now()
        await server.round_at(now)
        server.services.metagraph.last_error = "no answer"
        assert await server.round_at(now + DAY) is None


async def test_what_was_drawn_too_early_is_named_while_it_stands_in_the_way(world: World) -> None:
    async with machine(world) as server:
        now = server.clock.now()
        await server.round_at(now)
        await server.round_at(now + DAY)
        early = await server.newest()
        assert early is not None
        told = await server.round_at(now)
        assert told is not None
        assert early.id in told
        assert await server.round_at(early.start) is None


async def test_a_view_is_as_old_as_its_block(world: World) -> None:
    """A node that stands still, or is far behind, is none, also right after a start."""
    async with machine(world, metagraph_max_age_seconds=1_200) as server:
        metagraph = server.services.metagraph
        server.blocks.time = server.clock.now() - timedelta(hours=1)
        await metagraph.refresh()
        with pytest.raises(Problem, match="old view") as refused:
            metagraph.trusted()
        assert refused.value.code == "chain_view_too_old"
        server.blocks.time = server.clock.now()
        await metagraph.refresh()
        assert metagraph.trusted() == metagraph.latest
