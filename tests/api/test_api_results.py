"""Announced reports: checked against the bucket, idempotent, and compared."""

import json
from datetime import timedelta
from typing import Any

import pytest
from apinet import Net, World, api_over

from sn46.client.api import ApiError
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.names import Hotkey
from sn46.store.upload import upload_object

PPM = 1_000_000


def report_of(net: Net, name: str, epoch: Epoch, assignment_hash: str, **changes: Any) -> Any:
    return {
        "epoch_id": epoch.id,
        "validator_hotkey": net.hotkey(name),
        "consensus_hash": "a" * 64,
        "assignment_hash": assignment_hash,
        "top_3_winners": [
            {"rank": 2, "miner_hotkey": net.hotkey("bob")},
            {"rank": 1, "miner_hotkey": net.hotkey("ann")},
        ],
        "miners": {
            net.hotkey("ann"): {"participant": True, "volume": PPM},
            net.hotkey("bob"): {"participant": True, "volume": 949_999},
            net.hotkey("cid"): {"participant": False, "volume": None},
        },
    } | changes


async def publish(net: Net, name: str, epoch: Epoch, report: Any) -> None:
    policy = await net.client(name).validator_upload(epoch.id, "results")
    bodies = {
        "validated_data.parquet": b"rows",
        "epoch_metadata.json": b"{}",
        "validation_report.json": json.dumps(report).encode(),
    }
    for file, body in bodies.items():
        await upload_object(net.http, policy, f"{policy.prefix}{file}", body)


async def announce(net: Net, name: str, epoch: Epoch, assignment_hash: str, digest: str) -> Any:
    return await net.client(name).announce(
        epoch_id=epoch.id,
        consensus_hash=digest,
        assignment_hash=assignment_hash,
        top_3=[Hotkey(net.hotkey("ann"))],
        participants=2,
        reached_95=1,
    )


async def test_a_report_is_announced_and_agreement_shown(net: Net) -> None:
    epoch = net.epoch
    digest = (await net.client("vali").current()).assignment.hash
    await net.advance_to(epoch.end + epoch.length * 0.6)
    with pytest.raises(ApiError) as refused:
        await announce(net, "vali", epoch, digest, "a" * 64)
    assert (refused.value.status, refused.value.code) == (409, "report_incomplete")
    assert "validated_data.parquet" in refused.value.detail
    await publish(net, "vali", epoch, report_of(net, "vali", epoch, digest))
    first = await announce(net, "vali", epoch, digest, "a" * 64)
    assert first["top_3"] == [net.hotkey("ann"), net.hotkey("bob")]
    assert (first["participants"], first["reached_95"]) == (2, 1)
    net.clock.advance(timedelta(minutes=1))
    assert await announce(net, "vali", epoch, digest, "a" * 64) == first

    other = report_of(net, "other", epoch, digest, consensus_hash="b" * 64)
    await publish(net, "other", epoch, other)
    await announce(net, "other", epoch, digest, "b" * 64)
    shown = (await net.http.get(f"/api/v1/validation-results/{epoch.id}")).json()
    assert shown["agreement"] == {
        "validators": 2,
        "consensus_hash": "a" * 64,
        "consensus_share": 500_000,
        "top_3": [net.hotkey("ann"), net.hotkey("bob")],
        "top_3_share": PPM,
    }
    assert len(shown["reports"]) == 2
    assert (await net.http.get("/api/v1/validation-results")).json() == {"epochs": [shown]}
    board = (await net.http.get("/api/v1/leaderboard")).json()
    assert board["miners"][0] == {
        "hotkey": net.hotkey("ann"), "first": 1, "second": 0, "third": 0,
    }  # fmt: skip


