"""The Iceberg table: what is in it, that others can read it, and that every epoch is in it once,
whatever is killed and whoever else appends."""

import asyncio
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import duckdb
import pyarrow as pa
import pytest
from mechanism.builders import hotkey
from publishing import FIRST, epoch_ids, home, kept_of, rows_frame, some_epochs
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from sn46.cli import main
from sn46.data.decoder import Decoder
from sn46.data.library import Library
from sn46.data.objects import FolderOrigin
from sn46.data.registering import EPOCH_PROPERTY, TABLE, ListingsTable, register_epochs
from sn46.store.s3 import S3Bucket

LATER = datetime(2026, 3, 1, tzinfo=UTC)
SECONDS = 14_400


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CATALOG_URI", f"sqlite:///{tmp_path}/catalog.db")
    monkeypatch.setenv("WAREHOUSE", str(tmp_path / "warehouse"))
    return tmp_path / "warehouse"


def uri_of(folder: Path) -> str:
    return f"sqlite:///{folder}/catalog.db"


def loaded(folder: Path, **properties: str) -> Table:
    """The table as anyone opens it."""
    return SqlCatalog("sn46", uri=uri_of(folder), **properties).load_table(TABLE)


def epochs_in_snapshots(table: Table) -> Counter[str]:
    return Counter(
        str(snapshot.summary[EPOCH_PROPERTY]) for snapshot in table.snapshots() if snapshot.summary
    )


def rows_by_epoch(table: Table) -> dict[str, int]:
    counted = table.scan(selected_fields=("epoch_id",)).to_arrow()["epoch_id"].value_counts()
    return {pair["values"].as_py(): pair["counts"].as_py() for pair in counted}


def local_bytes(location: str) -> bytes:
    return Path(urlsplit(location).path).read_bytes()


async def library_of(made: object, tmp_path: Path, cache: Path, decoder: Decoder) -> Library:
    await kept_of(made, tmp_path / "export", cache, decoder)  # type: ignore[arg-type]
    return Library(cache, FolderOrigin(tmp_path / "export").name)


