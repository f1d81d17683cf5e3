"""The miner's process: settings, signals, and a status to look at."""

from pathlib import Path

import pytest
from minernet import Competition, plain, process, read_status

from sn46.configuration import SettingsError
from sn46.miner.settings import load_settings

GOOD = {
    "api_url": "http://127.0.0.1:1",
    "api_hotkey": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
    "sources": "portal:http://127.0.0.1:2",
}


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
        ("concurrency", "0", "CONCURRENCY: "),
        ("requests_per_second", "0", "REQUESTS_PER_SECOND: "),
        ("upload_strategy", "later", "UPLOAD_STRATEGY: "),
        ("log_format", "xml", "LOG_FORMAT: "),
    ],
)
def test_a_bad_setting_is_one_line(name: str, value: str, says: str) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(_env_file=None, **GOOD | {name: value})
    assert len(error.value.lines) == 1
    assert says in error.value.lines[0]
    assert "\n" not in error.value.lines[0]


def test_proxies_come_from_both_settings_and_are_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "proxies"
    file.write_text("10.0.0.2:8000:user:hidden\n10.0.0.1:8000\n")
    settings = load_settings(
        _env_file=None, **GOOD, proxies="10.0.0.1:8000,http://u:hidden@10.0.0.3:1", proxy_file=file
    )
    assert [p.label for p in settings.all_proxies()] == [
        "10.0.0.1:8000", "10.0.0.3:1", "10.0.0.2:8000",
    ]  # fmt: skip
    assert "hidden" not in repr(settings)


async def test_bad_settings_exit_2_with_a_line_each(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin", "API_URL": "nowhere", "CONCURRENCY": "many"}
    async with process(environment, cwd=tmp_path) as running:
        _, errors = await running.communicate()
    lines = errors.decode().splitlines()
    assert running.returncode == 2
    assert sorted(line.split(": ")[1] for line in lines) == [
        "API_HOTKEY", "API_URL", "CONCURRENCY", "SOURCES",
    ]  # fmt: skip
    assert all(line.startswith("sn46 miner: ") for line in lines)


async def test_a_missing_wallet_exits_2(competition: Competition, tmp_path: Path) -> None:
    environment = competition.environment("nobody", tmp_path / "data")
    async with process(environment, cwd=tmp_path) as running:
        _, errors = await running.communicate()
    assert running.returncode == 2
    assert len(errors.decode().splitlines()) == 1
    assert "key file" in errors.decode()


async def test_an_unknown_strategy_exits_2(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin"}
    async with process(environment, "sn46.localnet.strategies", "thief", cwd=tmp_path) as running:
        _, errors = await running.communicate()
    assert running.returncode == 2
    assert "'thief' is no strategy" in errors.decode()


async def test_it_mines_waits_and_stops(competition: Competition, tmp_path: Path) -> None:
    """One epoch, then SIGTERM while it waits; a second run finds the epoch done."""
    assignment = await competition.assignment()
    data = tmp_path / "data"
    environment = competition.environment("ann", data, LOG_FORMAT="json")
    for _ in range(2):
        (data / "status.json").unlink(missing_ok=True)
        async with process(environment, cwd=tmp_path) as running:

            async def waiting() -> bool:
                return read_status(data).get("phase") == "waiting"

            await competition.net.until(waiting, seconds=60)
            status = read_status(data)
            running.terminate()
            _, log = await running.communicate()
        assert running.returncode == 0, plain(log)
        assert read_status(data)["phase"] == "stopped"
        assert status["hotkey"] == competition.net.hotkey("ann")
        assert (status["last_epoch_id"], status["last_result"]) == (
            assignment.epoch_id,
            "submitted",
        )
    assert "this epoch is done already" in plain(log)
    assert (await competition.judged(assignment)).participant


async def test_sigterm_while_scraping_keeps_what_is_found(
    competition: Competition, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    environment = competition.environment("ann", data, REQUESTS_PER_SECOND="5")
    async with process(environment, cwd=tmp_path) as running:

        async def scraping() -> bool:
            return read_status(data).get("phase") == "scraping"

        await competition.net.until(scraping, seconds=60)
        running.terminate()
        _, log = await running.communicate()
    assert running.returncode == 0, plain(log)
    assert "Traceback" not in plain(log)
    assert list(data.rglob("scraped/*.json"))


async def test_it_waits_for_an_api_that_is_not_there(
    tmp_path: Path, competition: Competition
) -> None:
    data = tmp_path / "data"
    environment = competition.environment("ann", data, API_URL="http://127.0.0.1:9")
    async with process(environment, cwd=tmp_path) as running:

        async def asking() -> bool:
            return read_status(data).get("phase") == "asking"

        await competition.net.until(asking, seconds=60)
        running.terminate()
        _, log = await running.communicate()
    assert running.returncode == 0, plain(log)
