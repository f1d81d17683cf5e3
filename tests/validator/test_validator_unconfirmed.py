"""A miner of whom nothing was confirmed: what explain, replay and compare say of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from exports import HONEST_VALIDATORS, LIAR, Frozen, evidence_of, make_scene, published
from mechanism.builders import EPOCH, hotkey

from sn46.mechanism.evidence import checks_key, evidence_key, read_evidence
from sn46.mechanism.report import write_published
from sn46.mechanism.verdicts import Verdict
from sn46.validator.comparing import comparison, read_reports
from sn46.validator.examiner import Examiner
from sn46.validator.explaining import explained, explanation
from sn46.validator.judging import Judging
from sn46.validator.replay import judge_again, replay_epoch


@pytest.fixture
def examiner() -> Iterator[Examiner]:
    made = Examiner(seconds=60, memory_mb=3_000)
    yield made
    made.close()


async def test_it_is_told_why_it_is_not_paid(examiner: Examiner, tmp_path: Path) -> None:
    scene = await make_scene(examiner)
    assert scene.outcome.weights[hotkey("dan")] == 50_000
    # The same evidence, but that the source answered nobody's questions about dan's rows.
    results = Frozen()
    for name in (*HONEST_VALIDATORS, LIAR):
        keys = (evidence_key(hotkey(name), EPOCH.id), checks_key(hotkey(name), EPOCH.id))
        uploads = [scene.results.uploads[key] for key in keys]
        found = read_evidence(scene.assignment, scene.view, hotkey(name), uploads[0], uploads[1])
        checks = [
            replace(check, verdict=Verdict.INCONCLUSIVE, detail="403.")
            if check.miner == hotkey("dan")
            else check
            for check in found.checks
        ]
        results.add(*evidence_of(name, checks, scene.assignment))
    judging = Judging(scene.assignment, scene.view, scene.miners, examiner)
    outcome, rows = await judging.conclude(await judging.quick(), results, {})
    for number, name in enumerate(HONEST_VALIDATORS):
        results.add(*published(name, outcome, write_published(rows), rows.height, number))
    changed = replace(scene, results=results, outcome=outcome)
    folder = await changed.write(tmp_path / "export")

    before, now = scene.outcome.miners[hotkey("dan")], outcome.miners[hotkey("dan")]
    assert now.weight == 0
    assert outcome.weights[hotkey("owner")] == 50_000
    assert (now.rank, now.disqualified) == (before.rank, False)
    assert now.final == before.final

    judged = await judge_again(folder, EPOCH.id, examiner=examiner)
    lines = list(explanation(await explained(judged, hotkey("dan"))))
    [reason] = [line for line in lines if line.startswith("  nothing_confirmed")]
    assert "None of its 5 checked rows was confirmed: 5 could not be told" in reason
    assert lines[-1] == (
        "Reward: nothing, for none of its checked rows was confirmed; the 5 % is for those of whom "
        "something is."
    )
    replayed = await replay_epoch(folder, EPOCH.id, examiner=examiner, api_hotkey=hotkey("api"))
    assert replayed.agrees
    assert replayed.report["consensus_hash"] == outcome.consensus_hash
    compared = await read_reports(folder, EPOCH.id)
    assert compared.agree
    assert list(comparison(compared))[-1] == f"All agree: consensus_hash {outcome.consensus_hash}"