def test_the_command_appends_each_epoch_once(
    tmp_path: Path, warehouse: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = some_epochs(3)
    folder = made.write(tmp_path / "export")
    assert main(["data", "register", "--from", str(folder)]) == 0
    assert "3 epochs appended; 3 are in the table." in capfd.readouterr().out
    assert main(["data", "register", "--from", str(folder)]) == 0
    assert "0 epochs appended; 3 are in the table." in capfd.readouterr().out
    fourth = epoch_ids(4)[3]
    made.all_agree(fourth, rows_frame(fourth, [home(5)]))
    made.write(folder)
    assert main(["data", "register", "--from", str(folder)]) == 0
    assert f"Epoch {fourth}: 1 rows appended" in capfd.readouterr().out
    table = loaded(tmp_path)
    assert epochs_in_snapshots(table) == Counter(epoch_ids(4))
    assert rows_by_epoch(table) == dict.fromkeys(epoch_ids(3), 20) | {fourth: 1}


def test_what_is_asked_wrongly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = some_epochs(1).write(tmp_path / "export")
    register = ["data", "register", "--from", str(folder)]
    assert main(register) == 2
    assert "WAREHOUSE is not set" in capfd.readouterr().err
    monkeypatch.setenv("WAREHOUSE", str(tmp_path / "w"))
    monkeypatch.setenv("CATALOG_URI", "postgresql+psycopg://me:secret@127.0.0.1:9/x")
    assert main(register) == 1
    said = capfd.readouterr().err
    assert "secret" not in said
    assert "pip install psycopg[binary]" in said
    monkeypatch.setenv("CATALOG_URI", f"sqlite:///{tmp_path}/no/such/folder/c.db")
    assert main(register) == 1
    assert "unable to open database file" in capfd.readouterr().err
    monkeypatch.setenv("CATALOG_URI", uri_of(tmp_path))
    monkeypatch.setenv("EPOCH_SECONDS", "86400")
    assert main(["data", "register", "--from", str(some_epochs(2).write(tmp_path / "e2"))]) == 0
    (tmp_path / "none").mkdir()
    odd = some_epochs(2)
    odd.bodies = {k.replace("2026-01-05-00:00", "2026-01-05-00:07"): b for k, b in
                  odd.bodies.items() if "2026-01-05-00:00" in k}  # fmt: skip
    assert main(["data", "register", "--from", str(odd.write(tmp_path / "none"))]) == 1
    assert "No published epoch is one of 86400 seconds" in capfd.readouterr().err


@pytest.mark.asyncio(loop_scope="session")
async def test_only_epochs_that_are_over(
    tmp_path: Path, cache: Path, decoder: Decoder, warehouse: Path
) -> None:
    library = await library_of(some_epochs(3), tmp_path, cache, decoder)
    said: list[str] = []
    with ListingsTable(uri_of(tmp_path), str(warehouse)) as table:
        second = FIRST.next()
        for now, count in (
            (FIRST.results_deadline - timedelta(seconds=1), 0),
            (FIRST.results_deadline, 1),
            (second.results_deadline, 1),
            (second.results_deadline, 0),
            (LATER, 1),
        ):
            done = register_epochs(table, library, SECONDS, now=now, say=said.append)
            assert len(done) == count
    assert len(said) == 3


@pytest.mark.asyncio(loop_scope="session")
async def test_the_rows_are_those_that_were_published(
    tmp_path: Path, cache: Path, decoder: Decoder, warehouse: Path
) -> None:
    library = await library_of(some_epochs(2), tmp_path, cache, decoder)
    with ListingsTable(uri_of(tmp_path), str(warehouse)) as table:
        register_epochs(table, library, SECONDS, now=LATER, say=lambda text: None)
    # DuckDB over what pyiceberg scans.
    connection = loaded(tmp_path).scan().to_duckdb("registered")
    files = ", ".join(f"'{file}'" for file in library.files(library.kept()))
    names = ", ".join(field.name for field in loaded(tmp_path).schema().fields)
    for one, other in (("registered", f"read_parquet([{files}])"),
                       (f"read_parquet([{files}])", "registered")):  # fmt: skip
        different = connection.execute(
            f"SELECT {names} FROM {one} EXCEPT ALL SELECT {names} FROM {other}"
        ).fetchall()
        assert different == []
    assert connection.execute("SELECT count(*) FROM registered").fetchone() == (40,)
    # Of a ZIP, a month or a state alone.
    scan = loaded(tmp_path).scan("epoch_start >= '2026-02-01T00:00:00+00:00'")
    assert list(scan.plan_files()) == []


@pytest.mark.asyncio(loop_scope="session")
async def test_its_metadata_are_those_of_the_specification(
    tmp_path: Path, cache: Path, decoder: Decoder, warehouse: Path
) -> None:
    """What the specification (version 2) requires of a table's metadata, read without pyiceberg,
    and that the data files say the same fields by id: this is what other engines go by."""
    library = await library_of(some_epochs(2), tmp_path, cache, decoder)
    with ListingsTable(uri_of(tmp_path), str(warehouse)) as table:
        register_epochs(table, library, SECONDS, now=LATER, say=lambda text: None)
    location = loaded(tmp_path).metadata_location
    metadata = json.loads(local_bytes(location))
    assert {
        "format-version", "table-uuid", "location", "last-sequence-number", "last-updated-ms",
        "last-column-id", "schemas", "current-schema-id", "partition-specs", "default-spec-id",
        "last-partition-id", "sort-orders", "default-sort-order-id",
    } <= metadata.keys()  # fmt: skip
    assert metadata["format-version"] == 2
    assert metadata["location"] == f"file://{warehouse}/sn46/listings"
    (schema,) = metadata["schemas"]
    by_id = {field["id"]: field for field in schema["fields"]}
    assert len(by_id) == metadata["last-column-id"] == 33
    assert all(field["doc"] for field in by_id.values())
    (spec,) = metadata["partition-specs"]
    (partition,) = spec["fields"]
    assert (partition["name"], partition["transform"]) == ("epoch_month", "month")
    assert by_id[partition["source-id"]]["name"] == "epoch_start"
    (order,) = metadata["sort-orders"]
    assert [by_id[f["source-id"]]["name"] for f in order["fields"]] == [
        "state", "zipcode", "address_key",
    ]  # fmt: skip
    assert [s["sequence-number"] for s in metadata["snapshots"]] == [1, 2]
    assert metadata["refs"]["main"]["snapshot-id"] == metadata["current-snapshot-id"]
    newest = metadata["snapshots"][-1]
    assert newest["summary"]["operation"] == "append"
    assert newest["summary"][EPOCH_PROPERTY] == epoch_ids(2)[1]
    assert newest["summary"]["sn46.validators-agreeing"] == "3"
    assert local_bytes(newest["manifest-list"])[:4] == b"Obj\x01"
    (first, second) = loaded(tmp_path).scan().plan_files()
    for task in (first, second):
        path = urlsplit(task.file.file_path).path
        assert "/data/epoch_month=2026-01/" in path
        described = duckdb.execute(
            "SELECT name, field_id FROM parquet_schema(?) WHERE field_id IS NOT NULL", [path]
        ).fetchall()
        assert {number: name for name, number in described} == {
            number: field["name"] for number, field in by_id.items()
        }


KILLED = """
import os, signal, sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.catalog.sql import SqlCatalog
from sn46.data.library import Library
from sn46.data.registering import EPOCH_PROPERTY, TABLE, ListingsTable, register_epochs

folder, cache, origin = sys.argv[1:4]

def register(folder):
    with ListingsTable(f"sqlite:///{folder}/catalog.db", f"{folder}/warehouse") as table:
        register_epochs(table, Library(Path(cache), origin), 14400,
                        now=datetime(2026, 3, 1, tzinfo=UTC), say=lambda text: None)

def count(folder):
    try:
        table = SqlCatalog("sn46", uri=f"sqlite:///{folder}/catalog.db").load_table(TABLE)
    except (NoSuchNamespaceError, NoSuchTableError):
        return
    found = Counter(s.summary[EPOCH_PROPERTY] for s in table.snapshots())
    assert set(found.values()) <= {1}, found
    assert table.scan().to_arrow().num_rows == 20 * len(found)

def steps(most, folder, note=None):
    done = 0
    def step(frame, event, argument):
        nonlocal done
        if event == "call" and "/pyiceberg/" in frame.f_code.co_filename:
            done += 1
            if done == most:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(step)
    register(folder)
    sys.setprofile(None)
    if note:
        Path(note).write_text(str(done))

def forked(work, *arguments):
    # Nothing of this process has threads: all work is done in children of it.
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(*arguments)
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

os.mkdir(f"{folder}/whole")
assert forked(steps, 0, f"{folder}/whole", f"{folder}/steps") == 0
total = int(Path(f"{folder}/steps").read_text())
assert total > 10_000
moments, killed = 14, 0
for moment in range(moments):
    code = forked(steps, 1 + total * moment // moments, folder)
    assert code in (-signal.SIGKILL, 0), code
    killed += code != 0
    assert forked(count, folder) == 0
assert killed > moments // 3, killed
assert forked(register, folder) == 0
"""


@pytest.mark.asyncio(loop_scope="session")
async def test_killed_at_any_moment_every_epoch_is_there_once(
    tmp_path: Path, cache: Path, decoder: Decoder, warehouse: Path
) -> None:
    """From the making of the catalog to the last commit; each run goes on from the one before."""
    await library_of(some_epochs(3), tmp_path, cache, decoder)
    origin = FolderOrigin(tmp_path / "export").name
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", KILLED, str(tmp_path), str(cache), origin],
        capture_output=True, text=True, timeout=100, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = loaded(tmp_path)
    assert epochs_in_snapshots(table) == Counter(epoch_ids(3))
    assert rows_by_epoch(table) == dict.fromkeys(epoch_ids(3), 20)


def _register(folder: str, cache: str, origin: str, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    with ListingsTable(f"sqlite:///{folder}/catalog.db", f"{folder}/warehouse") as table:
        register_epochs(
            table, Library(Path(cache), origin), SECONDS, now=LATER, say=lambda text: None
        )


@pytest.mark.asyncio(loop_scope="session")
async def test_several_at_once_append_every_epoch_once(
    tmp_path: Path, cache: Path, decoder: Decoder, warehouse: Path
) -> None:
    await library_of(some_epochs(6), tmp_path, cache, decoder)
    origin = FolderOrigin(tmp_path / "export").name
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    processes = [
        context.Process(target=_register, args=(str(tmp_path), str(cache), origin, barrier))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    table = loaded(tmp_path)
    assert epochs_in_snapshots(table) == Counter(epoch_ids(6))
    assert rows_by_epoch(table) == dict.fromkeys(epoch_ids(6), 20)


@pytest.mark.asyncio(loop_scope="session")
async def test_who_comes_second_finds_the_epoch_there(
    tmp_path: Path, cache: Path, decoder: Decoder, warehouse: Path
) -> None:
    """Both have looked before either appends; the table's own setting to try again is set back."""
    library = await library_of(some_epochs(1), tmp_path, cache, decoder)
    (epoch,) = library.kept()
    (rows,) = library.files([epoch])
    with ListingsTable(uri_of(tmp_path), str(warehouse)):
        pass
    with loaded(tmp_path).transaction() as change:
        change.set_properties({"commit.retry.num-retries": "4"})
    with (
        ListingsTable(uri_of(tmp_path), str(warehouse)) as one,
        ListingsTable(uri_of(tmp_path), str(warehouse)) as other,
    ):
        assert one.append(epoch, rows) is True
        assert other.append(epoch, rows) is False
        assert one.append(epoch, rows) is False
    table = loaded(tmp_path)
    assert epochs_in_snapshots(table) == Counter(epoch_ids(1))
    data = list((warehouse / "sn46" / "listings" / "data").rglob("*.parquet"))
    assert len(data) == 1


@pytest.mark.asyncio(loop_scope="session")
async def test_expired_snapshots_do_not_bring_epochs_twice(
    tmp_path: Path, cache: Path, decoder: Decoder, warehouse: Path
) -> None:
    library = await library_of(some_epochs(3), tmp_path, cache, decoder)
    with ListingsTable(uri_of(tmp_path), str(warehouse)) as table:
        register_epochs(table, library, SECONDS, now=LATER, say=lambda text: None)
    kept = loaded(tmp_path)
    kept.maintenance.expire_snapshots().by_ids(
        [snapshot.snapshot_id for snapshot in kept.snapshots()[:-1]]
    ).commit()
    assert len(loaded(tmp_path).snapshots()) == 1
    with ListingsTable(uri_of(tmp_path), str(warehouse)) as table:
        assert table.held == 3
        assert register_epochs(table, library, SECONDS, now=LATER, say=lambda text: None) == []
    assert rows_by_epoch(loaded(tmp_path)) == dict.fromkeys(epoch_ids(3), 20)


@pytest.mark.asyncio(loop_scope="session")
async def test_many_epochs_keep_few_manifests(
    tmp_path: Path, cache: Path, decoder: Decoder, warehouse: Path
) -> None:
    """Manifests are merged, and no row is lost or doubled by that."""
    library = await library_of(some_epochs(2), tmp_path, cache, decoder)
    epochs = library.kept()
    files = library.files(epochs)
    with (
        ListingsTable(uri_of(tmp_path), str(warehouse)) as table,
        table.table.transaction() as change,
    ):
        change.set_properties({"commit.manifest.min-count-to-merge": "5"})
    with ListingsTable(uri_of(tmp_path), str(warehouse)) as table:
        for name in epoch_ids(12):
            assert table.append(replace(epochs[0], epoch_id=name), files[0])
    table_now = loaded(tmp_path)
    assert table_now.scan().to_arrow().num_rows == 12 * 20
    assert len(table_now.inspect.manifests()) < 8


@pytest.mark.asyncio(loop_scope="session")
async def test_an_epoch_without_rows_is_one_snapshot(
    tmp_path: Path, cache: Path, decoder: Decoder, warehouse: Path
) -> None:
    made = some_epochs(1)
    second, third = epoch_ids(3)[1:]
    made.put("vali", second, rows_frame(second, []), winners=())
    made.put("vali", third, b"?", b"?")
    library = await library_of(made, tmp_path, cache, decoder)
    for _ in range(2):
        with ListingsTable(uri_of(tmp_path), str(warehouse)) as table:
            register_epochs(table, library, SECONDS, now=LATER, say=lambda text: None)
    table_now = loaded(tmp_path)
    assert epochs_in_snapshots(table_now) == Counter([epoch_ids(1)[0], second])
    assert rows_by_epoch(table_now) == {epoch_ids(1)[0]: 20}


@pytest.mark.asyncio(loop_scope="session")
async def test_a_warehouse_in_a_bucket(
    tmp_path: Path, cache: Path, decoder: Decoder, bucket: S3Bucket
) -> None:
    library = await library_of(some_epochs(2), tmp_path, cache, decoder)
    place = f"s3://{bucket.name}/tables"
    with ListingsTable(uri_of(tmp_path), place, bucket.access) as table:
        done = register_epochs(table, library, SECONDS, now=LATER, say=lambda text: None)
    assert done == epoch_ids(2)
    keys = [info.key for info in await bucket.objects("tables/sn46/listings/")]
    assert sum(key.endswith(".parquet") for key in keys) == 2
    read = loaded(
        tmp_path,
        **{
            "s3.endpoint": bucket.access.address,
            "s3.access-key-id": bucket.access.access_key,
            "s3.secret-access-key": bucket.access.secret_key,
            "s3.region": bucket.access.region,
        },
    )
    rows: pa.Table = read.scan("zipcode = '15213'").to_arrow()
    assert rows.num_rows == 40
    assert rows["miner_hotkey"].unique().to_pylist() == [hotkey("ann"), hotkey("bob")]


def test_following_appends_what_is_new_until_it_is_stopped(tmp_path: Path, warehouse: Path) -> None:
    made = some_epochs(1)
    folder = made.write(tmp_path / "export")
    process = subprocess.Popen(
        [sys.executable, "-m", "sn46", "data", "follow", "--from", str(folder), "--every", "1"],
        stdout=subprocess.PIPE, text=True, env=dict(os.environ),
    )  # fmt: skip
    assert process.stdout is not None
    try:
        first, second = epoch_ids(2)
        assert first in process.stdout.readline()
        made.all_agree(second, rows_frame(second, [home(77)]))
        made.write(folder)
        assert second in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
    assert rows_by_epoch(loaded(tmp_path)) == {first: 20, second: 1}
