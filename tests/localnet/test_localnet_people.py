"""Who takes part follows from the seed."""

from datetime import timedelta
from pathlib import Path

from sn46.chain.connect import open_chain
from sn46.clock import SystemClock
from sn46.localnet.people import NETUID, make_people, settle
from sn46.localnet.strategies import STRATEGIES
from sn46.mechanism.chainview import RAO_PER_ALPHA

ALL = tuple(STRATEGIES)


def test_the_same_seed_gives_the_same_keys(tmp_path: Path) -> None:
    one = make_people(tmp_path / "a", "seed", validators=3, strategies=ALL)
    again = make_people(tmp_path / "b", "seed", validators=3, strategies=ALL)
    other = make_people(tmp_path / "c", "other", validators=3, strategies=ALL)
    keys = [[person.hotkey for person in people.everyone()] for people in (one, again, other)]
    assert keys[0] == keys[1]
    assert set(keys[0]).isdisjoint(keys[2])
    assert len(set(keys[0])) == 1 + 3 + len(ALL)


def test_only_the_second_hotkey_shares_a_coldkey(tmp_path: Path) -> None:
    people = make_people(tmp_path, "seed", validators=2, strategies=ALL)
    coldkeys = {miner.name: miner.coldkey for miner in people.miners}
    assert coldkeys["second-hotkey"] == coldkeys["honest-fast"]
    assert len(set(coldkeys.values())) == len(ALL) - 1
    assert people.owner.coldkey not in coldkeys.values()


def test_a_strategy_may_stand_more_than_once(tmp_path: Path) -> None:
    people = make_people(tmp_path, "seed", validators=1, strategies=("honest", "padder", "honest"))
    assert [miner.name for miner in people.miners] == ["honest", "padder", "honest-2"]
    assert sorted(people.strategies.values()) == ["honest", "honest", "padder"]


async def test_the_chain_knows_everyone_also_who_joins_later(tmp_path: Path) -> None:
    clock, path = SystemClock(), tmp_path / "chain.sqlite"
    few = make_people(tmp_path, "seed", validators=2, strategies=("honest",))
    await settle(path, few, clock)
    many = make_people(tmp_path, "seed", validators=3, strategies=ALL)
    await settle(path, many, clock)

    chain = open_chain(f"local:{path}", netuid=NETUID, clock=clock)
    while not (view := await chain.view()).is_registered(many.miners[-1].hotkey):
        await clock.sleep(timedelta(seconds=0.1))
    await chain.close()
    assert view.owner_hotkey == many.owner.hotkey
    assert view.is_registered(many.owner.hotkey)
    assert view.permit_holders() == tuple(sorted(v.hotkey for v in many.validators))
    assert all(view.by_hotkey[m.hotkey].coldkey == m.coldkey for m in many.miners)
    first = view.by_hotkey[many.validators[0].hotkey]
    assert first.stake == 100_000 * RAO_PER_ALPHA
