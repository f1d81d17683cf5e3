"""Who takes part: wallets that follow from the seed, and their places on the chain."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sn46.chain.connect import open_chain
from sn46.chain.local import LocalChain, create_local_chain
from sn46.chain.wallets import LocalWallet, create_local_wallet
from sn46.clock import Clock
from sn46.localnet.strategies import STRATEGIES, StrategySpec
from sn46.mechanism.chainview import RAO_PER_ALPHA, ChainView
from sn46.mechanism.names import Hotkey

NETUID = 46
OWNER_WALLET = "owner"
OWNER_HOTKEY = "api"
_HISTORY = timedelta(seconds=30)
"""Blocks that the chain has when it is created: there is a finalized one at once."""


@dataclass(frozen=True)
class Person:
    """One hotkey of the network and where its keys are. ``stake`` is in whole alpha."""

    name: str
    wallet_name: str
    wallet_hotkey: str
    wallet: LocalWallet
    stake: int = 0
    validator_permit: bool = False

    @property
    def hotkey(self) -> Hotkey:
        return Hotkey(self.wallet.hotkey.ss58_address)

    @property
    def coldkey(self) -> str:
        return self.wallet.coldkey.ss58_address


@dataclass(frozen=True)
class Miner(Person):
    """A miner with its strategy. ``number`` counts the miners from 1."""

    spec: StrategySpec = STRATEGIES["honest"]
    number: int = 1


@dataclass(frozen=True)
class People:
    """Everyone with a hotkey. The owner's is the API's, and what nobody earns goes to it."""

    owner: Person
    validators: tuple[Person, ...]
    miners: tuple[Miner, ...]

    def everyone(self) -> Iterator[Person]:
        yield self.owner
        yield from self.validators
        yield from self.miners

    @property
    def strategies(self) -> dict[Hotkey, str]:
        """The strategy's name by hotkey."""
        return {miner.hotkey: miner.spec.name for miner in self.miners}


def make_people(folder: Path, seed: str, *, validators: int, strategies: Sequence[str]) -> People:
    """Write the wallets of a network, or find them: the same seed gives the same keys.

    A strategy that stands more than once gets numbered names (``honest``, ``honest-2``).
    """

    def wallet(name: str, hotkey: str = "default") -> LocalWallet:
        return create_local_wallet(folder, name, hotkey, seed.encode())

    miners: list[Miner] = []
    seen: dict[str, int] = {}
    for number, strategy in enumerate(strategies, start=1):
        seen[strategy] = seen.get(strategy, 0) + 1
        name = strategy if seen[strategy] == 1 else f"{strategy}-{seen[strategy]}"
        spec = STRATEGIES[strategy]
        # Several keys of one owner are hotkeys of one wallet.
        holder = (spec.coldkey_of, name) if spec.coldkey_of else (name, "default")
        miners.append(Miner(name, *holder, wallet(*holder), spec=spec, number=number))
    return People(
        owner=Person("owner", OWNER_WALLET, OWNER_HOTKEY, wallet(OWNER_WALLET, OWNER_HOTKEY)),
        validators=tuple(
            Person(
                name=f"validator-{number}",
                wallet_name=f"validator-{number}",
                wallet_hotkey="default",
                wallet=wallet(f"validator-{number}"),
                stake=max(40_000, 120_000 - 20_000 * number),
                validator_permit=True,
            )
            for number in range(1, validators + 1)
        ),
        miners=tuple(miners),
    )


async def settle(path: Path, people: People, clock: Clock) -> None:
    """Create the chain with everyone registered, or register who is new on one that is there.

    Raises:
        ChainError: where the file is no such chain.
    """
    if not await asyncio.to_thread(path.exists):
        create_local_chain(
            path,
            netuid=NETUID,
            block_seconds=1,
            owner_hotkey=people.owner.hotkey,
            owner_coldkey=people.owner.coldkey,
            neurons=[
                (p.hotkey, p.coldkey, p.stake * RAO_PER_ALPHA, p.validator_permit)
                for p in people.everyone()
            ],
            # A validator that was killed may have to set its weights again at once.
            weights_rate_limit=1,
            genesis=clock.now() - _HISTORY,
            clock=clock,
        ).close()
        return
    view = await _view(path, clock)
    admin = LocalChain(path, clock=clock)
    try:
        for person in people.everyone():
            if not view.is_registered(person.hotkey):
                admin.register(
                    person.hotkey,
                    person.coldkey,
                    stake=person.stake * RAO_PER_ALPHA,
                    validator_permit=person.validator_permit,
                )
    finally:
        admin.close()


async def _view(path: Path, clock: Clock) -> ChainView:
    chain = open_chain(f"local:{path}", netuid=NETUID, clock=clock)
    try:
        return await chain.view()
    finally:
        await chain.close()
