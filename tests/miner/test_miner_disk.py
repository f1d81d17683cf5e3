"""A disk that is full: what is on it counts, what is missing is waited for, and it is said."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from minernet import Competition, files_in, plain, process, read_status
from wires import Wire, wire

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.names import PPM
from sn46.miner.partlog import PartLog
from sn46.miner.service import DISK_PAUSE
from sn46.miner.watching import read_status as status_of
from sn46.miner.words import status_lines

ROOM = 3_000_000
Page = tuple[str, str]
"""A page of a search, by its ZIP and its name in the ZIP's log."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of a few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place)]
    try:
        made = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("this user may not mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
async def laid(competition: Competition) -> AsyncIterator[Wire]:
    async with wire(competition.portal) as made:
        yield made


def fill(disk: Path, path: Path, leave: int) -> Path:
    """A file that leaves so many bytes of the disk free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    room = os.statvfs(disk)
    path.write_bytes(b"\0" * (room.f_bavail * room.f_frsize - leave))
    return path


def pages_of(targets: list[str]) -> list[Page]:
    found: list[Page] = []
    for target in targets:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
        prices = f"{asked['minPrice']}..{asked.get('maxPrice', '')}"
        days = f"{asked['soldFrom']}..{asked['soldTo']}"
        found.append((asked["zip"], f"portal {days} {prices} page {asked['page']}"))
    return found


def kept_in(data: Path) -> set[Page]:
    return {
        (path.name.partition(".")[0], name)
        for path in files_in(data, "parts/*.log")
        for name, _ in PartLog(path).entries()
    }


@asynccontextmanager
async def mining(
    competition: Competition, assignment: Assignment, laid: Wire, disk: Path
) -> AsyncIterator[asyncio.Task[object]]:
    status = competition.folder / "status.json"
    async with competition.miner(
        data_dir=disk / "data", portal=laid.url, status_file=status
    ) as miner:
        task: asyncio.Task[object] = asyncio.create_task(miner.mine(assignment))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def in_trouble(competition: Competition) -> None:
    """Return once the miner says that it waits, and for what."""

    async def waits() -> bool:
        trouble = read_status(competition.folder).get("trouble")
        return trouble is not None and "Free some space" in trouble

    await competition.net.until(waits, seconds=30)


async def test_a_full_disk_is_waited_for_and_what_is_kept_is_not_asked_for_again(
    competition: Competition, small_disk: Path, laid: Wire
) -> None:
    assignment, clock = await competition.assignment(), competition.net.clock
    ballast = fill(small_disk, small_disk / "ballast", leave=150_000)
    async with mining(competition, assignment, laid, small_disk) as task:
        await in_trouble(competition)
        kept, asked = kept_in(small_disk), len(laid.targets)
        assert kept
        ballast.unlink()
        clock.advance(DISK_PAUSE)
        outcome = await asyncio.wait_for(task, 60)
    assert vars(outcome)["result"] == "submitted"
    again = pages_of(laid.targets[asked:])
    assert not kept & set(again)
    assert len(again) == len(set(again))
    judged = await competition.judged(assignment)
    assert (judged.reasons, judged.volume) == ((), PPM)
    assert read_status(competition.folder)["trouble"] is None


async def test_earlier_epochs_make_room(
    competition: Competition, small_disk: Path, laid: Wire
) -> None:
    assignment = await competition.assignment()
    earlier = small_disk / "data" / competition.net.hotkey("ann") / "2020-01-01-00-00"
    fill(small_disk, earlier / "package" / "98103.parquet", leave=150_000)
    async with mining(competition, assignment, laid, small_disk) as task:
        outcome = await asyncio.wait_for(task, 60)
    assert vars(outcome)["result"] == "submitted"
    assert not earlier.exists()
    assert (await competition.judged(assignment)).volume == PPM


async def test_a_disk_that_stays_full_costs_the_epoch_and_says_so(
    competition: Competition, small_disk: Path, laid: Wire
) -> None:
    assignment, clock = await competition.assignment(), competition.net.clock
    fill(small_disk, small_disk / "ballast", leave=60_000)
    async with mining(competition, assignment, laid, small_disk) as task:
        await in_trouble(competition)
        clock.advance_to(assignment.submission_deadline - DISK_PAUSE)
        outcome = await asyncio.wait_for(task, 30)
    assert vars(outcome)["result"] == "failed"
    assert "No space left on device" in vars(outcome)["detail"]


LIMITED = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)); "
    "from sn46.miner.process import main; sys.exit(main())"
)
"""A miner whose files may not grow: what a quota does."""


async def test_a_quota_is_met_and_lifted(
    competition: Competition, tmp_path: Path, laid: Wire
) -> None:
    assignment, data = await competition.assignment(), tmp_path / "data"
    environment = competition.environment("ann", data, SOURCES=f"portal:{laid.url}")
    async with process(environment, cwd=tmp_path, command=("-c", LIMITED)) as running:

        async def waits() -> bool:
            return "File too large" in (read_status(data).get("trouble") or "")

        await competition.net.until(waits, seconds=60)
        status = status_of(data / "status.json")
        assert status is not None
        lines = list(status_lines(status, competition.net.clock.now()))
        assert any(line.startswith("WAITING: ") and "Free some space" in line for line in lines)
        running.kill()
        _, log = await running.communicate()
    assert "the spool cannot be used; trying again" in plain(log)
    kept, asked = kept_in(data), len(laid.targets)
    assert kept
    async with process(environment, cwd=tmp_path) as running:

        async def done() -> bool:
            return read_status(data).get("last_result") is not None

        await competition.net.until(done, seconds=60)
    assert not kept & set(pages_of(laid.targets[asked:]))
    judged = await competition.judged(assignment)
    assert (judged.reasons, judged.volume) == ((), PPM)
