"""A data directory belongs to one network at a time, and remembers it."""

import json
import os
import stat
from pathlib import Path

import pytest

from sn46.localnet.datadir import DataDir, NetworkFile
from sn46.localnet.errors import DataDirError

NETWORK = NetworkFile("seed", "secret", 46, 90, {"api": 1234})


def test_two_networks_never_share_one(tmp_path: Path) -> None:
    busy = pytest.raises(DataDirError, match="Another local network runs in")
    with DataDir(tmp_path / "net"), busy:
        DataDir(tmp_path / "net").__enter__()
    with DataDir(tmp_path / "net"):
        pass


def test_a_named_one_is_kept_and_remembers(tmp_path: Path) -> None:
    with DataDir(tmp_path / "net") as data:
        assert data.read() is None
        data.write(NETWORK)
        assert stat.S_IMODE((data.path / "network.json").stat().st_mode) == 0o600
    with DataDir(tmp_path / "net") as data:
        assert data.read() == NETWORK


def test_a_group_may_pass_and_see_nothing(tmp_path: Path) -> None:
    with DataDir(tmp_path / "net") as data:
        data.let_pass(os.getgid())
        assert stat.S_IMODE(data.path.stat().st_mode) == 0o710
        assert stat.S_IMODE(data.logs.stat().st_mode) == 0o700
        data.path.chmod(0o755)
        data.let_pass(os.getgid())
        assert stat.S_IMODE(data.path.stat().st_mode) == 0o755


def test_an_unnamed_one_is_removed_unless_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with DataDir(None) as data:
        removed = data.path
        data.of("api")
    assert not removed.exists()
    with DataDir(None) as data:
        kept = data.path
        data.keep()
    assert kept.exists()
    with DataDir(kept):
        pass


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "cannot be read"),
        ('{"other": 1}', "none of a local network's"),
        (json.dumps({**NETWORK.__dict__, "ports": {}, "format": 2}), "version 2"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, content: str, complaint: str) -> None:
    with DataDir(tmp_path) as data:
        (tmp_path / "network.json").write_text(content)
        with pytest.raises(DataDirError, match=complaint):
            data.read()


def test_a_place_that_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirError, match="cannot be used"):
        DataDir(tmp_path / "file").__enter__()
