"""Who asked what, when, and what came of it: on record, bounded, and readable by the owner."""

import asyncio
import dataclasses
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from apinet import Net, World, api_over
from sqlalchemy import event, select, text

from sn46.api.audit import Audit
from sn46.api.database import Database
from sn46.api.records import Origin, Records, Report
from sn46.api.schema import requests
from sn46.api.trail import LogEntry, LogQuery, RequestEntry, Trail
from sn46.cli import main
from sn46.mechanism.epochs import epoch_at
from sn46.mechanism.names import EpochId, Hotkey

CURRENT = "/api/v1/zipcode-assignments/current"
UPLOAD = "/api/v1/s3-access/miner-upload"
STATUS = "/api/v1/zipcode-assignments/status"
NOW = datetime(2024, 3, 15, 16, 0, 1, 5, tzinfo=UTC)


async def logged(net: Net, **query: Any) -> list[LogEntry]:
    await net.services.audit.flush()
    return await net.services.trail.entries(LogQuery(**{"limit": 10_000} | query))


async def test_what_was_issued_names_its_request(world: World, database_url: str) -> None:
    async with api_over(world, database_url=database_url) as other:
        await other.ready()
        headers = other.btauth("ann", "POST", UPLOAD, b"{}") | {"X-Request-Id": "first"}
        assert (await other.http.post(UPLOAD, content=b"{}", headers=headers)).status_code == 200
        headers = other.btauth("ann", "POST", UPLOAD, b"{}") | {"X-Request-Id": "second"}
        await other.http.post(UPLOAD, content=b"{}", headers=headers)
        # Without a flush: it is durable with the credentials themselves, and the first one's.
        found = await other.services.trail.entries(LogQuery(epoch_id=other.epoch.id))
        issued = [entry for entry in found if entry.what == "credentials"]
        assert [(e.kind, e.hotkey, e.request_id, e.way, e.address) for e in issued] == [
            ("miner", other.hotkey("ann"), "first", "btauth", "127.0.0.1")
        ]
        found = await logged(other, epoch_id=other.epoch.id)
        assert Counter(e.what for e in found) == {"credentials": 1, "request": 2}
        assert {(e.method, e.path, e.status) for e in found if e.what == "request"} == {
            ("POST", UPLOAD, 200)
        }
        assert [e.what for e in await logged(other, request_id="first")] == [
            "request",
            "credentials",
        ]


async def test_refusals_are_on_record(net: Net) -> None:
    epoch = net.epoch.id
    read = f"/api/v1/zipcode-assignments/epoch/{epoch}"
    text_signed = "zipcode:assignment:current"
    await net.http.get(CURRENT)
    await net.http.get(CURRENT, headers=net.header_auth("stranger", text_signed))
    await net.http.get(read, headers=net.btauth("ann", "GET", read))
    await net.http.post(UPLOAD, content=b"{]", headers=net.btauth("ann", "POST", UPLOAD, b"{]"))
    body = b'{"epoch_id": "2020-01-01-00:00"}'
    await net.http.post(UPLOAD, content=body, headers=net.btauth("bob", "POST", UPLOAD, body))
    await net.http.get("/nothing/here?signature=hidden")
    found = {(e.code, e.hotkey, e.way, e.path, e.epoch_id) for e in await logged(net)}
    ann, bob, stranger = (net.hotkey(name) for name in ("ann", "bob", "stranger"))
    assert found == {
        ("not_authenticated", "", "", CURRENT, epoch),
        ("hotkey_not_registered", stranger, "headers", CURRENT, epoch),
        ("not_a_validator", ann, "btauth", read, epoch),
        ("invalid_request", ann, "btauth", UPLOAD, epoch),
        ("unknown_epoch", bob, "btauth", UPLOAD, "2020-01-01-00:00"),
        ("not_found", "", "", "/nothing/here", None),
    }
    assert len(await logged(net, refusals=True)) == 6


async def test_no_secret_is_in_the_log(net: Net) -> None:
    headers = net.header_auth("stranger", "zipcode:assignment:current")
    signature = headers["Authorization"].removeprefix("Bearer ")
    await net.http.get(CURRENT, headers=headers)
    fields = {"hotkey": net.hotkey("ann"), "signature": signature, "timestamp": "1"}
    await net.http.get(CURRENT, params=fields)
    await net.http.post("/get-folder-access", json={**fields, "coldkey": "x"})
    await logged(net)
    async with net.services.database.read() as connection:
        rows = (await connection.execute(select(requests))).all()
    assert len(rows) == 3
    assert signature[:32] not in str(rows)


