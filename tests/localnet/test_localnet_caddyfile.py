"""The Caddyfile that owners get is the one that is documented, and Caddy takes it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from localnet_helpers import PACKAGE_ROOT

from sn46.cli import main
from sn46.localnet.caddyfile import CaddyfileError, caddyfile

CADDY = Path(sys.executable).parent / "caddy"
REPLICAS = ("10.0.0.11:8000", "10.0.0.12:8000")


def caddy(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    places = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    return subprocess.run(
        [CADDY, *arguments], cwd=folder, env=places, capture_output=True, text=True, check=False
    )


def adapted(folder: Path, text: str) -> Any:
    (folder / "Caddyfile").write_text(text)
    done = caddy(folder, "adapt", "--config", "Caddyfile", "--validate")
    assert done.returncode == 0, done.stderr
    assert "not formatted" not in done.stderr
    return json.loads(done.stdout)


def test_the_page_for_owners_shows_what_the_command_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["caddyfile", "api.example.org", *REPLICAS]) == 0
    page = (PACKAGE_ROOT / "docs" / "subnet-owner.md").read_text()
    assert f"```\n{capsys.readouterr().out}```\n" in page


def test_caddy_takes_it_with_a_certificate(tmp_path: Path) -> None:
    servers = adapted(tmp_path, caddyfile("api.example.org", REPLICAS))["apps"]["http"]["servers"]
    assert [server["listen"] for server in servers.values()] == [[":443"]]


def test_the_local_one_keeps_nothing_and_has_no_door_besides(tmp_path: Path) -> None:
    text = caddyfile("http://:8080", REPLICAS, bind="127.0.0.1", is_local=True)
    whole = adapted(tmp_path, text)
    assert whole["admin"] == {"disabled": True, "config": {"persist": False}}
    (server,) = whole["apps"]["http"]["servers"].values()
    assert server["listen"] == ["127.0.0.1:8080"]
    assert "tls" not in whole["apps"]


@pytest.mark.parametrize(
    ("site", "replicas", "complaint"),
    [
        ("", REPLICAS, "no site"),
        ("api.example.org {", REPLICAS, "no site"),
        ("api.example.org", ["10.0.0.11"], "HOST:PORT"),
        ("api.example.org", ["10.0.0.11:8000 {"], "HOST:PORT"),
        ("api.example.org", [], "at least one"),
    ],
)
def test_what_is_no_address_is_refused(site: str, replicas: list[str], complaint: str) -> None:
    with pytest.raises(CaddyfileError, match=complaint):
        caddyfile(site, replicas)


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caddyfile", "api.example.org", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("sn46 caddyfile: 'nowhere' is no replica")
