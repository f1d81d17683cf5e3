"""The S3 server is kept running as well."""

import os
import signal
import socket
from pathlib import Path

from localnet_helpers import is_alive, until

from sn46.localnet.service import Backoff, Event, State
from sn46.localnet.storeservice import StoreService
from sn46.store.s3 import S3Bucket
from sn46.store.seaweed import SeaweedServer
from sn46.store.setup import prepare_buckets

QUICK = Backoff(first=0.1, longest=0.5)


async def test_a_killed_store_comes_back_with_its_objects(
    tmp_path: Path, events: list[Event]
) -> None:
    service = StoreService(SeaweedServer(tmp_path / "s3"), events.append, QUICK)
    service.start()
    await until(lambda: service.is_up)
    access = service.server.access
    await prepare_buckets(access, miner_bucket="kept", results_bucket="kept")
    bucket = S3Bucket(access, "kept")
    await bucket.put("a/key", b"body")
    pid = service.server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: service.is_up and service.server.pid not in (None, pid))

    assert [event.text for event in events] == ["ended; it is started again in 0.1 s"]
    assert service.server.access == access
    assert await bucket.get("a/key") == b"body"
    await bucket.close()
    last = service.server.pid
    await service.stop()
    assert last is not None
    assert not is_alive(last)
    assert service.state is State.STOPPED


async def test_a_port_in_use_is_said_once_and_waited_for(
    tmp_path: Path, events: list[Event]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        service = StoreService(SeaweedServer(tmp_path / "s3", port=port), events.append, QUICK)
        service.start()
        await until(lambda: bool(events))
        assert f"Port {port} is in use by another process" in events[0].text
        assert "started again in 0.1 s" in events[0].text
    await until(lambda: service.is_up)
    assert len(events) == 1
    await service.stop()
