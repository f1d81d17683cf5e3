"""Uploading over a wire that breaks, and to a store that refuses: what can be there, is."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from minernet import Competition, files_in, process, read_status
from source_doubles import http
from wires import LOST, RESET, SLOW, Fault, Wire, wire

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.names import PPM, Hotkey
from sn46.mechanism.submission import miner_prefix
from sn46.miner.checkup import check_up
from sn46.miner.delivery import PolicyGiver, last_call
from sn46.miner.service import Miner
from sn46.miner.watching import find_epoch
from sn46.store.base import UploadPolicy

UNFIT = http(503, "<Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>",
             content_type="application/xml")  # fmt: skip
FAULT = http(500, "<html>bad gateway</html>", content_type="text/html")
EXPIRED = http(
    403,
    "<Error><Code>AccessDenied</Code><Message>Policy has expired.</Message></Error>",
    content_type="application/xml",
)

Change = Callable[[UploadPolicy], UploadPolicy]


def policies(competition: Competition, change: Change) -> PolicyGiver:
    """The API's own policies, with a change."""

    async def give(assignment: Assignment) -> UploadPolicy:
        given = await competition.net.client("ann").miner_upload(assignment.epoch_id)
        return change(given)

    return give


def over(laid: Wire) -> Change:
    def change(policy: UploadPolicy) -> UploadPolicy:
        path = policy.url.split("/", 3)[3:]
        return replace(policy, url="/".join([laid.url, *path]))

    return change


@asynccontextmanager
async def store_over(competition: Competition, *faults: Fault) -> AsyncIterator[Wire]:
    assert competition.world.miners.access.endpoint is not None
    async with wire(competition.world.miners.access.endpoint, *faults) as laid:
        yield laid


async def uploads(competition: Competition, assignment: Assignment) -> int:
    prefix = miner_prefix(competition.net.hotkey("ann"), assignment.epoch_id)
    return await competition.versions(prefix)


@pytest.mark.parametrize(
    "faults",
    [(RESET, RESET, RESET), (UNFIT, FAULT), (SLOW, SLOW), (EXPIRED, EXPIRED), (LOST,)],
    ids=["reset", "5xx", "slow", "refused", "lost"],
)
async def test_a_store_in_trouble_gets_it_all_in_the_end(
    competition: Competition, faults: tuple[Fault, ...]
) -> None:
    assignment = await competition.assignment()
    before = await uploads(competition, assignment)
    async with (
        store_over(competition, *faults) as laid,
        competition.miner(policies=policies(competition, over(laid))) as miner,
    ):
        outcome = await asyncio.wait_for(miner.mine(assignment), 60)
    assert outcome.result == "submitted"
    assert laid.met == list(faults)
    judged = await competition.judged(assignment)
    assert (judged.reasons, judged.volume) == ((), PPM)
    # Only what the store has and never said so can be there twice.
    twice = faults.count(LOST)
    made = await uploads(competition, assignment) - before
    assert made == len(assignment.zipcodes) + 1 + twice


async def test_a_file_that_the_store_never_takes_costs_its_own_zip(
    competition: Competition,
) -> None:
    assignment = await competition.assignment()
    sizes: list[int] = []

    def smaller(policy: UploadPolicy) -> UploadPolicy:
        """A limit that only the largest file is beyond."""
        return replace(policy, max_bytes=sorted(sizes)[-1] - 1)

    folder = competition.folder / "spool"
    async with competition.miner(data_dir=folder) as miner:
        made = await packaged(competition, miner, assignment)
        sizes += [path.stat().st_size for path in made]
    largest = max(made, key=lambda path: path.stat().st_size).stem
    async with competition.miner(data_dir=folder, policies=policies(competition, smaller)) as miner:
        outcome = await miner.mine(assignment)
    assert (outcome.result, outcome.zipcodes) == ("submitted", len(assignment.zipcodes) - 1)
    assert list(outcome.unsent) == [largest]
    assert largest in outcome.detail
    judged = await competition.judged(assignment)
    assert (judged.reasons, judged.zipcodes) == ((), len(assignment.zipcodes) - 1)
    # And its owner is told why.
    spool = find_epoch(folder, Hotkey(competition.net.hotkey("ann")))
    found = check_up(assignment, spool, competition.net.clock.now())
    (lost,) = [zip_ for zip_ in found.zips if zip_.lost]
    assert (lost.zipcode, found.valid) == (largest, True)
    assert "the policy allows" in lost.why


