"""Small helpers of the local network's tests."""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

import sn46

PACKAGE_ROOT = Path(sn46.__file__).parent.parent


def environment(**more: str) -> Mapping[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **more}


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Return once a condition holds; fail where it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        await asyncio.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
