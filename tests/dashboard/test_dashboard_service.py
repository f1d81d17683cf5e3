"""The command: its settings, its process, and docs/dashboard.md, which names them."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from apinet import free_port

from sn46.certificates import trusted
from sn46.cli import main
from sn46.configuration import SettingsError, read_settings
from sn46.dashboard.alerts import Thresholds
from sn46.dashboard.settings import DashboardSettings

PAGE = (Path(__file__).parents[2] / "docs" / "dashboard.md").read_text(encoding="utf-8")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without settings, and an environment without any."""
    monkeypatch.chdir(tmp_path)
    for name in DashboardSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ["API_URL: is not set; it has no default"]),
        ({"API_URL": "api.example"}, ["API_URL: it is the address of the API server"]),
        ({"API_URL": "https://me:secret@api.example"}, ["must hold no user or password"]),
        ({"API_HOTKEY": "5F"}, ["API_URL: is not set", "API_HOTKEY: it is no hotkey"]),
        ({"API_URL": "http://a", "DASHBOARD_PORT": "0"}, ["DASHBOARD_PORT: "]),
        (
            {"API_URL": "http://a", "DASHBOARD_REFRESH_SECONDS": "2"},
            ["takes 111 requests a minute; DASHBOARD_REQUESTS_A_MINUTE allows 30"],
        ),
        ({"API_URL": "http://a", "S3_ACCESS_KEY": "x"}, ["S3_ACCESS_KEY and S3_SECRET_KEY go"]),
        (
            {"API_URL": "http://a", "VALIDATED_BUCKET": "b", "S3_ENDPOINT_URL": "store:9000"},
            ["The S3 endpoint 'store:9000' is no address"],
        ),
    ],
)
def test_a_wrong_setting_is_a_line_and_the_exit_code_two(
    settings: dict[str, str],
    said: list[str],
    bare: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert main(["dashboard"]) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert len(lines) == len(said)
    for line, part in zip(lines, said, strict=True):
        assert line.startswith("sn46 dashboard: ")
        assert part in line
        assert "secret@" not in line


def test_by_default_it_listens_here_alone_and_reads_no_bucket(bare: Path) -> None:
    settings = read_settings(DashboardSettings, api_url="https://api.example/")
    assert settings.dashboard_host == "127.0.0.1"
    assert settings.api_url == "https://api.example"
    assert settings.validated_bucket is None
    assert settings.thresholds() == Thresholds()
    with pytest.raises(SettingsError, match="ALERT_FALL_PERCENT"):
        read_settings(DashboardSettings, api_url="https://a", alert_fall_percent=0)


def test_the_page_names_every_setting_with_its_default() -> None:
    named = dict(re.findall(r"^\| `([A-Z0-9_]+)` \|.*\| ([^|]*) \|$", PAGE, re.MULTILINE))
    assert set(named) == {name.upper() for name in DashboardSettings.model_fields}
    for name, field in DashboardSettings.model_fields.items():
        default = named[name.upper()].strip("`")
        if field.is_required() or field.default in (None, "") or "KEY" in name.upper():
            assert default == "none", name
        else:
            assert default == str(field.default), name


def start(folder: Path, **settings: str) -> subprocess.Popen[str]:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-m", "sn46", "dashboard"],
        cwd=folder, env={**environment, **settings}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        yield busy.getsockname()[1]


def test_a_port_in_use_is_a_line(tmp_path: Path, taken: int) -> None:
    process = start(tmp_path, API_URL="http://127.0.0.1:9", DASHBOARD_PORT=str(taken))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith(f"sn46 dashboard: Cannot listen on 127.0.0.1:{taken}")
    assert "DASHBOARD_PORT" in line


async def test_it_starts_before_the_api_and_ends_at_a_signal(tmp_path: Path) -> None:
    port, nobody = free_port(), free_port()
    process = start(tmp_path, API_URL=f"http://127.0.0.1:{nobody}", DASHBOARD_PORT=str(port))
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            verify=trusted(),
            transport=httpx.AsyncHTTPTransport(retries=0, verify=trusted()),
        ) as http:
            page = await until_shown(http, "has not answered yet")
            assert "cannot be read: ConnectError" in page
            said = (await http.get("/healthz")).json()
            assert said == {"status": "ok", "live": False, "age_seconds": None}
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "dashboard_stopped" in err
    finally:
        process.kill()
        process.wait()


async def until_shown(http: httpx.AsyncClient, text: str) -> str:
    """The first page, once it has that text and an alert."""
    import asyncio

    async with asyncio.timeout(60):
        while True:
            try:
                page = (await http.get("/")).text
            except httpx.TransportError:
                page = ""
            if text in page and "cannot be read" in page:
                return page
            await asyncio.sleep(0.05)
