"""A validator that comes late: in mid-epoch, after a day off, on a new machine, or while the API,
the store or its own disk is away."""

import shutil
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import httpx
import pytest
from minernet import Competition
from test_validator_epoch import mined
from valinet import Crash, Trial

from sn46.certificates import trusted
from sn46.client.api import ApiUnavailable, ReceivedAssignment
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.report import common_part
from sn46.validator.epoch_run import Parts
from sn46.validator.examiner import Examiner
from sn46.validator.journal import Journal, kept_epochs
from sn46.validator.progress import Ending, Result, ending_of
from sn46.validator.service import Validator


@pytest.fixture
async def trial(competition: Competition, examiner: Examiner) -> Trial:
    """An epoch that has just ended, with an honest miner."""
    return await mined(competition, examiner, {"ann": "honest"})


async def serve(
    trial: Trial,
    name: str = "vali",
    current: Callable[[], Awaitable[ReceivedAssignment]] | None = None,
    keep: timedelta = timedelta(days=60),
    **options: Any,
) -> Parts:
    """Run a validator's service until it waits for the running epoch's end."""
    async with AsyncExitStack() as stack:
        options.setdefault("crash_at", "waiting")
        parts = await stack.enter_async_context(trial.parts(name, **options))
        with pytest.raises(Crash):
            await Validator(parts, current, keep=keep).run()
    return parts


def lose_the_disk(trial: Trial, name: str = "vali") -> None:
    shutil.rmtree(trial.data_dir(name))


def before(epoch: Epoch, count: int) -> Epoch:
    return epoch if count == 0 else before(epoch.previous(), count - 1)


def ending(trial: Trial, epoch: Epoch, name: str = "vali") -> Ending | None:
    return ending_of(Journal(trial.data_dir(name), epoch.id))


async def test_after_a_day_off_the_newest_epoch_is_judged_and_the_others_are_missed(
    trial: Trial,
) -> None:
    then = before(trial.epoch, 7)
    done = Ending(then.id, Result.JUDGED, "2026-01-01T00:00:00Z")
    Journal(trial.data_dir("vali"), then.id).put("outcome", done.to_json())

    parts = await serve(trial)
    assert parts.progress.counts.endings == {
        (Result.MISSED, "not running"): 6,
        (Result.JUDGED, ""): 1,
    }
    assert parts.progress.last is not None
    assert parts.progress.last.epoch_id == trial.epoch.id
    assert sum((await trial.chain_weights("vali")).values()) == 1_000_000
    assert set(await trial.announced()) == {trial.net.hotkey("vali")}

    # Started again, it has nothing to do, and says what it did.
    again = await serve(trial)
    assert again.chain.sent == 0  # pyright: ignore[reportAttributeAccessIssue]
    assert again.progress.counts.endings == {}
    assert again.progress.last == parts.progress.last


async def test_in_mid_epoch_without_evidence_of_its_own(trial: Trial) -> None:
    await trial.net.advance_to(trial.epoch.weights_by + timedelta(seconds=30))
    parts = await serve(trial)
    assert parts.progress.counts.endings == {(Result.JUDGED, ""): 1}
    assert parts.progress.counts.checks == {}
    assert set(await trial.versions("vali")) == {
        "validated_data.parquet",
        "epoch_metadata.json",
        "validation_report.json",
    }
    assert sum((await trial.chain_weights("vali")).values()) == 1_000_000


async def test_too_late_for_an_epoch_it_goes_on_with_the_next(trial: Trial) -> None:
    lost = trial.epoch
    with pytest.raises(Crash):
        await trial.run("vali", crash_at="setting weights")
    await trial.net.advance_to(lost.results_deadline + timedelta(seconds=10))
    parts = await serve(trial)
    assert parts.progress.last is not None
    assert parts.progress.last.epoch_id == lost.next().id
    assert ending(trial, lost) is None
    assert (await trial.chain_weights("vali")) != {}


async def test_an_epoch_that_is_lost_is_noted_with_the_step(trial: Trial) -> None:
    """The chain takes the permit away before the weights, and does not give it back."""
    with pytest.raises(Crash):
        await trial.run("vali", crash_at="setting weights")
    trial.net.world.chain.set_permit(trial.net.hotkey("vali"), False)
    async with trial.parts("vali") as parts:
        ended = parts.progress.ended

        def crash(ending: Ending) -> None:
            ended(ending)
            raise Crash("ended")

        parts.progress.ended = crash
        with pytest.raises(Crash, match="ended"):
            await Validator(parts).run()
    assert trial.net.clock.now() >= trial.epoch.results_deadline
    found = ending(trial, trial.epoch)
    assert found is not None
    assert (found.result, found.reason) == (Result.LOST, "setting weights")
    assert "permit" in found.detail
    assert parts.chain.sent > 0  # pyright: ignore[reportAttributeAccessIssue]
    assert parts.chain.sent < 60  # pyright: ignore[reportAttributeAccessIssue]
    assert await trial.chain_weights("vali") == {}


async def test_a_machine_lost_before_the_evidence_deadline(trial: Trial) -> None:
    """What it uploaded stands; it does not ask the source again to say it in other words."""
    address = "127.0.0.61"
    with pytest.raises(Crash):
        await trial.run("vali", crash_at="waiting for evidence", address=address)
    asked, evidence = await trial.competition.asked(address), await trial.versions("vali")
    assert set(evidence.values()) == {1}
    assert asked > 0

    lose_the_disk(trial)
    await serve(trial, address=address)
    after = await trial.versions("vali")
    assert set(after.values()) == {1}
    assert await trial.competition.asked(address) == asked
    assert (await trial.published("vali"))["miners"][trial.net.hotkey("ann")]["checks"][
        "confirmed"
    ] > 0


