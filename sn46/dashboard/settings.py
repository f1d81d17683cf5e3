"""What the dashboard is told: whom it asks, where it listens, and when there is an alert.

The names of the store's settings are those of ``sn46 data``, so an owner's ``.env`` serves both.
"""

import math
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from sn46.client.settings import checked_address, checked_hotkey
from sn46.dashboard.alerts import Thresholds
from sn46.mechanism.names import Hotkey
from sn46.store.base import StoreError
from sn46.store.readersettings import ReaderSettings

REQUESTS_A_REFRESH: Final = 3.7
"""Two at every refresh, and five more at every third one."""


class DashboardSettings(ReaderSettings):
    """The dashboard's settings, from the environment and ``.env``."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", hide_input_in_errors=True, frozen=True
    )

    # Whom it asks.
    api_url: str = Field(description="where the API server answers, such as https://api.example")
    api_hotkey: Hotkey | None = Field(
        None, description="the API's hotkey; without it, draws are held against the one they name"
    )
    dashboard_refresh_seconds: float = Field(
        20, ge=1, le=600, description="between two looks at the running epoch"
    )
    dashboard_requests_a_minute: int = Field(
        30, ge=10, le=6_000, description="most requests; the API counts 60 a minute an address"
    )
    dashboard_epochs: int = Field(42, ge=20, le=200, description="so many epochs are kept")

    # Where it listens.
    dashboard_host: str = "127.0.0.1"
    dashboard_port: int = Field(8046, ge=1, le=65_535)

    # Where published reports are read from.
    validated_bucket: str | None = Field(
        None, description="the bucket of results; without it no report is read"
    )

    # When there is an alert.
    alert_stale_seconds: int = Field(180, ge=5, description="age from which figures are old")
    alert_unreachable_seconds: int = Field(60, ge=0, description="without an answer of the API")
    alert_reports_percent: int = Field(50, ge=0, le=100, description="of the usual reports")
    alert_silent_epochs: int = Field(2, ge=1, le=10, description="without a validator's report")
    alert_fall_percent: int = Field(30, ge=1, le=100, description="of participation or volume")
    alert_winner_percent: int = Field(90, ge=1, le=100, description="of epochs with one first")
    alert_winner_epochs: int = Field(12, ge=2, le=200, description="so many are looked at")
    alert_table_days: int = Field(7, ge=0, le=3_650, description="before the ZIP table is too old")

    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("api_url")
    @classmethod
    def _address(cls, value: str) -> str:
        address = checked_address(value)
        parts = urlsplit(address)
        if parts.username or parts.password:
            raise ValueError("it is shown on every page and must hold no user or password")
        return address

    @field_validator("api_hotkey")
    @classmethod
    def _hotkey(cls, value: Hotkey | None) -> Hotkey | None:
        return None if value is None else checked_hotkey(value)

    @model_validator(mode="after")
    def _pace(self) -> Self:
        needed = math.ceil(60 / self.dashboard_refresh_seconds * REQUESTS_A_REFRESH)
        if needed > self.dashboard_requests_a_minute:
            raise ValueError(
                f"DASHBOARD_REFRESH_SECONDS={self.dashboard_refresh_seconds:g} takes {needed} "
                "requests a minute; DASHBOARD_REQUESTS_A_MINUTE allows "
                f"{self.dashboard_requests_a_minute}"
            )
        return self

    @model_validator(mode="after")
    def _store(self) -> Self:
        if self.validated_bucket:
            try:
                self.access()
            except StoreError as error:
                raise ValueError(str(error)) from error
        return self

    def thresholds(self) -> Thresholds:
        """When there is an alert."""
        return Thresholds(
            stale_seconds=self.alert_stale_seconds,
            unreachable_seconds=self.alert_unreachable_seconds,
            reports_percent=self.alert_reports_percent,
            silent_epochs=self.alert_silent_epochs,
            fall_percent=self.alert_fall_percent,
            winner_percent=self.alert_winner_percent,
            winner_epochs=self.alert_winner_epochs,
            table_days=self.alert_table_days,
        )