async def test_what_is_noted_is_written_within_two_seconds(net: Net) -> None:
    await net.http.get(CURRENT)
    net.clock.advance(timedelta(seconds=2))

    async def written() -> bool:
        return len(await net.services.trail.entries(LogQuery(refusals=True))) == 1

    await net.until(written)


async def test_a_stop_writes_what_waits(world: World) -> None:
    async with api_over(world) as net:
        await net.ready()
        await net.http.get(CURRENT)
    database = Database(world.settings().database_url)
    assert len(await Trail(database).entries(LogQuery())) == 1
    await database.close()


async def refused_often(net: Net, number: int) -> None:
    answers = await asyncio.gather(*(net.http.get(CURRENT) for _ in range(number)))
    assert {answer.status_code for answer in answers} == {401}


async def test_refusals_alike_share_rows(net: Net) -> None:
    await refused_often(net, 100)
    found = await logged(net)
    # Four rows, and four more for each write that comes between.
    assert sum(e.count for e in found) == 100
    assert len(found) <= 24
    assert {(e.path, e.code, e.address) for e in found} == {
        (CURRENT, "not_authenticated", "127.0.0.1")
    }


async def test_a_known_caller_cannot_fill_the_log_either(world: World) -> None:
    async with api_over(world, limit_current="1/minute") as net:
        await net.ready()
        for _ in range(40):
            await net.http.get(CURRENT, headers=net.btauth("ann", "GET", CURRENT))
        found = await logged(net, hotkey=net.hotkey("ann"))
        refused = [e.count for e in found if e.status == 429]
        assert sum(refused) >= 38
        assert len(refused) < 20
        assert sum(refused) + len([e for e in found if e.status == 200]) == 40


@asynccontextmanager
async def audit_over(url: str) -> AsyncIterator[tuple[Database, Trail, Audit]]:
    database = Database(url)
    await database.migrate()
    trail = Trail(database)
    yield database, trail, Audit(trail, StoppedClock(), epoch_at)
    await database.close()


class StoppedClock:
    def now(self) -> datetime:
        return NOW

    async def sleep(self, duration: timedelta) -> None:
        await asyncio.Event().wait()


def refusal(n: int, at: datetime = NOW) -> RequestEntry:
    return RequestEntry(at, "id", "", "", "GET", CURRENT, 401, "code", f"10.0.0.{n}", None)


async def test_refusals_alike_are_one_row_with_a_count(database_url: str) -> None:
    async with audit_over(database_url) as (_, trail, audit):
        for n in range(100):
            entry = refusal(0)._replace(request_id=f"{n}", path=f"/x/{n}")
            audit.note(entry, route="/x/{name}", known=False)
        audit.note(refusal(0)._replace(code="another"), route="/x/{name}", known=False)
        await audit.flush()
        found = await trail.entries(LogQuery(limit=1_000))
        assert {(e.count, e.path, e.code, e.request_id) for e in found} == {
            *((1, f"/x/{n}", "code", f"{n}") for n in range(3)),
            (97, "/x/{name}", "code", "99"),
            (1, CURRENT, "another", "id"),
        }
        # The next write begins anew, and the same path is told.
        for _ in range(5):
            audit.note(refusal(0), route="/x/{name}", known=False)
        await audit.flush()
        again = await trail.entries(LogQuery(limit=1_000))
        assert sorted(e.count for e in again) == [1] * 7 + [2, 97]
        assert {e.path for e in again if e.count == 2} == {CURRENT}


async def test_reads_alike_share_rows_and_changes_do_not(database_url: str) -> None:
    async with audit_over(database_url) as (_, trail, audit):
        for n in range(50):
            for hotkey in ("5Ann", "5Bob"):
                read = RequestEntry(
                    NOW, f"r{n}", hotkey, "btauth", "GET", CURRENT, 200, None, "10.0.0.1", None
                )
                audit.note(read, route=CURRENT, known=True)
            changed = RequestEntry(
                NOW, f"c{n}", "5Ann", "btauth", "POST", STATUS, 200, None, "10.0.0.1", None
            )
            audit.note(changed, route=STATUS, known=True)
        await audit.flush()
        found = await trail.entries(LogQuery(limit=1_000))
    for hotkey in ("5Ann", "5Bob"):
        reads = [e for e in found if e.path == CURRENT and e.hotkey == hotkey]
        assert sorted(e.count for e in reads) == [1, 1, 1, 47]
        assert {e.request_id for e in reads} == {"r0", "r1", "r2", "r49"}
    changes = [e for e in found if e.path == STATUS]
    assert {e.request_id for e in changes} == {f"c{n}" for n in range(50)}


