"""A validator's settings are checked before it starts, as a miner's are."""

import pytest

from sn46.configuration import SettingsError, read_settings
from sn46.validator.settings import ValidatorSettings

GOOD = {
    "api_url": "http://127.0.0.1:1",
    "api_hotkey": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
    "sources": "portal:http://127.0.0.1:2, portal:http://127.0.0.1:3",
}


def test_good_settings() -> None:
    settings = read_settings(ValidatorSettings, _env_file=None, **GOOD)
    assert settings.sources == ("portal:http://127.0.0.1:2", "portal:http://127.0.0.1:3")
    assert settings.wallet_path.is_absolute()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("api_url", "ftp://x", "API_URL: it is the address of the API server"),
        ("api_hotkey", "5nonsense", "API_HOTKEY: it is no hotkey"),
        ("sources", "", "SOURCES: write KIND:LOCATION"),
        ("sources", "ptl:x", "known kinds: "),
        ("proxies", "what is:this", "PROXIES: Proxy 1 of the list"),
        ("proxy_file", "/nonexistent/file", "PROXY_FILE: The proxy file"),
        ("source_address", "here", "SOURCE_ADDRESS: it is an IP address"),
    ],
)
def test_a_bad_setting_is_one_line(name: str, value: str, says: str) -> None:
    with pytest.raises(SettingsError) as error:
        read_settings(ValidatorSettings, _env_file=None, **GOOD | {name: value})
    assert len(error.value.lines) == 1
    assert says in error.value.lines[0]
