"""Why a miner scored what it did, and how validators' reports differ: from an export, in words."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from exports import HONEST_VALIDATORS, LIAR, Scene
from mechanism.builders import EPOCH, hotkey

from sn46.cli import main
from sn46.mechanism.evidence import Merged
from sn46.mechanism.report import report_key
from sn46.validator.comparing import comparison, read_reports
from sn46.validator.examiner import Examiner
from sn46.validator.explaining import explained, explanation, matching
from sn46.validator.replay import Judged, judge_again


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def original(
    first_scene: Scene, examiner: Examiner, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Judged]:
    folder = await first_scene.write(tmp_path_factory.mktemp("export"))
    return folder, await judge_again(folder, EPOCH.id, examiner=examiner)


@pytest.fixture
def judged(original: tuple[Path, Judged]) -> Judged:
    return original[1]


@pytest.fixture
def export(original: tuple[Path, Judged], tmp_path: Path) -> Path:
    """The export, to be tampered with."""
    return Path(shutil.copytree(original[0], tmp_path / "export"))


async def told(judged: Judged, name: str) -> str:
    return "\n".join(explanation(await explained(judged, hotkey(name))))


@pytest.mark.asyncio(loop_scope="module")
async def test_a_winner_sees_every_part_of_its_score(judged: Judged) -> None:
    text = await told(judged, "ann")
    miner = judged.outcome.miners[hotkey("ann")]
    assert "Place 1 of 4" in text
    assert "50.00 % of the epoch's rewards" in text
    assert "2 were earlier" in text
    assert f"{miner.final:,}" in text
    assert "county: filled in 0 of 200 rows, -6.25 % of completeness" in text
    assert "10 rows checked, 10 confirmed" in text
    # The parts that are shown add up to the score that is shown.
    score = next(line for line in text.splitlines() if line.startswith("Score"))
    parts, total = score.split(": ", 1)[1].split(";")[0].split(" = ")
    assert sum(float(part) for part in parts.split(" + ")) == pytest.approx(float(total))
    assert float(total) == pytest.approx(miner.final / 10_000)


@pytest.mark.asyncio(loop_scope="module")
async def test_who_is_equal_is_told_that_a_lot_decided(judged: Judged) -> None:
    assert "a lot" not in await told(judged, "bob")
    miners = dict(judged.outcome.miners)
    for name in ("bob", "cid"):
        miners[hotkey(name)] = replace(miners[hotkey(name)], final=miners[hotkey("ann")].final)
    # Who is not among those that compete has the same score for less.
    miners[hotkey("dan")] = replace(
        miners[hotkey("dan")], final=miners[hotkey("ann")].final, candidate=False, reserve=False
    )
    equal = replace(judged, outcome=replace(judged.outcome, miners=miners))
    assert "2 others had the same score; a lot drawn after the deadline" in await told(equal, "ann")
    assert "a lot" not in await told(equal, "dan")


@pytest.mark.asyncio(loop_scope="module")
async def test_what_contradicts_is_shown_with_its_rows(judged: Judged) -> None:
    text = await told(judged, "fabricator")
    assert "DISQUALIFIED" in text
    contradicted = [
        m
        for m in judged.outcome.merged
        if m.row.miner == hotkey("fabricator") and m.verdict is Merged.CONTRADICTED
    ]
    shown = sorted(m.row.listing_id for m in contradicted)[:5]
    for listing_id in shown:
        assert f"contradicted: {listing_id} (address" in text
    assert f"and {len(contradicted) - 5} more that are contradicted" in text
    assert "does not exist as submitted: portal:50" in await told(judged, "inventor")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_shown_row_is_the_one_that_was_checked(judged: Judged) -> None:
    found = await explained(judged, hotkey("inventor"))
    for merged in found.checks:
        assert found.kept.row(merged.row.index, named=True)["listing_id"] == merged.row.listing_id


@pytest.mark.asyncio(loop_scope="module")
async def test_an_invalid_one_is_told_why_and_no_more(judged: Judged) -> None:
    text = await told(judged, "padder")
    assert "INVALID" in text
    assert "duplicates_over_limit (20)" in text
    assert "220 rows in 2 ZIPs, 200 of them count" in text
    assert "Speed" not in text
    assert "rows count," not in text


@pytest.mark.asyncio(loop_scope="module")
async def test_a_hotkey_may_be_cut_short() -> None:
    assert matching(["5abc", "5abd", "5ab"], "5ab") == ["5ab"]
    assert matching(["5abc", "5abd"], "5abd") == ["5abd"]
    assert matching(["5abc", "5abd"], "5ab") == ["5abc", "5abd"]
    assert matching(["5abc"], "x") == []


@pytest.mark.asyncio(loop_scope="module")
async def test_reports_that_agree(export: Path) -> None:
    found = await read_reports(export, EPOCH.id)
    assert found.agree
    assert list(found.reports) == [hotkey(name) for name in HONEST_VALIDATORS]
    lines = list(comparison(found))
    assert any(f"{hotkey(LIAR)[:10]} published no report" in line for line in lines)
    assert lines[-1] == f"All agree: consensus_hash {found.agreement.consensus_hash}"


def tamper(export: Path, validator: str, change: Any) -> None:
    """Change a validator's published report, and the index with it."""
    key = report_key(hotkey(validator), EPOCH.id)
    index = export / "validated-data.index.jsonl"
    entries = [json.loads(line) for line in index.read_text().splitlines()]
    entry = next(e for e in entries if e["key"] == key)
    path = export / "validated-data" / entry.get("file", key)
    body = change(path.read_bytes())
    path.write_bytes(body)
    entry["size"] = len(body)
    index.write_text("".join(json.dumps(e) + "\n" for e in entries))


