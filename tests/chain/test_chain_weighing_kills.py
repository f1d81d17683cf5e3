"""Real processes, really killed (SIGKILL), at each moment between the first look at the chain and
the last note in the journal: one set of weights, or one commit, comes of it."""

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sn46.chain.local import LocalChain, create_local_chain
from sn46.chain.wallets import create_local_wallet
from sn46.mechanism.epochs import Epoch, epoch_at

PROCESS = """
import asyncio, json, os, signal, sys
from datetime import datetime, timedelta
from pathlib import Path
from sn46.chain.base import ChainError
from sn46.chain.local.substrate import LocalSubstrate
from sn46.chain.sdk import SdkChain
from sn46.chain.wallets import load_hotkey
from sn46.clock import SystemClock
from sn46.mechanism.epochs import Epoch
from sn46.validator.journal import Journal
from sn46.validator.weighing import Weighing

told = json.loads(sys.argv[1])
folder, moment, clock = Path(told["folder"]), told["moment"], SystemClock()

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Mortal(LocalSubstrate):
    async def submit_signed(self, *args, **options):
        if moment == "before it is sent":
            die()
        result = await super().submit_signed(*args, **options)
        if moment == "after it is sent":
            die()
        return result

async def main():
    chain = SdkChain(
        netuid=46, substrate=lambda: Mortal(told["chain"], clock=clock), network="local",
        signer=load_hotkey("vali", "default", folder / "wallets"), clock=clock,
    )
    epoch = Epoch(datetime.fromisoformat(told["start"]), told["seconds"])
    journal = Journal(folder, epoch.id)
    weighing = Weighing(chain, journal, clock=clock, hotkey=told["hotkey"], epoch=epoch)
    while True:
        try:
            done = await weighing.attempt(told["weights"])
            break
        except ChainError:
            await clock.sleep(timedelta(seconds=0.1))
    if moment == "before it is noted":
        die()
    journal.put("weights", done)
    print(json.dumps(done))

asyncio.run(main())
"""
MOMENTS = ("before it is sent", "after it is sent", "before it is noted")


def epoch_to_weigh(now: datetime) -> Epoch:
    """One of those whose weights are due now, with the most time left and gone."""
    lengths = [seconds for seconds in range(600, 43_201, 60) if 86_400 % seconds == 0]
    epochs = [epoch_at(now, seconds).previous() for seconds in lengths]
    return min(epochs, key=lambda e: abs((now - e.end) / e.length - 0.7))


def start(folder: Path, chain: LocalChain, moment: str, hotkeys: dict[str, str]) -> Any:
    epoch = epoch_to_weigh(datetime.now(UTC))
    told = {
        "folder": str(folder),
        "chain": str(chain.path),
        "moment": moment,
        "start": epoch.start.isoformat(),
        "seconds": epoch.seconds,
        "hotkey": hotkeys["vali"],
        "weights": {hotkeys["ann"]: 600_000, hotkeys["bob"]: 400_000},
    }
    return subprocess.run(
        [sys.executable, "-c", PROCESS, json.dumps(told)],
        stdout=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("commit_reveal", [False, True], ids=["plaintext", "commit-reveal"])
def test_killed_at_every_moment(tmp_path: Path, commit_reveal: bool) -> None:
    names = ("owner", "vali", "ann", "bob")
    wallets = {
        name: create_local_wallet(tmp_path / "wallets", name, "default", b"kills") for name in names
    }
    hotkeys = {name: wallet.hotkey.ss58_address for name, wallet in wallets.items()}
    chain = create_local_chain(
        tmp_path / "chain.sqlite",
        netuid=46,
        block_seconds=0.1,
        owner_hotkey=hotkeys["owner"],
        owner_coldkey=wallets["owner"].coldkey.ss58_address,
        neurons=[(hotkeys[n], wallets[n].coldkey.ss58_address, 10**15, n == "vali") for n in names],
        commit_reveal=commit_reveal,
        weights_rate_limit=0,
        genesis=datetime.now(UTC) - timedelta(minutes=1),
    )
    for moment in MOMENTS:
        assert start(tmp_path, chain, moment, hotkeys).returncode == -signal.SIGKILL
    last = start(tmp_path, chain, "", hotkeys)
    chain.close()

    assert last.returncode == 0
    done = json.loads(last.stdout.splitlines()[-1])
    assert done["found_on_chain"]
    assert done["committed_only"] is commit_reveal
    with closing(sqlite3.connect(tmp_path / "chain.sqlite")) as file:
        assert file.execute("SELECT COUNT(*) FROM extrinsics").fetchall() == [(1,)]
    if not commit_reveal:
        assert done["on_chain"] == {hotkeys["ann"]: 600_000, hotkeys["bob"]: 400_000}
