"""What a reader of the data is told: where published epochs are, and where to keep what was read.

The names of the store's settings are the API server's own, so an owner's ``.env`` serves both.
"""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sn46.mechanism.epochs import DEFAULT_EPOCH_SECONDS, check_epoch_seconds
from sn46.mechanism.errors import EpochError
from sn46.mechanism.names import Hotkey
from sn46.mechanism.signing import is_hotkey
from sn46.store.s3 import RESULTS_BUCKET, S3Access


class DataSettings(BaseSettings):
    """A reader's settings, from the environment and ``.env``. None is needed to read a folder."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", hide_input_in_errors=True, frozen=True
    )

    s3_endpoint_url: str | None = Field(None, description="the store; AWS itself without it")
    s3_region: str = "us-east-1"
    s3_access_key: SecretStr = SecretStr("")
    s3_secret_key: SecretStr = SecretStr("")
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

    @model_validator(mode="after")
    def _both_keys(self) -> Self:
        if bool(self.s3_access_key.get_secret_value()) != bool(
            self.s3_secret_key.get_secret_value()
        ):
            raise ValueError(
                "S3_ACCESS_KEY and S3_SECRET_KEY go together; without both, what the bucket's "
                "owner lets anyone read is read"
            )
        return self

    def access(self) -> S3Access:
        """The store, with the keys that are set or as anyone.

        Raises:
            StoreError: where the endpoint is no address.
        """
        access_key = self.s3_access_key.get_secret_value()
        return S3Access(
            endpoint=self.s3_endpoint_url or "",
            region=self.s3_region,
            access_key=access_key,
            secret_key=self.s3_secret_key.get_secret_value(),
            public=not access_key,
        )
