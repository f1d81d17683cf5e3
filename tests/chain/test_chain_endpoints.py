"""Announcing where a hotkey answers, and finding others."""

import pytest

from sn46.chain.base import ChainError
from sn46.chain.errors import NotRegistered, RateLimited
from sn46.chain.local import Fault


async def test_endpoints_are_published_and_found(network):
    await network.open("vali").publish_endpoint("127.0.0.1", 8091)
    await network.open("ann").publish_endpoint("2001:db8::1", 9000)
    await network.open("owner").publish_endpoint("localhost", 8000)
    found = await network.open(None).endpoints()
    assert found[network.hotkey("vali")] == ("127.0.0.1", 8091)
    assert found[network.hotkey("ann")] == ("2001:db8::1", 9000)
    assert found[network.hotkey("owner")][1] == 8000
    assert len(found) == 3


async def test_the_same_endpoint_again_costs_no_extrinsic(network):
    network.local.set_hyperparameter("ServingRateLimit", 50)
    network.clock.advance(seconds=12)
    chain = network.open("vali")
    await chain.publish_endpoint("10.0.0.1", 80)
    await chain.publish_endpoint("10.0.0.1", 80)
    with pytest.raises(RateLimited):
        await chain.publish_endpoint("10.0.0.1", 81)


async def test_a_lost_answer_is_looked_up(network):
    network.local.inject_fault(Fault.TIMEOUT_AFTER_SUBMISSION)
    chain = network.open("vali")
    await chain.publish_endpoint("10.0.0.1", 80)
    assert await chain.endpoints() == {network.hotkey("vali"): ("10.0.0.1", 80)}


async def test_an_unregistered_hotkey_has_no_endpoint(network):
    with pytest.raises(NotRegistered):
        await network.open("stranger").publish_endpoint("10.0.0.1", 80)


async def test_a_host_without_an_address(network):
    with pytest.raises(ChainError, match="has no address"):
        await network.open("vali").publish_endpoint("no.such.host.invalid", 80)


async def test_a_replaced_hotkeys_endpoint_is_gone(network):
    await network.open("ann").publish_endpoint("10.0.0.1", 80)
    network.local.replace(
        network.hotkey("ann"),
        by_hotkey=network.hotkey("newcomer"),
        by_coldkey=network.coldkey("newcomer"),
    )
    network.clock.advance(seconds=12)
    assert await network.open(None).endpoints() == {}
