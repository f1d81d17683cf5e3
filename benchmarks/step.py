"""A step of a benchmark in a process of its own, so that its memory and time are its own."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.memory import PeakMemory


@dataclass(frozen=True)
class Step:
    """What a step found, how long it took with its process' start, the processor time of it and
    its children, and the most memory that they took together."""

    found: Any
    seconds: float
    cpu_seconds: float
    peak_mb: float


def run_step(module: str, kind: str, folder: Path, given: Mapping[str, Any]) -> Step:
    """Run ``python -m MODULE --child KIND FOLDER``, which reads ``given`` as JSON and writes what
    it found as JSON.

    Raises:
        SystemExit: where it fails; it has said why.
    """
    command = [sys.executable, "-m", module, "--child", kind, str(folder)]
    began, spent = time.perf_counter(), _children_seconds()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        memory = PeakMemory(process.pid)
        out, _ = process.communicate(json.dumps(given))
        peak = memory.stop()
    if process.returncode:
        raise SystemExit(f"The step {kind!r} failed; its lines above say why.")
    return Step(json.loads(out), time.perf_counter() - began, _children_seconds() - spent, peak)


def _children_seconds() -> float:
    """Processor time of all processes that this one waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
