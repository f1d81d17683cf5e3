"""Whatever is thrown at the server, its memory stays as it is."""

import asyncio
import time
from urllib.parse import urlsplit

import httpx
import psutil
from apinet import World, free_port
from test_api_processes import start_api, wait_ready

from sn46.certificates import trusted

CURRENT = "/api/v1/zipcode-assignments/current"
STATUS = "/api/v1/zipcode-assignments/status"
MEGABYTES = 10 * 1024 * 1024
MOST_GROWTH = 12 * 1024 * 1024
ROUNDS = 4


def stored(world: World) -> int:
    """Bytes of the database's files."""
    return sum(file.stat().st_size for file in world.folder.glob("api.db*"))


async def throw_large_things(url: str) -> None:
    """Bodies, hotkeys and headers of 10 MB each; whether they are read or hung up on."""
    large = b"5" * MEGABYTES
    end = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    head = b"POST " + STATUS.encode() + end
    requests = (
        head + b"Content-Length: %d\r\n\r\n" % len(large) + large,
        head + b"Content-Length: %d\r\n\r\n" % (len(large) + 14) + b'{"hotkey": "' + large + b'"}',
        b"GET " + CURRENT.encode() + b"?hotkey=" + large + end + b"\r\n",
        b"GET " + CURRENT.encode() + end + b"X-Hotkey: " + large + b"\r\n\r\n",
    )
    address = urlsplit(url)
    for request in requests:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            async with asyncio.timeout(20):
                writer.write(request)
                await writer.drain()
                await reader.read()
        except ConnectionError:
            continue
        finally:
            writer.close()


async def throw_garbage(http: httpx.AsyncClient, number: int) -> None:
    """Requests that differ in all that the server might keep of them."""
    stamp = str(int(time.time()))
    for n in range(100):
        name = f"{number}-{n}"
        headers = {
            "X-Hotkey": f"5Grw{name}",
            "Authorization": f"Bearer {n:0128x}",
            "X-Timestamp": stamp,
            "X-Request-Id": name,
        }
        answer = await http.get(f"{CURRENT}?x={name}", headers=headers)
        assert answer.status_code in (401, 429)
        answer = await http.get(f"/nothing/{name}")
        assert answer.status_code in (404, 429)


async def test_garbage_and_large_things_leave_no_trace(world: World) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    child = start_api(world, port)
    try:
        await wait_ready(url, child)
        process = psutil.Process(child.pid)
        sizes: list[int] = []
        async with httpx.AsyncClient(base_url=url, timeout=20, verify=trusted()) as http:
            for number in range(ROUNDS):
                await throw_large_things(url)
                await throw_garbage(http, number)
                sizes.append(process.memory_info().rss)
        # The first rounds fill caches and pools, which are of one size.
        assert sizes[-1] - sizes[1] < MOST_GROWTH, [size >> 20 for size in sizes]
        assert stored(world) < 16 * 1024 * 1024
    finally:
        child.kill()
        child.communicate()
