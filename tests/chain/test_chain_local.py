"""The local chain itself: blocks, pool, runtime, and what the SDK reads of it."""

import sqlite3
from datetime import timedelta

import bittensor
import pytest
from bittensor import calls
from hypothesis import given
from hypothesis import strategies as st

from sn46.chain.local import LocalChain, LocalChainError, create_local_chain
from sn46.chain.local.blocks import BlockRule

SUBTENSOR = calls.SubtensorModule


@pytest.fixture
async def substrate(network):
    opened = network.substrate()
    await opened.connect()
    yield opened
    await opened.close()


@pytest.fixture
def client(substrate):
    return bittensor.Client("local", substrate=substrate)


async def submit(network, substrate, name, call, **options):
    key = options.pop("key", "hotkey")
    composed = await substrate.compose(call)
    return await substrate.submit(composed, getattr(network.wallets[name], key), **options)


def set_weights(network, uids, values, netuid=46):
    return SUBTENSOR.set_mechanism_weights(
        netuid=netuid, mecid=0, dests=uids, weights=values, version_key=0
    )


@given(st.integers(min_value=0, max_value=2**63), st.binary(min_size=32, max_size=32))
def test_a_hash_leads_back_to_its_block(number, secret):
    rule = BlockRule(0, 1000, secret)
    assert rule.number_of(rule.hash_of(number)) == number
    assert rule.number_of("0x" + "00" * 32) is None
    assert rule.number_of("not hex") is None
    assert BlockRule(0, 1000, secret[::-1] + b"x").hash_of(number) != rule.hash_of(number)


async def test_blocks_follow_the_clock(network, substrate):
    head = await substrate.block_number()
    assert head == 300
    assert await substrate.finalized_block_number() == 299
    now = network.clock.now()
    assert await substrate.query("Timestamp", "Now") == int(now.timestamp() * 1000)
    with pytest.raises(bittensor.ChainError, match="does not exist"):
        await substrate.block_hash(head + 1)
    block = await substrate.get_block(head)
    assert block["header"]["hash"] == await substrate.block_hash(head)
    assert block["header"]["parentHash"] == await substrate.block_hash(head - 1)


async def test_no_block_before_genesis(network, tmp_path):
    network.clock.advance(days=-365)
    assert network.local.head() == network.local.finalized() == 0


async def test_the_block_stream_leaves_none_out(client):
    seen = []
    async for header in client.blocks(finalized=True):
        seen.append(header.number)
        if len(seen) == 3:
            break
    assert seen == [300, 301, 302]


async def test_the_sdks_reads_see_the_real_state(network, client, substrate):
    result = await submit(network, substrate, "vali", set_weights(network, [3, 4], [2, 1]))
    assert result.success
    graph = await client.subnets.metagraph(46)
    assert graph.hotkeys[1] == network.hotkey("vali")
    assert [n.uid for n in graph.validators] == [1, 2]
    assert graph.neurons[1].last_update == int(result.extrinsic_id.split("-")[0])
    weights = await client.weights.weights(netuid=46)
    assert weights == {1: {3: pytest.approx(2 / 3, abs=1e-4), 4: pytest.approx(1 / 3, abs=1e-4)}}
    info = await client.block_info(int(result.extrinsic_id.split("-")[0]))
    assert info.extrinsics[1]["call"]["call_function"] == "set_mechanism_weights"
    assert info.timestamp.timestamp() * 1000 == await substrate.query(
        "Timestamp", "Now", block_hash=info.hash
    )


@pytest.mark.parametrize(
    ("item", "params"),
    [("Bonds", [46, 1]), ("Tempo", [47]), ("WeightsSetRateLimit", [1]), ("Uids", [1, "x"])],
)
async def test_what_the_chain_has_not_is_an_error_with_a_name(substrate, item, params):
    with pytest.raises(bittensor.ChainError, match="local chain does not have"):
        await substrate.query("SubtensorModule", item, params)


async def test_other_seams_say_that_they_are_not_here(substrate):
    for call in (
        substrate.runtime_call("NeuronInfoRuntimeApi", "get_neurons", [46]),
        substrate.constant("Balances", "ExistentialDeposit"),
        substrate.query_map("SubtensorModule", "TokenSymbol"),
        substrate.decode_scale("Call", b""),
        substrate.estimate_weight(None, None),
    ):
        with pytest.raises(bittensor.ChainError, match="local chain does not have"):
            await call


