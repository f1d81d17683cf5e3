"""Serving the portal: one process, one port, ready when it says so."""

import asyncio
import errno
import signal
import socket
from collections.abc import Callable
from typing import Final

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server
from starlette.applications import Starlette

from sn46.localnet.portal.faults import PortalConfigError

_READY_STEP: Final = 0.02
_BACKLOG: Final = 1024


class PortInUse(PortalConfigError):
    """Another program listens where the portal should."""


def reserve_port(host: str, port: int) -> socket.socket:
    """A socket that holds the port (a free one for 0) without listening on it.

    Granian binds with SO_REUSEPORT, and would share a port with another server that does so too:
    half of the requests would reach a stranger. So the port is tried first without it, and then
    held with it until Granian has it.

    Raises:
        PortInUse: where someone listens there.
        PortalConfigError: where the address is none of this machine's, or not allowed.
    """
    try:
        if port:
            with socket.socket() as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind((host, port))
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"Port {port} on {host} is in use by another program; choose another with --port."
            ) from error
        raise PortalConfigError(f"Cannot listen on {host}:{port}: {error.strerror}.") from error
    return held


async def serve(app: Starlette, held: socket.socket, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. ``on_ready`` gets the portal's URL once it answers."""
    host, port = held.getsockname()[:2]
    server = Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        backlog=_BACKLOG,
        log_enabled=False,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    ready = loop.create_task(_tell_when_ready(host, port, on_ready))
    try:
        await server.serve()
    finally:
        ready.cancel()
        held.close()


async def _tell_when_ready(host: str, port: int, on_ready: Callable[[str], None]) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except ConnectionRefusedError:
            await asyncio.sleep(_READY_STEP)
            continue
        writer.close()
        on_ready(f"http://{host}:{port}")
        return
