"""What a miner's owner asks on the command line: check, status, doctor, once."""

import asyncio
import io
import json
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from apinet import MovedClock, free_port
from minernet import Competition, plain, process, read_status, real_now
from rich.console import Console

from sn46.certificates import trusted
from sn46.chain.wallets import create_local_wallet
from sn46.cli import main
from sn46.mechanism.assignment import Assignment
from sn46.mechanism.names import PPM, EpochId, Hotkey, ZipCode
from sn46.mechanism.scoring import blend
from sn46.mechanism.times import format_time
from sn46.miner.checkup import check_up
from sn46.miner.cleaning import clean
from sn46.miner.live import render
from sn46.miner.metrics import MetricsError, serving_metrics
from sn46.miner.progress import Meter, MinerStatus, Phase, Progress, ZipUnderWay
from sn46.miner.spool import Spool


@dataclass
class Shell:
    """Runs ``sn46 miner …`` in this process with a miner's environment and nothing else."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    @contextmanager
    def _environment(self, values: Mapping[str, str]) -> Iterator[None]:
        with self.monkeypatch.context() as patch:
            for name, value in values.items():
                patch.setenv(name, value)
            yield

    async def run(self, environment: Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        self.capsys.readouterr()
        with self._environment(environment):
            code = await asyncio.to_thread(main, ["miner", *arguments])
        out, err = self.capsys.readouterr()
        return code, out, err


@pytest.fixture
def shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Shell:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    return Shell(monkeypatch, capsys)


async def kept_assignment(competition: Competition, data: Path, name: str = "ann") -> Assignment:
    """The assignment, received as the service does and kept in the spool."""
    received = await competition.net.client(name).current()
    spool = Spool(data, Hotkey(competition.net.hotkey(name)))
    spool.save_assignment(received.document)
    spool.close()
    return received.assignment


def settings_of(competition: Competition, data: Path, **changes: str) -> dict[str, str]:
    chain = competition.net.services.settings.chain_endpoint
    return competition.environment("ann", data, CHAIN_ENDPOINT=chain) | changes


async def test_check_says_what_validators_will(
    competition: Competition, shell: Shell, tmp_path: Path
) -> None:
    data, report = tmp_path / "data", tmp_path / "report.json"
    assignment = await kept_assignment(competition, data)
    async with competition.miner(data_dir=data) as miner:
        await miner.mine(assignment)
    # Offline, and without the key.
    environment = settings_of(competition, data, API_URL="http://127.0.0.1:9", WALLET_NAME="none")
    code, out, err = await shell.run(environment, "check", "--json", str(report))
    assert (code, err) == (0, "")
    judged = await competition.judged(assignment)
    found = json.loads(report.read_bytes())
    assert found["signed"] is True
    assert found["valid"] is True
    assert (found["completeness"], found["volume"]) == (judged.completeness, judged.volume)
    assert judged.completeness is not None
    assert judged.volume is not None
    assert found["preliminary"] == blend(PPM, judged.completeness, judged.volume)
    assert "VALID" in out
    assert "each place costs 50,000" in out
    # Six fields that the county's records lack, each with a row that lacks it.
    lost = [fill for fill in found["fields"] if fill["lost"]]
    assert len(lost) == 6
    assert all(fill["example"].startswith("portal:") for fill in lost)
    assert sum(fill["lost"] for fill in lost) == 6 * (PPM // 16)
    # Before it was packed, it would have been packed to the same.
    (folder,) = (path.parent for path in data.rglob("manifest.json"))
    for name in ("manifest.json", "outcome.json"):
        (folder / name).unlink()
    code, _, _ = await shell.run(environment, "check", "--json", str(report))
    again = json.loads(report.read_bytes())
    assert (code, again["signed"]) == (0, False)
    for name in ("rows", "completeness", "volume", "preliminary", "zips", "fields"):
        assert again[name] == found[name]
    # An epoch that is not there, and one without a row.
    code, _, err = await shell.run(environment, "check", "--epoch", "2020-01-01-00:00")
    assert code == 2
    assert f"It holds: {assignment.epoch_id}." in err
    for record in folder.glob("scraped/*.json"):
        record.unlink()
    code, _, err = await shell.run(environment, "check", "--epoch", assignment.epoch_id)
    assert code == 1
    assert "no row" in err


async def test_check_shows_each_reason_with_rows(
    competition: Competition, shell: Shell, tmp_path: Path
) -> None:
    data, report = tmp_path / "data", tmp_path / "report.json"
    assignment = await kept_assignment(competition, data)
    async with competition.miner(strategy="padder", data_dir=data) as miner:
        await miner.mine(assignment)
    environment = settings_of(competition, data)
    code, out, _ = await shell.run(environment, "check", "--json", str(report))
    assert code == 1
    # Where the file cannot be written, what was found is told all the same.
    nowhere = str(tmp_path / "none" / "report.json")
    code, told, err = await shell.run(environment, "check", "--json", nowhere)
    assert (code, told) == (1, out)
    assert "No such file or directory" in err
    judged = await competition.judged(assignment)
    found = json.loads(report.read_bytes())
    assert found["reasons"] == [reason.to_json() for reason in judged.reasons]
    repeats = [fault for fault in found["faults"] if "it repeats an earlier row's" in fault["what"]]
    assert sum(fault["count"] for fault in repeats) == judged.duplicates
    example = repeats[0]["examples"][0]
    assert example["file"].startswith("zipcode=")
    assert str(example["listing_id"]) in out
    assert "INVALID" in out
    assert found["preliminary"] is None
    assert "0, as it is invalid" in out


async def test_rows_left_out_are_told(competition: Competition, tmp_path: Path) -> None:
    assignment = await kept_assignment(competition, tmp_path)
    async with competition.miner(data_dir=tmp_path) as miner:
        await miner.mine(assignment)
    spool = Spool(tmp_path, Hotkey(competition.net.hotkey("ann")))
    work = spool.epoch(assignment)
    zipcode, frame = sorted(work.frames().items())[0]
    rows: list[dict[str, Any]] = frame.to_dicts()
    rows[0]["sale_price"] = 1
    rows[1]["city"] = " "
    rows[2]["latitude"] = 0.0
    rows[3]["listing_id"] = rows[4]["listing_id"]
    rows[5]["zipcode"] = "00000"
    dirty = frame.clear().vstack(type(frame)(rows, schema=frame.schema))
    cleaned = clean(assignment, {zipcode: dirty})
    assert [(fault.what, fault.count) for fault in cleaned.faults] == [
        ("the row is of another ZIP than its file", 1),
        ("a required field is absent", 1),
        ("sale_price is outside 1,000 to 100,000,000", 1),
        ("it is more than 50 km from its ZIP's centroid", 1),
        ("it repeats an earlier row's listing_id", 1),
    ]
    assert cleaned.faults[1].examples[0]["absent"] == "city"
    assert cleaned.faults[2].examples[0]["sale_price"] == 1
    work.save_scraped(zipcode, cleaned.frames[zipcode], complete=True, dropped=cleaned.faults)
    found = check_up(assignment, work, competition.net.clock.now())
    spool.close()
    assert sum(fault.count for fault in found.left_out) == cleaned.dropped == 5
    assert json.loads(json.dumps(found.to_json()))["left_out"][1]["examples"][0]["absent"] == "city"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("check",), "holds no miner's work yet"),
        (("check", "--trial"), "holds no miner's work yet"),
        (("status",), "holds no miner's work yet"),
        (("check", "--epoch"), "Option '--epoch' requires an argument."),
        (("chekc",), "sn46 miner --help"),
    ],
)
async def test_asked_wrongly_is_2_and_a_line(
    arguments: tuple[str, ...], says: str, shell: Shell, tmp_path: Path
) -> None:
    environment = {
        "API_URL": "http://127.0.0.1:9",
        "API_HOTKEY": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
        "SOURCES": "portal:http://127.0.0.1:9",
        "DATA_DIR": str(tmp_path / "data"),
    }
    code, _, err = await shell.run(environment, *arguments)
    assert code == 2
    assert says in err
    assert len(err.splitlines()) == 1


async def test_status_of_a_miner_that_works_and_was_killed(
    competition: Competition, shell: Shell, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    environment = settings_of(competition, data)
    async with process(environment, cwd=tmp_path) as running:

        async def waiting() -> bool:
            return read_status(data).get("phase") == "waiting"

        await competition.net.until(waiting, seconds=60)
        code, out, err = await shell.run(environment, "status")
        assert (code, err) == (0, "")
        assert "waiting" in out
        assert "submitted" in out
        assert "rows a minute" in out
        assert "completeness 62.5 %, volume 100.0 %" in out
        running.kill()
        _, log = await running.communicate()
    assert "the epoch in short" in plain(log)
    code, out, err = await shell.run(environment, "status")
    assert code == 1
    assert "is gone" in err
    assert "submitted" in out
    elsewhere = environment | {"STATUS_FILE": str(tmp_path / "elsewhere.json")}
    code, _, err = await shell.run(elsewhere, "status")
    assert code == 2
    assert "set DATA_DIR or STATUS_FILE to where it works" in err


def findings(out: str) -> list[str]:
    """The doctor's lines, without the log of the API in this process."""
    return [line for line in out.splitlines() if line.startswith(("ok    ", "FAIL  "))]


