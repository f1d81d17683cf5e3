"""Every setting of the API server, from the environment and ``.env``.

The names are those of the mechanism and of the API contract, in capitals. ``load_settings`` turns
whatever is wrong into one sentence a setting.
"""

import ipaddress
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import limits
from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sn46.api.limiting import IN_MEMORY
from sn46.configuration import read_settings
from sn46.mechanism.chainview import RAO_PER_ALPHA
from sn46.mechanism.draw import DrawRules
from sn46.mechanism.epochs import DEFAULT_EPOCH_SECONDS, check_epoch_seconds
from sn46.mechanism.errors import MechanismError
from sn46.mechanism.rules import Rules, Unclaimed
from sn46.mechanism.selection import LARGEST_SETTING

_SECRET_CHARACTERS = 32
_RULE = re.compile(r"\brules\.(\w+)")
_MOST_DAYS = 36_525
"""A hundred years: as good as for ever, and a date that every database holds."""


class ApiSettings(BaseSettings):
    """The API server's settings. Durations are in seconds unless a name says otherwise."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", hide_input_in_errors=True, frozen=True
    )

    # The epoch and the draw (mechanism 1 and 2).
    epoch_seconds: int = DEFAULT_EPOCH_SECONDS
    epoch_genesis: datetime | None = None
    target_listings: int = Field(10_000, le=LARGEST_SETTING)
    tolerance_percent: int = 10
    min_zipcode_listings: int = 200
    max_zipcode_listings: int = Field(3_000, le=LARGEST_SETTING)
    cooldown_hours: int = Field(24, ge=0, le=LARGEST_SETTING)
    max_data_age_days: int = Field(30, ge=0, le=LARGEST_SETTING)
    eligible_states: Annotated[frozenset[str] | None, NoDecode] = None
    target_mode: Literal["fixed", "adaptive"] = "fixed"
    target_min: int = Field(5_000, ge=1)
    target_max: int = Field(15_000, ge=1, le=LARGEST_SETTING)
    max_state_share: int = Field(25, ge=0, le=100)
    max_region_share: int = Field(50, ge=0, le=100)
    tier_shares: Annotated[tuple[int, int, int], NoDecode] = (30, 50, 20)

    # The rules that every assignment carries (mechanism 3).
    lookback_days: int = 1_095
    min_volume_percent: int = 10
    source_result_limit: int = 1_000
    deep_validation_top: int = 6
    random_deep_validations: int = 3
    spot_check_percentage: int = 5
    spot_check_replicas: int = 3
    min_accuracy_percent: int = 70
    max_winners_per_coldkey: int = 1
    unclaimed: Unclaimed = "burn"
    credibility_exponent: int = 1
    grace_percent: int = 50

    secret_key: SecretStr

    # Who may call.
    validator_min_stake: float = Field(20_000, ge=0, le=1e9, description="in alpha")
    metagraph_max_age_seconds: int = Field(1_200, ge=1)
    metagraph_refresh_seconds: int = Field(60, ge=1)
    btauth_max_age_seconds: int = Field(10, ge=1, le=300)
    btauth_skew_seconds: int = Field(2, ge=0, le=60)
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()

    limit_current: str = "1/minute"
    limit_epoch: str = "10/hour"
    limit_status: str = "10/minute"
    limit_credentials: str = "10/hour"
    limit_read: str = "60/hour"
    limit_history: str = "300/hour"
    limit_listing: str = "600/hour"
    limit_results: str = "10/minute"
    limit_address: str = "60/minute"
    limits_storage: str = IN_MEMORY

    # Where things are.
    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8000, ge=1, le=65_535)
    database_url: str = "sqlite+aiosqlite:///sn46-api.db"
    chain_endpoint: str = "finney"
    netuid: int = Field(46, ge=0)
    wallet_name: str = "default"
    wallet_hotkey: str = "default"
    wallet_path: Path = Path("~/.bittensor/wallets")
    s3_endpoint_url: str | None = None
    s3_region: str = "us-east-1"
    s3_access_key: SecretStr
    s3_secret_key: SecretStr
    miner_bucket: str = Field("resi-miner-data", min_length=3, max_length=63)
    validated_bucket: str = Field("resi-validated-data", min_length=3, max_length=63)
    zipcode_table: Path = Path("zipcodes.parquet")

    snapshot_settle_seconds: float = Field(5.0, ge=0, le=3_600)
    audit_days: int = Field(30, ge=1, le=_MOST_DAYS)
    status_days: int = Field(30, ge=1, le=_MOST_DAYS)
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("eligible_states", mode="before")
    @classmethod
    def _states(cls, value: Any) -> Any:
        if isinstance(value, str):
            names = frozenset(part.strip().upper() for part in value.split(",") if part.strip())
            return None if not names or names == frozenset({"ALL"}) else names
        return value

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _proxies(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            try:
                ipaddress.ip_network(entry, strict=False)
            except ValueError as error:
                raise ValueError(
                    f"{error}. Write addresses or networks, such as 10.0.0.10/32, with commas "
                    "between them"
                ) from error
        return value

    @field_validator("tier_shares", mode="before")
    @classmethod
    def _tiers(cls, value: Any) -> Any:
        if isinstance(value, str):
            parts = value.split("/")
            if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
                raise ValueError("write it as premium/standard/emerging, such as 30/50/20")
            return tuple(int(part) for part in parts)
        return value

    @field_validator("epoch_seconds")
    @classmethod
    def _epoch_length(cls, value: int) -> int:
        try:
            return check_epoch_seconds(value)
        except MechanismError as error:
            raise ValueError(str(error)) from error

    @field_validator("epoch_genesis")
    @classmethod
    def _genesis_zone(cls, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    @field_validator("secret_key")
    @classmethod
    def _long_secret(cls, value: SecretStr) -> SecretStr:
        if len(value.get_secret_value()) < _SECRET_CHARACTERS:
            raise ValueError(
                f"at least {_SECRET_CHARACTERS} characters are needed; "
                "`openssl rand -hex 32` makes a good one"
            )
        return value

    @field_validator(
        "limit_current",
        "limit_epoch",
        "limit_status",
        "limit_credentials",
        "limit_read",
        "limit_history",
        "limit_listing",
        "limit_results",
        "limit_address",
    )
    @classmethod
    def _limit(cls, value: str) -> str:
        try:
            found = limits.parse_many(value)
        except ValueError:
            found = []
        if len(found) != 1 or found[0].amount < 1:
            raise ValueError("write it as one count per time, such as 10/hour or 1/minute")
        return value

    @field_validator("limits_storage")
    @classmethod
    def _storage(cls, value: str) -> str:
        if value != IN_MEMORY and not value.startswith(("valkey://", "valkeys://")):
            raise ValueError("it is memory:// or the address of a Valkey, valkey://host:6379")
        try:
            _ = urlsplit(value).port
        except ValueError:
            # What it names as no port may be a part of the password.
            raise ValueError(
                "its port is no number. Write valkey://:PASSWORD@HOST:PORT, and @ : / # % of a "
                "password as %40 %3A %2F %23 %25"
            ) from None
        return value

    @field_validator("wallet_path", "zipcode_table")
    @classmethod
    def _home(cls, value: Path) -> Path:
        return value.expanduser()

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        try:
            self.rules()
            self.draw_rules(self.target_listings)
        except MechanismError as error:
            raise ValueError(_RULE.sub(lambda rule: rule[1].upper(), str(error))) from error
        if self.target_min > self.target_max:
            raise ValueError("TARGET_MIN cannot be over TARGET_MAX.")
        if self.miner_bucket == self.validated_bucket:
            raise ValueError("MINER_BUCKET and VALIDATED_BUCKET must be two buckets.")
        if self.metagraph_refresh > self.metagraph_max_age_seconds:
            raise ValueError(
                "METAGRAPH_REFRESH_SECONDS cannot be over METAGRAPH_MAX_AGE_SECONDS: the view of "
                "the chain would be too old to serve by before it is refreshed."
            )
        return self

    def rules(self) -> Rules:
        """The rules that assignments carry."""
        return Rules(
            lookback_days=self.lookback_days,
            min_volume_percent=self.min_volume_percent,
            source_result_limit=self.source_result_limit,
            deep_validation_top=self.deep_validation_top,
            random_deep_validations=self.random_deep_validations,
            spot_check_percentage=self.spot_check_percentage,
            spot_check_replicas=self.spot_check_replicas,
            min_accuracy_percent=self.min_accuracy_percent,
            max_winners_per_coldkey=self.max_winners_per_coldkey,
            unclaimed=self.unclaimed,
            credibility_exponent=self.credibility_exponent,
            grace_percent=self.grace_percent,
        )

    def draw_rules(self, target: int) -> DrawRules:
        """The draw's settings for one epoch's target, in listings."""
        return DrawRules(
            target_listings=target,
            tolerance_percent=self.tolerance_percent,
            min_zipcode_listings=self.min_zipcode_listings,
            max_zipcode_listings=self.max_zipcode_listings,
            cooldown_hours=self.cooldown_hours,
            max_data_age_days=self.max_data_age_days,
            eligible_states=self.eligible_states,
            max_state_share=self.max_state_share,
            max_region_share=self.max_region_share,
            tier_shares=self.tier_shares,
        )

    @property
    def metagraph_refresh(self) -> int:
        """How often the chain is looked at, in seconds: short epochs ask for more."""
        return min(self.metagraph_refresh_seconds, max(2, self.epoch_seconds // 16))

    @property
    def secret(self) -> bytes:
        """The key of every HMAC, as bytes."""
        return self.secret_key.get_secret_value().encode()

    @property
    def validator_min_rao(self) -> int:
        """The stake that a validator needs, in rao of alpha."""
        return int(self.validator_min_stake * RAO_PER_ALPHA)


def load_settings(**overrides: Any) -> ApiSettings:
    """Read the settings; ``overrides`` win over the environment.

    Raises:
        SettingsError: with one line for each setting that is missing or wrong.
    """
    return read_settings(ApiSettings, **overrides)
