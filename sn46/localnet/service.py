"""Services that are kept running: started again when they die, and said so.

A ``Service`` is either an operating-system process (``ProcessService``) or something with a
process of its own inside (``storeservice.StoreService``). All of them die with the supervisor, also
where that is killed.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

_POLL_SECONDS = 0.2
_TAIL_LINES = 12
_CHUNK = 65_536


class State(StrEnum):
    """Where a service is."""

    IDLE = "idle"
    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Event:
    """Something that the network's user should know. ``tail`` are a dead service's last lines."""

    service: str
    text: str
    tail: tuple[str, ...] = ()


Report = Callable[[Event], None]


@dataclass(frozen=True)
class Backoff:
    """How long to wait before a service is started again, in seconds.

    ``first`` × 2^n up to ``longest``; a service that ran for ``healthy`` begins anew.
    """

    first: float = 1.0
    longest: float = 30.0
    healthy: float = 60.0

    def pause(self, failures: int) -> float:
        """The wait after so many deaths in a row, from 1."""
        return min(self.longest, self.first * 2 ** min(failures - 1, 16))


@dataclass(frozen=True)
class Death:
    """How a run of a service ended."""

    how: str
    tail: tuple[str, ...] = ()


class Service(ABC):
    """One service. ``start`` returns at once; ``stop`` returns once nothing of it is left.

    A death is reported with its reason; deaths that follow for the very same reason are not.
    """

    def __init__(self, name: str, report: Report, backoff: Backoff | None = None) -> None:
        self.name = name
        self.state = State.IDLE
        self.deaths = 0
        self._report = report
        self._backoff = backoff or Backoff()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep(), name=self.name)

    async def stop(self) -> None:
        self._stopping.set()
        if self._task is not None:
            await self._task
        self.state = State.STOPPED

    @abstractmethod
    async def _run(self) -> Death | None:
        """Run once, to the end; None where it ended because ``_stopping`` was set."""

    async def _keep(self) -> None:
        failures, told = 0, None
        while not self._stopping.is_set():
            began = time.monotonic()
            self.state = State.RUNNING
            death = await self._run()
            if death is None or self._stopping.is_set():
                return
            self.deaths += 1
            if time.monotonic() - began >= self._backoff.healthy:
                failures, told = 0, None
            failures += 1
            pause = self._backoff.pause(failures)
            self.state = State.RESTARTING
            if death != told:
                again = f"{death.how}; it is started again in {pause:g} s"
                self._report(Event(self.name, again, death.tail))
                told = death
            await self._stopped_within(pause)

    async def _stopped_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()


@dataclass(frozen=True)
class ProcessSpec:
    """A program to keep running.

    Args:
        program: a Python module, or a program of the system by its absolute path.
        environment: all of it; nothing is inherited.
        folder: its working directory.
        log: the file that gets its output, appended to.
        stop_seconds: how long it may take to end by itself after ``stop_signal``.
        orphan_signal: what the kernel sends it when the supervisor is gone.
        user: who it runs as, as UID:GID; None is who the supervisor is.
    """

    name: str
    program: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    folder: Path
    log: Path
    stop_seconds: float = 8.0
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    user: str | None = None

    def command(self) -> list[str]:
        """What to run from this process, so that it ends with it."""
        return launched(
            self.program, *self.arguments, orphan_signal=self.orphan_signal, user=self.user
        )


def launched(
    *command: str, orphan_signal: signal.Signals = signal.SIGKILL, user: str | None = None
) -> list[str]:
    """A command that ends with this process; the thread that runs it must live as long."""
    options = ["--signal", str(int(orphan_signal)), *(("--user", user) if user else ())]
    return [sys.executable, "-m", "sn46.localnet.launch", *options, str(os.getpid()), *command]


class ProcessService(Service):
    """A program in a process and process group of its own."""

    def __init__(self, spec: ProcessSpec, report: Report, backoff: Backoff | None = None) -> None:
        super().__init__(spec.name, report, backoff)
        self.spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._output: _Output | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int | None:
        """End the process as an operating system does when memory runs out; it is then started
        again as after any death. Returns the process id, None where it did not run."""
        process = self._process
        if process is None or process.poll() is not None:
            return None
        process.send_signal(number)
        return process.pid

    async def _run(self) -> Death | None:
        try:
            process = self._process = self._spawn()
        except OSError as error:
            return Death(f"could not be started ({error.strerror})")
        output = self._output = _Output(process, self.spec, self._report)
        try:
            while process.poll() is None and not await self._stopped_within(_POLL_SECONDS):
                pass
            if process.poll() is None:
                await self._end(process)
        finally:
            _kill_group(process.pid)
            process.wait()
            output.close()
        if self._stopping.is_set():
            return None
        return Death(_how_it_ended(process.returncode), output.tail())

    def _spawn(self) -> subprocess.Popen[bytes]:
        spec = self.spec
        return subprocess.Popen(
            spec.command(),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd=spec.folder, env=dict(spec.environment), start_new_session=True,
        )  # fmt: skip

    async def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Ask it to end, and SIGKILL where that is not heeded in time."""
        process.send_signal(self.spec.stop_signal)
        deadline = time.monotonic() + self.spec.stop_seconds
        while process.poll() is None:
            if time.monotonic() >= deadline:
                process.kill()
            await asyncio.sleep(_POLL_SECONDS / 2)


class _Output:
    """Copies a process' output into its log, and keeps the last lines.

    The copy is made here so that a full disk stops the log and not the process.
    """

    def __init__(self, process: subprocess.Popen[bytes], spec: ProcessSpec, report: Report) -> None:
        assert process.stdout is not None
        self._name, self._path, self._report = spec.name, spec.log, report
        self._pipe = process.stdout
        self._lines: deque[bytes] = deque(maxlen=_TAIL_LINES)
        self._partial = b""
        self._told = False
        self._log: int | None = None
        os.set_blocking(self._pipe.fileno(), False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._pipe.fileno(), self._read)

    def tail(self) -> tuple[str, ...]:
        lines = [*self._lines, self._partial]
        return tuple(text for line in lines if (text := line.decode(errors="replace").rstrip()))

    def close(self) -> None:
        """Read what is left, and close. The process and its group are gone."""
        if not self._pipe.closed:
            while self._read():
                pass
            self._loop.remove_reader(self._pipe.fileno())
            self._pipe.close()
        if self._log is not None:
            os.close(self._log)
            self._log = None

    def _read(self) -> bool:
        """Take a piece; whether there may be more."""
        try:
            piece = os.read(self._pipe.fileno(), _CHUNK)
        except BlockingIOError:
            return False
        if not piece:
            self._loop.remove_reader(self._pipe.fileno())
            return False
        *whole, self._partial = (self._partial + piece).split(b"\n")
        self._partial = self._partial[-_CHUNK:]
        self._lines.extend(whole)
        self._append(piece)
        return True

    def _append(self, piece: bytes) -> None:
        try:
            if self._log is None:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                self._log = os.open(self._path, flags, 0o600)
            os.write(self._log, piece)
        except OSError as error:
            if not self._told:
                self._report(
                    Event(
                        self._name,
                        f"its log {self._path} cannot be written ({error.strerror}): lines are "
                        "lost until that is mended",
                    )
                )
            self._told = True
        else:
            self._told = False


def _kill_group(leader: int) -> None:
    """End what a process left behind in its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended (exit code {code})"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
