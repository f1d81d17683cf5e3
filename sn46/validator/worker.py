"""The process in which the examiner has strangers' files decoded.

This module imports nothing that decodes: what the libraries take from the environment must be set
before they are loaded, and they are loaded in the new process.
"""

import contextlib
import os
import resource
from multiprocessing.connection import Connection
from pathlib import Path

from sn46.mechanism.errors import MechanismError


def work(pipe: Connection, memory_bytes: int) -> None:
    """Says that it is ready, then takes one piece of work and gives one result, until the pipe
    closes. A MechanismError that the work raises is its result."""
    # Arrow's own allocator claims a gibibyte at once, and what is claimed before the limit is set
    # is not limited by it.
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    _limit(resource.RLIMIT_DATA, _own_bytes() + memory_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    with contextlib.suppress(EOFError, KeyboardInterrupt, MemoryError):
        pipe.send(None)
        while True:
            function, arguments = pipe.recv()
            try:
                answer = function(*arguments)
            except MechanismError as error:
                answer = error
            pipe.send(answer)


def _own_bytes() -> int:
    """What the program itself takes: libraries, and threads, of which there are more on a larger
    machine. They are all started before it is read."""
    import polars as pl

    from sn46.mechanism.listings import SCHEMA, write_listings
    from sn46.mechanism.parquetfile import decode

    decode(write_listings(pl.DataFrame(schema=dict(SCHEMA))), most_rows=0)
    pl.DataFrame({"number": range(10_000)}).lazy().sort("number").collect()
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmData:")[2].split()[0]) * 1024


def _limit(kind: int, most: int) -> None:
    """Lower a limit of this process, as far as it is not lower already."""
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(kind, (most, most))