async def test_reads_are_written_less_often_than_all_else(database_url: str) -> None:
    async with audit_over(database_url) as (_, trail, audit):
        read = RequestEntry(
            NOW, "read", "5Ann", "btauth", "GET", CURRENT, 200, None, "10.0.0.1", None
        )
        change = read._replace(request_id="change", method="POST", path=STATUS)
        audit.note(read, route=CURRENT, known=True)
        audit.note(change, route=STATUS, known=True)
        audit.note(refusal(1), route=CURRENT, known=False)
        await audit.flush(reads=False)
        assert {e.request_id for e in await trail.entries(LogQuery())} == {"change", "id"}
        await audit.flush()
        assert {e.request_id for e in await trail.entries(LogQuery())} == {"change", "id", "read"}


async def test_many_addresses_share_a_thousand_rows(database_url: str) -> None:
    async with audit_over(database_url) as (_, trail, audit):
        for n in range(50_000):
            audit.note(refusal(n), route=CURRENT, known=False)
        answered = refusal(0)._replace(status=200, code=None, hotkey="5F", way="btauth")
        audit.note(answered, route=CURRENT, known=True)
        await audit.flush()
        found = await trail.entries(LogQuery(limit=100_000))
        assert len(found) == 1_002
        rest = [e for e in found if e.address == "*"]
        assert [(e.count, e.path, e.status) for e in rest] == [(49_000, "*", 400)]
        # The owner sees it among the refusals, and known callers are written as ever.
        assert set(rest) < set(await trail.entries(LogQuery(refusals=True, limit=100_000)))
        assert len(await trail.entries(LogQuery(hotkey="5F"))) == 1


async def test_a_long_flood_gets_ten_thousand_rows_an_hour(database_url: str) -> None:
    async with audit_over(database_url) as (_, trail, audit):
        for second in range(0, 1_800, 2):
            for n in range(30):
                at = NOW + timedelta(seconds=second)
                audit.note(refusal(second * 30 + n, at), route=CURRENT, known=False)
            if second % 60 == 0:
                await audit.flush()
        await audit.flush()
        found = await trail.entries(LogQuery(limit=100_000))
        assert sum(e.count for e in found) == 900 * 30
        alone = [e for e in found if e.address != "*"]
        assert 1_000 + 4_950 < len(alone) <= 1_000 + 5_000
        assert len(found) - len(alone) <= 31


async def test_every_time_and_text_comes_back(database_url: str) -> None:
    async with audit_over(database_url) as (_, trail, _):
        entries = [
            RequestEntry(
                NOW.replace(microsecond=micro), f"id-{micro}", "5F", "btauth", "GET", "/x'\"\\%00",
                200, None, "ünknown", "2024-03-15-16:00",
            )
            for micro in (0, 1, 120_000, 999_999)
        ]  # fmt: skip
        await trail.add(entries)
        found = await trail.entries(LogQuery())
        assert [(e.at, e.path, e.address, e.code, e.count) for e in found[::-1]] == [
            (e.at, e.path, "%C3%BCnknown", None, 1) for e in entries
        ]
        assert await trail.entries(LogQuery(since=NOW.replace(microsecond=1), limit=2)) == found[:2]
        assert len(await trail.entries(LogQuery(since=NOW.replace(microsecond=1)))) == 3


async def test_while_the_database_is_away_nothing_is_lost(database_url: str) -> None:
    async with audit_over(database_url) as (database, trail, audit):
        async with database.write() as connection:
            await connection.execute(text("ALTER TABLE requests RENAME TO away"))
        for n in range(3):
            audit.note(refusal(n), route=CURRENT, known=False)
            await audit.flush()
        async with database.write() as connection:
            await connection.execute(text("ALTER TABLE away RENAME TO requests"))
        await audit.flush()
        await audit.flush()
        found = await trail.entries(LogQuery())
        assert sorted(e.address or "" for e in found) == ["10.0.0.0", "10.0.0.1", "10.0.0.2"]


