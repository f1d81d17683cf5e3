"""What a validator's owner is told before it works, and when something is not well."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest
from apinet import NETUID, free_port
from minernet import Competition

from sn46.chain.connect import open_chain
from sn46.cli import main

Told = Callable[..., Awaitable[tuple[int, dict[str, str]]]]


@pytest.fixture
def told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Told:
    """Runs ``sn46 validator doctor`` in this process: the exit code, and each line by its part."""
    monkeypatch.chdir(tmp_path)

    async def run(environment: Mapping[str, str]) -> tuple[int, dict[str, str]]:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            code = await asyncio.to_thread(main, ["validator", "doctor"])
        lines = capsys.readouterr().out.splitlines()
        found = [line for line in lines if line.startswith(("ok    ", "FAIL  "))]
        return code, {line[6:].split(": ")[0]: line for line in found}

    return run


def settings_of(competition: Competition, data: Path, name: str, **changes: str) -> dict[str, str]:
    chain = competition.net.services.settings.chain_endpoint
    return competition.environment(name, data, CHAIN_ENDPOINT=chain) | changes


async def test_a_healthy_validator(present: Competition, told: Told, tmp_path: Path) -> None:
    data = tmp_path / "data"
    code, lines = await told(settings_of(present, data, "vali"))
    assert code == 0, lines
    assert list(lines) == [
        "settings", "data folder", "memory", "wallet", "clock", "permit", "API", "uploads",
        "relay", f"source portal:{present.portal}", "proxies",
    ]  # fmt: skip
    assert all(line.startswith("ok    ") for line in lines.values())
    assert "with a validator permit" in lines["permit"]
    assert "not set (RELAY_PORT)" in lines["relay"]
    assert not data.exists()


async def test_what_is_wrong_is_said_with_its_mend(
    present: Competition, told: Told, tmp_path: Path
) -> None:
    changes = {
        "EXAMINE_MEMORY_MB": "9999999",
        "RELAY_PORT": str(free_port()),
        "RELAY_HOST": "127.0.0.1",
    }
    code, lines = await told(settings_of(present, tmp_path / "data", "ann", **changes))
    assert code == 1
    failed = {part for part, line in lines.items() if line.startswith("FAIL")}
    assert failed == {"memory", "permit", "uploads"}
    assert "EXAMINE_MEMORY_MB" in lines["memory"]
    assert "without a validator permit" in lines["permit"]
    assert "validators" in lines["uploads"]
    assert "not published" in lines["relay"]


async def test_a_relay_that_does_not_answer(
    present: Competition, told: Told, tmp_path: Path
) -> None:
    port = free_port()
    chain = open_chain(
        present.net.services.settings.chain_endpoint,
        netuid=NETUID,
        signer=present.world.wallets["vali"].hotkey,
    )
    await chain.publish_endpoint("127.0.0.1", port)
    await chain.close()
    changes = {"RELAY_PORT": str(port), "RELAY_HOST": "127.0.0.1"}
    code, lines = await told(settings_of(present, tmp_path / "data", "vali", **changes))
    assert code == 1
    assert lines["relay"].startswith("FAIL")
    assert f"127.0.0.1:{port}, and from here it cannot be reached" in lines["relay"]


async def test_settings_that_are_wrong(told: Told) -> None:
    code, lines = await told({"API_URL": "nonsense"})
    assert code == 1
    assert list(lines) == ["settings"]
