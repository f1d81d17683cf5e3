"""Five validators over the real parts: one lies, one is offline, and one is killed (SIGKILL) in the
midst of its checks and started again. The three honest ones agree to the bit, and the liar changes
nothing on a row that two honest ones checked."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from apinet import RAO, World, make_world
from minernet import Competition, process, write_county_table
from test_validator_epoch import judging_of, mined, reasons
from valinet import Trial

from sn46.chain.wallets import create_local_wallet
from sn46.mechanism.evidence import Check, Merged, checks_key, evidence_key, write_evidence
from sn46.mechanism.names import Hotkey
from sn46.mechanism.reasons import Code
from sn46.mechanism.report import common_part
from sn46.mechanism.verdicts import Verdict
from sn46.store.s3 import S3Access
from sn46.store.snapshot import RemoteSnapshot
from sn46.store.upload import upload_object
from sn46.validator.examiner import Examiner

HONEST, LIAR, OFFLINE = ("vali", "other", "eve"), "poor", "dan"
STAKES = {"poor": 29_000, "dan": 28_000, "eve": 27_000}


@pytest.fixture
async def world(
    tmp_path: Path, s3_access: S3Access, validator_buckets: tuple[str, str]
) -> AsyncIterator[World]:
    """As the validators' world, with two more of them; the liar has more stake than most."""
    made = make_world(tmp_path, s3_access, validator_buckets)
    write_county_table(made)
    for name in ("dan", "eve"):
        wallet = create_local_wallet(tmp_path / "wallets", f"{name}-cold", name, b"five")
        made.wallets[name] = wallet
        made.chain.register(
            wallet.hotkey.ss58_address, wallet.coldkey.ss58_address, validator_permit=True
        )
    for name, stake in STAKES.items():
        made.chain.set_stake(made.hotkey(name), stake * RAO)
    made.clock.advance(timedelta(seconds=5))
    yield made
    await made.miners.close()
    await made.results.close()
    made.chain.close()


@pytest.fixture
async def trial(competition: Competition, examiner: Examiner) -> Trial:
    strategies = {"ann": "honest", "bob": "fabricator", "cid": "inventor"}
    return await mined(competition, examiner, strategies)


KILLED = """
import asyncio, json, os, signal, sys
from datetime import datetime, timedelta
from pathlib import Path
import httpx
from sn46.certificates import trusted
from sn46.chain.connect import open_chain
from sn46.chain.wallets import load_hotkey
from sn46.client.api import ApiClient
from sn46.clock import SystemClock
from sn46.mechanism.epochs import Epoch
from sn46.sources.options import SourceOptions
from sn46.sources.politeness import PaceSettings
from sn46.sources.portal import PortalSource
from sn46.validator.checking import RecordCache, SpotChecker
from sn46.validator.epoch_run import EpochRun, Parts
from sn46.validator.examiner import Examiner
from sn46.validator.progress import Progress

class Ahead(SystemClock):
    def now(self):
        return super().now() + timedelta(seconds=told["ahead"])

class Mortal(Progress):
    def show(self, phase, done=0, of=0, *, note="", epoch_id=""):
        if phase == "checking" and done >= 3:
            os.kill(os.getpid(), signal.SIGKILL)
        super().show(phase, done, of, note=note, epoch_id=epoch_id)

async def main():
    clock, folder = Ahead(), Path(told["folder"])
    signer = load_hotkey("eve-cold", "eve", told["wallets"])
    pace = PaceSettings(start=500, minimum=200, maximum=500)
    source = PortalSource(told["portal"], clock=clock, options=SourceOptions(pace=pace))
    cache = RecordCache(folder / "records.sqlite", clock)
    parts = Parts(
        api=ApiClient(told["api"], api_hotkey=told["api_hotkey"], signer=signer, clock=clock),
        chain=open_chain(told["chain"], netuid=46, signer=signer, clock=clock),
        http=httpx.AsyncClient(verify=trusted()), signer=signer,
        checker=SpotChecker([source], cache, clock, concurrency=2),
        examiner=Examiner(seconds=60, memory_mb=3_000, workers=1), clock=clock,
        progress=Mortal(None, clock), data_dir=folder, api_hotkey=told["api_hotkey"],
    )
    epoch = Epoch(datetime.fromisoformat(told["start"]), told["seconds"])
    await EpochRun(parts, epoch).run()

if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    asyncio.run(main())
"""


async def killed_in_the_midst(trial: Trial) -> None:
    """Eve's process begins the epoch, and dies over its checks."""
    net, folder = trial.net, trial.data_dir("eve")
    folder.mkdir()
    script = trial.competition.folder / "eve.py"
    script.write_text(KILLED)
    told = {
        "folder": str(folder),
        "wallets": str(net.world.folder / "wallets"),
        "portal": trial.competition.portal,
        "api": net.url,
        "api_hotkey": net.hotkey("api"),
        "chain": net.services.settings.chain_endpoint,
        "start": trial.epoch.start.isoformat(),
        "seconds": trial.epoch.seconds,
        "ahead": (net.clock.now() - datetime.now(UTC)).total_seconds(),
    }
    command = (str(script), json.dumps(told))
    environment = trial.competition.environment("ann", folder)
    async with process(environment, command=command, cwd=folder) as eve:
        _, errors = await asyncio.wait_for(eve.communicate(), 60)
        assert eve.returncode == -signal.SIGKILL, errors.decode()
    assert (folder / "epochs").is_dir()


