"""One epoch of an honest miner, judged as validators judge it."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from minernet import Competition
from portal_process import CALM, portal

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.names import PPM
from sn46.mechanism.submission import MAX_FILE_BYTES, miner_prefix
from sn46.miner.service import Staggered, stop_within_grace_at
from sn46.miner.spool import Outcome
from sn46.store.base import UploadPolicy


async def test_a_complete_submission(competition: Competition) -> None:
    assignment = await competition.assignment()
    async with competition.miner() as miner:
        outcome = await miner.mine(assignment)
    assert outcome.result == "submitted"
    judged = await competition.judged(assignment)
    assert (judged.reasons, judged.participant, judged.volume) == ((), True, PPM)
    assert judged.rows == judged.rows_kept == assignment.total_expected_listings == outcome.rows
    # The county's records fill ten of the sixteen fields.
    assert judged.completeness == 10 * PPM // 16


async def test_the_api_is_told(competition: Competition) -> None:
    assignment = await competition.assignment()
    async with competition.miner() as miner:
        await miner.mine(assignment)

        async def completed() -> bool:
            stats = await competition.net.client("bob").stats()
            return '"completed":1' in json.dumps(stats, separators=(",", ":"))

        await competition.net.until(completed, seconds=60)


async def test_an_epoch_is_not_done_twice(competition: Competition) -> None:
    assignment = await competition.assignment()
    folder = competition.folder / "spool"
    async with competition.miner(data_dir=folder, address="127.0.0.31") as miner:
        first = await miner.mine(assignment)
        assert await miner.mine(assignment) == first
    asked = await competition.asked("127.0.0.31")
    written = await competition.versions(_prefix(competition))
    async with competition.miner(data_dir=folder, address="127.0.0.31") as miner:
        assert await miner.mine(assignment) == first
    assert await competition.asked("127.0.0.31") == asked
    assert await competition.versions(_prefix(competition)) == written


async def test_refused_zips_are_left_out_and_the_rest_is_submitted(
    competition: Competition, tmp_path: Path
) -> None:
    assignment = await competition.assignment()
    refused = [z.zipcode for z in assignment.zipcodes][:1]
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"127.0.0.32": {"fail_zipcodes": refused}}))
    with portal(*CALM, "--client-rules", str(rules)) as url:
        async with competition.miner(portal=url, address="127.0.0.32", attempts=2) as miner:
            outcome = await miner.mine(assignment)
    judged = await competition.judged(assignment)
    expected = sum(z.expected_listings for z in assignment.zipcodes[1:])
    assert outcome.zipcodes == judged.zipcodes == len(assignment.zipcodes) - 1
    assert judged.participant
    assert judged.volume == expected * PPM // assignment.total_expected_listings


async def test_where_nothing_is_found_nothing_is_submitted(
    competition: Competition, tmp_path: Path
) -> None:
    assignment = await competition.assignment()
    net = competition.net
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"127.0.0.33": {"fail_fraction": 1}}))
    with portal(*CALM, "--client-rules", str(rules)) as url:
        async with competition.miner(portal=url, address="127.0.0.33") as miner:
            net.clock.advance_to(assignment.epoch.end - assignment.epoch.length / 20)
            net.clock.advance(timedelta(seconds=-2))
            outcome = await miner.mine(assignment)
    assert outcome.result == "failed"
    assert "403" in outcome.detail
    assert await competition.frozen(assignment) == (None, {})


async def test_the_reserve_stops_scraping_and_what_is_there_is_submitted(
    competition: Competition,
) -> None:
    assignment = await competition.assignment()
    clock = competition.net.clock
    address = "127.0.0.34"
    with portal(*CALM[:-4], "--rate", "1", "--burst", "9") as url:
        async with competition.miner(portal=url, address=address) as miner:
            mining = asyncio.create_task(miner.mine(assignment))

            async def begun() -> bool:
                return await competition.asked(address, url) >= 8

            await competition.net.until(begun, seconds=60)
            clock.advance_to(assignment.epoch.end - assignment.epoch.length / 20)
            outcome = await mining
    assert outcome.result == "submitted"
    judged = await competition.judged(assignment)
    assert judged.valid
    assert 0 < judged.rows < assignment.total_expected_listings


async def test_after_a_failed_epoch_the_next_one_is_mined(competition: Competition) -> None:
    net = competition.net
    first = await competition.assignment()
    await net.advance_to(first.epoch.end - timedelta(seconds=3))
    status = competition.folder / "status.json"
    async with competition.miner(status_file=status) as miner:
        running = asyncio.create_task(miner.run())

        def last() -> tuple[str | None, str | None]:
            value = json.loads(status.read_text())
            return value["last_epoch_id"], value["last_result"]

        async def failed() -> bool:
            return last() == (first.epoch_id, "failed")

        await net.until(failed, seconds=60)
        assert "no time left" in json.loads(status.read_text())["detail"]
        await net.advance_to(first.epoch.end + timedelta(seconds=6))

        async def submitted() -> bool:
            return last() == (first.epoch.next().id, "submitted")

        await net.until(submitted, seconds=60)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert (await competition.judged(await competition.assignment())).participant


async def test_an_expired_policy_is_replaced(competition: Competition) -> None:
    net, bucket = competition.net, competition.world.miners
    assignment = await competition.assignment()
    given: list[UploadPolicy] = []

    async def policies(assignment: Assignment) -> UploadPolicy:
        if given:
            given.append(await net.client("ann").miner_upload(assignment.epoch_id))
        else:
            past = net.clock.now() - timedelta(hours=1)
            given.append(
                bucket.upload_policy(
                    prefix=_prefix(competition),
                    expires_at=past,
                    max_bytes=MAX_FILE_BYTES,
                    metadata={},
                    now=past - timedelta(hours=1),
                )
            )
        return given[-1]

    async with competition.miner(policies=policies) as miner:
        outcome = await miner.mine(assignment)
    assert (outcome.result, len(given)) == ("submitted", 2)
    assert (await competition.judged(assignment)).participant


async def test_a_staggered_upload_stays_within_the_grace(competition: Competition) -> None:
    assignment = await competition.assignment()
    epoch = assignment.epoch
    moments = {Staggered(f"5Miner{n}")(assignment) for n in range(50)}
    assert len(moments) == 50
    assert all(epoch.start <= moment < epoch.start + epoch.length / 16 for moment in moments)
    short = replace(assignment, rules=replace(assignment.rules, grace_percent=1))
    ends = short.rules.grace_end(epoch)
    assert all(epoch.start <= Staggered(f"5Miner{n}")(short) < ends for n in range(50))


def _prefix(competition: Competition) -> str:
    return miner_prefix(competition.net.hotkey("ann"), competition.net.epoch.id)


async def mined_as_the_grace_ends(
    competition: Competition, share: float
) -> tuple[Assignment, asyncio.Task[Outcome], AsyncExitStack]:
    """A miner that begins seconds before it would submit within the grace, at a portal that gives
    it so much at once and next to nothing after that."""
    net = competition.net
    await net.advance_to(net.epoch.end + timedelta(seconds=1))
    assignment = await competition.assignment()
    pages = sum(-(-z.expected_listings // 40) for z in assignment.zipcodes)
    stack = AsyncExitStack()
    url = stack.enter_context(
        portal(*CALM[:-4], "--rate", "0.05", "--burst", str(round(pages * share)))
    )
    net.clock.advance_to(stop_within_grace_at(assignment) - timedelta(seconds=4))
    miner = await stack.enter_async_context(
        competition.miner(portal=url, address="127.0.0.61", attempts=100)
    )
    return assignment, asyncio.create_task(miner.mine(assignment)), stack


async def test_most_of_it_is_submitted_within_the_grace(competition: Competition) -> None:
    assignment, mining, stack = await mined_as_the_grace_ends(competition, 0.75)
    async with stack:
        outcome = await asyncio.wait_for(mining, 60)
    assert outcome.result == "submitted"
    judged = await competition.judged(assignment)
    assert judged.submission_time is not None
    assert judged.submission_time < assignment.rules.grace_end(assignment.epoch)
    assert judged.volume is not None
    assert PPM / 2 <= judged.volume < PPM


async def test_less_than_half_is_not_submitted_as_the_grace_ends(competition: Competition) -> None:
    assignment, mining, stack = await mined_as_the_grace_ends(competition, 0.25)
    net, soon = competition.net, stop_within_grace_at(assignment)
    async with stack:

        async def over() -> bool:
            return net.clock.now() > soon + timedelta(seconds=2)

        await net.until(over, seconds=60)
        assert not mining.done()
        mining.cancel()
        await asyncio.gather(mining, return_exceptions=True)
