"""What earlier reports do to a score: in a running network, over crashes, and in a replay."""

import json
import shutil
import signal
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from exports import HONEST_VALIDATORS, Scene
from mechanism.builders import EPOCH, hotkey
from minernet import Competition, process
from valinet import Crash, Trial, mined

from sn46.certificates import trusted
from sn46.client.api import ApiClient, ApiError, ApiUnavailable, Retries
from sn46.mechanism.agreement import MAX_REPORT_BYTES
from sn46.mechanism.credibility import history_of, read_record
from sn46.mechanism.epochs import Epoch, epoch_at
from sn46.mechanism.errors import ExportError
from sn46.mechanism.names import Hotkey
from sn46.mechanism.quick import Upload
from sn46.mechanism.report import common_part, report_key
from sn46.mechanism.scoring import blend
from sn46.mechanism.submission import ObjectInfo
from sn46.store.upload import upload_object
from sn46.validator.comparing import comparison, read_reports
from sn46.validator.examiner import Examiner
from sn46.validator.explaining import explained, explanation
from sn46.validator.export import export_epoch
from sn46.validator.folder import epoch_folder
from sn46.validator.history import History
from sn46.validator.historyfile import HISTORY, write_history
from sn46.validator.replay import judge_again, replay_epoch

ONE_FAILURE = 953_488
"""41,000,000 // 43"""

LAST = history_of(EPOCH)[-1]


async def publish(trial: Trial, name: str, body: bytes) -> None:
    """A validator's report, whatever it is."""
    net = trial.net
    policy = await net.client(name).validator_upload(trial.epoch.id, "results")
    await upload_object(net.http, policy, report_key(net.hotkey(name), trial.epoch.id), body)


def turned(report: Mapping[str, Any]) -> bytes:
    """A report that says of every miner the opposite."""
    miners = {
        hotkey_: {**entry, "valid": True, "disqualified": not entry["disqualified"]}
        for hotkey_, entry in report["miners"].items()
    }
    return json.dumps({**report, "miners": miners}).encode()


def unreachable(trial: Trial, name: str) -> ApiClient:
    return ApiClient(
        "http://127.0.0.1:9",
        api_hotkey=trial.net.hotkey("api"),
        signer=trial.competition.world.wallets[name].hotkey,
        retries=Retries(attempts=1),
    )


async def test_a_failure_lowers_the_score_of_the_next_epoch(
    competition: Competition, examiner: Examiner
) -> None:
    first = await mined(competition, examiner, {"ann": "honest", "bob": "fabricator"})
    net = first.net
    ann, bob = net.hotkey("ann"), net.hotkey("bob")
    await first.run_all("vali", "other")
    before = await first.published("vali")
    assert [before["miners"][h]["disqualified"] for h in (ann, bob)] == [False, True]
    assert [before["miners"][h]["credibility_epochs"] for h in (ann, bob)] == [0, 0]
    await publish(first, "poor", turned(before))

    second = await mined(competition, examiner, {"ann": "honest", "bob": "honest"})
    for phase in ("reading earlier reports", "waiting for evidence"):
        with pytest.raises(Crash):
            await second.run("other", crash_at=phase)
    await second.run_all("vali", "other")
    report = await second.published("vali")
    entry = report["miners"][bob]
    assert (entry["credibility"], entry["credibility_epochs"]) == (ONE_FAILURE, 1)
    earned = blend(entry["speed"], entry["quality"], entry["volume"])
    assert entry["final"] == earned * ONE_FAILURE // 1_000_000 < earned
    (reason,) = [r for r in entry["reasons"] if r["code"] == "low_credibility"]
    assert reason["count"] == 1
    assert first.epoch.id in reason["detail"]
    assert report["miners"][ann]["credibility"] == 1_000_000
    assert report["miners"][ann]["credibility_epochs"] == 1
    assert common_part(await second.published("other")) == common_part(report)

    # One that comes late and without a disk reads all 42 epochs, and comes to the same.
    await second.run("poor")
    assert common_part(await second.published("poor")) == common_part(report)
    await check_export(second, first.epoch, report)
    await check_kept(second, first.epoch)


