"""What each miner of the local network earns, by the validators' own code."""

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from minernet import (
    Competition,
    files_in,
    plain,
    process,
    read_status,
    real_now,
)

from sn46.certificates import trusted
from sn46.localnet.strategies import STRATEGIES, StrategySpec, pipeline_of
from sn46.mechanism.assignment import Assignment
from sn46.mechanism.names import PPM
from sn46.mechanism.reasons import Code
from sn46.mechanism.submission import (
    EPOCH_METADATA,
    MAX_FILE_BYTES,
    NONCE_METADATA,
    load_document,
    miner_prefix,
    parse_manifest,
)
from sn46.mechanism.verdicts import Verdict, compare
from sn46.miner.pipeline import Pipeline
from sn46.sources.portal import PortalSource
from sn46.store.base import UploadPolicy, UploadRefused
from sn46.store.upload import send_form

CHECKED_ROWS = 60


async def verdicts(competition: Competition, assignment: Assignment) -> Counter[Verdict]:
    """Every few rows of a submission held against the portal."""
    rows = await competition.kept_rows(assignment)
    source = PortalSource(competition.portal, clock=competition.net.clock)
    found: Counter[Verdict] = Counter()
    try:
        for row in rows[:: max(1, len(rows) // CHECKED_ROWS)]:
            found[compare(row, (await source.detail(row["listing_id"])).row)[0]] += 1
    finally:
        await source.close()
    return found


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("stale-nonce", Code.NONCE_MISMATCH),
        ("padder", Code.DUPLICATES_OVER_LIMIT),
        ("wrong-zip", Code.WRONG_ZIPCODE),
    ],
)
async def test_refused_by_quick_validation(
    competition: Competition, name: str, reason: Code
) -> None:
    assignment = await competition.assignment()
    async with competition.miner(strategy=name) as miner:
        outcome = await miner.mine(assignment)
    # The miner itself sees nothing wrong: the store takes it all.
    assert outcome.result == "submitted"
    judged = await competition.judged(assignment)
    assert not judged.valid
    assert [r.code for r in judged.reasons] == [reason] == [STRATEGIES[name].reason]
    assert judged.reasons[0].detail


async def test_stale_nonce_uses_the_nonce_of_the_epoch_before(competition: Competition) -> None:
    net = competition.net
    first = await competition.assignment()
    async with competition.miner(strategy="stale-nonce") as miner:
        await miner.mine(first)
        await net.advance_to(first.epoch.end + timedelta(seconds=1))
        second = await competition.assignment()
        await miner.mine(second)
    manifest, _ = await competition.frozen(second)
    assert manifest is not None
    assert parse_manifest(load_document(manifest.body, "it")).nonce == first.nonce
    assert manifest.info.metadata[NONCE_METADATA] == second.nonce


async def test_back_dating_gains_nothing(competition: Competition) -> None:
    assignment = await competition.assignment()
    net = competition.net
    async with competition.miner(strategy="back-dated") as miner:
        late = pipeline_of("back-dated").manifest_at(assignment, net.clock.now())
        assert assignment.rules.grace_end(assignment.epoch) < late < assignment.epoch.end
        net.clock.advance_to(max(net.clock.now(), late))
        before = real_now()
        await miner.mine(assignment)
    judged = await competition.judged(assignment)
    manifest, _ = await competition.frozen(assignment)
    assert manifest is not None
    claimed = parse_manifest(load_document(manifest.body, "it")).submission_timestamp
    assert claimed.startswith(assignment.epoch.start.isoformat()[:19])
    assert judged.participant
    assert judged.submission_time is not None
    assert judged.submission_time >= before.replace(microsecond=0)


async def test_the_fabricator_is_contradicted(competition: Competition) -> None:
    assignment = await competition.assignment()
    async with competition.miner(strategy="fabricator") as miner:
        await miner.mine(assignment)
    judged = await competition.judged(assignment)
    assert (judged.participant, judged.volume) == (True, PPM)
    found = await verdicts(competition, assignment)
    assert set(found) == {Verdict.CONFIRMED, Verdict.CONTRADICTED}
    accuracy = found[Verdict.CONFIRMED] * 100 // found.total()
    assert accuracy < assignment.rules.min_accuracy_percent - 20


