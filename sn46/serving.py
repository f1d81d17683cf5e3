"""One HTTP server inside a service's own process, until it is told to stop."""

import asyncio
import socket

from granian.constants import Interfaces
from granian.server.embed import Server
from starlette.types import ASGIApp


class StartError(Exception):
    """The server cannot start; the message says why and what to do."""


async def serve_app(
    app: ASGIApp, host: str, port: int, stop: asyncio.Event, *, settings: str = "HOST and PORT"
) -> None:
    """Serve an application until ``stop`` is set; requests under way are finished.
    ``settings`` are those that say where.

    Raises:
        StartError: where the port is taken.
    """
    check_port(host, port, settings=settings)
    # Granian is built for a process of its own; embedded it shares ours, so that one kill ends all.
    server = Server(
        app, address=host, port=port, interface=Interfaces.ASGINL, websockets=False,
        log_enabled=False,
    )  # fmt: skip
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await serving
            raise StartError("The HTTP server ended by itself; look at the lines above.")
    finally:
        stopping.cancel()
        server.stop()
        await asyncio.wait({serving})


def check_port(host: str, port: int, *, settings: str = "HOST and PORT") -> None:
    """Refuse a port that another process listens on: the server itself would share it.

    Raises:
        StartError: where it is taken, or the host is none of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen()
    except OSError as error:
        raise StartError(
            f"Cannot listen on {host}:{port} ({error.strerror or error}). Stop what listens "
            f"there, or set {settings}."
        ) from error