async def check_kept(trial: Trial, past: Epoch) -> None:
    """What is on disk is not asked for again, and what is damaged or lost there is."""
    folder = trial.data_dir("vali") / "history"
    assert len(list(folder.iterdir())) == 42
    net = trial.net
    file = folder / f"{past.id.replace(':', '-')}.json"
    async with httpx.AsyncClient(verify=trusted()) as http, unreachable(trial, "vali") as away:
        kept = await History(away, http, folder).before(trial.epoch)
        assert set(kept[past.id]) == {net.hotkey(name) for name in ("vali", "other", "poor")}
        said = kept[past.id][Hotkey(net.hotkey("vali"))]
        assert said == {net.hotkey("ann"): True, net.hotkey("bob"): False}
        told: list[tuple[int, int]] = []
        for damage in (b"", b"[]", file.read_bytes()[:-9], file.read_bytes().replace(b"2", b"3")):
            file.write_bytes(damage)
            with pytest.raises(ApiUnavailable):
                await History(away, http, folder).before(trial.epoch)
            again = History(net.client("vali"), http, folder)
            assert await again.before(trial.epoch, lambda *now: told.append(now)) == kept
        assert told[-1] == (42, 42)
        # What the API did not know then, it is asked again about for the next epoch; what that no
        # longer needs goes, and so does what a killed process left.
        (folder / ".x.json.1.part").write_bytes(b"{")
        net.clock.advance_to(trial.epoch.next().end + timedelta(seconds=10))
        with pytest.raises(ApiUnavailable):
            await History(away, http, folder).before(trial.epoch.next())
        oldest = folder / f"{history_of(trial.epoch)[0].id.replace(':', '-')}.json"
        assert oldest.exists()
        later = await History(net.client("vali"), http, folder).before(trial.epoch.next())
        assert later[past.id] == kept[past.id]
        assert set(later[trial.epoch.id]) == set(kept[past.id])
        assert not oldest.exists()
        assert len(list(folder.iterdir())) == 42


async def check_export(trial: Trial, past: Epoch, report: Mapping[str, Any]) -> None:
    net, folder = trial.net, trial.competition.folder / "export"
    net.clock.advance(timedelta(minutes=2))  # The API keeps a list of results for a moment.
    async with trial.parts("vali") as parts:
        counts = [
            await export_epoch(
                folder, trial.epoch, api=parts.api, chain=parts.chain, http=parts.http
            )
            for _ in range(2)
        ]
    assert counts[0] == counts[1]
    listed = json.loads((epoch_folder(folder, trial.epoch.id) / HISTORY).read_bytes())["reports"]
    assert len(listed) == 42
    assert len(listed[past.id]) == 3
    replay = await replay_epoch(
        folder, trial.epoch.id, examiner=trial.examiner, api_hotkey=net.hotkey("api")
    )
    assert replay.agrees
    assert len(replay.published) == 3
    assert replay.report == common_part(report)


async def test_reports_alone_are_listed_once_they_are_final(
    competition: Competition, examiner: Examiner
) -> None:
    net = competition.net
    trial = Trial(competition, examiner, await competition.assignment())
    epoch = trial.epoch
    await net.advance_to(epoch.end + timedelta(seconds=10))
    for name in ("vali", "other"):
        await publish(trial, name, f'"{name}"'.encode())
    policy = await net.client("vali").validator_upload(epoch.id, "results")
    await upload_object(net.http, policy, f"{policy.prefix}validated_data.parquet", b"x")
    impatient = net.client("poor", Retries(attempts=1))
    await net.advance_to(epoch.results_deadline - timedelta(seconds=1))
    with pytest.raises(ApiError) as refused:
        await impatient.validator_read(epoch.id, "reports")
    assert (refused.value.status, refused.value.code) == (409, "results_open")
    await net.advance_to(epoch.results_deadline + timedelta(seconds=6))
    objects = await net.client("poor").validator_read(epoch.id, "reports")
    assert [o.info.key for o in objects] == sorted(
        report_key(net.hotkey(name), epoch.id) for name in ("vali", "other")
    )


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
import httpx
from sn46.chain.wallets import load_hotkey
from sn46.client.api import ApiClient
from sn46.mechanism.epochs import parse_epoch_id
from sn46.validator.history import History

