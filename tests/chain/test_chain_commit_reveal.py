"""Timelocked weights: the SDK's own encryption, opened with a real pulse of the beacon.

The SDK encrypts to a round of drand's quicknet that lies ahead of the machine's clock, and only
the beacon can sign that. So that the whole way can be walked without a network, the substrate
here reports a block time by which the SDK arrives at round 1000 of August 2023, whose signature
is public; everything else is as in life.
"""

import time

import bittensor
import bittensor_core
import pytest

from sn46.chain.errors import ExtrinsicRefused, RateLimited
from sn46.chain.local import Fault, LocalChainError
from sn46.chain.local.commits import decode_payload
from sn46.chain.local.substrate import LocalSubstrate

ROUND = 1000
SIGNATURE = (
    "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125"
    "e342b73a8dd2bacbe47e4b6b63ed5e39"
)
QUICKNET_GENESIS = 1_692_803_367


class KnownRoundSubstrate(LocalSubstrate):
    """Reports the block time that makes the SDK aim at ``ROUND``."""

    async def block_time(self) -> float:
        head = await self.block_number()
        tempo = await self.query("SubtensorModule", "Tempo", [46])
        last = await self.query("SubtensorModule", "LastEpochBlock", [46])
        # The SDK aims three blocks behind the start of the reveal epoch.
        blocks = last + tempo + 3 - head
        target = QUICKNET_GENESIS + (ROUND + 0.5) * 3
        return (target - time.time()) / blocks


@pytest.fixture
def hidden(make_network):
    return make_network(commit_reveal=True)


def known_round(network):
    return lambda: KnownRoundSubstrate(network.local.path, clock=network.clock)


def weights(network):
    return {network.hotkey("ann"): 700_000, network.hotkey("bob"): 300_000}


async def test_a_commit_is_revealed_in_the_next_epoch_with_the_pulse(hidden):
    chain = hidden.open("vali", substrate=known_round(hidden))
    receipt = await chain.set_weights(weights(hidden))
    assert receipt.committed_only
    assert receipt.on_chain == {}
    assert await chain.weights_of(hidden.hotkey("vali")) == {}

    hidden.local.store_pulse(ROUND, SIGNATURE)
    assert await chain.weights_of(hidden.hotkey("vali")) == {}, "its epoch has not come"
    hidden.clock.advance(seconds=12 * 10)
    await chain.view()
    hidden.clock.advance(seconds=24)
    revealed = await chain.weights_of(hidden.hotkey("vali"))
    assert revealed.keys() == weights(hidden).keys()
    assert revealed[hidden.hotkey("ann")] == pytest.approx(700_000, abs=20)


async def test_without_the_pulse_a_commit_stays_one(hidden):
    chain = hidden.open("vali", substrate=known_round(hidden))
    await chain.set_weights(weights(hidden))
    hidden.clock.advance(hours=2)
    assert hidden.local.reveal() == 0
    assert await chain.weights_of(hidden.hotkey("vali")) == {}

    def no_beacon(number: int) -> str:
        raise ValueError("unreachable")

    assert hidden.local.fetch_pulses(no_beacon) == 0
    assert hidden.local.fetch_pulses({ROUND: SIGNATURE}.__getitem__) == 1
    hidden.clock.advance(seconds=12)
    assert hidden.local.reveal() == 1
    hidden.clock.advance(seconds=12)
    assert set(await chain.weights_of(hidden.hotkey("vali"))) == set(weights(hidden))


async def test_the_sdk_aims_at_a_round_ahead_and_lists_the_commit(hidden):
    """The plain way, with the chain's own block time: 12 s a block, 10 blocks an epoch."""
    chain = hidden.open("vali")
    receipt = await chain.set_weights(weights(hidden))
    assert receipt.committed_only
    client = bittensor.Client("local", substrate=hidden.substrate())
    await client._substrate.connect()
    commits = await client.weights.timelocked_weight_commits(netuid=46)
    await client.close()
    [(epoch, [entry])] = commits.items()
    assert epoch == receipt.block // 10
    assert entry["hotkey"] == hidden.hotkey("vali")
    assert entry["commit_block"] == receipt.block
    now = (time.time() - QUICKNET_GENESIS) / 3
    assert now < entry["reveal_round"] < now + 100


async def test_a_commit_uses_the_rate_limit_up(hidden):
    chain = hidden.open("vali")
    await chain.set_weights(weights(hidden))
    with pytest.raises(RateLimited) as caught:
        await chain.set_weights(weights(hidden))
    assert caught.value.blocks_left is not None


async def test_a_commit_whose_answer_was_lost_is_found(hidden):
    hidden.local.inject_fault(Fault.TIMEOUT_AFTER_SUBMISSION)
    receipt = await hidden.open("vali").set_weights(weights(hidden))
    assert receipt.committed_only


async def test_a_round_that_is_over_is_refused(hidden):
    hidden.local.store_pulse(ROUND, SIGNATURE)
    hidden.clock.advance(seconds=24)

    class PastRound(KnownRoundSubstrate):
        async def block_time(self) -> float:
            return await super().block_time() * 1.000_01

    chain = hidden.open("vali", substrate=lambda: PastRound(hidden.local.path, clock=hidden.clock))
    with pytest.raises(ExtrinsicRefused, match="InvalidRevealRound"):
        await chain.set_weights(weights(hidden))


def test_a_false_pulse_is_refused(hidden):
    with pytest.raises(LocalChainError, match="round 1000"):
        hidden.local.store_pulse(ROUND, "ab" * 48)
    with pytest.raises(LocalChainError, match="round 1001"):
        hidden.local.store_pulse(1001, SIGNATURE)


@pytest.mark.parametrize("cut", [0, 1, 20, 33, 36, 44])
def test_a_garbled_payload_is_a_value_error(cut):
    plain = bytes([128]) + b"k" * 32 + bytes([4, 1, 0]) + bytes([4, 255, 255]) + bytes(8)
    assert decode_payload(plain)[1:] == ([1], [65_535], 0)
    assert decode_payload(plain)[0] == bittensor_core.ss58_encode(b"k" * 32, 42)
    with pytest.raises(ValueError, match=r"payload|length|bytes"):
        decode_payload(plain[:cut])