async def test_queries_by_other_names(network, substrate):
    query = substrate.query
    pallet = "SubtensorModule"
    assert await query(pallet, "SubnetOwner", [46]) == network.coldkey("owner")
    assert await query(pallet, "Owner", [network.hotkey("ann")]) == network.coldkey("ann")
    assert await query(pallet, "SubnetworkN", [46]) == 6
    assert await query(pallet, "BlocksSinceLastStep", [46]) == 0
    assert await query(pallet, "SubnetEpochIndex", [46]) == 30
    assert await query(pallet, "Uids", [46, network.hotkey("stranger")]) is None
    assert await query(pallet, "TotalHotkeyAlpha", [network.hotkey("ann"), 46]) == 20_003 * 10**9
    uids = dict(await substrate.query_map(pallet, "Uids", [46]))
    assert uids[network.hotkey("cid")] == 5
    assert await substrate.map_has_entries(pallet, "Keys", [46])
    assert not await substrate.map_has_entries(pallet, "Axons", [46])


@pytest.mark.parametrize(
    ("uids", "values", "error"),
    [
        ([3, 3], [1, 1], "DuplicateUids"),
        ([3, 99], [1, 1], "UidVecContainInvalidOne"),
        ([3], [1, 1], "WeightVecNotEqualSize"),
        (list(range(7)), [1] * 7, "UidsLengthExceedUidsInSubNet"),
    ],
)
async def test_the_runtime_checks_weights(network, substrate, uids, values, error):
    result = await submit(network, substrate, "vali", set_weights(network, uids, values))
    assert not result.success
    assert result.error.name == error
    assert await substrate.query("SubtensorModule", "Weights", [46, 1]) == []
    found = await substrate.events(result.block_hash)
    assert [record["event"]["event_id"] for record in found] == ["ExtrinsicFailed"]


async def test_a_miner_may_weigh_itself_only(network, substrate):
    assert (await submit(network, substrate, "ann", set_weights(network, [3], [1]))).success
    refused = await submit(network, substrate, "bob", set_weights(network, [3], [1]))
    assert refused.error.name == "NeuronNoValidatorPermit"


async def test_a_failed_extrinsic_uses_its_nonce(network, substrate):
    address = network.hotkey("vali")
    assert await substrate.account_next_index(address) == 0
    await submit(network, substrate, "vali", set_weights(network, [3], [1], netuid=9))
    assert await substrate.account_next_index(address) == 1


async def test_the_pool_refuses_nonces_duplicates_and_old_eras(network, substrate):
    keypair = network.wallets["vali"].hotkey
    call = await substrate.compose(set_weights(network, [3], [1]))
    raw, extrinsic_hash = await substrate.sign_extrinsic(call, keypair, nonce=0, period=8)
    first = await substrate.submit_signed(raw, keypair)
    assert first.success
    found = await substrate.find_extrinsic(extrinsic_hash, first.block_hash)
    assert found.extrinsic_id == first.extrinsic_id
    assert await substrate.find_extrinsic("0x00", first.block_hash) is None

    async def refused(raw):
        result = await substrate.submit_signed(raw, keypair)
        assert not result.success
        assert result.block_hash is None
        return result.error

    assert "already imported" in (await refused(raw)).message
    stale, _ = await substrate.sign_extrinsic(call, keypair, nonce=0, period=9)
    assert (await refused(stale)).name == "Stale"
    future, _ = await substrate.sign_extrinsic(call, keypair, nonce=2, period=8)
    assert (await refused(future)).name == "Future"
    old, _ = await substrate.sign_extrinsic(call, keypair, nonce=1, period=8)
    network.clock.advance(seconds=12 * 8)
    assert (await refused(old)).name == "AncientBirthBlock"


async def test_nothing_is_included_without_a_good_signature(network, substrate):
    keypair = network.wallets["vali"].hotkey
    call = await substrate.compose(set_weights(network, [3], [1]))
    raw, _ = await substrate.sign_extrinsic(call, keypair, nonce=0, period=8)
    for forged in (
        raw.replace(b'"weights":[1]', b'"weights":[2]'),
        raw.replace(network.hotkey("vali").encode(), network.hotkey("other").encode()),
        raw.replace(b'"nonce":0', b'"nonce":1'),
    ):
        assert forged != raw
        assert (await substrate.submit_signed(forged, keypair)).error.name == "BadProof"
    for garbage in (b"", b"[]", b"{}", b'{"call":{}}'):
        assert (await substrate.submit_signed(garbage, keypair)).error.name == "BadRequest"
    assert await substrate.account_next_index(network.hotkey("vali")) == 0


async def test_unknown_calls_are_refused(network, substrate):
    call = SUBTENSOR.start_call(netuid=46)
    result = await submit(network, substrate, "owner", call, key="coldkey")
    assert result.error.name == "Call"


