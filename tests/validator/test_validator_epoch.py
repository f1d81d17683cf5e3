"""Whole epochs: from frozen uploads to weights on the chain, with everything that can go wrong."""

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from apinet import NETUID
from faults import FaultyTransport, dropped
from minernet import Competition
from portal_process import CALM, portal
from valinet import Crash, Trial, mined

from sn46.chain.connect import open_chain
from sn46.chain.local.substrate import LocalSubstrate
from sn46.mechanism.evidence import Check, checks_key, evidence_key, write_evidence
from sn46.mechanism.reasons import Code
from sn46.mechanism.report import common_part
from sn46.mechanism.verdicts import Verdict
from sn46.store.snapshot import RemoteSnapshot
from sn46.store.upload import upload_object
from sn46.validator.epoch_run import EpochLostError
from sn46.validator.examiner import Examiner
from sn46.validator.export import export_epoch
from sn46.validator.journal import Journal
from sn46.validator.judging import Judging
from sn46.validator.replay import replay_epoch


@pytest.fixture
async def trial(competition: Competition, examiner: Examiner) -> Trial:
    """An epoch that has just ended, with an honest miner, a fabricator and an inventor."""
    strategies = {"ann": "honest", "bob": "fabricator", "cid": "inventor"}
    return await mined(competition, examiner, strategies)


@pytest.fixture
async def small_trial(competition: Competition, examiner: Examiner) -> Trial:
    """An epoch that has just ended, with an honest miner."""
    return await mined(competition, examiner, {"ann": "honest"})


async def judging_of(trial: Trial, name: str) -> Judging:
    """What a validator sees of the epoch."""
    net = trial.net
    chain = open_chain(net.services.settings.chain_endpoint, netuid=NETUID, clock=net.clock)
    try:
        view = await chain.view_at(trial.epoch.end)
    finally:
        await chain.close()
    objects = await net.client(name).validator_read(trial.epoch.id)
    uploads = RemoteSnapshot(net.http, objects)
    return Judging(trial.assignment, view, uploads, trial.examiner)


async def lie(trial: Trial, name: str) -> None:
    """Evidence that says the opposite of what is true, of every row that a validator was given."""
    net = trial.net
    stage = await (await judging_of(trial, name)).quick()
    honest = net.hotkey("ann")
    checks = [
        Check(
            miner=row.miner,
            listing_id=row.listing_id,
            verdict=Verdict.NOT_FOUND if row.miner == honest else Verdict.CONFIRMED,
            source="portal",
            detail="trust me",
            checked_at=net.clock.now(),
            shown=0,
        )
        for row in stage.plan.rows_of(trial.net.hotkey(name))
    ]
    assert {check.verdict for check in checks} == {Verdict.NOT_FOUND, Verdict.CONFIRMED}
    signer = net.world.wallets[name].hotkey
    body, document = write_evidence(checks, epoch_id=trial.epoch.id, signer=signer)
    policy = await net.client(name).validator_upload(trial.epoch.id, "evidence")
    await upload_object(net.http, policy, checks_key(net.hotkey(name), trial.epoch.id), body)
    await upload_object(
        net.http,
        policy,
        evidence_key(net.hotkey(name), trial.epoch.id),
        json.dumps(document).encode(),
    )


def reasons(report: dict[str, Any], hotkey: str) -> list[str]:
    return [reason["code"] for reason in report["miners"][hotkey]["reasons"]]


