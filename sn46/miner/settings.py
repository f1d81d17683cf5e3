"""Every setting of the miner, from the environment and ``.env``."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from sn46.client.settings import ActorSettings
from sn46.configuration import read_settings
from sn46.mechanism.names import Hotkey


class MinerSettings(ActorSettings):
    """The miner's settings. How far back to look is not among them: the assignment's rules say."""

    concurrency: int = Field(10, ge=1, le=64, description="ZIPs at a time at most")
    zip_attempts: int | None = Field(
        None,
        ge=1,
        le=1_000,
        description="tries of a ZIP in an epoch; without it, as many as there is time for",
    )
    data_dir: Path = Path("~/.sn46/miner")
    upload_strategy: Literal["immediate", "staggered"] = "immediate"
    metrics_port: int | None = Field(
        None, ge=1, le=65_535, description="port for Prometheus; without it there are no metrics"
    )
    metrics_host: str = Field("127.0.0.1", description="address that METRICS_PORT listens at")

    @field_validator("data_dir")
    @classmethod
    def _at_home(cls, value: Path) -> Path:
        return value.expanduser()

    def status_path(self, hotkey: Hotkey) -> Path:
        """STATUS_FILE, or a file beside the hotkey's spool."""
        return self.status_file or self.data_dir / hotkey / "status.json"


def load_settings(**overrides: Any) -> MinerSettings:
    """Read the settings; ``overrides`` win over the environment.

    Raises:
        SettingsError: with one line for each setting that is missing or wrong.
    """
    return read_settings(MinerSettings, **overrides)
