"""The command, whole: two networks side by side, through everything that may befall them.

One is the default line-up for an epoch, with a validator killed and another late; the other is
small, runs until Ctrl-C, and loses its API on the way. They run once; each test looks at one side
of what came of it.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from localnet_helpers import Command, is_alive, is_all_it_could, wait

from sn46.certificates import trusted
from sn46.localnet.portal.faults import ClientRule, FaultPlan
from sn46.localnet.results import weights_agree
from sn46.localnet.strategies import STRATEGIES
from sn46.mechanism.assignment import read_assignment
from sn46.mechanism.times import parse_time

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEED = "a seed for tests"
SECONDS = "90"
"""An epoch's. On a machine that has much else to do, half of it must do for a quick miner."""


@dataclass(frozen=True)
class Ran:
    """What two networks left behind."""

    big: Command
    small: Command
    big_result: Mapping[str, Any]
    small_result: Mapping[str, Any]
    export: Path
    small_dir: Path
    miners_page: str


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    big_dir, small_dir = tmp_path_factory.mktemp("big"), tmp_path_factory.mktemp("small")
    export = big_dir / "export"
    big = Command(
        big_dir,
        *("--epochs", "1", "--epoch-seconds", SECONDS, "--seed", SEED, "--json", "out.json"),
        *("--export", str(export), "--chaos", "kill-validator", "--chaos", "late-validator"),
    )
    small = Command(
        small_dir,
        *("--epoch-seconds", SECONDS, "--validators", "1", "--miners", "honest,padder"),
        *("--json", "out.json", "--data-dir", "data"),
    )
    try:
        lose_the_api(small)
        result = small_dir / "out.json"

        def small_is_through() -> bool:
            return bool(big.children() and small.children() and result.exists())

        wait("the small network's epoch", small_is_through, 500)
        small_result = json.loads(result.read_text())
        # Scores are there once the dashboard has read the report itself.
        wait("its dashboard", lambda: "Credibility" in dashboard_page(small, "miners"), 60)
        miners = dashboard_page(small, "miners")
        small.process.send_signal(signal.SIGINT)
        wait("its end", lambda: small.process.poll() is not None, 60)

        def big_has_ended() -> bool:
            big.children()
            return big.process.poll() is not None

        wait("the big network's end", big_has_ended, 500)
        big_result = json.loads((big_dir / "out.json").read_text())
        yield Ran(big, small, big_result, small_result, export, small_dir / "data", miners)
    finally:
        for command in (big, small):
            command.end()
            print(command.output)


def lose_the_api(network: Command) -> None:
    """Kill the network's API once its miners have begun, as a machine short of memory would."""
    wait("the first epoch", lambda: "miners at work" in network.output, 300)
    apis = [pid for pid, line in network.children().items() if line.endswith("sn46 api")]
    assert len(apis) == 1
    os.kill(apis[0], signal.SIGKILL)


def dashboard_page(network: Command, path: str) -> str:
    """A page of the network's dashboard, "" where it does not answer."""
    said = re.search(r"The dashboard is at (http://\S+)", network.output)
    assert said is not None
    try:
        return httpx.get(f"{said[1]}/{path}", timeout=20, verify=trusted()).text
    except httpx.TransportError:
        return ""


def the_epoch(ran: Ran) -> dict[str, Any]:
    assert len(ran.big_result["epochs"]) == 1
    return ran.big_result["epochs"][0]


def by_strategy(epoch: Mapping[str, Any]) -> dict[str, Any]:
    """Each strategy's part of the report; None where the report does not know it."""
    miners = next(iter(epoch["reports"].values()))["miners"]
    return {name: miners.get(hotkey) for hotkey, name in epoch["strategies"].items()}


def codes(entry: Mapping[str, Any]) -> set[str]:
    return {reason["code"] for reason in entry["reasons"]}


def test_it_ends_well_and_leaves_nothing(ran: Ran) -> None:
    assert ran.big.process.returncode == 0
    assert ran.small.process.returncode == 0
    assert len(ran.big.pids) > 17
    assert not [pid for pid in ran.big.pids | ran.small.pids if is_alive(pid)]


def test_its_dashboard_shows_who_earned_what(ran: Ran) -> None:
    """Also where the network lost its API on the way."""
    report = next(iter(ran.small_result["epochs"][0]["reports"].values()))
    for hotkey, miner in report["miners"].items():
        assert f'href="./miners/{hotkey}"' in ran.miners_page
        assert f"{miner['final'] / 10_000:.2f}" in ran.miners_page
    assert "The dashboard is at http://127.0.0.1:" in ran.big.output


def test_all_validators_agree_also_one_killed_and_one_late(ran: Ran) -> None:
    epoch = the_epoch(ran)
    assert epoch["consensus"] is True
    assert len(epoch["reports"]) == 3
    assert len({report["consensus_hash"] for report in epoch["reports"].values()}) == 1
    said = ran.big.output
    assert "Killed validator-3" in said
    assert "validator-3: was ended by SIGKILL; it is started again in 1 s" in said
    assert "Started validator-2, an epoch late" in said
    assert "All 3 validators agree" in said


