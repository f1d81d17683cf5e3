"""Small helpers of the local network's tests."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

import sn46

PACKAGE_ROOT = Path(sn46.__file__).parent.parent


def environment(**more: str) -> Mapping[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **more}


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Return once a condition holds; fail where it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        await asyncio.sleep(0.05)


async def eventually(condition: Callable[[], Awaitable[Any]], seconds: float = 60) -> None:
    """Return once an awaitable condition is true; fail where it is not in time."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        await asyncio.sleep(0.05)


def is_all_it_could(volume: int, share: int = 1_000_000) -> bool:
    """Whether a miner's volume is all that it could have, or, where the machine was too slow for
    that, at least half, as is submitted when the grace ends."""
    return volume == share or 500_000 <= volume < share


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Command:
    """``sn46 localnet`` in a process, and all processes below it that were ever seen."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.log = folder / "output.txt"
        self.pids: set[int] = set()
        with open(self.log, "w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sn46", "localnet", *arguments],
                cwd=folder, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def children(self) -> dict[int, str]:
        """Process ids and command lines now."""
        found: dict[int, str] = {}
        try:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self.pids.add(child.pid)
                found[child.pid] = " ".join(child.cmdline())
        except psutil.Error:
            pass
        return found

    @property
    def output(self) -> str:
        return self.log.read_text()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def wait(what: str, condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.2)