async def test_a_report_names_the_announcement_that_it_is_from(database_url: str) -> None:
    async with audit_over(database_url) as (database, trail, _):
        records, hotkey = Records(database), Hotkey("5F")
        report = Report(EpochId("2024-03-15-16:00"), hotkey, NOW, "h1", "a", (), 1, 1, NOW)
        for n, (consensus_hash, replace) in enumerate(
            (("h1", True), ("h1", True), ("h2", True), ("h3", False))
        ):
            at = NOW + timedelta(minutes=n)
            said = dataclasses.replace(report, consensus_hash=consensus_hash, announced_at=at)
            origin = Origin(f"request-{n}", "::1", "headers")
            kept = await records.put_report(said, replace=replace, origin=origin)
            # The same again is none; after it a new one; none once it is final.
            expected = {"h1": "request-0", "h2": "request-2"}[kept.consensus_hash]
            found = await trail.entries(LogQuery())
            assert [(e.what, e.request_id, e.address, e.way) for e in found] == [
                ("report", expected, "::1", "headers")
            ]


@pytest.mark.parametrize(
    "query",
    [
        LogQuery(hotkey="5F"),
        LogQuery(request_id="x"),
        LogQuery(since=NOW),
        LogQuery(refusals=True),
        LogQuery(hotkey="5F", since=NOW, refusals=True),
        LogQuery(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_log_is_read_by_indices(database_url: str, query: LogQuery) -> None:
    async with audit_over(database_url) as (database, trail, _):
        asked: list[tuple[str, Any]] = []
        async with database.read() as connection:
            engine = connection.sync_connection.engine  # pyright: ignore[reportOptionalMemberAccess]

        def seen(_c: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
            asked.append((statement, parameters))

        event.listen(engine, "before_cursor_execute", seen)
        await trail.entries(query)
        event.remove(engine, "before_cursor_execute", seen)
        selects = [(s, p) for s, p in asked if s.startswith("SELECT")]
        assert len(selects) == (1 if query.refusals else 3)
        for statement, parameters in selects:
            async with database.read() as connection:
                explained = f"EXPLAIN QUERY PLAN {statement}"
                plan = await connection.exec_driver_sql(explained, parameters)
                steps = " ".join(row[3] for row in plan)
            if "FROM reports" not in statement:
                assert "INDEX" in steps, steps
                if query.request_id is None:
                    assert "B-TREE" not in steps, steps


@pytest.fixture
def owner(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The command line runs with the settings of this world."""
    monkeypatch.chdir(world.folder)
    for name, value in world.settings_values.items():
        monkeypatch.setenv(name.upper(), str(value))
    return world


async def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    assert await asyncio.to_thread(main, ["api", "log", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


async def test_the_owner_reads_the_log(owner: World, capsys: pytest.CaptureFixture[str]) -> None:
    async with api_over(owner) as net:
        await net.ready()
        headers = {"X-Request-Id": "trace-me"}
        await net.http.get(CURRENT, headers=net.btauth("ann", "GET", CURRENT) | headers)
        await net.http.get(CURRENT, headers=headers)
        await net.client("bob").miner_upload()
        await refused_often(net, 9)
        await net.services.audit.flush()
        lines = await said(["--request-id", "trace-me"], capsys)
        assert len(lines) == 2
        assert net.hotkey("ann") in lines[0]
        assert f"GET {CURRENT}" in lines[0]
        assert "127.0.0.1  GET" in lines[1]
        assert "401  not_authenticated" in lines[1]
        bobs = [
            json.loads(line)
            for line in await said(["--hotkey", net.hotkey("bob"), "--json"], capsys)
        ]
        assert [(e["what"], e["kind"]) for e in bobs] == [
            ("credentials", "miner"),
            ("request", None),
        ]
        assert bobs[0]["epoch_id"] == net.epoch.id
        assert any(" times " in line for line in await said(["--refusals"], capsys))
        assert len(await said(["--limit", "2"], capsys)) == 2
        tomorrow = (net.clock.now() + timedelta(days=1)).isoformat()
        assert await said(["--since", tomorrow], capsys) == []
        assert len(await said(["--epoch", net.epoch.id, "--since", "7d"], capsys)) >= 3
        assert await asyncio.to_thread(main, ["api", "log", "--since", "soon"]) == 2
        assert capsys.readouterr().err.count("\n") == 1


async def test_without_a_database_the_log_says_so(
    owner: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await asyncio.to_thread(main, ["api", "log"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "revision base" in line
    assert "sn46 api migrate" in line
