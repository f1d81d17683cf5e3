"""The application taken apart, without an HTTP server: what each layer of a request for the
current assignment costs."""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from bittensor import http_auth
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Scope

from benchmarks.world import CURRENT, NO_LIMIT, World, hotkeys, make_world
from sn46.api.app import Api, create_app, running
from sn46.api.identity import BtauthWay
from sn46.api.problems import Problem
from sn46.api.routes.assignments import current_assignment, current_call
from sn46.api.server import opened
from sn46.api.settings import load_settings
from sn46.clock import SystemClock
from sn46.logs import configure_logs

_HOTKEYS = 256
_REQUESTS = 2_000
_ROUNDS = 3

Step = Callable[[Scope], Awaitable[Any]]


async def layers() -> dict[str, float]:
    """Microseconds of this process's time by layer, verification of the signature left out."""
    configure_logs("console", "warning")
    miners = hotkeys(_HOTKEYS)
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder), miners)
        store = {
            "S3_ENDPOINT_URL": "http://127.0.0.1:9",
            "S3_ACCESS_KEY": "a",
            "S3_SECRET_KEY": "b",
        }
        values = world.settings | NO_LIMIT | store
        settings = load_settings(_env_file=None, **{k.lower(): v for k, v in values.items()})
        async with opened(settings, SystemClock()) as outside:
            app = create_app(settings, outside)
            async with running(app):
                await _until_drawn(app)
                return await _measured(app, world, miners)


async def _until_drawn(app: Api) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                app.state.services.metagraph.trusted()
                await app.state.services.epochs.current()
                return
            except Problem:
                await asyncio.sleep(0.05)


async def _measured(app: Api, world: World, miners: Sequence[Any]) -> dict[str, float]:
    services = app.state.services
    call = current_call(services.settings)
    way = BtauthWay(
        services.outside.clock, services.limiter, world.wallet.hotkey.ss58_address,
        max_age=settings_age(app), skew=2,
    )  # fmt: skip

    async def signature(scope: Scope) -> None:
        request = Request(scope)
        http_auth.verify(
            request.headers, b"", method="GET", path=CURRENT,
            self_hotkey_ss58=world.wallet.hotkey.ss58_address, max_age=settings_age(app),
            nonce_store=_Any(),
        )  # fmt: skip

    async def verified(scope: Scope) -> None:
        await way.verify(Request(scope), b"", call)

    async def identified(scope: Scope) -> None:
        await services.authenticator.identify(Request(scope), b"", call)

    async def handled(scope: Scope) -> None:
        await current_assignment(Request(scope))

    steps: list[tuple[str, Step]] = [
        ("", signature),
        ("replay protection", verified),
        ("registration, limits", identified),
        ("assignment, ETag", handled),
        ("routing, response, request id, metrics, audit trail", _sent_to(app)),
    ]
    found: dict[str, float] = {}
    before = 0.0
    for name, step in steps:
        micros = min([await _timed(step, app, world, miners) for _ in range(_ROUNDS)])
        if name:
            found[name] = max(0.0, micros - before)
        before = micros
    return found


def settings_age(app: Api) -> int:
    return app.state.services.settings.btauth_max_age_seconds


class _Any:
    def check_and_store(self, hotkey_ss58: str, nonce_ns: int) -> bool:
        return True


def _sent_to(app: ASGIApp) -> Step:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message.get("status", 200) != 200:
            raise SystemExit(f"A request was answered with {message['status']}.")

    async def step(scope: Scope) -> None:
        await app(scope, receive, send)

    return step


async def _timed(step: Step, app: Api, world: World, miners: Sequence[Any]) -> float:
    nonce = time.time_ns()
    scopes: list[Scope] = []
    for n in range(_REQUESTS):
        headers = http_auth.sign(
            miners[n % len(miners)], method="GET", path=CURRENT, nonce_ns=nonce + n,
            receiver_ss58=world.wallet.hotkey.ss58_address,
        )  # fmt: skip
        scopes.append(
            {
                "type": "http",
                "app": app,
                "method": "GET",
                "scheme": "http",
                "path": CURRENT,
                "raw_path": CURRENT.encode(),
                "query_string": b"",
                "root_path": "",
                "state": {},
                "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
                "client": ("127.0.0.1", 1),
                "server": ("127.0.0.1", 2),
            }
        )
    began = time.process_time()
    for scope in scopes:
        await step(scope)
    return (time.process_time() - began) / len(scopes) * 1e6