async def test_a_report_must_say_what_is_announced_for_it(net: Net) -> None:
    epoch = net.epoch
    digest = (await net.client("vali").current()).assignment.hash
    with pytest.raises(ApiError) as refused:
        await announce(net, "vali", epoch, digest, "a" * 64)
    assert refused.value.code == "epoch_not_ended"
    await net.advance_to(epoch.end + epoch.length * 0.6)
    good = report_of(net, "vali", epoch, digest)
    await publish(net, "vali", epoch, good)
    with pytest.raises(ApiError) as refused:
        await announce(net, "vali", epoch, digest, "c" * 64)
    assert refused.value.code == "report_mismatch"
    with pytest.raises(ApiError) as refused:
        await announce(net, "vali", epoch, "d" * 64, "a" * 64)
    assert refused.value.code == "assignment_mismatch"
    for change in (
        {"validator_hotkey": net.hotkey("other")},
        {"epoch_id": epoch.next().id},
        {"assignment_hash": "e" * 64},
    ):
        await publish(net, "vali", epoch, good | change)
        with pytest.raises(ApiError) as refused:
            await announce(net, "vali", epoch, digest, "a" * 64)
        assert refused.value.code == "report_mismatch"
    for broken in ([], {}, good | {"miners": 5}, good | {"top_3_winners": [{}]}):
        await publish(net, "vali", epoch, broken)
        with pytest.raises(ApiError) as refused:
            await announce(net, "vali", epoch, digest, "a" * 64)
        assert refused.value.status == 409
    shown = (await net.http.get(f"/api/v1/validation-results/{epoch.id}")).json()
    assert shown["reports"] == []


async def test_a_report_that_no_answer_could_carry_is_unreadable(net: Net) -> None:
    """Once on record it would be a part of every public page."""
    epoch = net.epoch
    digest = (await net.client("vali").current()).assignment.hash
    await net.advance_to(epoch.end + epoch.length * 0.6)

    def won(hotkey: Any, rank: Any = 1) -> dict[str, Any]:
        return {"top_3_winners": [{"rank": rank, "miner_hotkey": hotkey}]}

    def volume(value: Any) -> dict[str, Any]:
        return {"miners": {net.hotkey("ann"): {"participant": True, "volume": value}}}

    ann, endless = net.hotkey("ann"), float("inf")
    odd = [*map(won, ("\ud800", "\0", "", "x" * 64, 5, None, {}, [ann]))]
    odd += [won(ann, endless), won(ann, float("nan")), volume(endless), volume(float("nan"))]
    for changes in odd:
        await publish(net, "vali", epoch, report_of(net, "vali", epoch, digest, **changes))
        with pytest.raises(ApiError) as refused:
            await announce(net, "vali", epoch, digest, "a" * 64)
        assert (refused.value.status, refused.value.code) == (409, "report_unreadable"), changes
    for page in ("validation-results", "leaderboard", "epochs", "reports"):
        answer = await net.http.get(f"/api/v1/{page}")
        assert answer.status_code == 200
        assert net.hotkey("vali") not in answer.text


async def test_a_report_can_be_replaced_while_uploads_are_open(net: Net) -> None:
    epoch = net.epoch
    digest = (await net.client("vali").current()).assignment.hash
    await net.advance_to(epoch.end + epoch.length * 0.6)
    await publish(net, "vali", epoch, report_of(net, "vali", epoch, digest))
    await announce(net, "vali", epoch, digest, "a" * 64)
    better = report_of(net, "vali", epoch, digest, consensus_hash="b" * 64)
    await publish(net, "vali", epoch, better)
    assert (await announce(net, "vali", epoch, digest, "b" * 64))["consensus_hash"] == "b" * 64
    shown = (await net.http.get(f"/api/v1/validation-results/{epoch.id}")).json()
    assert [r["consensus_hash"] for r in shown["reports"]] == ["b" * 64]


async def test_who_announced_is_asked_for_spot_checks(net: Net) -> None:
    epoch = net.epoch
    digest = (await net.client("vali").current()).assignment.hash
    await net.advance_to(epoch.end + epoch.length * 0.6)
    await publish(net, "other", epoch, report_of(net, "other", epoch, digest))
    await announce(net, "other", epoch, digest, "a" * 64)
    following = epoch.next().next()
    await net.advance_to(following.start)
    received = await net.client("vali").current()
    assert received.assignment.epoch == following
    assert received.assignment.validators == (net.hotkey("other"),)


async def test_an_adaptive_target_follows_the_reports(world: World) -> None:
    async with api_over(world, target_mode="adaptive") as net:
        await net.ready()
        epoch = net.epoch
        first = (await net.client("vali").current()).assignment
        assert first.target_listings == 10_000
        await net.advance_to(epoch.end + epoch.length * 0.6)
        miners = {net.hotkey("ann"): {"participant": True, "volume": 960_000}}
        report = report_of(net, "vali", epoch, first.hash, miners=miners)
        await publish(net, "vali", epoch, report)
        await announce(net, "vali", epoch, first.hash, "a" * 64)
        await net.advance_to(epoch.next().end)
        assert (await net.client("vali").current()).assignment.target_listings == 10_500
