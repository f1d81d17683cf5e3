"""The examiner: the same answer as in this process, and an upload that harms the decoder costs its
sender alone."""

import asyncio
import multiprocessing
import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from mechanism.builders import (
    Submission,
    assigned_zip,
    chain_view,
    hotkey,
    key,
    listings,
    new_assignment,
    submission,
)

from sn46.mechanism.errors import SubmissionError
from sn46.mechanism.evidence import write_evidence
from sn46.mechanism.quick import QuickResult, kept_listings
from sn46.mechanism.reasons import Code
from sn46.validator.examiner import Examiner, ExaminerError

HONEST = submission(100)
VIEW = chain_view({HONEST.hotkey: "cold"})


async def examine(examiner: Examiner, given: Submission = HONEST) -> QuickResult:
    return await examiner.examine(
        given.assignment, VIEW, given.hotkey, given.manifest_upload(), given.files()
    )


def codes(result: QuickResult) -> list[Code]:
    return [reason.code for reason in result.reasons]


def same(one: QuickResult, other: QuickResult) -> bool:
    return one.kept.equals(other.kept) and replace(one, kept=other.kept) == other


def workers() -> set[int]:
    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}


async def started(examiner: Examiner) -> int:
    """The process id of an examiner's worker, which is started for it."""
    before = workers()
    await examine(examiner)
    [pid] = workers() - before
    return pid


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def many_rows(count: int) -> Submission:
    """Honest rows, but far more than any ZIP of a real assignment has."""
    frame = pl.concat([listings(1)] * count).with_columns(
        listing_id=pl.format("portal:{}", pl.int_range(count)),
        address=pl.format("{} Forbes Avenue", pl.int_range(count)),
    )
    assignment = new_assignment((assigned_zip(expected=count // 10),))
    return submission(frame, assignment=assignment)


def long_texts(rows: int, characters: int) -> Submission:
    """Rows whose texts are nearly as long as they may be, and do not compress."""
    chance = random.Random(46)
    texts = [f"{chance.randbytes(characters // 2).hex()}" for _ in range(rows)]
    return submission(listings(rows).with_columns(source_url=pl.Series(texts)))


@pytest.mark.parametrize(
    "given",
    [HONEST, submission(5), replace(HONEST, bodies={"15213": b"PAR1 lies PAR1"})],
    ids=["valid", "too few", "not the file"],
)
async def test_the_answer_is_that_of_the_rules(examiner: Examiner, given: Submission) -> None:
    there = await examine(examiner, given)
    assert same(there, given.examine(VIEW))
    assert (await examiner.examine(given.assignment, VIEW, given.hotkey, None, {})).reasons[
        0
    ].code == Code.MANIFEST_MISSING


async def test_rows_and_evidence_are_read_there_too(examiner: Examiner) -> None:
    manifest, files = HONEST.manifest_upload(), HONEST.files()
    rows = await examiner.kept_listings(HONEST.assignment, HONEST.hotkey, manifest, files)
    assert rows.equals(kept_listings(HONEST.assignment, HONEST.hotkey, manifest, files))
    with pytest.raises(SubmissionError, match="no longer what it was"):
        await examiner.kept_listings(HONEST.assignment, HONEST.hotkey, manifest, {})
    view = chain_view({}, {hotkey("vali"): 10})
    body, document = write_evidence([], epoch_id=HONEST.assignment.epoch_id, signer=key("vali"))
    assert body
    assert document["rows"] == 0
    found = await examiner.read_evidence(
        HONEST.assignment, view, hotkey("vali"), manifest, manifest
    )
    assert found.checks == ()
    assert found.ignored


async def test_too_much_time_is_the_senders_loss() -> None:
    examiner = Examiner(seconds=0.02, memory_mb=3_000)
    try:
        slow = await examine(examiner, many_rows(100_000))
        assert codes(slow) == [Code.FILE_SCHEMA]
        assert (slow.participant, slow.rows, slow.kept.height) == (False, None, 0)
        assert slow.submission_time == HONEST.at
    finally:
        examiner.close()


async def test_a_worker_that_stands_still_is_replaced_and_costs_nobody_anything() -> None:
    examiner = Examiner(seconds=2, memory_mb=3_000)
    try:
        pid = await started(examiner)
        os.kill(pid, signal.SIGSTOP)
        assert same(await examine(examiner), HONEST.examine(VIEW))
        assert pid not in workers()
    finally:
        examiner.close()


@pytest.mark.parametrize("megabytes", [15, 30])
async def test_too_much_memory_costs_its_sender_alone(megabytes: int) -> None:
    """The lower the limit, the earlier it is met: Python raises, Polars aborts."""
    examiner = Examiner(seconds=60, memory_mb=megabytes)
    try:
        swollen = await examine(examiner, long_texts(7_000, 2_000))
        assert codes(swollen) == [Code.FILE_SCHEMA]
        assert same(await examine(examiner), HONEST.examine(VIEW))
    finally:
        examiner.close()


async def test_with_memory_enough_the_same_file_is_fine(examiner: Examiner) -> None:
    assert codes(await examine(examiner, long_texts(7_000, 2_000))) == []


async def test_a_worker_killed_from_outside_costs_nobody_anything() -> None:
    examiner = Examiner(seconds=60, memory_mb=3_000)
    try:
        pid = await started(examiner)
        os.kill(pid, signal.SIGSTOP)
        async with asyncio.timeout(20):
            while state_of(pid) != "T":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        midway = asyncio.create_task(examine(examiner))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        assert same(await midway, HONEST.examine(VIEW))
    finally:
        examiner.close()


async def test_a_worker_that_cannot_start_is_no_miners_fault() -> None:
    examiner, others = Examiner(seconds=60, memory_mb=3_000), workers()
    try:
        examined = asyncio.create_task(examine(examiner))
        while not examined.done():
            for pid in workers() - others:
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.005)
        with pytest.raises(ExaminerError, match="could not be started"):
            await examined
        assert codes(await examine(examiner)) == []
    finally:
        examiner.close()


async def test_a_cancelled_examination_never_answers_the_next(examiner: Examiner) -> None:
    await examine(examiner)
    other = submission(40)
    cancelled = asyncio.create_task(examine(examiner, many_rows(20_000)))
    await asyncio.sleep(0.01)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert (await examine(examiner, other)).rows == 40


async def test_no_process_is_left_behind() -> None:
    before = workers()
    examiner = Examiner(seconds=60, memory_mb=3_000)
    pid = await started(examiner)
    examiner.close()
    with pytest.raises(FileNotFoundError):
        state_of(pid)
    examiner.close()
    assert codes(await examine(examiner)) == []
    examiner.close()
    assert workers() == before
