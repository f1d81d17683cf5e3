"""Health: the epoch loop's own sign of life, readiness by parts, figures, systemd, and the status
command over what a running process wrote."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from apinet import MovedClock, free_port
from minernet import Competition, process, read_status, real_now

from sn46.certificates import trusted
from sn46.chain.connect import open_chain
from sn46.client.api import ApiClient
from sn46.client.metagraph import Metagraph
from sn46.mechanism.names import Hotkey
from sn46.mechanism.times import format_time
from sn46.mechanism.verdicts import Verdict
from sn46.validator.health import Health, HealthError, watched
from sn46.validator.heart import SLACK, Heart, HeartClock
from sn46.validator.progress import Ending, Progress, Result
from sn46.validator.relay_assignments import Assignments, Held
from sn46.validator.systemd import Notifier
from sn46.validator.watching import Seen, why_not_running

START = datetime.fromisoformat("2026-03-01T12:00:00+00:00")


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock(START)


def lived(clock: MovedClock, heart: Heart, span: timedelta) -> bool:
    """Let time pass in a process that runs; whether the loop is well at the end."""
    end, well = clock.now() + span, heart.look()
    while clock.now() < end:
        clock.advance(timedelta(seconds=5))
        well = heart.look()
    return well


def test_a_loop_that_sleeps_for_hours_is_well_and_one_that_hangs_is_not(clock: MovedClock) -> None:
    heart = Heart(clock)
    heart.of_epochs(timedelta(hours=4))
    heart.beat(until=clock.now() + timedelta(hours=4))
    assert lived(clock, heart, timedelta(hours=4))
    assert not lived(clock, heart, SLACK + timedelta(seconds=10))
    assert "goes on where it was" in heart.why_not()
    heart.beat()
    assert lived(clock, heart, timedelta(minutes=14))
    assert not lived(clock, heart, timedelta(minutes=2))


@pytest.mark.parametrize(
    ("epoch", "silence"),
    [(timedelta(hours=4), timedelta(minutes=15)), (timedelta(minutes=1), timedelta(minutes=2))],
)
def test_a_step_may_take_a_share_of_the_epoch(
    clock: MovedClock, epoch: timedelta, silence: timedelta
) -> None:
    heart = Heart(clock)
    heart.of_epochs(epoch)
    heart.beat()
    assert lived(clock, heart, silence - timedelta(seconds=10))
    assert not lived(clock, heart, timedelta(seconds=20))


def test_time_that_a_suspended_machine_did_not_live_is_no_silence(clock: MovedClock) -> None:
    heart = Heart(clock)
    heart.of_epochs(timedelta(hours=4))
    heart.beat(until=clock.now() + timedelta(minutes=30))
    heart.look()
    clock.advance(timedelta(hours=9))
    assert heart.look(), "it wakes within half a minute"
    assert not lived(clock, heart, timedelta(minutes=40))


async def test_every_sleep_of_the_loop_is_a_sign_of_life(clock: MovedClock) -> None:
    heart = Heart(clock)
    asleep = asyncio.create_task(HeartClock(clock, heart).sleep(timedelta(hours=1)))
    await asyncio.sleep(0)
    assert heart.due >= START + timedelta(hours=1)
    clock.advance(timedelta(hours=1))
    await asleep
    assert heart.beat_at >= START + timedelta(hours=1)


class Supervisor:
    """systemd's end of the socket."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self._socket.setblocking(False)
        self.lines: list[str] = []

    def read(self) -> list[str]:
        while True:
            try:
                self.lines += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.lines

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(str(tmp_path / "notify"))
    yield made
    made.close()


def test_what_systemd_is_told(tmp_path: Path, supervisor: Supervisor) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
    notifier = Notifier.from_environment(environment, os.getpid())
    assert notifier.watchdog == timedelta(seconds=30)
    notifier.ready()
    notifier.alive("waiting\nfor its end")
    notifier.alive("waiting for its end")
    notifier.unwell("hangs")
    notifier.stopping()
    assert supervisor.read() == [
        "READY=1",
        "WATCHDOG=1",
        "STATUS=waiting for its end",
        "WATCHDOG=1",
        "STATUS=hangs",
        "STOPPING=1",
    ]


def test_an_abstract_socket() -> None:
    name = f"sn46-test-{os.getpid()}-{free_port()}"
    made = Supervisor(f"\0{name}")
    try:
        Notifier(f"@{name}").ready()
        assert made.read() == ["READY=1"]
    finally:
        made.close()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "30000000"},
        {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "soon"},
    ],
)
def test_no_supervisor_or_one_that_is_gone(environment: dict[str, str]) -> None:
    notifier = Notifier.from_environment(environment, os.getpid())
    assert notifier.watchdog is None
    notifier.ready()
    notifier.alive("well")


