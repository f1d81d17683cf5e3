"""EPOCH_SECONDS changes between two starts of the server: what was drawn lasts as its assignment
says, no two epochs run at once, and the past stays where it was."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest
from apinet import Net, World, api_over
from test_api_audit_draw import audit, audit_last, draw_following, get, move_to, texts

from sn46.client.api import ApiError
from sn46.mechanism.epochs import Epoch, epoch_at

HOUR = 3_600


@pytest.fixture
def world(world: World) -> World:
    """A moment that lies in the same epoch's first third by lengths of one, two and four hours."""
    following = epoch_at(world.clock.now(), 4 * HOUR).next()
    world.clock.advance_to(following.start + timedelta(minutes=20))
    return world


@asynccontextmanager
async def changed(world: World, before: int, after: int) -> AsyncGenerator[Net]:
    """A server that was stopped once the epoch that follows was drawn, and started again."""
    async with api_over(world, epoch_seconds=before) as net:
        await net.ready()
        await draw_following(net)
    async with api_over(world, epoch_seconds=after) as net:
        await net.until(lambda: heard(net))
        yield net


async def heard(net: Net) -> bool:
    return net.services.scheduler.heartbeat is not None


async def begun(net: Net) -> list[Epoch]:
    """Every epoch that has begun, oldest first."""
    listed = (await get(net, "/epochs")).json()["epochs"]
    ends = [(datetime.fromisoformat(e["start"]), datetime.fromisoformat(e["end"])) for e in listed]
    return [Epoch(start, int((end - start).total_seconds())) for start, end in reversed(ends)]


async def running(net: Net) -> Epoch:
    return (await net.client("ann").current()).assignment.epoch


async def test_shorter_epochs_begin_where_the_last_long_one_ends(world: World) -> None:
    async with changed(world, 4 * HOUR, HOUR) as net:
        first = (await begun(net))[0]
        # It runs on, though by the new length two others would have begun since.
        assert await running(net) == first
        second = first.next()
        await move_to(net, second.start + second.length * 0.6)
        assert await running(net) == second
        timing = (await net.client("ann").stats())["timing"]
        assert timing["submission_deadline"] == f"{second.end:%Y-%m-%dT%H:%M:%SZ}"
        drawn = (await net.client("vali").current()).assignment.zipcodes[0].zipcode
        assert (await get(net, f"/zipcodes/{drawn}")).json()["drawn_in"] == []
        third = Epoch(second.end, HOUR)
        await move_to(net, third.draw_at)
        await move_to(net, third.start + third.length / 2)
        assert await running(net) == third
        await draw_following(net)
        await move_to(net, third.end)
        assert await begun(net) == [first, second, third, third.next()]
        # The second had committed to the third's seed, under its other length.
        found = await audit_last(net, None)
        assert texts(found) == []
        assert [f.notes for f in found[1:]] == [(), ()]
        assert (await audit(net)).epoch_id == third.id


async def test_longer_epochs_begin_with_the_next_of_their_own(world: World) -> None:
    async with changed(world, HOUR, 4 * HOUR) as net:
        first, second = (await begun(net))[0], (await begun(net))[0].next()
        assert await running(net) == first
        await move_to(net, second.start)
        assert await running(net) == second
        await move_to(net, second.end)
        following = Epoch(first.start + timedelta(hours=4), 4 * HOUR)
        with pytest.raises(ApiError) as refused:
            await net.client("ann").current()
        assert (refused.value.status, refused.value.code) == (404, "no_epoch_yet")
        assert following.id in str(refused.value)
        # By the new length none of these starts.
        assert (await net.client("vali").epoch(second.id)).assignment.epoch == second
        assert (await net.client("vali").epoch("previous")).assignment.epoch == second
        assert (await audit(net, epoch=second.id)).agrees
        await move_to(net, following.draw_at)
        await move_to(net, following.start)
        assert await running(net) == following
        assert await begun(net) == [first, second, following]
        assert texts(await audit_last(net, None)) == []


async def test_an_ended_epoch_is_not_served_as_the_running_one(world: World) -> None:
    async with changed(world, 2 * HOUR, 4 * HOUR) as net:
        first = (await begun(net))[0]
        await move_to(net, first.end + timedelta(minutes=1))
        assert await running(net) == first.next()
