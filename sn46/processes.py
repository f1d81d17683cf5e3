"""What processes of one machine share: its ports, and how one of them ends."""

import os
import socket
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End this process at once with an exit code, after its output is written out.

    For processes that embedded Granian's server: its threads may still call into Python while the
    interpreter is taken down, and then abort the process (seen in one of twenty stops). Call it
    last, when nothing is left to be taken down.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def is_alive(pid: int) -> bool:
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on a port of this machine now."""
    with socket.socket() as probe:
        # As servers do, so that connections that are only dying do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError):
            return False
    return True
