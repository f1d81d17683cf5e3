"""The command line: thin, quick, and clear about what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from sn46 import __version__
from sn46.api.settings import ApiSettings
from sn46.cli import main
from sn46.configuration import misspelt
from sn46.dashboard.settings import DashboardSettings
from sn46.data.settings import DataSettings
from sn46.miner.settings import MinerSettings
from sn46.validator.settings import ValidatorSettings

COMMANDS = (
    "localnet", "api", "dashboard", "miner", "validator", "export", "replay", "config", "version",
)  # fmt: skip


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error; nothing may stand beside it."""
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    bare = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == bare
    assert all(command in bare for command in COMMANDS)


def test_help_breaks_lines_where_the_terminal_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    assert "and show what each earned" in capsys.readouterr().out
    assert main(["miner", "--help"]) == 0
    assert "and every reason for a lost point" in capsys.readouterr().out


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from sn46.cli import main; main(['--help']);"
        "sys.exit(' '.join({'polars', 'bittensor', 'fastapi', 'httpx'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["localne"], "No such command 'localne'. Did you mean 'localnet'?"),
        (["xyz"], "No such command 'xyz'. See sn46 --help."),
        (["localnet", "--epoch"], "No such option: --epoch. Did you mean --epochs?"),
        (["localnet", "--epochs", "two"], "Invalid value for '--epochs'"),
        (["localnet", "--epochs", "0"], "--epochs must be 1 or more"),
        (["localnet", "--epoch-seconds", "61"], "divide a day"),
        (["localnet", "--miners", "honst"], "Did you mean honest?"),
        (["localnet", "--chaos", "rain"], "'rain' is not a valid Chaos"),
        (["localnet", "extra"], "unexpected extra argument"),
        (["replay", "--epoch", "2024-03-15-16:00"], "Missing option '--from'"),
        (["config", "nobody"], "Invalid value for 'actor': 'nobody' is not one of"),
        (["localnet", "--portal-port", "99999"], "--portal-port must be between 1 and 65535"),
    ],
)
def test_what_is_asked_for_wrongly_gets_one_line_and_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert said in complaint(capsys)


def test_a_replay_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--from", str(tmp_path), "--epoch", "2024-03-15-16:00"]) == 1
    assert "does not hold epoch 2024-03-15-16:00" in complaint(capsys)
    assert main(["replay", "--from", str(tmp_path), "--epoch", "yesterday"]) == 1
    assert "not an epoch id" in complaint(capsys)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without settings, and an environment without any."""
    monkeypatch.chdir(tmp_path)
    for name in ("API_URL", "API_HOTKEY", "SOURCES", "SECRET_KEY", "S3_SECRET_KEY", "NETUID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize("command", [["validator"], ["export", "--to", "out"]])
def test_missing_settings_are_one_line_each(
    command: list[str], bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[2] for line in lines] == ["API_URL:", "API_HOTKEY:", "SOURCES:"]
    assert not (bare / "out").exists()


@pytest.mark.parametrize("actor", ["api", "miner", "validator"])
def test_config_shows_where_each_setting_comes_from(
    actor: str, bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (bare / ".env").write_text("NETUID=47\nWALLET_NAME=from-file\n")
    monkeypatch.setenv("NETUID", "48")
    assert main(["config", actor]) == 1  # what has no default is not set
    captured = capsys.readouterr()
    rows = {line.split()[0]: line.split()[1:] for line in captured.out.splitlines()}
    assert rows["NETUID"] == ["48", "environment"]
    assert rows["WALLET_NAME"] == ["from-file", ".env"]
    assert rows["WALLET_HOTKEY"] == ["default", "default"]
    assert "is not set; it has no default" in captured.err


@pytest.mark.parametrize("actor", ["api", "miner", "validator"])
def test_a_misspelt_setting_is_said(
    actor: str, bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bare / ".env").write_text("CHAIN_ENDPONT=test\nLOG_LEVL=debug\nS3_SECRETKEY=x\n")
    assert main(["config", actor]) == 1
    err = capsys.readouterr().err
    assert "CHAIN_ENDPONT in .env is no setting. Did you mean CHAIN_ENDPOINT?" in err
    assert "Did you mean LOG_LEVEL?" in err
    assert ("Did you mean S3_SECRET_KEY?" in err) == (actor == "api")


@pytest.mark.parametrize("doctor", [["api", "check"], ["miner", "doctor"], ["validator", "doctor"]])
def test_doctors_name_a_misspelt_setting(
    doctor: list[str], bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (bare / ".env").write_text("CHAIN_ENDPONT=test\n")
    assert main(doctor) == 1  # what has no default is not set either
    assert "FAIL  settings: CHAIN_ENDPONT in .env is no setting" in capsys.readouterr().out


def test_settings_of_other_actors_are_none_that_are_misspelt(
    bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = (ApiSettings, DashboardSettings, DataSettings, MinerSettings, ValidatorSettings)
    names = {name.upper() for kind in kinds for name in kind.model_fields}
    (bare / ".env").write_text("".join(f"{name}=1\n" for name in names))
    assert [misspelt(kind) for kind in kinds] == [[] for _ in kinds]


def test_config_shows_no_secret(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets = {
        "SECRET_KEY": "s" * 40,
        "S3_ACCESS_KEY": "an-access-key",
        "S3_SECRET_KEY": "a-secret-key",
        "DATABASE_URL": "postgresql+asyncpg://sn46:hunter2@db.example/sn46",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    assert main(["config", "api"]) == 0
    shown = capsys.readouterr().out
    assert not any(value in shown for value in secrets.values())
    assert "hunter2" not in shown
    assert "postgresql+asyncpg://sn46:********@db.example/sn46" in shown


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sn46", "versio"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "sn46: No such command 'versio'. Did you mean 'version'? See sn46 --help.\n"
    )
