"""Services are kept running, and end without a trace."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from localnet_helpers import PACKAGE_ROOT, environment, is_alive, until

from sn46.localnet.service import Backoff, Event, ProcessService, ProcessSpec, State

QUICK = Backoff(first=0.05, longest=0.2)
MakeSpec = Callable[..., ProcessSpec]

SLEEPS = "import time\nprint('up', flush=True)\ntime.sleep(600)\n"

DIES_ONCE = """
import pathlib, sys, time
first = pathlib.Path(sys.argv[1], "first")
if not first.exists():
    first.touch()
    print("all is well")
    sys.exit("the port 1234 is in use")
print("up again", flush=True)
time.sleep(600)
"""

STUBBORN = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(sys.argv[1], "child").write_text(str(child.pid))
time.sleep(600)
"""


async def test_a_dead_service_is_started_again_and_said_so(
    make_spec: MakeSpec, events: list[Event], tmp_path: Path
) -> None:
    service = ProcessService(make_spec(DIES_ONCE), events.append, QUICK)
    service.start()
    log = tmp_path / "probe.log"
    await until(lambda: log.exists() and b"up again" in log.read_bytes())

    assert service.state is State.RUNNING
    assert events == [
        Event(
            "probe",
            "ended (exit code 1); it is started again in 0.05 s",
            ("all is well", "the port 1234 is in use"),
        )
    ]
    assert log.read_text().splitlines() == ["all is well", "the port 1234 is in use", "up again"]
    await service.stop()
    assert service.state is State.STOPPED


async def test_deaths_for_the_same_reason_are_said_once(
    make_spec: MakeSpec, events: list[Event]
) -> None:
    service = ProcessService(make_spec("raise SystemExit('no room')"), events.append, QUICK)
    service.start()
    await until(lambda: service.deaths >= 3)
    await service.stop()
    assert [event.tail for event in events] == [("no room",)]


async def test_a_killed_service_gets_a_new_process(
    make_spec: MakeSpec, events: list[Event]
) -> None:
    service = ProcessService(make_spec(SLEEPS), events.append, QUICK)
    service.start()
    await until(lambda: service.pid is not None)
    killed = service.kill()
    await until(lambda: service.pid not in (None, killed))

    assert [event.text for event in events] == [
        "was ended by SIGKILL; it is started again in 0.05 s"
    ]
    await service.stop()


async def test_stop_ends_who_ignores_it_and_what_it_started(
    make_spec: MakeSpec, events: list[Event], tmp_path: Path
) -> None:
    service = ProcessService(make_spec(STUBBORN), events.append, QUICK)
    service.start()
    note = tmp_path / "child"
    await until(lambda: note.exists() and note.read_text().isdigit())
    pids = [service.pid, int(note.read_text())]
    await service.stop()

    await until(lambda: not any(is_alive(pid) for pid in pids if pid))
    assert events == []


async def test_stop_right_after_start(make_spec: MakeSpec, events: list[Event]) -> None:
    service = ProcessService(make_spec(SLEEPS), events.append, QUICK)
    service.start()
    await service.stop()
    assert service.pid is None


async def test_a_program_that_cannot_be_started_is_tried_again(
    make_spec: MakeSpec, events: list[Event], tmp_path: Path
) -> None:
    spec = make_spec(SLEEPS)
    missing = tmp_path / "folder"
    service = ProcessService(
        ProcessSpec("probe", spec.program, (), spec.environment, missing, spec.log),
        events.append,
        QUICK,
    )
    service.start()
    await until(lambda: bool(events))
    assert events[0].text.startswith("could not be started (No such file or directory)")
    missing.mkdir()
    await until(lambda: service.pid is not None)
    await service.stop()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
async def test_a_full_disk_stops_the_log_and_not_the_service(
    make_spec: MakeSpec, events: list[Event], tmp_path: Path
) -> None:
    source = """
        import pathlib, sys, time
        for n in range(300):
            print(f"line {n}", flush=True)
        pathlib.Path(sys.argv[1], "done").touch()
        time.sleep(600)
    """
    log = tmp_path / "full.log"
    log.symlink_to("/dev/full")
    service = ProcessService(make_spec(textwrap.dedent(source), log=log), events.append, QUICK)
    service.start()
    await until((tmp_path / "done").exists)
    await until(lambda: bool(events))
    assert service.pid is not None
    await service.stop()
    assert len(events) == 1
    assert "No space left on device" in events[0].text


