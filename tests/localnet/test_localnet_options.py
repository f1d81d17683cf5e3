"""Options are checked before anything is started."""

from pathlib import Path

import pytest

from sn46.localnet.errors import OptionError
from sn46.localnet.options import Chaos, LocalnetOptions, parse_miners
from sn46.localnet.strategies import STRATEGIES


def test_by_default_every_strategy_once_and_three_validators() -> None:
    options = LocalnetOptions()
    assert options.miners == tuple(STRATEGIES)
    assert len(options.miners) == 12
    assert options.validators == 3


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"epochs": 0}, "--epochs"),
        ({"epoch_seconds": 30}, "at least 60"),
        ({"epoch_seconds": 7000}, "divide a day"),
        ({"validators": 0}, "--validators"),
        ({"validators": 17}, "--validators"),
        ({"replicas": 0}, "--replicas"),
        ({"replicas": 9}, "--replicas"),
        ({"chaos": frozenset({Chaos.KILL_REPLICA})}, "needs --replicas 2"),
        ({"target_listings": 0}, "--target-listings"),
        ({"seed": ""}, "--seed"),
        ({"miners": ("honest",) * 201}, "200"),
        ({"api_port": 0}, "--api-port must be between"),
        ({"s3_port": -1}, "--s3-port must be between"),
        ({"portal_port": 99_999}, "--portal-port must be between"),
        ({"api_port": 9_000, "portal_port": 9_000}, "different ports"),
        ({"dashboard_port": 65_536}, "--dashboard-port must be between"),
        ({"api_port": 9_000, "dashboard_port": 9_000}, "different ports"),
        ({"dashboard": False, "dashboard_port": 9_000}, "contradict each other"),
    ],
)
def test_what_cannot_be_is_said(wrong: dict[str, object], complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint):
        LocalnetOptions(**wrong)  # type: ignore[arg-type]


def test_where_results_cannot_be_written_is_said_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert LocalnetOptions(json_file=file, export=tmp_path / "new" / "export").export
    with pytest.raises(OptionError, match=r"no folder .*/none for --json"):
        LocalnetOptions(json_file=tmp_path / "none" / "results.json")
    with pytest.raises(OptionError, match="is a folder; name a file"):
        LocalnetOptions(json_file=tmp_path)
    with pytest.raises(OptionError, match="--export needs a folder"):
        LocalnetOptions(export=file / "export")
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    for wrong in ({"json_file": file}, {"export": tmp_path / "export"}):
        with pytest.raises(OptionError, match="cannot be written by this user"):
            LocalnetOptions(**wrong)


def test_a_list_of_miners() -> None:
    assert parse_miners("honest, padder,honest") == ("honest", "padder", "honest")
    assert parse_miners("all") == parse_miners("") == tuple(STRATEGIES)
    with pytest.raises(OptionError, match="Did you mean padder"):
        parse_miners("honest,paddr")