async def test_doctor_of_a_healthy_miner(
    competition: Competition, shell: Shell, tmp_path: Path
) -> None:
    code, out, _ = await shell.run(settings_of(competition, tmp_path / "data"), "doctor")
    lines = findings(out)
    assert code == 0, out
    assert all(line.startswith("ok    ") for line in lines)
    parts = [line[6:].split(":")[0] for line in lines]
    assert parts == [
        "settings", "data folder", "wallet", "clock", "registration", "API", "S3",
        "relay", "source portal", "proxies",
    ]  # fmt: skip
    assert "UID" in lines[4]
    # It looked, and left nothing behind.
    assert await competition.frozen(await competition.assignment()) == (None, {})
    assert not (tmp_path / "data").exists()


async def test_doctor_says_how_to_mend(
    competition: Competition, shell: Shell, tmp_path: Path
) -> None:
    create_local_wallet(tmp_path / "wallets", "stranger", "hot", b"a stranger")
    environment = settings_of(
        competition,
        tmp_path / "data",
        WALLET_PATH=str(tmp_path / "wallets"),
        WALLET_NAME="stranger",
        WALLET_HOTKEY="hot",
        SOURCES=f"portal:{competition.portal}",
        PROXIES="127.0.0.1:9,127.0.0.1:10",
    )
    code, out, _ = await shell.run(environment, "doctor")
    assert code == 1
    told = {line[6:].split(": ")[0]: line for line in findings(out)}
    assert told["registration"].startswith("FAIL")
    assert "btcli subnet register --netuid 46" in told["registration"]
    assert told["API"].startswith("FAIL")
    assert told["proxy 1 (127.0.0.1:9)"].startswith("FAIL")
    assert "0 of 2 work" in told["proxies"]
    assert told["clock"].startswith("ok")


