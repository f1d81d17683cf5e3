"""How a service's process ends."""

import os
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
