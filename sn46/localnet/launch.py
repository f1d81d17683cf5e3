"""``python -m sn46.localnet.launch PARENT MODULE [ARG …]``: a module that ends with its parent.

The kernel is asked, before the module is loaded, to kill this process when the one that started it
is gone (Linux's parent-death signal). It is asked here, and not between fork and exec, so that no
Python runs in a half-copied process. PARENT is the starter's process id: where it is gone already,
nothing is run.
"""

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Die when the process ``parent``, which started this one, does; at once where it has."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(f"The process {parent} that started this one is gone.")


def main() -> None:
    parent, module = int(sys.argv[1]), sys.argv[2]
    end_with(parent)
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
