"""How many requests a second the API server answers: ``python -m benchmarks.api [--json FILE]``.

The server runs as shipped, one worker on one core; the load comes from another core, from requests
that were signed beforehand by 256 hotkeys. Limits are set high but are counted; identity,
registration, replay and audit are all on. Beside it, in the same run and on the server's core,
stand the floor of any such request, one sr25519 verification, and the same HTTP server with an
application that answers the same number of bytes and does nothing else: what is left is this
server's own work, which is then taken apart in this process.

A machine that shares its processor with others runs at half its speed for seconds at a time. So
the load comes in many short rounds, with the floor measured before and after each; what counts are
the rounds beside which the core did at least nine tenths of its best. The figures of all rounds
stand beside them.

Last comes the start of an epoch: 10,000 registered hotkeys within a minute, each over a connection
of its own, which fetch the assignment and their upload credentials under the usual limits.
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
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from bittensor import http_auth

from benchmarks.bare import BARE_PATH
from benchmarks.layers import layers
from benchmarks.load import Load, run_herd, run_load
from benchmarks.world import CURRENT, NO_LIMIT, UPLOAD, hotkeys, make_world
from sn46.mechanism.signing import verify_signature
from sn46.store.seaweed import SeaweedServer
from sn46.store.setup import prepare_buckets

HOTKEYS = 256
CONNECTIONS = 64
UNDISTURBED = 0.9
"""Of the best floor: beside a round that had less, the core worked for somebody else as well."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(
    folder: Path, miners: Sequence[Any], core: int, **changes: str
) -> Iterator[tuple[int, str]]:
    """The API as shipped, pinned to a core. Gives its port and its hotkey."""
    world = make_world(folder, miners)
    port = free_port()
    with SeaweedServer(folder / "s3") as s3:
        prepare_buckets_now(s3)
        environment = {
            **os.environ,
            "PORT": str(port),
            "HOST": "127.0.0.1",
            **world.settings,
            "S3_ENDPOINT_URL": s3.endpoint,
            "S3_ACCESS_KEY": s3.access_key,
            "S3_SECRET_KEY": s3.secret_key,
            **changes,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "sn46", "api"], env=environment, cwd=folder
        )
        os.sched_setaffinity(process.pid, {core})
        try:
            wait_ready(process, port)
            yield port, world.wallet.hotkey.ss58_address
        finally:
            process.terminate()
            process.wait()


def prepare_buckets_now(s3: SeaweedServer) -> None:
    asyncio.run(
        prepare_buckets(
            s3.access, miner_bucket="resi-miner-data", results_bucket="resi-validated-data"
        )
    )


def wait_ready(process: "subprocess.Popen[bytes]", port: int, path: str = "/readyz") -> None:
    deadline = time.monotonic() + 60
    while True:
        if process.poll() is not None:
            raise SystemExit("The API server ended; its lines above say why.")
        try:
            if httpx.get(f"http://127.0.0.1:{port}{path}").status_code == 200:
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
    """The floor: how often a core verifies one sr25519 signature in a second."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    message = b"btauth/1" * 30
    signature = bytes(signer.sign(message)).hex()
    count, began = 1_500, time.perf_counter()
    for _ in range(count):
        assert verify_signature(message, signature, signer.ss58_address)
    rate = count / (time.perf_counter() - began)
    os.sched_setaffinity(0, before)
    return rate


@contextmanager
def bare_server(core: int) -> Iterator[int]:
    """The same HTTP server, pinned likewise, with an application that only answers. Gives its
    port."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.bare", str(port)])
    os.sched_setaffinity(process.pid, {core})
    try:
        wait_ready(process, port, BARE_PATH)
        yield port
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Round:
    """One round of load, and what the core verified in a second before and after it."""

    load: Load
    floors: tuple[float, float]


def measure(
    name: str, rounds: int, floor: Callable[[], float], load: Callable[[], Load]
) -> list[Round]:
    measured: list[Round] = []
    before = floor()
    for n in range(rounds):
        print(f"\r{name}: round {n + 1} of {rounds}\033[K", end="", file=sys.stderr, flush=True)
        found, after = load(), floor()
        measured.append(Round(found, (before, after)))
        before = after
    print("\r\033[K", end="", file=sys.stderr, flush=True)
    return measured


def together(loads: Sequence[Load]) -> Load:
    """Several loads as one."""
    return Load(
        sum(load.seconds for load in loads),
        sorted(latency for load in loads for latency in load.latencies),
        sum((load.statuses for load in loads), Counter()),
    )


def kinds(
    receiver: str, miners: Sequence[Any], count: int
) -> Iterator[tuple[str, Callable[[], list[bytes]]]]:
    """What is measured, and how its requests are made: just before, since a signature is good
    for ten seconds."""
    yield "current", lambda: signed(miners, count, "GET", CURRENT, b"", receiver)
    yield "miner-upload", lambda: signed(miners, count, "POST", UPLOAD, b"{}", receiver)
    yield "401", lambda: unsigned(count, CURRENT)


