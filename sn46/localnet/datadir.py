"""The directory that holds all of a local network: one network at a time, found again later.

network.json    seed, secrets and ports, for its owner alone
lock            held while a network runs here
chain.sqlite    the chain
wallets/        all keys
s3/             the S3 server's objects
api/, NAME/     the state of each service; with replicas also postgres/, valkey/ and caddy/
logs/NAME.log   what each service says
status/NAME.json  what each service does
"""

import fcntl
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, cast

from sn46.durable import write_whole
from sn46.localnet.errors import DataDirError

_FORMAT = 1


@dataclass(frozen=True)
class NetworkFile:
    """What a network remembers between its runs. ``ports`` are by service name."""

    seed: str
    secret_key: str
    netuid: int
    epoch_seconds: int
    ports: Mapping[str, int] = field(default_factory=dict[str, int])
    database: Literal["sqlite", "postgresql"] = "sqlite"
    format: int = _FORMAT


class DataDir:
    """A locked data directory; use as a context manager.

    A directory that was not named is a new one, and is removed at the end unless ``keep`` was
    called.
    """

    def __init__(self, path: Path | None) -> None:
        self._named = path.expanduser().absolute() if path else None
        self._path: Path | None = None
        self._lock: int | None = None
        self._keep = path is not None

    @property
    def path(self) -> Path:
        if self._path is None:
            raise DataDirError("The data directory is not open.")
        return self._path

    @property
    def is_kept(self) -> bool:
        """Whether it stays when the network ends."""
        return self._keep

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def status(self) -> Path:
        return self.path / "status"

    @property
    def wallets(self) -> Path:
        return self.path / "wallets"

    @property
    def chain(self) -> Path:
        return self.path / "chain.sqlite"

    @property
    def zipcodes(self) -> Path:
        return self.path / "zipcodes.parquet"

    def keep(self) -> None:
        """Do not remove it at the end: something is to be looked at."""
        self._keep = True

    def of(self, service: str) -> Path:
        """A service's own folder, made when first asked for."""
        folder = self.path / service
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def let_pass(self, group: int) -> None:
        """Let a group through to a folder of its own in here. It can list nothing."""
        info = self.path.stat()
        if not info.st_mode & stat.S_IXOTH:
            os.chown(self.path, -1, group)
            self.path.chmod(stat.S_IMODE(info.st_mode) | stat.S_IXGRP)

    def __enter__(self) -> Self:
        try:
            if self._named is None:
                self._path = Path(tempfile.mkdtemp(prefix="sn46-localnet-"))
            else:
                self._named.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._path = self._named
            self._take_lock()
            for folder in (self.logs, self.status, self.wallets):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise DataDirError(
                f"The data directory {self._named or tempfile.gettempdir()} cannot be used: "
                f"{error.strerror}. Choose another with --data-dir."
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if not self._keep:
            shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read(self) -> NetworkFile | None:
        """What an earlier run left, None in a new directory.

        Raises:
            DataDirError: where it cannot be read, or is of another version.
        """
        file = self.path / "network.json"
        try:
            value = json.loads(file.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise DataDirError(
                f"{file} cannot be read ({error}). Restore it, or start afresh in another "
                "--data-dir."
            ) from error
        try:
            network = NetworkFile(**cast(dict[str, Any], value))
        except TypeError as error:
            raise DataDirError(f"{file} is none of a local network's ({error}).") from error
        if network.format != _FORMAT:
            raise DataDirError(
                f"{file} is of version {network.format}, and this program writes {_FORMAT}. "
                "Start afresh in another --data-dir."
            )
        return network

    def write(self, network: NetworkFile) -> None:
        """Remember a network, whole or not at all."""
        document = json.dumps(asdict(network), indent=1).encode()
        write_whole(self.path / "network.json", document, private=True)

    def _take_lock(self) -> None:
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise DataDirError(
                f"Another local network runs in {self.path}"
                + (f" (process {holder})" if holder else "")
                + ". Stop it, or choose another --data-dir."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._lock = descriptor
