"""Assignments over HTTP: who gets them, when, and in which bytes."""

import json
from datetime import datetime, timedelta

import pytest
from apinet import Net, World, api_over, small_table
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from sn46.api import schema
from sn46.client.api import ApiError
from sn46.mechanism.assignment import read_assignment, seed_commitment, selection_seed
from sn46.mechanism.draw import DrawHistory, draw_zipcodes
from sn46.mechanism.times import parse_time

CURRENT = "/api/v1/zipcode-assignments/current"


async def test_a_miner_reads_the_current_assignment(net: Net) -> None:
    received = await net.client("ann").current()
    assignment = received.assignment
    assert assignment.epoch == net.epoch
    assert assignment.selection.seed is None
    assert 9_000 <= assignment.total_expected_listings <= 11_000
    assert assignment.validators == tuple(sorted(net.hotkey(n) for n in ("vali", "other", "poor")))


async def test_every_caller_gets_the_same_bytes_and_an_etag(net: Net) -> None:
    first = await net.http.get(
        CURRENT, headers=net.header_auth("ann", "zipcode:assignment:current")
    )
    second = await net.http.get(CURRENT, headers=net.btauth("bob", "GET", CURRENT))
    assert first.status_code == second.status_code == 200
    assert first.content == second.content
    tagged = net.header_auth("cid", "zipcode:assignment:current")
    tagged["If-None-Match"] = first.headers["etag"]
    third = await net.http.get(CURRENT, headers=tagged)
    assert (third.status_code, third.content) == (304, b"")


async def test_a_tag_that_a_proxy_made_weak_is_known(net: Net) -> None:
    """Proxies that compress write W/ before a tag, and may split a list into lines."""
    tag = (await net.http.get(CURRENT, headers=net.btauth("ann", "GET", CURRENT))).headers["etag"]
    for lines in ([f"W/{tag}"], [f'"x", W/{tag}'], ['"x"', tag], ["*"], [tag]):
        headers = [
            *net.btauth("ann", "GET", CURRENT).items(),
            *[("If-None-Match", line) for line in lines],
        ]
        answer = await net.http.get(CURRENT, headers=headers)
        assert (answer.status_code, answer.content) == (304, b""), lines
        assert answer.headers["etag"] == tag
    for line in ('"x"', "", f"x{tag}", tag.strip('"')):
        headers = {**net.btauth("ann", "GET", CURRENT), "If-None-Match": line}
        assert (await net.http.get(CURRENT, headers=headers)).status_code == 200, line


async def test_a_drawn_epoch_cannot_be_read_before_it_begins(net: Net) -> None:
    following = net.epoch.next()
    await net.advance_to(following.draw_at + timedelta(seconds=1))

    async def drawn() -> bool:
        return await net.services.records.epoch(following.id) is not None

    await net.until(drawn)
    stored = await net.services.records.epoch(following.id)
    assert stored is not None
    vali = net.client("vali")
    with pytest.raises(ApiError) as refused:
        await vali.epoch(following.id)
    assert (refused.value.status, refused.value.code) == (404, "unknown_epoch")
    for path in (CURRENT, "/api/v1/zipcode-assignments/stats", "/api/v1/epochs", "/readyz"):
        answer = await net.http.get(path, headers=net.btauth("vali", "GET", path))
        assert stored.nonce not in answer.text
        assert following.id not in answer.text or "next_epoch_id" in answer.text
    await net.advance_to(following.start)
    received = await vali.current()
    assert received.assignment.nonce == stored.nonce
    assert (await vali.epoch(following.id)).assignment == received.assignment


async def test_the_commitment_comes_before_and_the_seed_after(net: Net) -> None:
    vali = net.client("vali")
    before = (await vali.current()).assignment
    first = net.epoch
    await net.advance_to(first.end + timedelta(seconds=1))
    after = (await vali.current()).assignment
    assert after.selection.commitment == before.selection.next_commitment
    ended = (await vali.epoch("previous")).assignment
    assert ended.epoch == first
    assert ended.selection.seed is not None
    assert seed_commitment(ended.selection.seed) == before.selection.commitment
    assert ended.hash == before.hash
    # Anyone can make the draw again from what is published.
    again = draw_zipcodes(
        small_table(net.world.clock.now().date()).rows,
        DrawHistory(),
        net.services.settings.draw_rules(ended.target_listings),
        first,
        ended.selection.seed,
    )
    assert again.zipcodes == ended.zipcodes
    assert ended.selection.seed == selection_seed(b"k" * 40, first.id)


async def test_the_completed_document_has_the_same_bytes_for_all(net: Net) -> None:
    first = net.epoch.id
    await net.advance_to(net.epoch.end)
    path = f"/api/v1/zipcode-assignments/epoch/{first}"
    answers = [
        await net.http.get(path, headers=net.btauth(n, "GET", path)) for n in ("vali", "other")
    ]
    assert answers[0].content == answers[1].content
    assert read_assignment(json.loads(answers[0].content), net.hotkey("api")).selection.seed


async def test_epochs_are_for_validators_alone(net: Net) -> None:
    for name in ("ann", "poor"):
        with pytest.raises(ApiError) as refused:
            await net.client(name).epoch(net.epoch.id)
        assert (refused.value.status, refused.value.code) == (403, "not_a_validator")


@pytest.mark.parametrize("text", ["2031-01-01-00:00", "yesterday", "2024-03-15-16:01", "%20"])
async def test_an_unknown_epoch_is_404(net: Net, text: str) -> None:
    with pytest.raises(ApiError) as refused:
        await net.client("vali").epoch(text)
    assert refused.value.status == 404