def test_the_backoff_doubles_up_to_its_longest() -> None:
    backoff = Backoff(first=1, longest=30)
    assert [backoff.pause(n) for n in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert backoff.pause(10_000) == 30


SUPERVISOR = """
import asyncio, pathlib, sys
sys.path[:0] = [{root!r}]
import psutil
from sn46.localnet.caddyservice import caddy_spec
from sn46.localnet.datadir import DataDir
from sn46.localnet.plan import base_environment
from sn46.localnet.ports import choose_ports
from sn46.localnet.postgresservice import Postgres, PostgresService
from sn46.localnet.service import ProcessService, ProcessSpec
from sn46.localnet.storeservice import StoreService
from sn46.localnet.valkeyservice import Valkey
from sn46.store.seaweed import SeaweedServer

async def main():
    folder = pathlib.Path(sys.argv[1])
    data = DataDir(folder / "data").__enter__()
    ports = choose_ports(("postgres", "valkey", "caddy", "api"), wanted={{}}, remembered={{}})
    environment = base_environment()
    store = StoreService(SeaweedServer(folder / "s3"), print)
    spec = ProcessSpec("probe", "probe_module", (), {env!r}, folder, folder / "probe.log")
    database = Postgres(data.of("postgres"), ports["postgres"], "secret", data.logs / "postgres")
    counters = Valkey(data.of("valkey"), ports["valkey"], "secret", data.logs / "valkey")
    proxy = caddy_spec(
        data.of("caddy"), ports["caddy"], [f"127.0.0.1:{{ports['api']}}"], environment,
        data.logs / "caddy",
    )
    postgres = PostgresService(database, environment, print)
    if postgres.account is not None:
        data.let_pass(postgres.account.gid)
    caddy = ProcessService(proxy, print)
    services = [
        ProcessService(spec, print), store, postgres, caddy,
        ProcessService(counters.prepare(environment), print),
    ]
    for service in services:
        service.start()
    log = data.logs / "caddy"
    while not store.is_up or services[0].pid is None or not spec.log.exists():
        await asyncio.sleep(0.05)
    while not await database.is_up() or not await counters.is_up():
        await asyncio.sleep(0.05)
    while not log.exists() or b"serving initial configuration" not in log.read_bytes():
        await asyncio.sleep(0.05)
    pids = [child.pid for child in psutil.Process().children(recursive=True)]
    (folder / "pids.part").write_text(" ".join(map(str, pids)))
    (folder / "pids.part").rename(folder / "pids")
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_nothing_outlives_a_supervisor_that_is_killed(
    make_spec: MakeSpec, open_path: Path
) -> None:
    spec = make_spec(SLEEPS)
    script = SUPERVISOR.format(root=str(PACKAGE_ROOT), env=dict(spec.environment))
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(open_path), env=dict(environment())
    )
    try:
        note = open_path / "pids"
        await until(note.exists)
        pids = [int(pid) for pid in note.read_text().split()]
        assert len(pids) > 10
        assert all(is_alive(pid) for pid in pids)
        supervisor.send_signal(signal.SIGKILL)
        await until(lambda: not any(is_alive(pid) for pid in pids), 10)
    finally:
        with contextlib.suppress(ProcessLookupError):
            supervisor.kill()
        await supervisor.wait()


def test_a_child_whose_starter_is_gone_runs_nothing(tmp_path: Path) -> None:
    nobody = max(psutil.pids()) + 100_000
    (tmp_path / "probe_module.py").write_text("print('ran')")
    done = subprocess.run(
        [sys.executable, "-m", "sn46.localnet.launch", str(nobody), "probe_module"],
        env=dict(environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{PACKAGE_ROOT}")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "is gone" in done.stderr
