"""Setting weights through the SDK's executor, and what the chain refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signers import WatchedSigner

from sn46.chain.base import ChainError
from sn46.chain.errors import (
    ChainUnreachable,
    ExtrinsicRefused,
    NoPermit,
    NotRegistered,
    RateLimited,
    ReadOnlyChain,
    SubmissionUnknown,
    WeightsMismatch,
)
from sn46.chain.local import Fault
from sn46.chain.weights import to_ppm


def shares(network, **ppm):
    return {network.hotkey(name): value for name, value in ppm.items()}


async def test_weights_are_set_and_read_back(network):
    chain = network.open("vali")
    head = network.local.head()
    receipt = await chain.set_weights(
        shares(network, ann=500_000, bob=300_000, cid=150_000, owner=50_000)
    )
    assert receipt.block == head + 1
    assert not receipt.committed_only
    # u16 of the largest is 65,535; the others are 39,321, 19,660 (19,660.5 to even) and 6,554
    # (6,553.5 to even), of 131,070.
    assert receipt.on_chain == shares(network, ann=500_000, bob=300_000, cid=149_996, owner=50_004)
    assert await chain.weights_of(network.hotkey("vali")) == receipt.on_chain
    assert await network.open(None).weights_of(network.hotkey("vali")) == receipt.on_chain
    assert await chain.weights_of(network.hotkey("other")) == {}
    assert await chain.weights_of(network.hotkey("stranger")) == {}
    assert network.local.finalized() >= receipt.block


async def test_zero_shares_are_left_out(network):
    receipt = await network.open("vali").set_weights(shares(network, ann=1_000_000, bob=0))
    assert receipt.on_chain == shares(network, ann=1_000_000)


@pytest.mark.parametrize("weights", [{}, {"ann": 0}, {"ann": -1, "bob": 5}])
async def test_weights_that_mean_nothing_are_refused(network, weights):
    with pytest.raises(ChainError, match="must not be negative"):
        await network.open("vali").set_weights(shares(network, **weights))


async def test_the_rate_limit_tells_how_long_and_passes(network):
    chain = network.open("vali")
    first = await chain.set_weights(shares(network, ann=1_000_000))
    with pytest.raises(RateLimited) as caught:
        await chain.set_weights(shares(network, bob=1_000_000))
    assert caught.value.blocks_left == first.block + 100 - network.local.head()
    network.clock.advance(seconds=12 * caught.value.blocks_left)
    second = await chain.set_weights(shares(network, bob=1_000_000))
    assert second.on_chain == shares(network, bob=1_000_000)


async def test_the_runtime_itself_holds_the_rate_limit(network):
    """The SDK checks before it signs; a second process may have set weights since."""
    twin = network.open("vali")
    await twin.view()

    def set_by_twin() -> None:
        network.local.set_hyperparameter("WeightsSetRateLimit", 100)

    network.local.set_hyperparameter("WeightsSetRateLimit", 0)
    network.clock.advance(seconds=60)
    await twin.set_weights(shares(network, ann=1_000_000))
    network.clock.advance(seconds=24)
    signer = WatchedSigner(network.wallets["vali"].hotkey, set_by_twin)
    with pytest.raises(RateLimited, match="SettingWeightsTooFast"):
        await network.open("vali", signer=signer).set_weights(shares(network, bob=1_000_000))


async def test_no_permit(network):
    with pytest.raises(NoPermit):
        await network.open("ann").set_weights(shares(network, bob=1_000_000))


async def test_not_registered(network):
    with pytest.raises(NotRegistered, match="btcli"):
        await network.open("stranger").set_weights(shares(network, bob=1_000_000))


async def test_read_only(network):
    with pytest.raises(ReadOnlyChain):
        await network.open(None).set_weights(shares(network, bob=1_000_000))


async def test_weights_reach_the_uid_that_a_hotkey_holds_now(network):
    """ann loses uid 3 to a newcomer and comes back as uid 6."""
    chain = network.open("vali")
    network.local.replace(
        network.hotkey("ann"),
        by_hotkey=network.hotkey("newcomer"),
        by_coldkey=network.coldkey("newcomer"),
    )
    assert network.local.register(network.hotkey("ann"), network.coldkey("ann")) == 6
    network.clock.advance(seconds=12)
    receipt = await chain.set_weights(shares(network, ann=600_000, bob=400_000))
    assert receipt.on_chain.keys() == shares(network, ann=0, bob=0).keys()
    view = await chain.view()
    assert view.neurons[6].hotkey == network.hotkey("ann")


async def test_a_deregistered_winners_share_goes_to_the_owner(network):
    network.local.replace(
        network.hotkey("ann"),
        by_hotkey=network.hotkey("newcomer"),
        by_coldkey=network.coldkey("newcomer"),
    )
    network.clock.advance(seconds=12)
    receipt = await network.open("vali").set_weights(
        shares(network, ann=500_000, bob=400_000, owner=100_000)
    )
    assert set(receipt.on_chain) == set(shares(network, owner=0, bob=0))
    assert receipt.on_chain[network.hotkey("owner")] == pytest.approx(600_000, abs=20)


async def test_a_uid_that_passes_on_while_weights_are_set_is_noticed(network):
    def replace() -> None:
        network.local.replace(
            network.hotkey("ann"),
            by_hotkey=network.hotkey("newcomer"),
            by_coldkey=network.coldkey("newcomer"),
        )

    signer = WatchedSigner(network.wallets["vali"].hotkey, replace)
    with pytest.raises(WeightsMismatch, match=network.hotkey("newcomer")):
        await network.open("vali", signer=signer).set_weights(
            shares(network, ann=600_000, bob=400_000)
        )


async def test_a_replaced_hotkeys_weights_go_with_it(network):
    chain = network.open("vali")
    await chain.set_weights(shares(network, ann=500_000, bob=500_000))
    network.local.replace(
        network.hotkey("ann"),
        by_hotkey=network.hotkey("newcomer"),
        by_coldkey=network.coldkey("newcomer"),
    )
    network.clock.advance(seconds=12)
    assert await chain.weights_of(network.hotkey("vali")) == shares(network, bob=1_000_000)


async def test_an_answer_lost_after_inclusion_is_found_on_the_chain(network):
    chain = network.open("vali")
    network.local.inject_fault(Fault.TIMEOUT_AFTER_SUBMISSION)
    head = network.local.head()
    receipt = await chain.set_weights(shares(network, ann=600_000, bob=400_000))
    assert receipt.block == head + 1
    assert set(receipt.on_chain) == set(shares(network, ann=0, bob=0))


async def test_a_submission_lost_before_inclusion_is_unknown_and_can_be_repeated(network):
    chain = network.open("vali")
    network.local.inject_fault(Fault.LOST, hotkey=network.hotkey("vali"))
    with pytest.raises(SubmissionUnknown):
        await chain.set_weights(shares(network, ann=1_000_000))
    assert await chain.weights_of(network.hotkey("vali")) == {}
    receipt = await chain.set_weights(shares(network, ann=1_000_000))
    assert receipt.on_chain == shares(network, ann=1_000_000)


async def test_faults_of_another_hotkey_do_not_touch_this_one(network):
    network.local.inject_fault(Fault.POOL_FULL, hotkey=network.hotkey("other"))
    await network.open("vali").set_weights(shares(network, ann=1_000_000))
    with pytest.raises(ChainError, match="pool is full"):
        await network.open("other").set_weights(shares(network, ann=1_000_000))


async def test_an_outage_before_the_submission_changes_nothing(network):
    chain = network.open("vali")
    await chain.view()
    network.local.set_reachable(False)
    with pytest.raises(ChainUnreachable):
        await chain.set_weights(shares(network, ann=1_000_000))
    network.local.set_reachable(True)
    await chain.set_weights(shares(network, ann=1_000_000))


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("WeightsVersionKey", 5, "IncorrectWeightVersionKey"),
        ("StakeThreshold", 10**18, "NotEnoughStakeToSetWeights"),
    ],
)
async def test_the_runtimes_own_refusals_keep_their_names(network, name, value, error):
    network.local.set_hyperparameter(name, value)
    network.clock.advance(seconds=12)
    with pytest.raises(ExtrinsicRefused) as caught:
        await network.open("vali").set_weights(shares(network, ann=1_000_000))
    assert caught.value.name == error


async def test_too_few_weights_are_refused_before_signing(network):
    network.local.set_hyperparameter("MinAllowedWeights", 3)
    network.clock.advance(seconds=12)
    with pytest.raises(ExtrinsicRefused, match="at least 3"):
        await network.open("vali").set_weights(shares(network, ann=1_000_000))


async def test_a_subnets_weight_limit_is_what_the_receipt_shows(network):
    """No three weights keep below a third each, so the SDK makes them equal; the receipt says
    what stands on the chain, which is not what was asked for."""
    network.local.set_hyperparameter("MaxWeightsLimit", 21_845)
    network.clock.advance(seconds=12)
    receipt = await network.open("vali").set_weights(
        shares(network, ann=800_000, bob=150_000, cid=50_000)
    )
    assert sorted(receipt.on_chain.values()) == [333_333, 333_333, 333_334]


@given(st.dictionaries(st.text(min_size=1, max_size=4), st.integers(min_value=0, max_value=65_535)))
def test_ppm_sum_to_a_million_and_keep_the_order(values):
    ppm = to_ppm(values)
    assert sum(ppm.values()) == (1_000_000 if any(values.values()) else 0)
    assert all(
        ppm.get(a, 0) >= ppm.get(b, 0) for a in values for b in values if values[a] > values[b]
    )
    assert to_ppm(dict(reversed(values.items()))) == ppm