async def test_the_inventor_is_not_found(competition: Competition) -> None:
    assignment = await competition.assignment()
    async with competition.miner(strategy="inventor") as miner:
        await miner.mine(assignment)
    judged = await competition.judged(assignment)
    assert judged.participant
    assert judged.rows is not None
    invented = judged.rows - assignment.total_expected_listings
    assert 0.25 < invented / assignment.total_expected_listings < 0.35
    found = await verdicts(competition, assignment)
    assert set(found) == {Verdict.CONFIRMED, Verdict.NOT_FOUND}
    assert found[Verdict.NOT_FOUND] >= 5


async def test_made_up_rows_are_the_same_again(competition: Competition) -> None:
    assignment = await competition.assignment()
    bodies: list[dict[str, bytes]] = []
    for _ in range(2):
        async with competition.miner(strategy="inventor") as miner:
            await miner.mine(assignment)
        rows = await competition.kept_rows(assignment)
        bodies.append({r["listing_id"]: str(r["sale_price"]).encode() for r in rows})
    assert bodies[0] == bodies[1]


async def test_the_late_one_is_refused_by_the_store(competition: Competition) -> None:
    """Its files are in the store in time; its manifest comes when the policy, obtained before,
    has expired. The store has a clock of its own, so here the policy expires soon by that one
    and the miner's clock is moved past the epoch's end once the store refuses."""
    net, bucket = competition.net, competition.world.miners
    assignment = await competition.assignment()
    prefix = miner_prefix(net.hotkey("ann"), assignment.epoch_id)
    data = competition.folder / "late"
    async with competition.miner(strategy="late", data_dir=data) as miner:
        mining = asyncio.create_task(miner.mine(assignment))

        async def files_are_there() -> bool:
            notes = files_in(data, "uploaded.json")
            return bool(notes) and notes[0].read_text().count("parquet") == len(assignment.zipcodes)

        await net.until(files_are_there, seconds=60)
        assert not mining.done()
        mining.cancel()
        await asyncio.gather(mining, return_exceptions=True)
    now = real_now()
    expiring = bucket.upload_policy(
        prefix=prefix,
        expires_at=now + timedelta(seconds=1),
        max_bytes=MAX_FILE_BYTES,
        metadata={EPOCH_METADATA: assignment.epoch_id, NONCE_METADATA: assignment.nonce},
        now=now,
    )

    async def refused() -> bool:
        try:
            async with httpx.AsyncClient(verify=trusted()) as http:
                await send_form(http, expiring, f"{prefix}probe", b"x")
        except UploadRefused:
            return True
        return False

    await net.until(refused, seconds=60)
    given = 0

    async def policies(assignment: Assignment) -> UploadPolicy:
        nonlocal given
        given += 1
        return expiring

    async with competition.miner(strategy="late", data_dir=data, policies=policies) as miner:
        mining = asyncio.create_task(miner.mine(assignment))
        net.clock.advance_to(assignment.epoch.end + timedelta(seconds=3))
        outcome = await mining
    assert given == 1
    assert outcome.result == "failed"
    assert "AccessDenied" in outcome.detail
    assert "deadline" in outcome.detail
    judged = await competition.judged(assignment)
    reasons = [reason.code for reason in judged.reasons]
    assert reasons == [Code.MANIFEST_MISSING] == [STRATEGIES["late"].reason]


def test_the_table_has_every_miner_of_the_local_network() -> None:
    assert list(STRATEGIES) == [
        "honest-fast", "honest", "honest-slow", "partial", "late", "stale-nonce", "back-dated",
        "padder", "wrong-zip", "fabricator", "inventor", "second-hotkey",
    ]  # fmt: skip
    for name, spec in STRATEGIES.items():
        assert spec.name == name
        assert spec.description.endswith(".")
        assert spec.earns.endswith(".")
        assert (pipeline_of(name) == Pipeline()) == spec.honest
    assert {s.name for s in STRATEGIES.values() if s.honest} == {
        "honest-fast", "honest", "honest-slow", "partial", "second-hotkey",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["padder", "second-hotkey"])
async def test_a_strategy_runs_as_the_table_says(
    competition: Competition, tmp_path: Path, name: str
) -> None:
    spec: StrategySpec = STRATEGIES[name]
    assignment = await competition.assignment()
    data = tmp_path / "data"
    environment = competition.environment("ann", data, **spec.environment)
    async with process(environment, spec.module, *spec.arguments, cwd=tmp_path) as running:

        async def done() -> bool:
            return read_status(data).get("last_result") is not None

        await competition.net.until(done, seconds=60)
        running.terminate()
        _, log = await running.communicate()
        assert running.returncode == 0, plain(log)
    judged = await competition.judged(assignment)
    expected = [] if spec.honest else [spec.reason]
    assert [r.code for r in judged.reasons] == expected
