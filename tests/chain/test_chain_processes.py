"""Many processes on one file, and some of them killed in the middle of it."""

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sn46.chain.connect import open_chain
from sn46.chain.local import create_local_chain
from sn46.chain.wallets import create_local_wallet
from sn46.mechanism.chainview import Block

WORKER = """
import asyncio, json, sys
from sn46.chain.connect import open_chain
from sn46.chain.wallets import load_hotkey

async def main(path, wallets, name, targets, rounds):
    chain = open_chain(f"local:{path}", netuid=46, signer=load_hotkey(name, "default", wallets))
    for number in range(rounds):
        share = 1_000_000 * (number % 9 + 1) // 10
        receipt = await chain.set_weights(
            {targets[0]: share, targets[1]: 1_000_000 - share}
        )
        print(json.dumps({"block": receipt.block, "on_chain": dict(receipt.on_chain)}), flush=True)

path, wallets, name, targets, rounds = sys.argv[1:]
asyncio.run(main(path, wallets, name, json.loads(targets), int(rounds)))
"""
VALIDATORS = 4


def start(path: Path, wallets: Path, name: str, targets: list[str], rounds: int):
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            WORKER,
            *[str(path), str(wallets), name, json.dumps(targets), str(rounds)],
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_processes_share_a_chain_and_one_that_is_killed_leaves_it_whole(tmp_path):
    wallets = {
        name: create_local_wallet(tmp_path / "w", name, "default", b"processes")
        for name in ["owner", "m0", "m1", *[f"v{i}" for i in range(VALIDATORS)]]
    }
    path = tmp_path / "chain.sqlite"
    create_local_chain(
        path,
        netuid=46,
        block_seconds=0.1,
        owner_hotkey=wallets["owner"].hotkey.ss58_address,
        owner_coldkey=wallets["owner"].coldkey.ss58_address,
        neurons=[
            (w.hotkey.ss58_address, w.coldkey.ss58_address, 1, name.startswith("v"))
            for name, w in wallets.items()
        ],
        weights_rate_limit=0,
        genesis=datetime.now(UTC) - timedelta(hours=1),
    ).close()
    targets = [wallets["m0"].hotkey.ss58_address, wallets["m1"].hotkey.ss58_address]
    workers = {
        name: start(path, tmp_path / "w", name, targets, 1000 if name == "v0" else 8)
        for name in wallets
        if name.startswith("v")
    }
    victim = workers.pop("v0")
    said = [victim.stdout.readline() for _ in range(3)]  # it is in the middle of its loop now
    victim.kill()
    said += victim.communicate()[0].splitlines()

    last: dict[str, dict] = {}
    for name, worker in workers.items():
        out, err = worker.communicate(timeout=60)
        assert worker.returncode == 0, err
        lines = [json.loads(line) for line in out.splitlines()]
        assert len(lines) == 8
        last[name] = lines[-1]

    reader = open_chain(f"local:{path}", netuid=46)
    for name, receipt in last.items():
        weights = await reader.weights_of(wallets[name].hotkey.ss58_address)
        assert weights == receipt["on_chain"]
    killed = await reader.weights_of(wallets["v0"].hotkey.ss58_address)
    assert set(killed) == set(targets)
    await reader.close()

    # What the killed one was told is in the chain, and the chain goes on: with it, too.
    told = {json.loads(line)["block"] for line in said if line.rstrip().endswith("}")}
    with closing(sqlite3.connect(path)) as file:
        rows = file.execute("SELECT block, error FROM extrinsics").fetchall()
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert told <= {block for block, _ in rows}
    assert not [error for _, error in rows if error]
    again = start(path, tmp_path / "w", "v0", targets, 1)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert json.loads(out)["block"] > max(told)


def start_writer(path: Path, hotkey: str):
    code = (
        "import sys; from sn46.chain.local import LocalChain\n"
        "chain = LocalChain(sys.argv[1]); number = 0\n"
        "while True: number += 1; chain.set_stake(sys.argv[2], number)\n"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(path), hotkey])


async def test_no_reader_sees_a_block_change_under_load(tmp_path):
    """One writes as fast as it can; what a finalized block showed first, it shows at the end."""
    wallet = create_local_wallet(tmp_path / "w", "owner", "default", b"processes")
    hotkey, coldkey = wallet.hotkey.ss58_address, wallet.coldkey.ss58_address
    path = tmp_path / "chain.sqlite"
    chain = create_local_chain(
        path,
        netuid=46,
        block_seconds=0.02,
        owner_hotkey=hotkey,
        owner_coldkey=coldkey,
        genesis=datetime.now(UTC) - timedelta(minutes=1),
    )
    writer = start_writer(path, hotkey)
    reader = open_chain(f"local:{path}", netuid=46)
    seen: dict[Block, int] = {}
    deadline = time.monotonic() + 30
    try:
        while len(set(seen.values())) < 15:
            assert time.monotonic() < deadline, "the writer does not write"
            view = await reader.view()
            seen[view.block] = view.neurons[0].stake
    finally:
        writer.kill()
        writer.wait()
    for block, stake in seen.items():
        view = await reader.view_at(block.timestamp)
        assert view.block == block
        assert view.neurons[0].stake == stake
    await reader.close()
    chain.close()
