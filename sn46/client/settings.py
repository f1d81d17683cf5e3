"""The settings that miners and validators share: whom they trust, who they are, whom they ask."""

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sn46.mechanism.names import Hotkey
from sn46.mechanism.signing import is_hotkey
from sn46.sources.options import SourceOptions
from sn46.sources.politeness import PaceSettings
from sn46.sources.proxies import (
    Proxy,
    ProxyError,
    ProxyList,
    proxies_from_setting,
    read_proxy_file,
)
from sn46.sources.registry import source_kinds
from sn46.sources.routes import Limits, Rotation


def checked_address(value: str) -> str:
    """The address of an API server, without a slash at its end.

    Raises:
        ValueError: where it is none.
    """
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it is the address of the API server, such as https://api.example.org")
    return value.rstrip("/")


def checked_hotkey(value: Hotkey) -> Hotkey:
    """The hotkey of an API server.

    Raises:
        ValueError: where it is none.
    """
    if not is_hotkey(value):
        raise ValueError("it is no hotkey; the subnet's owner publishes the API's (5…)")
    return value


class ActorSettings(BaseSettings):
    """What every actor that asks portals is told, from the environment and ``.env``. The rules
    are not among the settings: they come with each assignment."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", hide_input_in_errors=True, frozen=True
    )

    # Where the competition is.
    api_url: str = Field(description="where the API server answers, such as https://api.example")
    api_hotkey: Hotkey = Field(description="the API server's hotkey, which signs assignments")
    chain_endpoint: str = Field("finney", description="finney, a node's ws:// address, local:PATH")
    netuid: int = Field(46, ge=0)

    # Who we are.
    wallet_name: str = "default"
    wallet_hotkey: str = "default"
    wallet_path: Path = Path("~/.bittensor/wallets")

    # Where listings come from, and with what manners we ask.
    sources: Annotated[tuple[str, ...], NoDecode] = Field(
        description="KIND:LOCATION, several separated by commas"
    )
    proxies: SecretStr = SecretStr("")
    proxy_file: Path | None = Field(None, description="proxies, one a line; may change meanwhile")
    proxies_url: SecretStr | None = Field(None, description="where a list of proxies is fetched")
    proxies_refresh: float = Field(600, ge=10, le=86_400, description="seconds between fetches")
    proxy_rotation: Rotation = Field(
        Rotation.ROTATING, description="rotating, or sticky: one proxy a ZIP while it is answered"
    )
    source_address: str | None = Field(None, description="address of this machine to ask from")
    requests_per_second: float = Field(20.0, gt=0, le=1_000, description="for each proxy")
    requests_at_once: int = Field(6, ge=1, le=100, description="for each proxy")
    source_requests_per_second: float = Field(
        100.0, gt=0, le=10_000, description="for each source, over all proxies"
    )
    source_requests_at_once: int = Field(
        64, ge=1, le=1_000, description="for each source, over all proxies"
    )

    # What others see of us.
    status_file: Path | None = Field(None, description="where progress is written as JSON")
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("api_url")
    @classmethod
    def _address(cls, value: str) -> str:
        return checked_address(value)

    @field_validator("api_hotkey")
    @classmethod
    def _hotkey(cls, value: Hotkey) -> Hotkey:
        return checked_hotkey(value)

    @field_validator("sources", mode="before")
    @classmethod
    def _source_list(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("sources")
    @classmethod
    def _known_sources(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        kinds = source_kinds()
        unknown = [entry for entry in value if entry.partition(":")[0] not in kinds]
        if unknown or not value:
            raise ValueError(
                "write KIND:LOCATION, such as portal:http://127.0.0.1:1234, several separated by "
                f"commas; known kinds: {', '.join(kinds)}"
            )
        return value

    @field_validator("source_address")
    @classmethod
    def _local_address(cls, value: str | None) -> str | None:
        if not value:
            return None
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            raise ValueError("it is an IP address of this machine, such as 127.0.0.14") from None

    @field_validator("proxies")
    @classmethod
    def _readable_proxies(cls, value: SecretStr) -> SecretStr:
        try:
            proxies_from_setting(value)
        except ProxyError as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("proxies_url")
    @classmethod
    def _fetchable(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value().strip():
            return None
        try:
            parts = urlsplit(value.get_secret_value().strip())
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good:
            raise ValueError("it is an http:// or https:// address that answers with a list")
        return SecretStr(value.get_secret_value().strip())

    @field_validator("proxy_file")
    @classmethod
    def _readable_file(cls, value: Path | None) -> Path | None:
        if value is None or str(value) in ("", "."):
            return None
        try:
            read_proxy_file(value.expanduser())
        except ProxyError as error:
            raise ValueError(str(error)) from None
        return value.expanduser()

    @field_validator("wallet_path", "status_file")
    @classmethod
    def _home(cls, value: Path | None) -> Path | None:
        return value.expanduser() if value is not None else None

    def listed_proxies(self) -> tuple[Proxy, ...]:
        """Those of PROXIES."""
        return proxies_from_setting(self.proxies)

    def all_proxies(self) -> tuple[Proxy, ...]:
        """Those of PROXIES, then those of PROXY_FILE, each once. What PROXIES_URL lists is not
        among them: ``sn46.client.proxyfeed`` fetches it."""
        filed = read_proxy_file(self.proxy_file) if self.proxy_file else ()
        return tuple(dict.fromkeys((*self.listed_proxies(), *filed)))

    def source_options(self) -> SourceOptions:
        """How the sources are to be asked. With PROXIES_URL, whose proxies are yet to be fetched,
        nothing is asked directly."""
        rate = self.requests_per_second
        pace = PaceSettings(start=rate, minimum=min(PaceSettings.minimum, rate), maximum=rate)
        limits = Limits(
            route_at_once=self.requests_at_once,
            source_at_once=self.source_requests_at_once,
            source_per_second=self.source_requests_per_second,
        )
        proxies = self.all_proxies()
        return SourceOptions(
            proxies=ProxyList(proxies, required=True) if self.proxies_url else proxies,
            local_address=self.source_address,
            pace=pace,
            limits=limits,
            rotation=self.proxy_rotation,
        )