def test_the_weights_on_the_chain_are_those_of_the_reports(ran: Ran) -> None:
    epoch = the_epoch(ran)
    assert set(epoch["weights_on_chain"]) == set(epoch["reports"])
    for validator, report in epoch["reports"].items():
        assert sum(report["weights"].values()) == 1_000_000
        assert weights_agree(report["weights"], epoch["weights_on_chain"][validator])


@pytest.mark.parametrize(
    "name", [spec.name for spec in STRATEGIES.values() if spec.reason and not spec.honest]
)
def test_a_cheat_earns_nothing_and_the_report_says_why(ran: Ran, name: str) -> None:
    entry = by_strategy(the_epoch(ran))[name]
    reason = STRATEGIES[name].reason
    assert entry["final"] == entry["weight"] == 0
    assert reason in codes(entry)
    detail = next(r["detail"] for r in entry["reasons"] if r["code"] == reason)
    assert len(detail.split()) > 5
    assert f"  {name}: {detail[:40]}" in ran.big.output


def test_the_honest_are_paid_and_a_coldkey_once(ran: Ran) -> None:
    entries = by_strategy(the_epoch(ran))
    for name in ("honest", "honest-slow"):
        assert entries[name]["valid"]
        assert codes(entries[name]) == set()
        assert is_all_it_could(entries[name]["volume"])
        assert entries[name]["accuracy"] == 1_000_000
        assert entries[name]["weight"] > 0
    twins = [entries["honest-fast"], entries["second-hotkey"]]
    paid = [twin for twin in twins if twin["weight"]]
    assert len(paid) == 1
    assert all(twin["valid"] and not twin["disqualified"] for twin in twins)
    assert [codes(twin) for twin in twins if not twin["weight"]] == [{"coldkey_limit"}]


def test_a_claimed_time_counts_for_nothing(ran: Ran) -> None:
    entries = by_strategy(the_epoch(ran))
    assignment = read_assignment(the_epoch(ran)["assignment"])
    submitted = parse_time(entries["back-dated"]["submission_time"])
    assert submitted > assignment.rules.grace_end(assignment.epoch)
    assert entries["back-dated"]["speed"] < entries["honest-fast"]["speed"]


def test_partial_work_earns_a_partial_score(ran: Ran) -> None:
    """The portal refuses two ZIPs of five, by hash. Which are drawn is a secret, so that of a draw
    of a few it may refuse none, or all."""
    epoch, entry = the_epoch(ran), by_strategy(the_epoch(ran))["partial"]
    address = f"127.0.1.{list(STRATEGIES).index('partial') + 1}"
    rule = ClientRule(fail_fraction=STRATEGIES["partial"].failing_share)
    plan = FaultPlan(seed=SEED, rules={address: rule})
    zips = epoch["assignment"]["zipcodes"]
    open_ones = [z for z in zips if not plan.refuses_search(address, z["zipcode"])]
    if not open_ones:
        assert entry is None
        return
    assert entry["zipcodes"] <= len(open_ones)
    assert entry["valid"]
    total = sum(z["expected_listings"] for z in zips)
    share = sum(z["expected_listings"] for z in open_ones) * 1_000_000 // total
    assert is_all_it_could(entry["volume"], share)


def test_replay_of_the_export_gives_the_published_hash(ran: Ran, tmp_path: Path) -> None:
    epoch = the_epoch(ran)
    published = next(iter(epoch["reports"].values()))["consensus_hash"]
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "sn46", "replay", "--from", str(ran.export),
         "--epoch", epoch["epoch_id"], "--json", str(report)],
        cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(report.read_text())["consensus_hash"] == published
    assert done.stdout.count("its published report agrees") == 3
    assert f"consensus_hash {published}" in done.stdout


def test_a_changed_export_does_not_replay_to_it(ran: Ran, tmp_path: Path) -> None:
    epoch = the_epoch(ran)
    changed = tmp_path / "export"
    subprocess.run(["cp", "-r", str(ran.export), str(changed)], check=True)
    for path in changed.glob("validated-data/validators/*/*/validation_report.json"):
        report = json.loads(path.read_text())
        report["consensus_hash"] = report["consensus_hash"][::-1]
        path.write_text(json.dumps(report, indent=1))
    done = subprocess.run(
        [sys.executable, "-m", "sn46", "replay", "--from", str(changed),
         "--epoch", epoch["epoch_id"]],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "differs" in done.stdout


def test_a_dead_api_is_started_again_and_the_epoch_goes_on(ran: Ran) -> None:
    assert "api: was ended by SIGKILL; it is started again in 1 s" in ran.small.output
    (epoch,) = ran.small_result["epochs"]
    assert epoch["consensus"] is True
    assert by_strategy(epoch)["honest"]["weight"] == 500_000
    assert "duplicates_over_limit" in codes(by_strategy(epoch)["padder"])


def test_its_directory_is_kept_for_the_same_network(ran: Ran) -> None:
    assert (ran.small_dir / "logs" / "validator-1.log").stat().st_size > 0
    done = subprocess.run(
        [sys.executable, "-m", "sn46", "localnet", "--data-dir", str(ran.small_dir),
         "--seed", "another", "--epoch-seconds", SECONDS],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "made from another seed" in done.stderr