@asynccontextmanager
async def health_over(
    competition: Competition, tmp_path: Path, **options: Any
) -> AsyncIterator[tuple[str, Progress, Metagraph, Assignments]]:
    """Health of a validator's parts, served: its address and the parts."""
    net = competition.net
    clock = net.clock
    chain = open_chain(net.services.settings.chain_endpoint, netuid=46, clock=clock)
    metagraph = Metagraph(
        chain, clock, max_age=timedelta(minutes=20), refresh_every=timedelta(seconds=30)
    )
    api: ApiClient = net.client("vali")
    folder = tmp_path / "data"
    folder.mkdir(exist_ok=True)
    assignments = Assignments(
        api, folder=folder / "a", api_hotkey=Hotkey(net.hotkey("api")), clock=clock
    )
    progress = Progress(tmp_path / "status.json", clock)
    health = Health(
        progress=progress,
        metagraph=metagraph,
        assignments=assignments,
        data_dir=folder,
        clock=clock,
    )
    options = {"notifier": Notifier(None), "host": "127.0.0.1", "port": 0} | options
    try:
        async with watched(health, progress=progress, clock=clock, **options) as port:
            yield f"http://127.0.0.1:{port}", progress, metagraph, assignments
    finally:
        await chain.close()


async def test_alive_and_ready_part_by_part(competition: Competition, tmp_path: Path) -> None:
    net = competition.net
    async with (
        health_over(competition, tmp_path) as (url, progress, metagraph, assignments),
        httpx.AsyncClient(base_url=url, verify=trusted()) as http,
    ):

        async def wrong() -> list[str]:
            answer = await http.get("/readyz")
            found = answer.json()
            assert answer.status_code == (200 if found["ready"] else 503)
            return [name for name, part in found["parts"].items() if not part["ok"]]

        assert await wrong() == ["chain", "assignment"]
        await metagraph.refresh()
        assert await wrong() == ["assignment"]
        assignments.hold(Held(await net.client("vali").current()))
        assert await wrong() == []

        at = format_time(net.clock.now())
        progress.ended(Ending("2026-03-01-08:00", Result.LOST, at, "setting weights", "no permit"))
        assert await wrong() == ["last epoch"]
        progress.ended(Ending("2026-03-01-12:00", Result.JUDGED, at))
        assert await wrong() == []

        net.clock.advance(timedelta(minutes=21))
        assert await wrong() == ["chain"]
        await metagraph.refresh()

        (tmp_path / "data" / f"..writable.{os.getpid()}.part").mkdir()
        net.clock.advance(timedelta(seconds=31))
        assert await wrong() == ["disk"]

        assert (await http.get("/healthz")).status_code == 200
        for method, path, status in (
            ("GET", "/", 404),
            ("GET", "/secrets", 404),
            ("POST", "/healthz", 405),
            ("HEAD", "/healthz", 200),
        ):
            assert (await http.request(method, path)).status_code == status


async def test_a_loop_that_hangs_is_seen_by_all_who_watch(
    competition: Competition, tmp_path: Path, supervisor: Supervisor
) -> None:
    clock = competition.net.clock
    notifier = Notifier(str(tmp_path / "notify"), timedelta(seconds=30))
    async with (
        health_over(competition, tmp_path, notifier=notifier) as (url, progress, _, _),
        httpx.AsyncClient(base_url=url, verify=trusted()) as http,
    ):
        progress.heart.of_epochs(timedelta(hours=4))
        progress.show("waiting", epoch_id="2026-03-01-12:00")
        progress.expect(clock.now() + timedelta(hours=1))

        pulsed, pulse = asyncio.Event(), progress.pulse

        def noticed(parts: Mapping[str, Any]) -> None:
            pulse(parts)
            pulsed.set()

        progress.pulse = noticed

        async def minutes(count: int) -> None:
            """Let time pass, with the pulse at work."""
            for _ in range(2 * count):
                pulsed.clear()
                clock.advance(timedelta(seconds=30))
                async with asyncio.timeout(60):
                    await pulsed.wait()
                supervisor.read()

        await minutes(59)
        answer = await http.get("/healthz")
        assert (answer.status_code, answer.json()["phase"]) == (200, "waiting")
        assert answer.json()["until"] > format_time(clock.now())
        fed = supervisor.read().count("WATCHDOG=1")
        assert fed > 100

        progress.show("quick validation")
        await minutes(14)
        assert (await http.get("/healthz")).status_code == 200
        await minutes(2)
        fed = supervisor.read().count("WATCHDOG=1")
        answer = await http.get("/healthz")
        assert answer.status_code == 503
        assert "heard of last" in answer.json()["detail"]
        await minutes(2)
        assert supervisor.read().count("WATCHDOG=1") == fed, "systemd starts it again"
        assert any("heard of last" in line for line in supervisor.lines)
        seen = Seen.from_json(read_status(tmp_path))
        assert "hangs" in str(why_not_running(seen, clock.now()))

        progress.show("merging")
        assert (await http.get("/healthz")).status_code == 200
    assert supervisor.read()[0] == "READY=1"
    assert supervisor.lines[-1] == "STOPPING=1"


