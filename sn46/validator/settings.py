"""What a validator is told: where to connect, and how much of the machine to use."""

import ipaddress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from sn46.client.settings import ActorSettings
from sn46.validator.relay_server import Address


class ValidatorSettings(ActorSettings):
    """A validator's settings, from the environment and ``.env``. The rules are not among them:
    they come with each assignment."""

    check_concurrency: int = Field(8, ge=1, le=256, description="rows checked at a time")
    examine_seconds: float = Field(120.0, gt=0, description="longest time for one submission")
    examine_memory_mb: int = Field(3_000, ge=256, description="most memory for one submission")
    examine_workers: int = Field(2, ge=1, le=64, description="submissions examined at a time")
    data_dir: Path = Field(Path("validator-data"), description="state that survives a restart")
    assignment_cache_hours: int = Field(
        6, ge=1, le=48, description="how long after its epoch's start an assignment is passed on"
    )
    relay_port: int | None = Field(
        None, ge=1, le=65_535, description="port to pass assignments on at; without it, none is"
    )
    relay_host: str = Field("0.0.0.0", description="address that RELAY_PORT listens at")
    relay_public: str | None = Field(
        None, description="HOST or HOST:PORT to publish on the chain; else RELAY_HOST"
    )

    health_port: int | None = Field(
        None, ge=0, le=65_535, description="port for /healthz, /readyz, /metrics; without it, none"
    )
    health_host: str = Field("127.0.0.1", description="address that HEALTH_PORT listens at")
    keep_days: int = Field(60, ge=1, le=3_650, description="days that epochs are kept on disk")

    @field_validator("relay_public")
    @classmethod
    def _published(cls, value: str | None) -> str | None:
        if not value:
            return None
        _host_and_port(value)
        return value

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.relay_port is not None and self.relay_public is None and self._is_everywhere:
            raise ValueError(
                f"RELAY_PUBLIC is not set: the chain needs an address at which others reach this "
                f"machine, and RELAY_HOST {self.relay_host} is none"
            )
        return self

    @property
    def _is_everywhere(self) -> bool:
        """Whether RELAY_HOST stands for all addresses of this machine."""
        return self.relay_host.strip() in ("", "0.0.0.0", "::")

    def status_path(self) -> Path:
        """Where the status is written: STATUS_FILE, else in DATA_DIR."""
        return self.status_file or self.data_dir / "status.json"

    def relay_address(self) -> Address | None:
        """Where the relay listens and what it publishes; None where there is none."""
        if self.relay_port is None:
            return None
        public_host, public_port = _host_and_port(self.relay_public or self.relay_host)
        return Address(
            self.relay_host, self.relay_port, public_host, public_port or self.relay_port
        )

    @field_validator("data_dir")
    @classmethod
    def _at_home(cls, value: Path) -> Path:
        return value.expanduser()


def _host_and_port(text: str) -> tuple[str, int]:
    """``HOST``, ``HOST:PORT`` or ``[HOST]:PORT``; the port 0 where it is not named."""
    try:
        return str(ipaddress.ip_address(text)), 0
    except ValueError:
        pass
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port or 0
    except ValueError:
        host, port = None, 0
    if not host or set(text) & set("/@?# "):
        raise ValueError("write HOST or HOST:PORT, such as 203.0.113.7:8091")
    return host, port
