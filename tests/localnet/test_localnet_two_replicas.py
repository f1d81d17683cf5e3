"""A whole network with two replicas of the API: each is killed once while it is needed, and nobody
notices more than a retry."""

import asyncio
import json
import os
import re
import signal
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from localnet_helpers import Command, eventually, is_alive, is_all_it_could, until

from sn46.certificates import trusted
from sn46.chain.local import LocalChain
from sn46.chain.wallets import create_local_wallet
from sn46.client.api import ApiClient, ApiError, ApiUnavailable
from sn46.clock import SystemClock
from sn46.localnet.people import OWNER_HOTKEY, OWNER_WALLET
from sn46.localnet.results import weights_agree
from sn46.mechanism.assignment import read_assignment
from sn46.mechanism.times import parse_time

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

MINERS = ("honest-fast", "honest", "second-hotkey", "wrong-zip")
CALLERS = 20
PAUSE = 1.2


class Load:
    """Many registered hotkeys that ask for the assignment at a steady rate, through Caddy."""

    def __init__(self, data: Path, wallets: Path) -> None:
        known = json.loads((data / "network.json").read_text())
        self.ports: Mapping[str, int] = known["ports"]
        seed = known["seed"].encode()
        owner = create_local_wallet(data / "wallets", OWNER_WALLET, OWNER_HOTKEY, seed)
        callers = [create_local_wallet(wallets, f"caller-{n}", "hot", seed) for n in range(CALLERS)]
        chain = LocalChain(data / "chain.sqlite", clock=SystemClock())
        for caller in callers:
            chain.register(caller.hotkey.ss58_address, caller.coldkey.ss58_address)
        chain.close()

        def clients(server: str) -> list[ApiClient]:
            address = f"http://127.0.0.1:{self.ports[server]}"
            owner_hotkey = owner.hotkey.ss58_address
            return [
                ApiClient(address, api_hotkey=owner_hotkey, signer=caller.hotkey)
                for caller in callers
            ]

        self._clients = clients("api")
        self._direct = [*clients("api-1"), *clients("api-2")]
        self.answered = 0
        self.escaped: list[str] = []
        self._ending = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Ask from when all callers are known to both replicas and an epoch runs. Each reads the
        chain in its own time."""
        await asyncio.gather(*(self._until_known(client) for client in self._direct))
        for client in self._direct:
            await client.close()
        self._tasks = [asyncio.create_task(self._ask(client)) for client in self._clients]

    async def end(self) -> None:
        self._ending.set()
        await asyncio.gather(*self._tasks)
        for client in self._clients:
            await client.close()

    async def _until_known(self, client: ApiClient) -> None:
        async def known() -> bool:
            try:
                await client.current()
            except ApiError as error:
                if error.code not in ("hotkey_not_registered", "no_epoch_yet"):
                    raise
                return False
            return True

        await eventually(known, 90)

    async def _ask(self, client: ApiClient) -> None:
        while not self._ending.is_set():
            try:
                await client.current()
                self.answered += 1
            except (ApiError, ApiUnavailable) as error:
                self.escaped.append(str(error))
            await asyncio.sleep(PAUSE)

    async def served(self, name: str) -> int:
        """How many requests a replica's process has answered well; 0 where it is away."""
        try:
            async with httpx.AsyncClient(verify=trusted()) as http:
                text = (await http.get(f"http://127.0.0.1:{self.ports[name]}/metrics")).text
        except httpx.TransportError:
            return 0
        pattern = r'^sn46_api_authenticated_requests_total{.*current",way="btauth"} (\S+)$'
        found = re.search(pattern, text, re.MULTILINE)
        return int(float(found[1])) if found else 0

    async def serves(self, name: str) -> None:
        await eventually(lambda: self.served(name), 60)


def listener(network: Command, port: int) -> int:
    """The process below the network that listens on a port."""
    network.children()
    for pid in network.pids:
        if is_alive(pid):
            for connection in psutil.Process(pid).net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return pid
    raise AssertionError(f"nobody listens on {port}")


async def test_each_replica_dies_once_and_nobody_minds(tmp_path: Path, open_path: Path) -> None:
    data = open_path / "data"
    network = Command(
        tmp_path,
        *("--replicas", "2", "--epochs", "1", "--epoch-seconds", "60", "--validators", "2"),
        *("--miners", ",".join(MINERS), "--json", "out.json"),
        *("--data-dir", str(data)),
    )
    try:
        await until(lambda: "The API answers" in network.output, 120)
        load = Load(data, tmp_path / "wallets")
        await load.begin()
        os.kill(listener(network, load.ports["api-2"]), signal.SIGKILL)
        await until(lambda: "api-2: was ended by SIGKILL" in network.output)
        await load.serves("api-2")

        await until(lambda: "validator-1: checking" in network.output, 120)
        os.kill(listener(network, load.ports["api-1"]), signal.SIGKILL)
        await until(lambda: "api-1: was ended by SIGKILL" in network.output)
        await load.serves("api-1")
        answered = load.answered
        await until(lambda: load.answered >= answered + 3 * CALLERS)
        await load.end()

        def ended() -> bool:
            network.children()
            return network.process.poll() is not None

        await until(ended, 150)
    finally:
        network.end()
        print(network.output)
    assert network.process.returncode == 0
    assert load.escaped == []
    assert load.answered > 20 * CALLERS
    assert not [pid for pid in network.pids if is_alive(pid)]
    (epoch,) = json.loads((tmp_path / "out.json").read_text())["epochs"]
    check_epoch(epoch)


def check_epoch(epoch: Mapping[str, Any]) -> None:
    """As if nothing had happened."""
    assert epoch["faults"] == []
    assert epoch["consensus"] is True
    assert len(epoch["reports"]) == 2
    assert len({report["consensus_hash"] for report in epoch["reports"].values()}) == 1
    for validator, report in epoch["reports"].items():
        assert weights_agree(report["weights"], epoch["weights_on_chain"][validator])
    end = read_assignment(epoch["assignment"]).epoch.end
    miners = next(iter(epoch["reports"].values()))["miners"]
    entries = {name: miners[hotkey] for hotkey, name in epoch["strategies"].items()}
    assert set(entries) == set(MINERS)
    for name, entry in entries.items():
        assert end - timedelta(seconds=60) < parse_time(entry["submission_time"]) <= end
        assert entry["valid"] is (name != "wrong-zip")
    for name in ("honest-fast", "honest", "second-hotkey"):
        assert is_all_it_could(entries[name]["volume"])
    assert entries["honest"]["accuracy"] == 1_000_000
    # Two hotkeys of one coldkey have one candidate, so the other is not checked (decision 44).
    assert {entries[name]["accuracy"] for name in ("honest-fast", "second-hotkey")} == {
        1_000_000,
        None,
    }
