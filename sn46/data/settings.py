"""What a reader of the data is told: where published epochs are, and where to keep what was read.

The names of the store's settings are the API server's own, so an owner's ``.env`` serves both.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from sn46.mechanism.epochs import DEFAULT_EPOCH_SECONDS, check_epoch_seconds
from sn46.mechanism.errors import EpochError
from sn46.mechanism.names import Hotkey
from sn46.mechanism.signing import is_hotkey
from sn46.store.readersettings import ReaderSettings
from sn46.store.s3 import RESULTS_BUCKET


class DataSettings(ReaderSettings):
    """A reader's settings, from the environment and ``.env``. None is needed to read a folder."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", hide_input_in_errors=True, frozen=True
    )

    validated_bucket: str = RESULTS_BUCKET
    trusted_validators: Annotated[tuple[Hotkey, ...], NoDecode] = Field(
        (), description="count these alone; separated by commas, all without it"
    )
    data_cache: Path = Field(Path("~/.cache/sn46/data"), description="what was read is kept here")
    data_memory_mb: int = Field(1_024, ge=128, description="most memory for a query")

    # The Iceberg table.
    epoch_seconds: int = DEFAULT_EPOCH_SECONDS
    catalog_uri: SecretStr = Field(
        SecretStr("sqlite:///sn46-catalog.db"), description="SQL catalog of the Iceberg table"
    )
    warehouse: str | None = Field(None, description="folder or s3://BUCKET/PREFIX for its files")

    @field_validator("trusted_validators", mode="before")
    @classmethod
    def _validator_list(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("trusted_validators")
    @classmethod
    def _hotkeys(cls, value: tuple[Hotkey, ...]) -> tuple[Hotkey, ...]:
        if unknown := [hotkey for hotkey in value if not is_hotkey(hotkey)]:
            raise ValueError(f"{unknown[0]!r} is no hotkey (5…); separate several by commas")
        return value

    @field_validator("data_cache")
    @classmethod
    def _home(cls, value: Path) -> Path:
        return value.expanduser()

    @field_validator("epoch_seconds")
    @classmethod
    def _epoch_length(cls, value: int) -> int:
        try:
            return check_epoch_seconds(value)
        except EpochError as error:
            raise ValueError(str(error)) from error

    @field_validator("warehouse")
    @classmethod
    def _place(cls, value: str | None) -> str | None:
        if value and "://" in value and not value.startswith(("s3://", "file://")):
            raise ValueError("it is a folder, or s3://BUCKET/PREFIX")
        return value or None
