"""What a validator is told: where to connect, and how much of the machine to use."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ValidatorSettings(BaseSettings):
    """A validator's settings, from the environment and ``.env``. The rules are not among them:
    they come with each assignment."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", hide_input_in_errors=True, frozen=True
    )

    api_url: str = Field(description="where the API server answers, such as https://api.example")
    api_hotkey: str = Field(description="the API's hotkey (ss58): whose assignments are trusted")
    chain_endpoint: str = Field("finney", description="finney, a node's ws:// address, local:PATH")
    netuid: int = Field(46, ge=0)
    wallet_name: str = "default"
    wallet_hotkey: str = "default"
    wallet_path: str = "~/.bittensor/wallets"
    sources: str = Field(description="where rows are checked, KIND:LOCATION, separated by commas")
    proxies: SecretStr = SecretStr("")
    source_address: str | None = Field(None, description="address of this machine to ask from")
    requests_per_second: float = Field(20.0, gt=0, description="to one host through one address")
    check_concurrency: int = Field(8, ge=1, le=256, description="rows checked at a time")
    examine_seconds: float = Field(120.0, gt=0, description="longest time for one submission")
    examine_memory_mb: int = Field(3_000, ge=256, description="most memory for examining")
    data_dir: Path = Field(Path("validator-data"), description="state that survives a restart")
    status_file: Path | None = Field(None, description="where progress is written as JSON")
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def source_settings(self) -> list[str]:
        """Each source as KIND:LOCATION."""
        return [part.strip() for part in self.sources.split(",") if part.strip()]
