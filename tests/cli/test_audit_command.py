"""``sn46 audit``: what is asked for wrongly, or of nobody, is said in a line."""

from pathlib import Path

import pytest

from sn46.cli import main


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("API_URL", "API_HOTKEY"):
        monkeypatch.delenv(name, raising=False)


HERE = ["--api", "http://127.0.0.1:9"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Give --api URL, or set API_URL"),
        (["--api", "api.example"], "not an address"),
        (["--api", "ftp://api.example"], "not an address"),
        ([*HERE, "yesterday"], "not an ended epoch"),
        ([*HERE, "current"], "not an ended epoch"),
        ([*HERE, "2024-03-15-16:00", "--all"], "one of them"),
        ([*HERE, "--epochs", "3", "--all"], "one of them"),
        ([*HERE, "--epochs", "0"], "--epochs"),
        ([*HERE, "--api-hotkey", "me"], "not a hotkey"),
        ([*HERE, "--every"], "No such option: --every"),
    ],
)
def test_asked_wrongly(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert said in captured.err


def test_the_address_is_a_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("API_URL=not an address\n")
    assert main(["audit"]) == 2
    assert "'not an address'" in capsys.readouterr().err
    monkeypatch.setenv("API_URL", "http://")
    assert main(["audit"]) == 2
    assert "'http://'" in capsys.readouterr().err
