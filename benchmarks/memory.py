"""How much memory a process and its children take at most, together."""

import os
import threading
from pathlib import Path

_SECONDS = 0.05


class PeakMemory:
    """Watches from a thread until it is stopped; ``mb`` is the most that was seen.

    What is counted is the resident memory of the process and all below it, pages that they share
    counted for each: more than what they take, never less.
    """

    def __init__(self, pid: int) -> None:
        self.mb = 0.0
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._over.set()
        self._thread.join()
        return self.mb

    def _watch(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not self._over.wait(_SECONDS):
            pages = sum(_resident(pid) for pid in _family(self._pid))
            self.mb = max(self.mb, pages * page / 2**20)


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):  # It has ended.
        return 0


def _family(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found.extend(int(child) for child in task.read_text().split())
            except OSError:
                continue
    return found