async def test_figures(competition: Competition, tmp_path: Path) -> None:
    clock = competition.net.clock
    async with (
        health_over(competition, tmp_path) as (url, progress, _, _),
        httpx.AsyncClient(base_url=url, verify=trusted()) as http,
    ):
        at = format_time(clock.now())
        progress.ended(Ending("2026-03-01-08:00", Result.LOST, at, "setting weights", "no permit"))
        progress.ended(Ending("2026-03-01-12:00", Result.JUDGED, at))
        progress.missed(5)
        progress.count_checks([Verdict.CONFIRMED] * 3 + [Verdict.INCONCLUSIVE])
        progress.count_weights("committed")
        progress.note_relay({"share": 950_000})
        progress.deadline = clock.now() + timedelta(hours=1)
        progress.show("checking", 1, 4, epoch_id="2026-03-01-12:00")
        answer = await http.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = answer.text.splitlines()
        for line in (
            'sn46_validator_epochs_total{reason="setting weights",result="lost"} 1.0',
            'sn46_validator_epochs_total{reason="",result="judged"} 1.0',
            'sn46_validator_epochs_total{reason="not running",result="missed"} 5.0',
            'sn46_validator_checks_total{verdict="CONFIRMED"} 3.0',
            'sn46_validator_weights_total{how="committed"} 1.0',
            'sn46_validator_phase{phase="checking"} 1.0',
            'sn46_validator_part_ok{part="loop"} 1.0',
            'sn46_validator_part_ok{part="chain"} 0.0',
            "sn46_validator_assignment_agreement 0.95",
        ):
            assert line in lines
        [left] = [line for line in lines if line.startswith("sn46_validator_seconds_to_deadline ")]
        assert 3_590 < float(left.split()[1]) <= 3_600


async def test_a_port_that_is_taken(competition: Competition, tmp_path: Path) -> None:
    async with health_over(competition, tmp_path) as (url, *_):
        port = int(url.rpartition(":")[2])
        with pytest.raises(HealthError, match="HEALTH_PORT"):
            async with health_over(competition, tmp_path, port=port):
                pass


async def test_a_real_process_tells_how_it_is(
    present: Competition, tmp_path: Path, supervisor: Supervisor
) -> None:
    port, data = free_port(), tmp_path / "vali"
    environment = present.environment("vali", data) | {
        "CHAIN_ENDPOINT": present.net.services.settings.chain_endpoint,
        "HEALTH_PORT": str(port),
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "3000000",
    }
    environment.pop("STATUS_FILE")

    def status() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "sn46", "validator", "status"],
            env={**environment, "PYTHONPATH": str(Path.cwd())}, cwd=tmp_path,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    assert status().returncode == 2
    async with (
        process(environment, "sn46", "validator", cwd=tmp_path) as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", verify=trusted()) as http,
    ):

        async def ready() -> bool:
            assert running.returncode is None
            try:
                return (await http.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        async def written() -> bool:
            """The file follows with the next heartbeat."""
            return "NOT WELL" not in (await asyncio.to_thread(status)).stdout

        await present.net.until(ready, 60)
        assert (await http.get("/healthz")).json()["alive"]
        await present.net.until(written, 60)
        shown = await asyncio.to_thread(status)
        assert shown.returncode == 0, shown.stderr
        assert present.net.hotkey("vali") in shown.stdout
        assert "NOT WELL" not in shown.stdout
        everything = (
            shown.stdout + (await http.get("/metrics")).text + (await http.get("/readyz")).text
        )
        assert "k" * 40 not in everything

        async def fed() -> bool:
            return supervisor.read().count("WATCHDOG=1") >= 3

        await present.net.until(fed, 30)

        running.send_signal(signal.SIGTERM)
        await running.communicate()
        assert running.returncode == 0
    assert supervisor.read()[0] == "READY=1"
    assert supervisor.lines[-1] == "STOPPING=1"
    stopped = status()
    assert stopped.returncode == 1
    assert "was stopped" in stopped.stderr
    assert Seen.from_json(read_status(data)).updated_at <= real_now()
