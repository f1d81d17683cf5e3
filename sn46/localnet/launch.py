"""``python -m sn46.localnet.launch [OPTION …] PARENT PROGRAM [ARG …]``: what ends with its parent.

PROGRAM is a Python module, or a program of the system by its absolute path. The kernel is asked,
before it is loaded, to end this process when the one that started it is gone (Linux's parent-death
signal, which outlives ``exec``). It is asked here, and not between fork and exec, so that no Python
runs in a half-copied process. PARENT is the starter's process id: where it is gone already, nothing
is run.

``--signal N`` is the signal that the kernel sends then, SIGKILL by default; ``--user UID:GID`` is
who the program runs as.
"""

import argparse
import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Get a signal when the process ``parent``, which started this one, dies; end at once where it
    has."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        sys.exit(f"The process {parent} that started this one is gone.")


def become(user: str) -> None:
    """Be another user, ``UID:GID``, and no longer able to come back."""
    uid, gid = (int(part) for part in user.split(":"))
    os.setgroups([gid])
    os.setgid(gid)
    os.setuid(uid)


def main() -> None:
    parser = argparse.ArgumentParser(prog="launch")
    parser.add_argument("--signal", type=int, default=int(signal.SIGKILL))
    parser.add_argument("--user")
    parser.add_argument("parent", type=int)
    parser.add_argument("program")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    if given.user:
        # First, since a change of user takes the kernel's promise back.
        become(given.user)
    end_with(given.parent, given.signal)
    if os.path.isabs(given.program):
        os.execv(given.program, [given.program, *given.arguments])
    sys.argv = [given.program, *given.arguments]
    runpy.run_module(given.program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