async def lie(trial: Trial) -> None:
    """The opposite of what is true of every sampled row, its own to check or not, and of each a
    second time the other way round; and words in the name of the validator that is offline."""
    net = trial.net
    stage = await (await judging_of(trial, LIAR)).quick()
    truth = {net.hotkey("ann"): Verdict.CONFIRMED}
    rows = stage.plan.rows
    checks = [
        Check(
            miner=row.miner,
            listing_id=row.listing_id,
            verdict=verdict,
            source="portal",
            detail="trust me",
            checked_at=net.clock.now(),
            shown=0,
        )
        for turn in (0, 1)
        for row in rows
        for verdict in [
            Verdict.NOT_FOUND
            if (truth.get(row.miner) is not None) == (turn == 0)
            else Verdict.CONFIRMED
        ]
    ]
    signer = net.world.wallets[LIAR].hotkey
    body, document = write_evidence(checks, epoch_id=trial.epoch.id, signer=signer)
    policy = await net.client(LIAR).validator_upload(trial.epoch.id, "evidence")
    own = net.hotkey(LIAR)
    written = json.dumps(document).encode()
    await upload_object(net.http, policy, checks_key(own, trial.epoch.id), body)
    await upload_object(net.http, policy, evidence_key(own, trial.epoch.id), written)
    # Whoever runs the store could put this there; the signature is still the liar's.
    await net.client(OFFLINE).validator_upload(trial.epoch.id, "evidence")
    other = net.hotkey(OFFLINE)
    forged = json.dumps({**document, "validator_hotkey": other}).encode()
    await net.world.results.put(checks_key(other, trial.epoch.id), body)
    await net.world.results.put(evidence_key(other, trial.epoch.id), forged)


async def test_three_honest_validators_of_five(trial: Trial) -> None:
    net = trial.net
    assert {net.hotkey(n) for n in (*HONEST, LIAR, OFFLINE)} == set(trial.assignment.validators)
    await lie(trial)
    await killed_in_the_midst(trial)
    await trial.run_all(*HONEST)

    reports = {name: await trial.published(name) for name in HONEST}
    report = reports["vali"]
    assert [common_part(r) for r in reports.values()] == [common_part(report)] * 3
    announced = await trial.announced()
    assert set(announced) == {net.hotkey(name) for name in HONEST}
    weights = [await trial.chain_weights(name) for name in HONEST]
    assert weights == [weights[0]] * 3
    for name in HONEST:
        assert set((await trial.versions(name)).values()) == {1}

    ann, bob, cid = (net.hotkey(name) for name in ("ann", "bob", "cid"))
    assert [w["miner_hotkey"] for w in report["top_3_winners"]] == [ann]
    assert reasons(report, ann) == []
    assert reasons(report, bob) == [Code.LOW_ACCURACY.value]
    assert reasons(report, cid) == [Code.FAKE_LISTING.value]
    await check_the_liar_changes_nothing(trial, report["consensus_hash"])


async def check_the_liar_changes_nothing(trial: Trial, consensus_hash: str) -> None:
    net = trial.net
    judging = await judging_of(trial, "vali")
    stage = await judging.quick()
    objects = await net.client("vali").validator_read(trial.epoch.id, bucket="results")
    truthful = [o for o in objects if net.hotkey(LIAR) not in o.info.key]
    assert len(truthful) < len(objects)
    told, _ = await judging.conclude(stage, RemoteSnapshot(net.http, objects), {})
    silent, _ = await judging.conclude(stage, RemoteSnapshot(net.http, truthful), {})
    assert told.consensus_hash == consensus_hash
    assert "not the validator's" in told.ignored_evidence[Hotkey(net.hotkey(OFFLINE))]
    assert Hotkey(net.hotkey(LIAR)) not in told.ignored_evidence

    honest = {net.hotkey(name) for name in HONEST}
    checked = Counter(min(len(honest & set(row.row.validators)), 2) for row in told.merged)
    assert checked[2] > len(told.merged) / 2
    for with_it, without in zip(told.merged, silent.merged, strict=True):
        assert with_it.row == without.row
        if len(honest & set(with_it.row.validators)) >= 2:
            assert (with_it.verdict, with_it.shown) == (without.verdict, without.shown)
        else:  # Beside one honest voice or none it may acquit, and never punishes.
            assert with_it.verdict not in (Merged.FAKE, Merged.CONTRADICTED)
    for hotkey, miner in told.miners.items():
        assert miner.disqualified == silent.miners[hotkey].disqualified
