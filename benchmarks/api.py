"""How many requests a second the API server answers: ``python -m benchmarks.api [--json FILE]``.

The server runs as shipped, one worker on one core; the load comes from another core, from requests
that were signed beforehand by 256 hotkeys. Limits are set high but are counted; identity,
registration, replay and audit are all on. Beside it, in the same run and on the server's core,
stands the floor of any such request: one sr25519 verification.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bittensor_core
import httpx
from bittensor import http_auth

from benchmarks.load import Load, run_load
from sn46.chain.local import create_local_chain
from sn46.chain.wallets import create_local_wallet
from sn46.localnet.portal import expected_counts
from sn46.mechanism.signing import verify_signature
from sn46.store.seaweed import SeaweedServer
from sn46.store.setup import prepare_buckets
from sn46.zipcodes import load_bundled_table, save_table, with_expected

HOTKEYS = 256
CONNECTIONS = 64
NETUID = 46
_LIMIT = "1000000/minute"


def hotkeys(count: int) -> list[Any]:
    core: Any = bittensor_core
    return [core.Keypair.create_from_seed(bytes([7]) * 28 + n.to_bytes(4, "big"))
            for n in range(count)]  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(folder: Path, miners: Sequence[Any], core: int) -> Iterator[tuple[int, str]]:
    """The API as shipped, pinned to a core. Gives its port and its hotkey."""
    wallet = create_local_wallet(folder / "wallets", "owner", "api", b"a benchmark's owner")
    chain = create_local_chain(
        folder / "chain.sqlite",
        netuid=NETUID,
        block_seconds=1,
        owner_hotkey=wallet.hotkey.ss58_address,
        owner_coldkey=wallet.coldkey.ss58_address,
        neurons=[(m.ss58_address, m.ss58_address, 0, False) for m in miners[:255]],
        genesis=datetime.now(UTC) - timedelta(minutes=5),
    )
    chain.close()
    table = with_expected(load_bundled_table(), expected_counts(), datetime.now(UTC).date())
    save_table(table, folder / "zipcodes.parquet")
    port = free_port()
    with SeaweedServer(folder / "s3") as s3:
        prepare_buckets_now(s3)
        environment = {
            **os.environ,
            "PORT": str(port),
            "HOST": "127.0.0.1",
            "SECRET_KEY": "a benchmark's secret, of no worth to anyone",
            "DATABASE_URL": f"sqlite+aiosqlite:///{folder / 'api.db'}",
            "CHAIN_ENDPOINT": f"local:{folder / 'chain.sqlite'}",
            "NETUID": str(NETUID),
            "WALLET_NAME": "owner",
            "WALLET_HOTKEY": "api",
            "WALLET_PATH": str(folder / "wallets"),
            "S3_ENDPOINT_URL": s3.endpoint,
            "S3_ACCESS_KEY": s3.access_key,
            "S3_SECRET_KEY": s3.secret_key,
            "ZIPCODE_TABLE": str(folder / "zipcodes.parquet"),
            "MAX_STATE_SHARE": "100",
            "MAX_REGION_SHARE": "100",
            "EPOCH_SECONDS": "86400",
            "LIMIT_CURRENT": _LIMIT,
            "LIMIT_CREDENTIALS": _LIMIT,
            "LIMIT_ADDRESS": _LIMIT,
            "LOG_LEVEL": "warning",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "sn46", "api"], env=environment, cwd=folder
        )
        os.sched_setaffinity(process.pid, {core})
        try:
            wait_ready(process, port)
            yield port, wallet.hotkey.ss58_address
        finally:
            process.terminate()
            process.wait()


def prepare_buckets_now(s3: SeaweedServer) -> None:
    asyncio.run(
        prepare_buckets(
            s3.access, miner_bucket="resi-miner-data", results_bucket="resi-validated-data"
        )
    )


def wait_ready(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        if process.poll() is not None:
            raise SystemExit("The API server ended; its lines above say why.")
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        if time.monotonic() > deadline:
            raise SystemExit("The API server is not ready after 60 seconds.")
        time.sleep(0.2)


def signed(
    miners: Sequence[Any], count: int, method: str, path: str, body: bytes, receiver: str
) -> list[bytes]:
    """Requests with fresh btauth/1 signatures, the hotkeys in turn."""
    nonce = time.time_ns()
    requests: list[bytes] = []
    for n in range(count):
        headers = http_auth.sign(
            miners[n % len(miners)], method=method, path=path, body=body,
            receiver_ss58=receiver, nonce_ns=nonce + n,
        )  # fmt: skip
        requests.append(raw(method, path, headers, body))
    return requests


def unsigned(count: int, path: str) -> list[bytes]:
    """Requests in the header form with a signature that does not verify."""
    headers = {
        "Authorization": f"Bearer {'ab' * 64}",
        "X-Hotkey": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
        "X-Timestamp": str(int(time.time())),
    }
    return [raw("GET", path, headers, b"")] * count


def raw(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def verifications_a_second(signer: Any, core: int) -> float:
    """The floor: how often this core verifies one sr25519 signature in a second."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    message = b"btauth/1" * 30
    signature = bytes(signer.sign(message)).hex()
    count, began = 5_000, time.perf_counter()
    for _ in range(count):
        assert verify_signature(message, signature, signer.ss58_address)
    rate = count / (time.perf_counter() - began)
    os.sched_setaffinity(0, before)
    return rate


def measure(
    port: int, receiver: str, miners: Sequence[Any], count: int
) -> Iterator[tuple[str, Load]]:
    current = "/api/v1/zipcode-assignments/current"
    upload = "/api/v1/s3-access/miner-upload"
    for name, method, path, body in (
        ("current", "GET", current, b""),
        ("miner-upload", "POST", upload, b"{}"),
    ):
        # Signed just before: a signature is good for ten seconds.
        requests = signed(miners, count, method, path, body, receiver)
        yield name, asyncio.run(run_load("127.0.0.1", port, requests, connections=CONNECTIONS))
    requests = unsigned(count, current)
    yield "401", asyncio.run(run_load("127.0.0.1", port, requests, connections=CONNECTIONS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--requests", type=int, default=8_000, help="of each kind")
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("Two cores are needed: one for the server and one for the load.")
    os.sched_setaffinity(0, {cores[1]})
    miners = hotkeys(HOTKEYS)[:255]
    figures: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        server(Path(folder), miners, cores[0]) as (port, receiver),
    ):
        floor = verifications_a_second(miners[0], cores[0])
        figures["verifications_per_second"] = round(floor)
        print(f"verification alone   {floor:8.0f} a second on the server's core")
        for name, load in measure(port, receiver, miners, arguments.requests):
            figures[name] = {
                "per_second": round(load.rate),
                "of_verification": round(load.rate / floor, 3),
                "p50_ms": round(load.quantile(0.5) * 1000, 1),
                "p99_ms": round(load.quantile(0.99) * 1000, 1),
                "statuses": dict(load.statuses),
            }
            print(
                f"{name:20} {load.rate:8.0f} a second, {load.rate / floor:.3f} of verification; "
                f"p50 {load.quantile(0.5) * 1000:.1f} ms, p99 {load.quantile(0.99) * 1000:.1f} ms; "
                f"{dict(load.statuses)}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
