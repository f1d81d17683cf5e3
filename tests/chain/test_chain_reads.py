"""The subnet as it was at a block: through the SDK, over the local chain."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sn46.chain.base import BlockNotFinal, ChainError
from sn46.chain.errors import ChainUnreachable
from sn46.chain.local import create_local_chain
from sn46.chain.local.substrate import LocalSubstrate
from sn46.chain.search import first_block_at
from sn46.mechanism.chainview import Block


async def test_view_is_the_finalized_block_with_all_neurons(network):
    chain = network.open(None)
    view = await chain.view()
    assert view.netuid == 46
    assert view.owner_hotkey == network.hotkey("owner")
    assert view.block.number == network.local.finalized() == 299
    assert view.block.timestamp == network.clock.now() - timedelta(seconds=12)
    assert view.block.hash.startswith("0x")
    assert len(view.block.hash) == 66
    assert [n.hotkey for n in view.neurons] == [
        network.hotkey(name) for name in ["owner", "vali", "other", "ann", "bob", "cid"]
    ]
    assert view.by_hotkey[network.hotkey("ann")].coldkey == network.coldkey("ann")
    assert view.by_hotkey[network.hotkey("ann")].stake == 20_003 * 10**9
    assert set(view.permit_holders()) == {network.hotkey("vali"), network.hotkey("other")}
    assert await chain.block() == view.block


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.integers(min_value=-5_000_000, max_value=3_588_000_000))
async def test_view_at_is_the_first_block_at_or_after(network, microseconds):
    """The head is at 3,600 s and the finalized one at 3,588 s after genesis; 12 s a block."""
    moment = network.clock.now() - timedelta(hours=1) + timedelta(microseconds=microseconds)
    view = await network.open(None).view_at(moment)
    assert view.block.number == max(1, math.ceil(microseconds / 12_000_000))
    assert view.block.timestamp >= moment


@given(
    gaps=st.lists(st.integers(min_value=1, max_value=90), min_size=1, max_size=400),
    where=st.integers(min_value=0, max_value=40_000),
)
@settings(max_examples=200, deadline=None)
async def test_search_is_exact_and_bounded_for_irregular_blocks(network_epoch, gaps, where):
    times = [network_epoch]
    for gap in gaps:
        times.append(times[-1] + timedelta(seconds=gap))
    blocks = [Block(number, f"0x{number}", time) for number, time in enumerate(times)]
    moment = min(network_epoch + timedelta(seconds=where), times[-1])
    reads = 0

    async def read(number: int) -> Block:
        nonlocal reads
        reads += 1
        return blocks[number]

    found = await first_block_at(
        moment, newest=blocks[-1], block_time=timedelta(seconds=12), read=read
    )
    assert found.number == min(b.number for b in blocks[1:] if b.timestamp >= moment)
    assert reads <= 12 + math.ceil(math.log2(len(blocks))) + 1


@pytest.fixture(scope="module")
def network_epoch():
    return datetime(2026, 3, 1, tzinfo=UTC)


async def test_view_at_a_moment_that_is_not_final_yet(network):
    chain = network.open(None)
    with pytest.raises(BlockNotFinal):
        await chain.view_at(network.clock.now())
    network.clock.advance(seconds=12)
    moment = network.clock.now() - timedelta(seconds=12)
    assert (await chain.view_at(moment)).block.timestamp == moment


async def test_an_old_block_shows_the_old_state(network):
    chain = network.open(None)
    before = network.clock.now()
    network.local.replace(
        network.hotkey("ann"),
        by_hotkey=network.hotkey("newcomer"),
        by_coldkey=network.coldkey("newcomer"),
    )
    network.local.set_permit(network.hotkey("bob"), True)
    network.local.set_stake(network.hotkey("bob"), 7)
    network.clock.advance(minutes=1)

    now = await chain.view()
    assert now.neurons[3].hotkey == network.hotkey("newcomer")
    assert not now.is_registered(network.hotkey("ann"))
    assert now.by_hotkey[network.hotkey("bob")].validator_permit
    assert now.by_hotkey[network.hotkey("bob")].stake == 7

    old = await chain.view_at(before)
    assert old.neurons[3].hotkey == network.hotkey("ann")
    assert old.by_hotkey[network.hotkey("bob")].stake == 20_004 * 10**9
    assert (await chain.view_at(before + timedelta(seconds=1))).neurons == now.neurons


async def test_another_netuid_is_an_error_that_names_it(network):
    with pytest.raises(ChainError, match="no subnet 7"):
        await network.open(None, netuid=7).view()


async def test_an_outage_is_unreachable_and_passes(network):
    chain = network.open(None)
    await chain.view()
    network.local.set_reachable(False)
    with pytest.raises(ChainUnreachable):
        await chain.view()
    with pytest.raises(ChainUnreachable):
        await chain.weights_of(network.hotkey("vali"))
    network.local.set_reachable(True)
    assert (await chain.view()).block.number == 299


async def test_a_missing_chain_is_unreachable_until_it_is_there(network, tmp_path):
    path = tmp_path / "late.sqlite"
    chain = network.open(None, substrate=lambda: LocalSubstrate(path, clock=network.clock))
    with pytest.raises(ChainUnreachable, match=r"late\.sqlite"):
        await chain.view()
    create_local_chain(
        path,
        netuid=46,
        block_seconds=1,
        owner_hotkey=network.hotkey("owner"),
        owner_coldkey=network.coldkey("owner"),
        clock=network.clock,
    ).close()
    assert len((await chain.view()).neurons) == 1