url, api_hotkey, wallets, folder, epoch_id, seconds = sys.argv[1:]

def told(done, of):
    if done == 20:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    signer = load_hotkey("vali-cold", "vali", Path(wallets))
    async with httpx.AsyncClient() as http, ApiClient(
        url, api_hotkey=api_hotkey, signer=signer
    ) as api:
        await History(api, http, Path(folder)).before(parse_epoch_id(epoch_id, int(seconds)), told)

asyncio.run(main())
"""


async def test_a_process_that_is_killed_leaves_what_it_read(
    present: Competition, tmp_path: Path
) -> None:
    net, folder = present.net, tmp_path / "history"
    seconds = net.services.settings.epoch_seconds
    ended = epoch_at(datetime.now(UTC), seconds).previous()
    arguments = (
        net.url, net.hotkey("api"), str(present.world.folder / "wallets"), str(folder),
        ended.id, str(seconds),
    )  # fmt: skip
    environment = present.environment("vali", tmp_path)
    command = ("-c", KILLED, *arguments)
    async with process(environment, cwd=tmp_path, command=command) as running:
        _, errors = await running.communicate()
    assert running.returncode == -signal.SIGKILL, errors
    whole = sorted(path for path in folder.iterdir() if path.suffix == ".json")
    assert 20 <= len(whole) < 42
    for path in whole:
        json.loads(path.read_bytes())
    written = {path: path.stat().st_mtime_ns for path in whole}
    async with httpx.AsyncClient(verify=trusted()) as http:
        found = await History(net.client("vali"), http, folder).before(ended)
    assert len(found) == 42
    assert {path: path.stat().st_mtime_ns for path in whole} == written
    assert len(list(folder.iterdir())) == 42


# ------------------------------------------------------------------ exports made by hand


def earlier(scene: Scene, said: Mapping[str, Mapping[str, bool]], at: datetime) -> list[str]:
    """Add reports on the epoch before to an export; who made them."""
    for validator, of_miners in said.items():
        miners = {
            hotkey(name): {
                "valid": good,
                "participant": good,
                "disqualified": False,
                "submission_time": "2024-03-15T13:00:00Z",
                "reasons": [],
            }
            for name, good in of_miners.items()
        }
        report = {"epoch_id": LAST.id, "epoch_seconds": LAST.seconds, "miners": miners}
        body = json.dumps(report).encode()
        assert read_record(body, LAST) is not None
        key = report_key(hotkey(validator), LAST.id)
        scene.results.add(Upload(ObjectInfo(key, len(body), at, {}), body))
    return [hotkey(validator) for validator in said]


def note(folder: Path, validators: list[str]) -> None:
    listed = {past.id: [] for past in history_of(EPOCH)}
    write_history(folder, EPOCH, {**listed, LAST.id: [Hotkey(v) for v in validators]})


async def test_a_replay_reads_the_reports_of_the_epochs_before(
    scene: Scene, examiner: Examiner, tmp_path: Path
) -> None:
    truth = {"ann": False, "bob": True}
    lie = {"ann": True, "bob": False, "cid": False}
    said = {**dict.fromkeys(HONEST_VALIDATORS, truth), "stranger": lie}
    names = earlier(scene, said, LAST.weights_by)
    folder = await scene.write(tmp_path / "export")
    note(folder, names)
    judged = await judge_again(folder, EPOCH.id, examiner=examiner)
    miners = judged.outcome.miners
    found = {name: miners[hotkey(name)].credibility for name in ("ann", "bob", "cid")}
    assert {name: (c.value, c.epochs) for name, c in found.items()} == {
        "ann": (ONE_FAILURE, 1), "bob": (1_000_000, 1), "cid": (1_000_000, 0),
    }  # fmt: skip
    told = {
        name: "\n".join(explanation(await explained(judged, hotkey(name))))
        for name in ("ann", "bob", "cid")
    }
    ann = miners[hotkey("ann")]
    assert f"and it failed in 1 ({LAST.id}); its credibility of 95.35 % leaves" in told["ann"]
    assert f"= {ann.earned / 10_000:.2f}; in the report {ann.final:,}." in told["ann"]
    assert "it failed in 0; its credibility of 100.00 % takes nothing." in told["bob"]
    assert "no earlier epoch counts for it yet" in told["cid"]

    # The reports on this epoch itself were made without that history: where, the replay says.
    replay = await replay_epoch(folder, EPOCH.id, examiner=examiner)
    assert not replay.agrees
    for lines in replay.published.values():
        assert any("credibility: 953488 ≠ 1000000" in line for line in lines)


async def test_validators_that_read_other_reports_are_named(
    scene: Scene, examiner: Examiner, tmp_path: Path
) -> None:
    key = report_key(hotkey(HONEST_VALIDATORS[1]), EPOCH.id)
    report = json.loads(scene.results.uploads[key].body)
    report["miners"][hotkey("ann")]["credibility"] = ONE_FAILURE
    body = json.dumps(report).encode()
    old = scene.results.uploads[key].info
    scene.results.add(Upload(replace(old, size=len(body)), body))
    folder = await scene.write(tmp_path / "export")
    text = "\n".join(comparison(await read_reports(folder, EPOCH.id)))
    assert f"another credibility to {hotkey('ann')[:10]}" in text


async def test_an_export_without_its_history_is_refused(
    scene: Scene, examiner: Examiner, tmp_path: Path
) -> None:
    names = earlier(scene, {name: {"ann": True} for name in HONEST_VALIDATORS}, LAST.weights_by)
    original = await scene.write(tmp_path / "export")

    async def refused(change: Any) -> str:
        folder = Path(shutil.copytree(original, tmp_path / "copy"))
        note(folder, names)
        path = epoch_folder(folder, EPOCH.id) / HISTORY
        change(folder, path)
        with pytest.raises(ExportError) as error:
            await replay_epoch(folder, EPOCH.id, examiner=examiner)
        shutil.rmtree(folder)
        return str(error.value)

    def without(folder: Path, _: Path) -> None:
        index = folder / "validated-data.index.jsonl"
        kept = [line for line in index.read_text().splitlines() if LAST.id not in line]
        index.write_text("".join(f"{line}\n" for line in kept))

    assert "made without the reports on the 42 epochs" in await refused(lambda _, p: p.unlink())
    assert "lacks the report of" in await refused(without)
    assert "is not JSON" in await refused(lambda _, p: p.write_text("{"))
    assert "names no reports" in await refused(lambda _, p: p.write_text("{}"))
    assert "says nothing of epoch" in await refused(
        lambda _, p: p.write_text('{"epoch_seconds": 14400, "reports": {}}')
    )
    assert "has no list of validators" in await refused(
        lambda _, p: p.write_text('{"epoch_seconds": 14400, "reports": {"x": [1]}}')
    )


@pytest.mark.parametrize("fault", ["late", "huge"])
async def test_a_report_that_was_not_there_in_time_cannot_be_slipped_in(
    scene: Scene, examiner: Examiner, tmp_path: Path, fault: str
) -> None:
    at = LAST.results_deadline + timedelta(seconds=1 if fault == "late" else 0)
    names = earlier(scene, {HONEST_VALIDATORS[0]: {"ann": False}}, at)
    if fault == "huge":
        key = report_key(names[0], LAST.id)
        info = replace(scene.results.uploads[key].info, size=MAX_REPORT_BYTES + 1)
        scene.results.add(Upload(info, b" " * info.size))
    folder = await scene.write(tmp_path / "export")
    unnamed = await judge_again(folder, EPOCH.id, examiner=examiner)
    assert unnamed.outcome.miners[hotkey("ann")].credibility.epochs == 0
    note(folder, names)
    with pytest.raises(ExportError, match="lacks the report"):
        await judge_again(folder, EPOCH.id, examiner=examiner)