async def packaged(competition: Competition, miner: Miner, assignment: Assignment) -> list[Path]:
    """The files of a miner that is stopped once they are made."""
    folder = competition.folder / "spool"
    mining = asyncio.create_task(miner.mine(assignment))

    async def made() -> bool:
        return bool(files_in(folder, "manifest.json"))

    await competition.net.until(made, seconds=60)
    mining.cancel()
    await asyncio.gather(mining, return_exceptions=True)
    return sorted(folder.rglob("package/*.parquet"))


@pytest.mark.parametrize("damaged", ["manifest.json", "package"])
async def test_a_damaged_package_is_made_again(competition: Competition, damaged: str) -> None:
    assignment = await competition.assignment()
    folder = competition.folder / "spool"
    async with store_over(competition) as laid:
        laid.refused[b"zipcode="] = UNFIT
        over_it = policies(competition, over(laid))
        async with competition.miner(policies=over_it, data_dir=folder) as miner:
            files = await packaged(competition, miner, assignment)
    victim = files[0] if damaged == "package" else files_in(folder, damaged)[0]
    victim.write_bytes(victim.read_bytes()[:-20])
    async with competition.miner(data_dir=folder) as miner:
        outcome = await asyncio.wait_for(miner.mine(assignment), 60)
    assert (outcome.result, outcome.zipcodes) == ("submitted", len(assignment.zipcodes))
    assert (await competition.judged(assignment)).valid


async def test_what_is_not_there_at_the_last_call_is_left_out(competition: Competition) -> None:
    """One file meets a store that is always in trouble; the others are submitted without it."""
    assignment, clock = await competition.assignment(), competition.net.clock
    victim, status = assignment.zipcodes[0].zipcode, competition.folder / "status.json"
    async with (
        store_over(competition) as laid,
        competition.miner(policies=policies(competition, over(laid)), status_file=status) as miner,
    ):
        laid.refused[f"zipcode={victim}/".encode()] = UNFIT
        mining = asyncio.create_task(miner.mine(assignment))

        async def all_others() -> bool:
            found = read_status(competition.folder)
            return found.get("files_uploaded") == len(assignment.zipcodes) - 1

        await competition.net.until(all_others, seconds=60)
        assert not mining.done()
        clock.advance_to(last_call(assignment))
        outcome = await asyncio.wait_for(mining, 30)
    assert (outcome.result, outcome.zipcodes) == ("submitted", len(assignment.zipcodes) - 1)
    assert "it was not uploaded in time" in outcome.unsent[victim]
    judged = await competition.judged(assignment)
    assert (judged.reasons, judged.zipcodes) == ((), len(assignment.zipcodes) - 1)


async def test_the_api_hears_of_each_step(competition: Competition, tmp_path: Path) -> None:
    assignment, data = await competition.assignment(), tmp_path / "data"
    async with wire(competition.net.url) as laid:
        environment = competition.environment("ann", data, API_URL=laid.url)
        async with process(environment, cwd=tmp_path) as running:

            async def waiting() -> bool:
                steps = [body for body in laid.bodies if b'"completed"' in body]
                return bool(steps) and read_status(data).get("phase") == "waiting"

            await competition.net.until(waiting, seconds=60)
            running.terminate()
            await running.communicate()
    told = [json.loads(body) for body in laid.bodies if b'"status"' in body]
    rows, zips = assignment.total_expected_listings, len(assignment.zipcodes)
    assert [(t["status"], t["listings_found"], t["zipcodes_completed"]) for t in told] == [
        ("in_progress", 0, 0),
        ("in_progress", rows, zips),
        ("completed", rows, zips),
    ]
    assert [t["s3_upload_complete"] for t in told] == [False, False, True]