async def test_doctor_without_network(shell: Shell, tmp_path: Path) -> None:
    environment = {
        "API_URL": "http://127.0.0.1:9",
        "API_HOTKEY": "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY",
        "SOURCES": "portal:http://127.0.0.1:9",
        "WALLET_PATH": str(tmp_path / "none"),
        "DATA_DIR": str(tmp_path / "data"),
        "REQUESTS_PER_SECOND": "500",
    }
    code, out, _ = await shell.run(environment, "doctor")
    assert code == 1
    failed = [line[6:].split(":")[0] for line in out.splitlines() if line.startswith("FAIL")]
    assert failed == ["wallet", "clock", "source portal"]


async def test_once_scrapes_without_uploading(
    competition: Competition, shell: Shell, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    environment = settings_of(competition, data)
    assignment = await competition.assignment()
    async with process(
        environment, "sn46", "miner", "once", "--zips", "1", cwd=tmp_path
    ) as running:
        out, log = await running.communicate()
    assert running.returncode == 0, plain(log)
    assert "the submission as it would be made" in out.decode()
    assert "it was not scraped" in out.decode()
    assert await competition.frozen(assignment) == (None, {})
    # The service's own spool was not touched.
    assert [path.name for path in data.iterdir()] == ["trial"]
    code, again, _ = await shell.run(environment, "check", "--trial")
    assert code == 0
    assert again.splitlines()[1:3] == out.decode().splitlines()[1:3]


async def test_ctrl_c_ends_a_trial_with_what_it_found(
    competition: Competition, tmp_path: Path
) -> None:
    address = "127.0.0.46"
    environment = settings_of(
        competition, tmp_path / "data", REQUESTS_PER_SECOND="1", SOURCE_ADDRESS=address
    )
    async with process(environment, "sn46", "miner", "once", cwd=tmp_path) as running:

        async def begun() -> bool:
            return await competition.asked(address) >= 2

        await competition.net.until(begun, seconds=60)
        running.send_signal(signal.SIGINT)
        out, log = await running.communicate()
    assert "the trial was interrupted" in plain(log)
    assert "Traceback" not in plain(log)
    assert "it was not finished when scraping stopped" in out.decode()


async def test_metrics_are_the_status() -> None:
    port = free_port()
    progress = Progress(Hotkey("5x"), MovedClock(real_now()))
    with serving_metrics(progress, "127.0.0.1", port):
        progress.update(phase=Phase.SCRAPING, zips_total=7, refused=3)
        async with httpx.AsyncClient(verify=trusted()) as http:
            text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
        with (
            pytest.raises(MetricsError, match="METRICS_PORT"),
            serving_metrics(progress, "127.0.0.1", port),
        ):
            pass
    assert "sn46_miner_zips_total 7.0" in text
    assert "sn46_miner_refused 3.0" in text
    assert 'sn46_miner_phase{phase="scraping"} 1.0' in text


def test_the_picture_on_a_terminal() -> None:
    now = datetime(2024, 3, 15, 17, 0, tzinfo=UTC)
    status = MinerStatus(
        hotkey=Hotkey("5x"),
        host="here",
        pid=1,
        phase=Phase.SCRAPING,
        updated_at=format_time(now),
        epoch_id=EpochId("2024-03-15-16:00"),
        deadline="2024-03-15T20:00:00Z",
        scrape_until="2024-03-15T19:48:00Z",
        finish_at="2024-03-15T20:10:00Z",
        zips_total=9,
        zips_done=2,
        rows=900,
        rows_expected=5_000,
        rows_per_minute=40,
        answered=30,
        refused=4,
        under_way=(ZipUnderWay(ZipCode("08701"), 120, 480),),
    )
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(render(status, now))
    text = console.export_text()
    assert "3:00:00 until the deadline" in text
    assert "2 of 9 ZIPs done, 1020 of 5000 rows expected, 40 rows a minute" in text
    assert "4 refused or lost, 2:48:00 left to scrape, 3:10:00 needed, which is TOO SLOW" in text
    assert "120 of 480" in text
    assert MinerStatus.from_json(json.loads(json.dumps(status.to_json()))) == status


def test_the_meter_tells_when_it_will_be_done() -> None:
    clock = MovedClock(real_now())
    meter = Meter(clock)
    assert meter.reading(0, 100) == (0, None)
    clock.advance(timedelta(minutes=1))
    rate, finish = meter.reading(50, 100)
    assert 45 <= rate <= 50
    assert finish is not None
    assert timedelta(seconds=110) < finish - clock.now() < timedelta(seconds=150)
