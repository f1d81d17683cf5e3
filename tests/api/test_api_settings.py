"""Settings with which the server would start and then not serve: refused at the start, by name."""

from typing import Any

import pytest

from sn46.api.settings import load_settings
from sn46.configuration import SettingsError

NEEDED: dict[str, Any] = {"secret_key": "k" * 40, "s3_access_key": "a", "s3_secret_key": "b"}


def refusal(**changes: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        load_settings(_env_file=None, **NEEDED, **changes)
    (line,) = refused.value.lines
    return line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("validator_min_stake", "inf"),
        ("validator_min_stake", "nan"),
        ("snapshot_settle_seconds", "inf"),
        # Days for "for ever" that no date holds.
        ("audit_days", "10000000"),
        ("status_days", "10000000"),
        # An assignment with larger numbers is none that clients read.
        ("cooldown_hours", "1000000001"),
        ("max_data_age_days", "1000000001"),
        ("max_zipcode_listings", "1000000001"),
        ("target_listings", "1000000001"),
        ("target_max", "1000000001"),
        ("limit_current", "0/minute"),
        # Of two the library takes the first, and says nothing.
        ("limit_current", "1/minute;5/hour"),
        ("trusted_proxies", "10.0.0.1/33"),
        ("trusted_proxies", "caddy"),
        ("miner_bucket", ""),
        ("host", ""),
        ("grace_percent", "101"),
        ("lookback_days", "-1"),
    ],
)
def test_a_value_that_cannot_work_is_named_as_it_is_written(name: str, value: str) -> None:
    assert refusal(**{name: value}).startswith(name.upper())


def test_one_bucket_for_both_is_refused() -> None:
    line = refusal(miner_bucket="same", validated_bucket="same")
    assert "MINER_BUCKET" in line
    assert "VALIDATED_BUCKET" in line


def test_short_epochs_refresh_the_chain_view_more_often() -> None:
    settings = load_settings(
        _env_file=None, **NEEDED, epoch_seconds=60, metagraph_max_age_seconds=5
    )
    assert settings.metagraph_refresh == 3


def test_a_chain_view_that_is_too_old_before_it_is_refreshed_is_refused() -> None:
    assert "METAGRAPH_REFRESH_SECONDS" in refusal(metagraph_max_age_seconds=59)


def test_an_address_of_a_valkey_is_refused_without_its_password() -> None:
    line = refusal(limits_storage="valkey://:p@host:w0rd")
    assert line.startswith("LIMITS_STORAGE")
    assert "w0rd" not in line
