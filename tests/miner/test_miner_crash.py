"""kill -9 at any point costs no finished work, and nothing is done twice."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minernet import Competition, files_in, process, read_status
from portal_process import CALM, portal

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.listings import empty_listings, listings_frame
from sn46.mechanism.names import PPM, Hotkey, ZipCode
from sn46.mechanism.submission import miner_prefix
from sn46.miner.partlog import PartLog
from sn46.miner.pipeline import Pipeline
from sn46.miner.service import stop_scraping_at
from sn46.miner.spool import EpochSpool, Spool, SpoolError
from sn46.sources.remembering import remembered_rows

ADDRESS = "127.0.0.41"


def spooled_files(data: Path) -> int:
    """How many finished files a miner has on disk."""
    return sum(not path.name.startswith(".") for path in files_in(data, "*.*"))


@pytest.mark.timeout(300)
async def test_killed_at_many_points_and_finished(competition: Competition, tmp_path: Path) -> None:
    assignment = await competition.assignment()
    data = tmp_path / "data"
    environment = competition.environment(
        "ann", data, SOURCE_ADDRESS=ADDRESS, CONCURRENCY="1", REQUESTS_PER_SECOND="40"
    )
    kills = 0
    while not read_status(data).get("last_result"):
        before = spooled_files(data)
        async with process(environment, cwd=tmp_path) as running:

            async def moved(before: int = before) -> bool:
                return spooled_files(data) >= before + 3 or bool(
                    read_status(data).get("last_result")
                )

            await competition.net.until(moved, seconds=60)
            running.kill()
            await running.communicate()
        kills += 1
    assert kills >= 3
    judged = await competition.judged(assignment)
    assert (judged.reasons, judged.volume) == ((), PPM)
    # A page holds 40 homes. Each kill may cost the ZIP that was under way, and no other.
    pages = [-(-z.expected_listings // 40) for z in assignment.zipcodes]
    assert await competition.asked(ADDRESS) <= sum(pages) + kills * max(pages)
    # Each kill may come between the store's answer and the note of it; one upload goes twice then.
    written = await competition.versions(
        miner_prefix(competition.net.hotkey("ann"), assignment.epoch_id)
    )
    assert written <= len(pages) + 1 + kills


async def test_what_was_scraped_or_uploaded_is_not_again(competition: Competition) -> None:
    """A miner that stops before its manifest is followed by one that only sends the manifest."""
    assignment = await competition.assignment()
    net, folder = competition.net, competition.folder / "spool"
    prefix = miner_prefix(net.hotkey("ann"), assignment.epoch_id)
    held_back = Pipeline(manifest_at=lambda assignment, ready: assignment.epoch.end)
    async with competition.miner(
        pipeline=held_back, data_dir=folder, address="127.0.0.42"
    ) as miner:
        mining = asyncio.create_task(miner.mine(assignment))

        async def uploaded() -> bool:
            return await competition.versions(prefix) == len(assignment.zipcodes)

        await net.until(uploaded, seconds=60)

        async def noted() -> bool:
            notes = [file.read_text() for file in files_in(folder, "uploaded.json")]
            return sum(note.count("parquet") for note in notes) == len(assignment.zipcodes)

        await net.until(noted, seconds=60)
        mining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await mining
    asked = await competition.asked("127.0.0.42")
    assert asked > 0
    async with competition.miner(data_dir=folder, address="127.0.0.42") as miner:
        outcome = await miner.mine(assignment)
    assert outcome.result == "submitted"
    assert await competition.asked("127.0.0.42") == asked
    assert await competition.versions(prefix) == len(assignment.zipcodes) + 1
    assert (await competition.judged(assignment)).participant


async def test_what_a_killed_miner_had_counts_where_no_time_is_left(
    competition: Competition,
) -> None:
    """Killed while it scrapes, and started again when scraping is over: every page that had come
    in is submitted."""
    assignment, net = await competition.assignment(), competition.net
    folder, address = competition.folder / "spool", "127.0.0.43"
    with portal(*CALM[:-4], "--rate", "1", "--burst", "7") as url:
        async with competition.miner(data_dir=folder, portal=url, address=address) as miner:
            mining = asyncio.create_task(miner.mine(assignment))

            async def begun() -> bool:
                return sum(rows_kept(folder).values()) > 100

            await net.until(begun, seconds=60)
            mining.cancel()
            await asyncio.gather(mining, return_exceptions=True)
        # A kill leaves no record of a ZIP that was under way.
        for record in folder.rglob("scraped/*.json"):
            if not json.loads(record.read_bytes())["complete"]:
                record.unlink()
        kept = rows_kept(folder)
        asked = await competition.asked(address, url)
        net.clock.advance_to(stop_scraping_at(assignment.epoch))
        async with competition.miner(data_dir=folder, portal=url, address=address) as miner:
            outcome = await miner.mine(assignment)
        assert await competition.asked(address, url) == asked
    assert (outcome.result, outcome.zipcodes, outcome.rows) == (
        "submitted", len(kept), sum(kept.values()),
    )  # fmt: skip
    judged = await competition.judged(assignment)
    assert (judged.reasons, judged.rows) == ((), outcome.rows)


def rows_kept(folder: Path) -> dict[str, int]:
    """How many homes are in the logs, by ZIP; of finished ZIPs, in their records."""
    rows = {
        zipcode: len(remembered_rows(PartLog(path).entries(), zipcode))
        for path in files_in(folder, "parts/*.log")
        if (zipcode := path.name.partition(".")[0])
    }
    for path in files_in(folder, "scraped/*.json"):
        record = json.loads(path.read_bytes())
        if record["complete"]:
            rows[record["zipcode"]] = record["rows"]
    return {zipcode: count for zipcode, count in rows.items() if count}


async def test_two_processes_do_not_share_a_spool(tmp_path: Path) -> None:
    first = Spool(tmp_path, Hotkey("5Miner"))
    with pytest.raises(SpoolError, match="Another process mines"):
        Spool(tmp_path, Hotkey("5Miner"))
    other = Spool(tmp_path, Hotkey("5Other"))
    first.close()
    Spool(tmp_path, Hotkey("5Miner")).close()
    other.close()


async def test_another_nonce_is_other_work(competition: Competition, tmp_path: Path) -> None:
    assignment: Assignment = await competition.assignment()
    spool = Spool(tmp_path / "s", Hotkey("5Miner"))
    spool.epoch(assignment).save_scraped(ZipCode("98001"), empty_listings(), complete=True)
    assert spool.epoch(assignment).scraped()
    assert not spool.epoch(replace(assignment, nonce="another")).scraped()
    spool.close()


@settings(max_examples=60, deadline=None)
@given(
    saved=st.lists(
        st.tuples(st.sampled_from(["98001", "98002", "98003"]), st.integers(0, 3), st.booleans()),
        min_size=1,
        max_size=6,
    ),
    damage=st.tuples(st.integers(0, 20), st.integers(0, 400), st.sampled_from(["cut", "gone"])),
)
def test_a_damaged_spool_never_passes_for_finished_work(
    tmp_path_factory: pytest.TempPathFactory,
    saved: list[tuple[str, int, bool]],
    damage: tuple[int, int, str],
) -> None:
    """Whatever file is cut short or lost, each ZIP that still counts has the rows it had."""
    folder = tmp_path_factory.mktemp("spool")
    (folder / "scraped").mkdir()
    spool = EpochSpool(folder, "2024-03-15-16:00", Hotkey("5Miner"))  # type: ignore[arg-type]
    rows: dict[str, int] = {}
    for zipcode, count, complete in saved:
        frame = listings_frame([{"listing_id": f"portal:{n}"} for n in range(count)])
        spool.save_scraped(ZipCode(zipcode), frame, complete=complete)
        rows[zipcode] = count
    assert {z: r.rows for z, r in spool.scraped().items()} == rows
    files = sorted((folder / "scraped").iterdir())
    victim = files[damage[0] % len(files)]
    if damage[2] == "gone":
        victim.unlink()
    else:
        body = victim.read_bytes()
        victim.write_bytes(body[: damage[1] % len(body)])
    left = spool.scraped()
    assert victim.stem not in left
    assert {z: spool.rows_of(z).height for z in left} == {
        z: n for z, n in rows.items() if z != victim.stem
    }