async def test_the_older_form_of_an_id_means_the_same_epoch(net: Net) -> None:
    older = net.epoch.start.strftime("%Y-%m-%dT%H-%M-%S")
    assert (await net.client("vali").epoch(older)).assignment.epoch == net.epoch


async def test_before_the_genesis_there_is_no_epoch(world: World) -> None:
    genesis = world.clock.now() + timedelta(hours=1)
    async with api_over(world, epoch_genesis=genesis) as net:
        await net.ready()
        answer = await net.http.get(CURRENT, headers=net.btauth("ann", "GET", CURRENT))
        assert (answer.status_code, answer.json()["code"]) == (404, "no_epoch_yet")
        wait = int(answer.headers["retry-after"])
        first = net.epoch.next()
        assert abs(wait - (first.start - net.clock.now()).total_seconds()) < 5
        await net.advance_to(first.start)
        assert (await net.client("ann").current()).assignment.epoch == first


async def test_statuses_move_forward_only(net: Net) -> None:
    ann = net.client("ann")
    nonce = (await ann.current()).assignment.nonce

    async def report(status: str, nonce: str = nonce) -> None:
        await ann.report_status(
            epoch_id=net.epoch.id,
            nonce=nonce,
            status=status,  # pyright: ignore[reportArgumentType]
            listings_found=10,
            s3_upload_complete=status == "completed",
        )

    with pytest.raises(ApiError) as refused:
        await report("in_progress", "0" * 64)
    assert (refused.value.status, refused.value.code) == (409, "nonce_mismatch")
    for status in ("in_progress", "failed", "in_progress", "completed", "completed"):
        await report(status)
    for status in ("in_progress", "failed", "timeout"):
        with pytest.raises(ApiError) as refused:
            await report(status)
        assert (refused.value.status, refused.value.code) == (409, "status_completed")
    stats = await net.client("ann").stats()
    assert stats["participation"]["statuses"] == {"completed": 1}


async def test_nobody_reports_for_another(net: Net) -> None:
    nonce = (await net.client("ann").current()).assignment.nonce
    body = {
        "epoch_id": net.epoch.id,
        "miner_hotkey": net.hotkey("ann"),
        "nonce": nonce,
        "status": "failed",
        "listings_found": 0,
        "s3_upload_complete": False,
    }
    answer = await net.http.post(
        "/api/v1/zipcode-assignments/status",
        json=body,
        headers=net.header_auth("bob", f"zipcode:status:{net.epoch.id}"),
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "hotkey_mismatch")


async def test_the_statistics(net: Net) -> None:
    answer = await net.http.get("/api/v1/zipcode-assignments/stats")
    assert answer.status_code == 200
    stats = answer.json()
    assert stats["current_epoch"]["epoch_id"] == net.epoch.id
    assert (
        sum(t["listings"] for t in stats["tiers"].values())
        == (stats["current_epoch"]["total_expected_listings"])
    )
    assert stats["draw_error"] is None


async def test_an_error_of_the_database_names_no_value(net: Net) -> None:
    """It is logged wherever it comes up."""
    stored = await net.services.epochs.current()
    with pytest.raises(IntegrityError) as error:
        await net.services.records.add_epoch(stored, [], after=stored.epoch.start, table=None)
    assert "UNIQUE" in str(error.value)
    assert stored.seed not in str(error.value)


async def test_the_end_of_the_grace_is_the_epochs_own(world: World) -> None:
    async def told(net: Net) -> datetime:
        stats = (await net.http.get("/api/v1/zipcode-assignments/stats")).json()
        return parse_time(stats["timing"]["grace_end"])

    async with api_over(world, grace_percent=25) as net:
        await net.ready()
        assert (await net.client("ann").current()).assignment.rules.grace_percent == 25
        assert await told(net) == net.epoch.start + net.epoch.length / 4
    # Another setting is for the epochs that are drawn with it.
    async with api_over(world, grace_percent=75) as net:
        await net.ready()
        assert await told(net) == net.epoch.start + net.epoch.length / 4
        # Drawn by a version with other rules, it has the setting's: nothing better is known.
        stored = await net.services.epochs.current()
        document = json.loads(stored.document)
        document["rules"] = {"version": 2}
        async with net.services.database.write() as connection:
            await connection.execute(
                update(schema.epochs)
                .where(schema.epochs.c.epoch_id == net.epoch.id)
                .values(document=json.dumps(document).encode())
            )
    async with api_over(world, grace_percent=75) as net:
        await net.ready()
        assert await told(net) == net.epoch.start + net.epoch.length * 3 / 4


async def test_what_is_public_besides(net: Net) -> None:
    first = net.epoch.id
    drawn = (await net.client("ann").current()).assignment.zipcodes[0].zipcode
    path = f"/api/v1/zipcodes/{drawn}"
    assert (await net.http.get(path)).json()["drawn_in"] == []
    await net.advance_to(net.epoch.end)
    assert (await net.http.get(path)).json()["drawn_in"] == [first]
    assert (await net.http.get("/api/v1/zipcodes/00000")).status_code == 404
    epochs = (await net.http.get("/api/v1/epochs")).json()["epochs"]
    assert [e["epoch_id"] for e in epochs] == [net.epoch.id, first]
    assert (await net.http.get("/api/v1/leaderboard")).json() == {"epochs": 0, "miners": []}
