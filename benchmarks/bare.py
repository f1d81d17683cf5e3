"""The API's HTTP server with an application that only answers: ``python -m benchmarks.bare PORT``.

What it reaches is what HTTP itself costs a request, with an answer of an assignment's size.
"""

import asyncio
import signal
import sys

from starlette.types import Receive, Scope, Send

from sn46.api.server import serve_app

BARE_PATH = "/bare"
_BODY = b"x" * 3_000
_HEADERS = [(b"content-type", b"text/plain"), (b"content-length", str(len(_BODY)).encode())]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})


async def main(port: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await serve_app(app, "127.0.0.1", port, stop)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