def herd(folder: Path, core: int, hotkeys_count: int, seconds: float) -> Load:
    """The start of an epoch, under the usual limits."""
    miners = hotkeys(hotkeys_count)
    with server(folder, miners, core) as (port, receiver):
        callers = [
            lambda one=[miner]: [
                *signed(one, 1, "GET", CURRENT, b"", receiver),
                *signed(one, 1, "POST", UPLOAD, b"{}", receiver),
            ]
            for miner in miners
        ]
        return asyncio.run(run_herd("127.0.0.1", port, callers, seconds=seconds))


def figures_of(load: Load, floor: float) -> dict[str, Any]:
    return {
        "per_second": round(load.rate),
        "of_verification": round(load.rate / floor, 3),
        "p50_ms": round(load.quantile(0.5) * 1000, 1),
        "p99_ms": round(load.quantile(0.99) * 1000, 1),
        "statuses": dict(load.statuses),
    }


def show(name: str, found: dict[str, Any]) -> None:
    print(
        f"{name:20} {found['per_second']:8} a second, {found['of_verification']:.3f} of "
        f"verification; p50 {found['p50_ms']} ms, p99 {found['p99_ms']} ms; {found['statuses']}",
        flush=True,
    )


def spent(floor: float, bare: Load, current: Load) -> dict[str, float]:
    """Where a request for the assignment spends its time, in microseconds of the server's core.
    The parts of the application are measured here, without a server, and scaled to what the
    whole one took with it."""
    whole = 1e6 / current.rate
    parts = {"HTTP server": 1e6 / bare.rate, "verifying the signature": 1e6 / floor}
    inside = asyncio.run(layers())
    left = whole - sum(parts.values())
    scale = left / sum(inside.values())
    return parts | {name: micros * scale for name, micros in inside.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--requests", type=int, default=2_000, help="of each kind and round")
    parser.add_argument("--rounds", type=int, default=16, help="of each kind")
    parser.add_argument("--herd", type=int, default=10_000, help="hotkeys of the herd; 0 for none")
    parser.add_argument("--herd-seconds", type=float, default=60.0, help="in which they arrive")
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("Two cores are needed: one for the server and one for the load.")
    os.sched_setaffinity(0, {cores[1]})
    figures = throughput(cores[0], arguments.requests, arguments.rounds)
    if arguments.herd:
        print(
            f"herd: {arguments.herd} hotkeys in {arguments.herd_seconds:g} s, two requests each …",
            flush=True,
        )
        with tempfile.TemporaryDirectory() as folder:
            load = herd(Path(folder), cores[0], arguments.herd, arguments.herd_seconds)
        figures["herd"] = figures_of(load, figures["verifications_per_second"])
        show("herd", figures["herd"])
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


def throughput(core: int, count: int, rounds: int) -> dict[str, Any]:
    miners = hotkeys(HOTKEYS)
    figures: dict[str, Any] = {}
    loads: dict[str, Load] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        server(Path(folder), miners, core, **NO_LIMIT) as (port, receiver),
    ):
        measured = {
            name: measure(
                name, rounds, lambda: verifications_a_second(miners[0], core),
                lambda make=make: asyncio.run(
                    run_load("127.0.0.1", port, make(), connections=CONNECTIONS)
                ),
            )
            for name, make in kinds(receiver, miners, count)
        }  # fmt: skip
    requests = signed(miners, count, "GET", BARE_PATH, b"", receiver)
    with bare_server(core) as port:
        measured["bare HTTP server"] = measure(
            "bare HTTP server", rounds, lambda: verifications_a_second(miners[0], core),
            lambda: asyncio.run(run_load("127.0.0.1", port, requests, connections=CONNECTIONS)),
        )  # fmt: skip
    floor = max(max(one.floors) for each in measured.values() for one in each)
    figures["verifications_per_second"] = round(floor)
    print(f"verification alone   {floor:8.0f} a second on the server's core, at best", flush=True)
    for name, each in measured.items():
        counting = [one.load for one in each if min(one.floors) >= UNDISTURBED * floor]
        everything = [one.load for one in each]
        loads[name] = together(counting or everything)
        figures[name] = figures_of(loads[name], floor) | {
            "rounds": rounds,
            "undisturbed": len(counting),
            "all_rounds": figures_of(together(everything), floor),
        }
        show(name, figures[name])
        show("", figures[name]["all_rounds"])
        print(f"{'':20} {len(counting)} of {rounds} rounds undisturbed", flush=True)
    bare = loads["bare HTTP server"]
    figures["spent_us"] = {k: round(v, 1) for k, v in spent(floor, bare, loads["current"]).items()}
    print("a request for the assignment, in microseconds:")
    for name, micros in figures["spent_us"].items():
        print(f"  {micros:7.1f}  {name}")
    return figures


if __name__ == "__main__":
    main()
