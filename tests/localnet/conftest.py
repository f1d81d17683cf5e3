"""Small services to keep running."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from localnet_helpers import PACKAGE_ROOT, environment

from sn46.localnet.service import Event, ProcessSpec


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def make_spec(tmp_path: Path) -> Callable[..., ProcessSpec]:
    """A service whose module is the given source."""

    def make(source: str, *, name: str = "probe", log: Path | None = None) -> ProcessSpec:
        (tmp_path / f"{name}_module.py").write_text(source)
        return ProcessSpec(
            name=name,
            module=f"{name}_module",
            arguments=(str(tmp_path),),
            environment=environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{PACKAGE_ROOT}"),
            folder=tmp_path,
            log=log or tmp_path / f"{name}.log",
            stop_seconds=1.0,
        )

    return make
