"""Judging an epoch of honest and other miners, and replaying it from an export."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from exports import BIG, HONEST_VALIDATORS, LIAR, ZIPS, Frozen, Scene, set_body
from mechanism.builders import EPOCH, hotkey, listings, submission

from sn46.mechanism.errors import AssignmentError, ExportError
from sn46.mechanism.evidence import checks_key, evidence_key
from sn46.mechanism.listings import write_listings
from sn46.mechanism.reasons import Code
from sn46.mechanism.report import report_key
from sn46.mechanism.submission import manifest_key, miner_file_key
from sn46.validator.examiner import Examiner
from sn46.validator.folder import ASSIGNMENT, CHAIN, epoch_folder
from sn46.validator.judging import Judging
from sn46.validator.replay import Replay, replay_epoch

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def original(first_scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = await first_scene.write(tmp_path_factory.mktemp("export"))
    claim_big_manifest(folder)
    return folder


@pytest.fixture
def export(original: Path, tmp_path: Path) -> Path:
    """The export, to be tampered with."""
    return Path(shutil.copytree(original, tmp_path / "export"))


def claim_big_manifest(folder: Path) -> None:
    """The index says of one manifest that it has 100 MB. Nobody may try to read it."""
    index = folder / "miner-data.index.jsonl"
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    for line in lines:
        if line["key"] == manifest_key(hotkey("big"), EPOCH.id):
            line["size"] = BIG
    index.write_text("".join(json.dumps(line) + "\n" for line in lines))


def codes(report: Any, name: str) -> list[str]:
    return [reason["code"] for reason in report["miners"][hotkey(name)]["reasons"]]


async def replayed(folder: Path, examiner: Examiner, epoch_id: str = EPOCH.id) -> Replay:
    return await replay_epoch(folder, epoch_id, examiner=examiner, api_hotkey=hotkey("api"))


async def test_the_outcome(original: Path, examiner: Examiner) -> None:
    replay = await replayed(original, examiner)
    report = replay.report
    winners = [winner["miner_hotkey"] for winner in report["top_3_winners"]]
    assert winners == [hotkey(name) for name in ("ann", "bob", "cid")]
    assert {name: codes(report, name) for name in ("ann", "bob", "cid", "dan")} == {
        "ann": [], "bob": [], "cid": [], "dan": [],
    }  # fmt: skip
    assert codes(report, "fabricator") == [Code.LOW_ACCURACY.value]
    assert codes(report, "inventor") == [Code.FAKE_LISTING.value]
    assert codes(report, "padder") == [Code.DUPLICATES_OVER_LIMIT.value]
    assert codes(report, "malformed") == [Code.MANIFEST_SIGNATURE.value]
    assert codes(report, "liar") == [Code.FILE_SCHEMA.value]
    assert codes(report, "big") == [Code.MANIFEST_SIGNATURE.value]
    assert report["weights"] == {
        hotkey("ann"): 500_000,
        hotkey("bob"): 300_000,
        hotkey("cid"): 150_000,
        hotkey("dan"): 50_000,
    }
    assert report["total_miners_evaluated"] == len(report["miners"]) == 10
    assert report["ignored_evidence"] == {}
    assert all(report["miners"][hotkey(n)]["checks"]["fake"] == 0 for n in ("ann", "bob", "cid"))


async def test_it_is_the_same_every_time(original: Path, scene: Scene, examiner: Examiner) -> None:
    first, second = [await replayed(original, examiner) for _ in range(2)]
    assert first == second
    assert first.agrees
    assert first.published == {hotkey(name): [] for name in HONEST_VALIDATORS}
    assert first.report["consensus_hash"] == scene.outcome.consensus_hash
    assert await replayed(original, examiner, "2024-03-15T16-00-00") == first


async def test_the_order_of_objects_never_matters(scene: Scene, examiner: Examiner) -> None:
    class Shuffled(Frozen):
        @property
        def objects(self) -> Any:
            found = list(super().objects)
            random.Random(46).shuffle(found)
            return found

    judging = Judging(scene.assignment, scene.view, Shuffled(scene.miners.uploads), examiner)
    outcome, rows = await judging.conclude(
        await judging.quick(), Shuffled(scene.results.uploads), {}
    )
    assert outcome.consensus_hash == scene.outcome.consensus_hash
    assert outcome.merged == scene.outcome.merged
    assert rows.height == 200


async def test_a_liars_evidence_changes_nothing(scene: Scene, examiner: Examiner) -> None:
    truthful = Frozen({k: u for k, u in scene.results.uploads.items() if hotkey(LIAR) not in k})
    judging = Judging(scene.assignment, scene.view, scene.miners, examiner)
    outcome, _ = await judging.conclude(await judging.quick(), truthful, {})
    assert outcome.consensus_hash == scene.outcome.consensus_hash


def rewrite(folder: Path, bucket: str, key_: str, change: Callable[[bytes], bytes]) -> None:
    """Change an object and, as a careful forger would, its size in the index."""
    path = folder / bucket / key_
    body = change(path.read_bytes())
    path.write_bytes(body)
    index = folder / f"{bucket}.index.jsonl"
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    for line in lines:
        if line["key"] == key_:
            line["size"] = len(body)
    index.write_text("".join(json.dumps(line) + "\n" for line in lines))


def rewrite_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads(path.read_bytes())
    change(value)
    path.write_text(json.dumps(value))


async def test_a_report_that_was_tampered_with_is_named(export: Path, examiner: Examiner) -> None:
    def more(body: bytes) -> bytes:
        report = json.loads(body)
        report["weights"][hotkey("dan")] += 1
        report["miners"][hotkey("dan")]["final"] = 7
        return json.dumps(report).encode()

    rewrite(export, "validated-data", report_key(hotkey("vali"), EPOCH.id), more)
    replay = await replayed(export, examiner)
    assert not replay.agrees
    assert replay.published[hotkey("other")] == []
    found = replay.published[hotkey("vali")]
    assert len(found) == 2
    assert any("final: " in line and "≠ 7" in line for line in found)
    assert any(f"weights.{hotkey('dan')}: 50000 ≠ 50001" in line for line in found)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"{}", b"[" * 100_000, b"null"])
async def test_what_is_no_report_differs(export: Path, examiner: Examiner, body: bytes) -> None:
    rewrite(export, "validated-data", report_key(hotkey("vali"), EPOCH.id), lambda _: body)
    replay = await replayed(export, examiner)
    assert not replay.agrees
    assert replay.published[hotkey("vali")]
    assert replay.published[hotkey("other")] == []


async def test_a_miners_file_that_was_tampered_with_is_found(
    export: Path, examiner: Examiner
) -> None:
    key_ = miner_file_key(hotkey("ann"), EPOCH.id, ZIPS[0])
    rewrite(export, "miner-data", key_, lambda _: write_listings(listings(100)))
    replay = await replayed(export, examiner)
    assert codes(replay.report, "ann") == [Code.FILE_HASH_MISMATCH.value]
    assert not replay.agrees


async def test_evidence_that_was_tampered_with_is_found(export: Path, examiner: Examiner) -> None:
    for name in HONEST_VALIDATORS:
        key_ = checks_key(hotkey(name), EPOCH.id)
        rewrite(export, "validated-data", key_, lambda body: body[:-20] + bytes(20))
    replay = await replayed(export, examiner)
    assert set(replay.report["ignored_evidence"]) == {hotkey(n) for n in HONEST_VALIDATORS}
    assert "sha256" in replay.report["ignored_evidence"][hotkey("vali")]
    assert not replay.agrees


async def test_evidence_that_lacks_a_part_or_is_too_large_is_ignored(
    export: Path, examiner: Examiner
) -> None:
    index = export / "validated-data.index.jsonl"
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    missing = evidence_key(hotkey("vali"), EPOCH.id)
    kept = [line for line in lines if line["key"] != missing]
    for line in kept:
        if line["key"] == checks_key(hotkey("other"), EPOCH.id):
            line["size"] = 33 * 1024 * 1024
    index.write_text("".join(json.dumps(line) + "\n" for line in kept))
    replay = await replayed(export, examiner)
    assert "missing" in replay.report["ignored_evidence"][hotkey("vali")]
    assert set(replay.report["ignored_evidence"]) == {hotkey(n) for n in HONEST_VALIDATORS}


async def test_another_block_is_found(export: Path, examiner: Examiner) -> None:
    def change(chain: dict[str, Any]) -> None:
        chain["block"]["hash"] = "0x" + "77" * 32

    rewrite_json(epoch_folder(export, EPOCH.id) / CHAIN, change)
    assert not (await replayed(export, examiner)).agrees


async def test_another_assignment_is_refused(export: Path, examiner: Examiner) -> None:
    path = epoch_folder(export, EPOCH.id) / ASSIGNMENT
    original = path.read_bytes()

    def change(document: dict[str, Any]) -> None:
        document["target_listings"] += 1

    rewrite_json(path, change)
    with pytest.raises(AssignmentError, match="signature is not the API's"):
        await replayed(export, examiner)
    path.write_bytes(original)
    with pytest.raises(AssignmentError, match="trusts"):
        await replay_epoch(export, EPOCH.id, examiner=examiner, api_hotkey=hotkey("stranger"))


def _damage(name: str) -> Callable[[Path], None]:
    place = f"epochs/{EPOCH.id}"

    def key_of(owner: str) -> str:
        return f"miner-data/{miner_file_key(hotkey(owner), EPOCH.id, ZIPS[0])}"

    damages: dict[str, Callable[[Path], Any]] = {
        "no assignment": lambda d: (d / place / ASSIGNMENT).unlink(),
        "no chain": lambda d: (d / place / CHAIN).unlink(),
        "chain no JSON": lambda d: (d / place / CHAIN).write_text("{"),
        "chain a list": lambda d: (d / place / CHAIN).write_text("[]"),
        "chain empty": lambda d: (d / place / CHAIN).write_text("{}"),
        "chain deep": lambda d: (d / place / CHAIN).write_text("[" * 100_000),
        "no index": lambda d: (d / "miner-data.index.jsonl").unlink(),
        "no results index": lambda d: (d / "validated-data.index.jsonl").unlink(),
        "index damaged": lambda d: (d / "miner-data.index.jsonl").write_text("{\n"),
        "file missing": lambda d: (d / key_of("ann")).unlink(),
        "file short": lambda d: (d / key_of("ann")).write_bytes(b"x"),
        "report short": lambda d: (
            d / "validated-data" / report_key(hotkey("vali"), EPOCH.id)
        ).write_bytes(b"x"),
        "another epoch": lambda d: (d / place).rename(d / "epochs" / "2024-03-15-20:00"),
    }
    return damages[name]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no assignment", r"assignment\.json cannot be read: No such file"),
        ("no chain", r"chain\.json cannot be read: No such file"),
        ("chain no JSON", r"chain\.json is not JSON"),
        ("chain a list", r"chain\.json is not a JSON object"),
        ("chain empty", r"chain\.json cannot be read: KeyError"),
        ("chain deep", r"chain\.json is not JSON"),
        ("no index", r"miner-data\.index\.jsonl cannot be read"),
        ("no results index", r"validated-data\.index\.jsonl cannot be read"),
        ("index damaged", r"line 1: no JSON"),
        ("file missing", r"cannot be read from the export"),
        ("file short", r"has 1 bytes in the export, but \d+ in its index"),
        ("report short", r"has 1 bytes in the export, but \d+ in its index"),
        ("another epoch", r"does not hold epoch 2024-03-15-16:00. It holds: 2024-03-15-20:00"),
    ],
)
async def test_a_damaged_export_says_what_is_wrong(
    export: Path, examiner: Examiner, name: str, told: str
) -> None:
    _damage(name)(export)
    with pytest.raises(ExportError, match=told):
        await replayed(export, examiner)


async def test_an_epoch_that_is_not_there(export: Path, examiner: Examiner, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="'2024-03-15' is not an epoch id"):
        await replayed(export, examiner, "2024-03-15")
    with pytest.raises(ExportError, match="It holds: 2024-03-15-16:00"):
        await replayed(export, examiner, "2024-03-15-12:00")
    with pytest.raises(ExportError, match="It holds: none"):
        await replayed(tmp_path / "nowhere", examiner)
    _damage("another epoch")(export)
    with pytest.raises(ExportError, match="is of epoch 2024-03-15-16:00"):
        await replayed(export, examiner, "2024-03-15-20:00")


@pytest.mark.parametrize("owner", ["\ud800", "nobody", "", "..", "5" * 48])
async def test_folders_of_no_hotkey_are_ignored(
    scene: Scene, examiner: Examiner, tmp_path: Path, owner: str
) -> None:
    stray = submission(10, assignment=scene.assignment, name="stray").manifest_upload()
    miners = Frozen(dict(scene.miners.uploads))
    key_ = f"miners/{owner}/epoch={EPOCH.id}/manifest.json"
    miners.uploads[key_] = type(stray)(
        type(stray.info)(key_, stray.info.size, stray.info.last_modified, {}), stray.body
    )
    view, results = scene.view, scene.results
    folder = await Scene(scene.assignment, view, miners, results, scene.outcome).write(tmp_path)
    replay = await replayed(folder, examiner)
    assert replay.report["consensus_hash"] == scene.outcome.consensus_hash


async def test_evidence_that_crashes_the_decoder_is_ignored(scene: Scene, tmp_path: Path) -> None:
    """A permit holder's evidence is as strange as a miner's file: it may take down a worker, and
    never a validator."""
    results = Frozen(dict(scene.results.uploads))
    body = results.uploads[checks_key(hotkey("other"), EPOCH.id)].body
    swollen = body + bytes(30 * 1024 * 1024)
    set_body(results, checks_key(hotkey("other"), EPOCH.id), swollen)
    scarce = Examiner(seconds=60, memory_mb=25)
    judging = Judging(scene.assignment, scene.view, scene.miners, scarce)
    try:
        outcome, _ = await judging.conclude(await judging.quick(), results, {})
    finally:
        scarce.close()
    assert list(outcome.ignored_evidence) == [hotkey("other")]
    assert "took far more" in outcome.ignored_evidence[hotkey("other")]