async def test_registration_by_extrinsic(network, substrate, client):
    call = SUBTENSOR.burned_register(netuid=46, hotkey=network.hotkey("newcomer"))
    result = await client.submit_call(call, network.wallets["newcomer"].coldkey)
    assert result.success
    assert await substrate.query("SubtensorModule", "Uids", [46, network.hotkey("newcomer")]) == 6
    again = await client.submit_call(call, network.wallets["newcomer"].coldkey)
    assert again.error.name == "HotKeyAlreadyRegisteredInSubNet"
    theirs = SUBTENSOR.burned_register(netuid=46, hotkey=network.hotkey("ann"))
    stolen = await client.submit_call(theirs, network.wallets["stranger"].coldkey)
    assert stolen.error.name == "NonAssociatedColdKey"


async def test_a_full_subnet_prunes_the_least_staked_miner(network, substrate):
    network.local.set_hyperparameter("MaxAllowedUids", 6)
    network.local.set_stake(network.hotkey("bob"), 1)
    network.clock.advance(seconds=12)
    assert network.local.register(network.hotkey("newcomer"), network.coldkey("newcomer")) == 4
    network.clock.advance(seconds=12)
    assert await substrate.query("SubtensorModule", "Uids", [46, network.hotkey("bob")]) is None
    assert await substrate.query("SubtensorModule", "Keys", [46, 4]) == network.hotkey("newcomer")


async def test_changes_belong_to_the_next_block_and_never_to_a_seen_one(network, substrate):
    seen = await substrate.block_hash()
    block = network.local.set_stake(network.hotkey("ann"), 5)
    read = ("SubtensorModule", "TotalHotkeyAlpha", [network.hotkey("ann"), 46])
    assert block == 301
    assert await substrate.query(*read) != 5
    network.clock.advance(seconds=12)
    assert await substrate.query(*read) == 5
    assert await substrate.query(*read, block_hash=seen) != 5


async def test_a_clock_set_back_does_not_rewrite_what_was(network):
    network.clock.advance(seconds=120)
    later = network.local.set_stake(network.hotkey("ann"), 5)
    network.clock.advance(seconds=-600)
    assert network.local.set_stake(network.hotkey("ann"), 6) == later


def test_admin_mistakes_are_named(network):
    local = network.local
    with pytest.raises(LocalChainError, match="registered already"):
        local.replace(
            network.hotkey("ann"),
            by_hotkey=network.hotkey("bob"),
            by_coldkey=network.coldkey("bob"),
        )
    with pytest.raises(LocalChainError, match="not registered"):
        local.set_permit(network.hotkey("stranger"), True)
    with pytest.raises(LocalChainError, match="WeightsSetRateLimit"):
        local.set_hyperparameter("Weights", 1)
    with pytest.raises(LocalChainError, match="ss58"):
        local.register("me", network.coldkey("ann"))
    with pytest.raises(LocalChainError, match="HotKeyAlreadyRegistered"):
        local.register(network.hotkey("ann"), network.coldkey("ann"))


def test_creation_refuses_what_cannot_be(network, tmp_path):
    def create(path=tmp_path / "new.sqlite", **options):
        options = {
            "netuid": 46,
            "block_seconds": 1,
            "owner_hotkey": network.hotkey("owner"),
            "owner_coldkey": network.coldkey("owner"),
        } | options
        return create_local_chain(path, **options)

    row = (network.hotkey("ann"), network.coldkey("ann"), 1, False)
    with pytest.raises(LocalChainError, match="already"):
        create(network.local.path)
    with pytest.raises(LocalChainError, match="twice"):
        create(neurons=[row, row])
    with pytest.raises(LocalChainError, match="ss58"):
        create(owner_hotkey="me")
    with pytest.raises(LocalChainError, match="above zero"):
        create(block_seconds=0)
    assert not list(tmp_path.glob("new.sqlite*"))
    made = create(neurons=[row])
    assert made.block_time() == timedelta(seconds=1)
    made.close()
    again = LocalChain(tmp_path / "new.sqlite")
    assert again.netuid == 46
    again.close()


def test_what_is_no_chain_is_named(tmp_path):
    with pytest.raises(LocalChainError, match=r"nowhere\.sqlite"):
        LocalChain(tmp_path / "nowhere.sqlite")
    junk = tmp_path / "junk.sqlite"
    junk.write_text("no database at all, but a text of some length" * 50)
    with pytest.raises(LocalChainError, match="not a local chain"):
        LocalChain(junk)
    empty = tmp_path / "empty.sqlite"
    connection = sqlite3.connect(empty)
    connection.execute("CREATE TABLE meta (name TEXT, value TEXT)")
    connection.close()
    with pytest.raises(LocalChainError, match="anew"):
        LocalChain(empty)