@pytest.mark.parametrize("lost", [False, True], ids=["its disk is there", "its disk is lost"])
async def test_a_process_that_dies_while_it_uploads(trial: Trial, lost: bool) -> None:
    """Half of its evidence is in the bucket. It says the same again, or where it forgot it, all
    of it anew."""
    uploads = 0

    class Half(httpx.AsyncBaseTransport):
        """Lets one upload through; with the second the process dies."""

        def __init__(self) -> None:
            self._real = httpx.AsyncHTTPTransport(verify=trusted())

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            nonlocal uploads
            uploads += request.method == "POST"
            if uploads == 2:
                raise Crash("uploading")
            return await self._real.handle_async_request(request)

    async with httpx.AsyncClient(transport=Half()) as http:
        with pytest.raises(Crash, match="uploading"):
            await trial.run("vali", http=http)
    assert await trial.versions("vali") == {"spot_checks.parquet": 1}
    kept = Journal(trial.data_dir("vali"), trial.epoch.id).get("checks")
    assert kept is not None
    if lost:
        lose_the_disk(trial)
    await trial.run("vali")
    if not lost:
        assert Journal(trial.data_dir("vali"), trial.epoch.id).get("checks") == kept
    versions = await trial.versions("vali")
    assert (versions["spot_checks.parquet"], versions["evidence.json"]) == (2, 1)
    report = await trial.published("vali")
    assert report["miners"][trial.net.hotkey("ann")]["checks"]["confirmed"] > 0


async def test_a_machine_lost_before_the_weights(trial: Trial) -> None:
    with pytest.raises(Crash):
        await trial.run("vali", crash_at="setting weights")
    report, versions = await trial.published("vali"), await trial.versions("vali")
    trial.net.clock.advance(timedelta(minutes=2))  # The API keeps a list of results for a moment.

    lose_the_disk(trial)
    parts = await serve(trial)
    assert await trial.versions("vali") == versions
    assert await trial.published("vali") == report
    assert parts.chain.sent == 1  # pyright: ignore[reportAttributeAccessIssue]


async def test_a_machine_lost_after_the_weights(trial: Trial) -> None:
    await serve(trial)
    report, versions = await trial.published("vali"), await trial.versions("vali")
    weights = await trial.chain_weights("vali")
    trial.net.clock.advance(timedelta(minutes=2))

    lose_the_disk(trial)
    parts = await serve(trial)
    assert parts.chain.sent == 0  # pyright: ignore[reportAttributeAccessIssue]
    assert parts.progress.counts.weights == {"found": 1}
    assert await trial.versions("vali") == versions
    assert await trial.published("vali") == report
    assert await trial.chain_weights("vali") == weights


@pytest.mark.usefixtures("no_pauses")
async def test_weights_do_not_wait_for_a_store_that_is_down(trial: Trial) -> None:
    """Down from the moment the report is built until the weights are set."""
    chain_done = False

    class Down(httpx.AsyncBaseTransport):
        def __init__(self) -> None:
            self._real = httpx.AsyncHTTPTransport(verify=trusted())

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.method == "POST" and parts.progress.phase == "publishing" and not chain_done:
                # Nearly all of the time that it may wait is over at once.
                soon = trial.epoch.weights_by - timedelta(minutes=2)
                if trial.net.clock.now() < soon:
                    trial.net.clock.advance_to(soon)
                raise httpx.ConnectError("the store is down", request=request)
            return await self._real.handle_async_request(request)

    async with (
        httpx.AsyncClient(transport=Down()) as http,
        trial.parts("vali", http=http, crash_at="waiting") as parts,
    ):
        setting = parts.chain.set_weights

        async def set_weights(weights: Any) -> Any:
            nonlocal chain_done
            receipt = await setting(weights)
            chain_done = True
            assert await trial.announced() == {}
            return receipt

        parts.chain.set_weights = set_weights  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(Crash):
            await Validator(parts).run()
    assert chain_done
    assert sum((await trial.chain_weights("vali")).values()) == 1_000_000
    report = await trial.published("vali")
    assert common_part(report)["weights"]
    assert set(await trial.announced()) == {trial.net.hotkey("vali")}


async def test_weights_are_set_without_an_api(trial: Trial) -> None:
    """Killed before them, and started while the API is away."""
    with pytest.raises(Crash):
        await trial.run("vali", crash_at="setting weights")

    async def away() -> ReceivedAssignment:
        raise ApiUnavailable("The API cannot be reached.")

    parts = await serve(trial, current=away)
    assert parts.chain.sent == 1  # pyright: ignore[reportAttributeAccessIssue]
    assert parts.progress.counts.endings == {(Result.JUDGED, ""): 1}


async def test_old_epochs_go_and_those_in_use_stay(trial: Trial) -> None:
    old = [before(trial.epoch, count) for count in (2, 3, 400)]
    for epoch in old:
        Journal(trial.data_dir("vali"), epoch.id).put("report", {"old": True})
    await serve(trial, keep=timedelta(hours=15))
    kept = {journal.epoch_id for journal in kept_epochs(trial.data_dir("vali"))}
    assert old[2].id not in kept
    assert {old[0].id, trial.epoch.id, trial.epoch.next().id} <= kept
    await serve(trial, keep=timedelta(0))
    kept = {journal.epoch_id for journal in kept_epochs(trial.data_dir("vali"))}
    assert kept == {trial.epoch.id, trial.epoch.next().id}
