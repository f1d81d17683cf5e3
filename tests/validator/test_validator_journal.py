"""The journal: a step is recorded whole or not at all."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sn46.validator.journal import Journal, kept_epochs, prune

EPOCH = "2024-03-15-16:00"
WRITER = """
import sys
from pathlib import Path
from sn46.validator.journal import Journal
journal, number = Journal(Path(sys.argv[1]), sys.argv[2]), 0
while True:
    number += 1
    journal.put("report", {"number": number, "filler": [number] * 50_000})
    print(number, flush=True)
"""


def folder(tmp_path: Path) -> Path:
    return tmp_path / "epochs" / "2024-03-15-16-00"


def test_what_was_put_is_there_for_the_next_process(tmp_path: Path) -> None:
    assert Journal(tmp_path, EPOCH).get("report") is None
    Journal(tmp_path, EPOCH).put("report", {"a": "ü", "b": [1, None]})
    Journal(tmp_path, "2024-03-15-20:00").put("report", {"another": "epoch"})
    assert Journal(tmp_path, EPOCH).get("report") == {"a": "ü", "b": [1, None]}
    assert Journal(tmp_path, EPOCH).get("published") is None


@pytest.mark.parametrize(
    "damaged", [b"", b"{", b'{"a": ', b"[]", b"null", b"\xff\xfe{}", b"\x00" * 4096]
)
def test_a_damaged_file_is_not_done(tmp_path: Path, damaged: bytes) -> None:
    journal = Journal(tmp_path, EPOCH)
    journal.put("published", {"at": "now"})
    (folder(tmp_path) / "published.json").write_bytes(damaged)
    assert journal.get("published") is None
    journal.put("published", {"at": "again"})
    assert journal.get("published") == {"at": "again"}


def test_a_partial_file_is_ignored(tmp_path: Path) -> None:
    journal = Journal(tmp_path, EPOCH)
    journal.put("chain", {})
    (folder(tmp_path) / ".report.json.123.part").write_text('{"half": ')
    assert journal.get("report") is None
    journal.put("report", {"whole": True})
    assert Journal(tmp_path, EPOCH).get("report") == {"whole": True}


def test_a_disk_that_refuses_leaves_what_was_there(tmp_path: Path) -> None:
    journal = Journal(tmp_path, EPOCH)
    journal.put("report", {"number": 1})
    (folder(tmp_path) / f".report.json.{os.getpid()}.part").mkdir()
    with pytest.raises(OSError, match="directory"):
        journal.put("report", {"number": 2})
    assert journal.get("report") == {"number": 1}


@pytest.mark.parametrize("after", [1, 4, 9])
def test_killed_at_any_moment(tmp_path: Path, after: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), EPOCH], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        for _ in range(after):
            last = int(process.stdout.readline())
        deadline = time.monotonic() + after / 1_000
        while time.monotonic() < deadline:
            pass
        process.send_signal(signal.SIGKILL)
        told = [int(line) for line in process.stdout]
    last = told[-1] if told else last
    found = Journal(tmp_path, EPOCH).get("report")
    assert found is not None
    assert found["number"] in (last, last + 1)
    assert found["filler"] == [found["number"]] * 50_000


DAYS = [f"2024-03-{day:02d}-16:00" for day in range(1, 8)]


def ids(tmp_path: Path) -> list[str]:
    return [journal.epoch_id for journal in kept_epochs(tmp_path)]


def test_old_epochs_are_removed_whole_and_near_ones_never(tmp_path: Path) -> None:
    assert ids(tmp_path) == []
    for epoch_id in DAYS:
        Journal(tmp_path, epoch_id).put("report", {"of": epoch_id})
        Journal(tmp_path, epoch_id).put("outcome", {"of": epoch_id})
    strangers = tmp_path / "epochs" / "notes"
    strangers.mkdir()
    assert ids(tmp_path) == DAYS

    before = datetime(2024, 3, 5, 16, tzinfo=UTC)
    assert prune(tmp_path, before=before, keep={DAYS[1], DAYS[6]}) == 3
    assert ids(tmp_path) == [DAYS[1], *DAYS[4:]]
    assert Journal(tmp_path, DAYS[1]).get("report") == {"of": DAYS[1]}
    assert prune(tmp_path, before=before, keep={DAYS[1]}) == 0
    assert strangers.is_dir()


def test_looking_at_an_epoch_leaves_no_trace_of_it(tmp_path: Path) -> None:
    assert Journal(tmp_path, EPOCH).get("report") is None
    assert ids(tmp_path) == []


REMOVER = """
import os, shutil, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from sn46.validator.journal import prune
removed = shutil.rmtree
def dying(path, *args, **options):
    (Path(path) / "report.json").unlink()
    os.kill(os.getpid(), signal.SIGKILL)
shutil.rmtree = dying
prune(Path(sys.argv[1]), before=datetime(2024, 3, 3, tzinfo=UTC), keep=())
"""


def test_a_process_killed_while_it_removes_leaves_no_half_epoch(tmp_path: Path) -> None:
    for epoch_id in DAYS:
        Journal(tmp_path, epoch_id).put("report", {"of": epoch_id})
        Journal(tmp_path, epoch_id).put("weights", {"of": epoch_id})
    done = subprocess.run([sys.executable, "-c", REMOVER, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert ids(tmp_path) == DAYS[1:]
    assert len(list((tmp_path / "epochs").iterdir())) == len(DAYS)
    prune(tmp_path, before=datetime(2024, 3, 3, tzinfo=UTC), keep=())
    assert ids(tmp_path) == DAYS[2:]
    assert len(list((tmp_path / "epochs").iterdir())) == len(DAYS) - 2