async def test_an_epoch_of_two_honest_validators_and_a_liar(trial: Trial) -> None:
    net = trial.net
    ann, bob, cid = (net.hotkey(name) for name in ("ann", "bob", "cid"))
    await lie(trial, "poor")
    await trial.run_all("vali", "other")

    reports = [await trial.published(name) for name in ("vali", "other")]
    assert common_part(reports[0]) == common_part(reports[1])
    report = reports[0]
    assert [w["miner_hotkey"] for w in report["top_3_winners"]] == [ann]
    assert reasons(report, ann) == []
    assert report["miners"][ann]["checks"]["fake"] == 0
    assert report["miners"][ann]["accuracy"] == 1_000_000
    assert reasons(report, bob) == [Code.LOW_ACCURACY.value]
    assert reasons(report, cid) == [Code.FAKE_LISTING.value]
    assert [report["miners"][h]["final"] for h in (bob, cid)] == [0, 0]
    assert report["weights"] == {ann: 500_000, net.hotkey("api"): 500_000}

    announced = await trial.announced()
    assert set(announced) == {net.hotkey("vali"), net.hotkey("other")}
    assert {a["consensus_hash"] for a in announced.values()} == {report["consensus_hash"]}
    for name in ("vali", "other"):
        weights = await trial.chain_weights(name)
        assert weights == {ann: 500_000, net.hotkey("api"): 500_000}

    # Without the liar's voice no score is another.
    judging = await judging_of(trial, "vali")
    objects = await net.client("vali").validator_read(trial.epoch.id, bucket="results")
    truthful = [o for o in objects if net.hotkey("poor") not in o.info.key]
    assert len(truthful) < len(objects)
    outcome, _ = await judging.conclude(
        await judging.quick(), RemoteSnapshot(net.http, truthful), {}
    )
    assert outcome.consensus_hash == report["consensus_hash"]

    await check_late(trial, "poor", report)
    await check_export(trial, report)


async def check_late(trial: Trial, name: str, report: dict[str, Any]) -> None:
    """A validator that comes after the evidence deadline comes to the same."""
    assert trial.net.clock.now() > trial.epoch.evidence_deadline
    before = await trial.versions(name)
    await trial.run(name)
    after = await trial.versions(name)
    assert {k: v for k, v in after.items() if k in before} == before
    assert len(after) == len(before) + 3
    assert common_part(await trial.published(name)) == common_part(report)
    announced = await trial.announced()
    assert {a["consensus_hash"] for a in announced.values()} == {report["consensus_hash"]}
    assert len(announced) == 3


async def check_export(trial: Trial, report: dict[str, Any]) -> None:
    """An export, made twice, replays to what was published."""
    net, folder = trial.net, trial.competition.folder / "export"
    net.clock.advance(timedelta(minutes=2))  # The API keeps a list of results for a moment.
    async with trial.parts("vali") as parts:
        for _ in range(2):
            count = await export_epoch(
                folder, trial.epoch, api=parts.api, chain=parts.chain, http=parts.http
            )
    assert count == 3 * (len(trial.assignment.zipcodes) + 1) + 3 * 5
    replay = await replay_epoch(
        folder, trial.epoch.id, examiner=trial.examiner, api_hotkey=net.hotkey("api")
    )
    assert replay.published == {net.hotkey(name): [] for name in ("vali", "other", "poor")}
    assert replay.agrees
    assert replay.report == common_part(report)


PHASES = (
    "opening",
    "quick validation",
    "checking",
    "waiting for evidence",
    "publishing",
    "announcing",
    "setting weights",
    "done",
)


async def test_a_crash_at_every_step_changes_nothing(trial: Trial) -> None:
    address = "127.0.0.41"
    for phase in PHASES[:-2]:
        with pytest.raises(Crash):
            await trial.run("vali", crash_at=phase, address=address)
    asked = await trial.competition.asked(address)
    for moment in ("before", "after"):
        with pytest.raises(Crash):
            await trial.run("vali", crash_chain=moment)
    with pytest.raises(Crash):
        await trial.run("vali", crash_at="done")

    report = await trial.published("vali")
    announced = await trial.announced()
    versions = await trial.versions("vali")
    assert set(versions.values()) == {1}
    assert set(versions) == {
        "spot_checks.parquet",
        "evidence.json",
        "validated_data.parquet",
        "epoch_metadata.json",
        "validation_report.json",
    }
    before = await updated_at(trial, "vali")

    again = await trial.run("vali", address=address)
    assert again.chain.sent == 0  # pyright: ignore[reportAttributeAccessIssue]
    assert await trial.versions("vali") == versions
    assert await trial.announced() == announced
    assert await updated_at(trial, "vali") == before
    assert await trial.competition.asked(address) == asked

    await trial.run("other")
    assert common_part(await trial.published("other")) == common_part(report)


