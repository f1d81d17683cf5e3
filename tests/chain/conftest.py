"""A local chain of a few neurons under a clock that tests move, and the SDK over it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sn46.chain.local import LocalChain, create_local_chain
from sn46.chain.local.substrate import LocalSubstrate
from sn46.chain.sdk import SdkChain
from sn46.chain.wallets import LocalWallet, create_local_wallet

NETUID = 46
ALPHA = 10**9
GENESIS = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass
class ManualClock:
    """Time that moves when someone sleeps, or when the test says so."""

    time: datetime = GENESIS + timedelta(hours=1)
    sleeps: int = 0
    _due: list[tuple[datetime, Callable[[], Any]]] = field(default_factory=list)

    def now(self) -> datetime:
        return self.time

    async def sleep(self, duration: timedelta) -> None:
        self.sleeps += 1
        self.time += max(duration, timedelta(0))
        for entry in [entry for entry in self._due if entry[0] <= self.time]:
            self._due.remove(entry)
            entry[1]()
        await asyncio.sleep(0)

    def advance(self, **parts: float) -> None:
        self.time += timedelta(**parts)

    def after(self, span: timedelta, act: Callable[[], Any]) -> None:
        """Have something happen in a sleep that ends so much later."""
        self._due.append((self.time + span, act))


@dataclass
class Network:
    """uid 0 is the owner, 1 and 2 are validators, 3 to 5 are miners."""

    local: LocalChain
    clock: ManualClock
    wallets: dict[str, LocalWallet]
    opened: list[SdkChain] = field(default_factory=list)

    def hotkey(self, name: str) -> str:
        return self.wallets[name].hotkey.ss58_address

    def coldkey(self, name: str) -> str:
        return self.wallets[name].coldkey.ss58_address

    def substrate(self) -> LocalSubstrate:
        return LocalSubstrate(self.local.path, clock=self.clock)

    def open(self, name: str | None, **options: Any) -> SdkChain:
        options = {
            "netuid": NETUID,
            "substrate": self.substrate,
            "network": "local",
            "signer": self.wallets[name].hotkey if name else None,
            "clock": self.clock,
        } | options
        chain = SdkChain(**options)
        self.opened.append(chain)
        return chain


NAMES = ["owner", "vali", "other", "ann", "bob", "cid"]


@pytest_asyncio.fixture
async def make_network(tmp_path: Path) -> AsyncIterator[Callable[..., Network]]:
    made: list[Network] = []

    def make(**options: Any) -> Network:
        clock = ManualClock()
        wallets = {
            name: create_local_wallet(tmp_path / "wallets", name, "default", b"chain tests")
            for name in [*NAMES, "newcomer", "stranger"]
        }
        options = {"block_seconds": 12.0, "genesis": GENESIS, "tempo": 10} | options
        local = create_local_chain(
            tmp_path / f"chain{len(made)}.sqlite",
            netuid=NETUID,
            owner_hotkey=wallets["owner"].hotkey.ss58_address,
            owner_coldkey=wallets["owner"].coldkey.ss58_address,
            neurons=[
                (
                    wallets[name].hotkey.ss58_address,
                    wallets[name].coldkey.ss58_address,
                    (20_000 + uid) * ALPHA,
                    name in ("vali", "other"),
                )
                for uid, name in enumerate(NAMES)
            ],
            clock=clock,
            **options,
        )
        made.append(Network(local, clock, wallets))
        return made[-1]

    yield make
    for network in made:
        for chain in network.opened:
            await chain.close()
        network.local.close()


@pytest.fixture
def network(make_network: Callable[..., Network]) -> Network:
    return make_network()
