"""What goes through the pipe between a worker and its owner: any value that can be pickled, and
beside it the large buffers that it names as such (``pickle.PickleBuffer``), which are not copied
into the rest. Each of both trusts the other."""

import pickle
from multiprocessing.connection import Connection
from typing import Any


def packed(value: Any) -> list[bytes | memoryview]:
    """A value as bytes, and the buffers beside it."""
    buffers: list[pickle.PickleBuffer] = []
    rest = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return [rest, *(buffer.raw() for buffer in buffers)]


def send(pipe: Connection, value: Any) -> None:
    """Send a value.

    Raises:
        OSError: where nobody is at the other end.
    """
    parts = packed(value)
    for part in (len(parts).to_bytes(4, "little"), *parts):
        pipe.send_bytes(part)


def receive(pipe: Connection) -> Any:
    """The next value. Blocks.

    Raises:
        EOFError, OSError: where nobody is at the other end.
    """
    count = int.from_bytes(pipe.recv_bytes(), "little")
    rest, *buffers = [pipe.recv_bytes() for _ in range(count)]
    return pickle.loads(rest, buffers=buffers)