def other_score(body: bytes) -> bytes:
    report = json.loads(body)
    report["miners"][hotkey("ann")]["final"] += 1
    report["consensus_hash"] = "f" * 64
    return json.dumps(report).encode()


@pytest.mark.asyncio(loop_scope="module")
async def test_reports_that_differ(export: Path) -> None:
    tamper(export, "other", other_score)
    found = await read_reports(export, EPOCH.id)
    assert not found.agree
    assert found.agreement.alert
    text = "\n".join(comparison(found))
    assert "THEY DIFFER: 50 %" in text
    assert f"report.miners.{hotkey('ann')}.final" in text
    scores = [line for line in text.splitlines() if line.startswith(hotkey("ann")[:10])]
    assert len(scores) == 1
    assert "785000" in scores[0]
    assert "785001" in scores[0]
    assert not any(line.startswith(hotkey("bob")[:10]) for line in text.splitlines())


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_no_report_agrees_with_nothing(export: Path) -> None:
    tamper(export, "other", lambda body: b"[1, 2")
    found = await read_reports(export, EPOCH.id)
    assert not found.agree
    assert any("published what is no report" in line for line in comparison(found))


def test_the_commands(
    original: tuple[Path, Judged], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, ann = str(original[0]), hotkey("ann")
    assert main(["explain", ann[:12], "--from", folder]) == 0
    assert "Place 1 of 4" in capsys.readouterr().out
    assert main(["compare", "--from", folder, "--epoch", EPOCH.id]) == 0
    assert "All agree" in capsys.readouterr().out
    assert main(["explain", "5nobody", "--from", folder]) == 2
    assert "No hotkey that submitted begins with '5nobody'" in capsys.readouterr().err
    assert main(["compare", "--from", str(tmp_path)]) == 2
    assert "holds no epoch" in capsys.readouterr().err
    assert main(["compare", "--from", folder, "--epoch", "2024-03-15-20:00"]) == 1
    assert "does not hold epoch" in capsys.readouterr().err


def test_what_a_terminal_would_obey_is_shown(
    export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report is any permit holder's to write: one half of a sign in it ended the comparison for
    all, and an escape sequence reached the terminal."""

    def odd(body: bytes) -> bytes:
        changes = {"\x1b[2J\ud83c": 1, "ignored_evidence": {"x": "\x1b[31m\ud83c"}}
        return json.dumps(json.loads(body) | changes).encode()

    tamper(export, "vali", odd)
    asked = ["--from", str(export), "--epoch", EPOCH.id]
    for command in ("compare", "replay"):
        assert main([command, *asked]) == 1
        said = capsys.readouterr().out
        assert r"\x1b[2J\ud83c" in said
        assert "\x1b" not in said
