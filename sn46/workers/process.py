"""The process in which strangers' files are decoded.

This module imports nothing that decodes: what the libraries take from the environment must be set
before they are loaded, and they are loaded in the new process.
"""

import contextlib
import copyreg
import ctypes
import gc
import os
import pickle
import resource
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sn46.mechanism.errors import MechanismError
from sn46.workers.messages import receive, send

_COLLECTED_AFTER = 100_000
# glibc's malloc.h, and mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 64 * 1024 * 1024


def work(pipe: Connection, memory_bytes: int) -> None:
    """Says that it is ready, then takes one piece of work and gives one result, until the pipe
    closes. A MechanismError that the work raises is its result. Memory that runs out ends the
    process: that is no statement about the work."""
    # Several of these share the machine, each with one thread; and the more threads, the more
    # of the memory is theirs.
    os.environ["POLARS_MAX_THREADS"] = "1"
    # Arrow's own allocator claims a gibibyte at once, and what is claimed before the limit is set
    # is not limited by it.
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    _keep_freed_memory()
    _hush_libraries()
    _send_frames_as_columns()
    _limit(resource.RLIMIT_DATA, _own_bytes() + memory_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    gc.freeze()
    # What is made of a footer are thousands of small values, none of them in circles.
    gc.set_threshold(_COLLECTED_AFTER)
    with contextlib.suppress(EOFError, KeyboardInterrupt, MemoryError):
        send(pipe, None)
        while True:
            function, arguments = receive(pipe)
            try:
                answer = function(*arguments)
            except MechanismError as error:
                answer = error
            send(pipe, answer)


def _keep_freed_memory() -> None:
    """Have the C library keep some of what is freed: it would give the system back a submission's
    memory, and ask for it again, page by page, for the next one."""
    with contextlib.suppress(OSError, AttributeError):  # Other C libraries do as they think right.
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES // 2)


def _hush_libraries() -> None:
    """Keep what Python says on standard error, and drop what libraries do: a decoder that panics
    over a page writes dozens of lines, so any miner could fill this machine's log."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.stderr = open(kept, "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115


def _send_frames_as_columns() -> None:
    """Have frames pickled as Arrow streams by Arrow, which takes a third of the time that Polars
    needs to write and read them."""
    import polars as pl
    import pyarrow as pa

    def reduce(
        frame: pl.DataFrame,
    ) -> tuple[Callable[[Any], pl.DataFrame], tuple[pickle.PickleBuffer]]:
        # By way of the older form, in which a column has the texts of its rows alone: in the newer
        # one, which is read without copying, it may take along those of rows that were dropped.
        own = pl.DataFrame(frame.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()))
        table = own.to_arrow(compat_level=pl.CompatLevel.newest())
        stream = pa.BufferOutputStream()
        with pa.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
        return _frame_of_columns, (pickle.PickleBuffer(stream.getvalue()),)

    copyreg.pickle(pl.DataFrame, reduce)


def _frame_of_columns(stream: Any) -> Any:
    """A frame whose columns lie in these bytes."""
    import polars as pl
    import pyarrow as pa

    return pl.from_arrow(pa.ipc.open_stream(stream).read_all())


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
