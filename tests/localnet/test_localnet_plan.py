"""What a local network says of itself."""

from pathlib import Path

from sn46.localnet.datadir import DataDir, NetworkFile
from sn46.localnet.options import LocalnetOptions
from sn46.localnet.people import NETUID, make_people
from sn46.localnet.plan import Plan


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
