"""What a local network says of itself."""

from pathlib import Path

from sn46.dashboard.settings import DashboardSettings
from sn46.localnet.datadir import DataDir, NetworkFile
from sn46.localnet.options import LocalnetOptions
from sn46.localnet.people import NETUID, make_people
from sn46.localnet.plan import Plan
from sn46.store.s3 import S3Access


def test_the_dashboards_settings_are_ones_that_it_takes(tmp_path: Path) -> None:
    options = LocalnetOptions(validators=1, miners=("honest",))
    ports = {"api": 8001, "portal": 8002, "dashboard": 8003}
    network = NetworkFile("seed", "k" * 64, NETUID, options.epoch_seconds, ports)
    with DataDir(tmp_path / "data") as data:
        people = make_people(data.wallets, "seed", validators=1, strategies=options.miners)
        plan = Plan(options, data, people, network)
        spec = plan.dashboard(S3Access("http://127.0.0.1:9000", "us-east-1", "key", "secret"))
    assert plan.infrastructure[-1] == "dashboard"
    given = {name.lower(): value for name, value in spec.environment.items()}
    known = DashboardSettings.model_fields
    made = DashboardSettings.model_validate({n: v for n, v in given.items() if n in known})
    assert f"http://{made.dashboard_host}:{made.dashboard_port}" == plan.dashboard_url
    assert made.api_url == plan.api_url
    assert made.api_hotkey == people.owner.hotkey
    without = LocalnetOptions(validators=1, miners=("honest",), dashboard=False)
    assert "dashboard" not in Plan(without, data, people, network).infrastructure


def test_what_a_miner_of_ones_own_must_be_told_is_said(tmp_path: Path) -> None:
    options = LocalnetOptions(validators=1, miners=("honest",))
    ports = {"api": 8001, "portal": 8002}
    network = NetworkFile("seed", "k" * 64, NETUID, options.epoch_seconds, ports)
    with DataDir(tmp_path / "data") as data:
        people = make_people(data.wallets, "seed", validators=1, strategies=options.miners)
        said = Plan(options, data, people, network).addresses()
    assert "http://127.0.0.1:8001" in said
    assert "http://127.0.0.1:8002" in said
    assert people.owner.hotkey in said
