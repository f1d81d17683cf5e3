"""Files that are there as a whole or not at all."""

import errno
import os
import stat
from pathlib import Path

import pytest

from sn46 import durable
from sn46.durable import write_whole


@pytest.mark.parametrize("private", [True, False])
def test_a_file_takes_the_place_of_the_one_before(tmp_path: Path, private: bool) -> None:
    path = tmp_path / "kept"
    for body in (b"first", b"second"):
        write_whole(path, body, private=private)
        assert path.read_bytes() == body
    if private:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["kept"]


def test_a_disk_that_refuses_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept"
    write_whole(path, b"first")

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"second", private=True)
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["kept"]