async def test_no_weights_follow_from_a_damaged_journal(small_trial: Trial) -> None:
    """A bit that fell over may leave JSON, of other weights; another version, other fields."""
    trial = small_trial
    with pytest.raises(Crash):
        await trial.run("vali", crash_at="setting weights")
    report = await trial.published("vali")
    journal = Journal(trial.data_dir("vali"), trial.epoch.id)
    journal.put("chain", {"block": 5})
    (hotkey, weight), *others = report["weights"].items()
    journal.put("report", report | {"weights": {hotkey: weight ^ 1 << 14, **dict(others)}})
    with pytest.raises(Crash):
        await trial.run("vali", crash_at="setting weights")
    journal.put("report", {"weights": 5})
    await trial.run("vali")
    assert await trial.chain_weights("vali") == report["weights"]
    assert common_part(journal.get("report") or {}) == common_part(report)
    assert set((await trial.versions("vali")).values()) == {1}


async def updated_at(trial: Trial, name: str) -> int:
    """The block of a validator's last weights."""
    substrate = LocalSubstrate(trial.competition.world.chain.path, clock=trial.net.clock)
    await substrate.connect()
    try:
        uid = await substrate.query("SubtensorModule", "Uids", [NETUID, trial.net.hotkey(name)])
        updates = await substrate.query("SubtensorModule", "LastUpdate", [NETUID])
        return int(updates[int(uid)])
    finally:
        await substrate.close()


async def test_after_its_time_an_epoch_is_left(small_trial: Trial) -> None:
    trial = small_trial
    with pytest.raises(Crash):
        await trial.run("other", crash_at="setting weights")
    await trial.net.advance_to(trial.epoch.results_deadline)
    for name in ("vali", "other"):
        with pytest.raises(EpochLostError, match="too late"):
            await trial.run(name)
        assert await trial.chain_weights(name) == {}
    assert await trial.versions("vali") == {}
    assert set(await trial.announced()) == {trial.net.hotkey("other")}


@pytest.mark.usefixtures("no_pauses")
async def test_a_store_that_is_down_for_a_while_and_an_answer_that_is_lost(
    small_trial: Trial,
) -> None:
    trial = small_trial
    transport = FaultyTransport(*[dropped] * 40)
    async with httpx.AsyncClient(transport=transport) as http:
        parts = await trial.run("vali", http=http, crash_chain="unknown")
    # The answer to the first attempt was lost too: it was looked for, and not made again.
    assert parts.chain.sent == 1  # pyright: ignore[reportAttributeAccessIssue]
    assert sum((await trial.chain_weights("vali")).values()) == 1_000_000
    assert transport.requests > 40
    assert reasons(await trial.published("vali"), trial.net.hotkey("ann")) == []
    assert set(await trial.versions("vali")) >= {"evidence.json", "validation_report.json"}


async def test_a_chain_that_is_away_for_a_while_and_with_it_the_api(small_trial: Trial) -> None:
    """Without the chain the API answers 503 before long, and the validator waits for both."""
    trial = small_trial
    local = trial.competition.world.chain
    local.set_reachable(False)
    trial.net.clock.advance(timedelta(hours=2, seconds=1))
    seen: list[int] = []

    def on_sleep(number: int) -> None:
        if number == 6:
            local.set_reachable(True)

    trial.time.on_sleep = on_sleep
    answer = await trial.net.http.get("/readyz")
    seen.append(answer.status_code)
    await trial.run("vali")
    assert seen == [503]
    assert trial.time.sleeps > 6
    assert set(await trial.announced()) == {trial.net.hotkey("vali")}
    assert sum((await trial.chain_weights("vali")).values()) == 1_000_000


async def test_a_source_that_is_away_costs_miners_nothing(trial: Trial) -> None:
    with portal(*CALM[:-4], "--p403", "1", *CALM[-4:]) as refusing:
        await trial.run("vali", portal=refusing)
    report = await trial.published("vali")
    for miner in ("ann", "bob", "cid"):
        entry = report["miners"][trial.net.hotkey(miner)]
        assert not entry["disqualified"]
        assert entry["accuracy"] == 1_000_000
        assert entry["checks"]["confirmed"] == entry["checks"]["fake"] == 0
        assert entry["checks"]["inconclusive"] > 0
