"""Small services to keep running."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from localnet_helpers import PACKAGE_ROOT, environment

from sn46.localnet.service import Event, ProcessSpec


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A new folder that other accounts may pass through, unlike a test's own."""
    folder = Path(tempfile.mkdtemp(prefix="sn46-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def make_spec(tmp_path: Path) -> Callable[..., ProcessSpec]:
    """A service whose module is the given source."""

    def make(source: str, *, name: str = "probe", log: Path | None = None) -> ProcessSpec:
        (tmp_path / f"{name}_module.py").write_text(source)
        return ProcessSpec(
            name=name,
            program=f"{name}_module",
            arguments=(str(tmp_path),),
            environment=environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{PACKAGE_ROOT}"),
            folder=tmp_path,
            log=log or tmp_path / f"{name}.log",
            stop_seconds=1.0,
        )

    return make
