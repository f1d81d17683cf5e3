"""From quick results and evidence to scores and weights (mechanism 6 to 9).

Three pure steps, which a validator's own epoch and a replay of it share::

    line_up(assignment, view, quick results)   who takes part, speed and preliminary scores
    plan_checks(line-up)                       who is checked, which rows, by whom
    conclude(line-up, plan, evidence)          merged verdicts, final scores, winners, weights
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.canonical import hash_json
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.evidence import Evidence, Merged, MergedRow, merge_row, voices_by_row
from sn46.mechanism.names import Coldkey, Hotkey, Ppm
from sn46.mechanism.quick import QuickResult
from sn46.mechanism.reasons import Code, Reason
from sn46.mechanism.rewards import (
    Contender,
    choose_winners,
    standing_order,
    weights_of,
)
from sn46.mechanism.sampling import (
    Chosen,
    Market,
    SampledRow,
    Standing,
    assign_checks,
    checking_validators,
    choose,
    sample_rows,
    validation_seed,
)
from sn46.mechanism.scoring import CheckCounts, blend, quality_score, speed_scores
from sn46.mechanism.verdicts import Verdict

MIN_CONCLUSIVE_CHECKS = 5


@dataclass(frozen=True)
class LineUp:
    """Every submission of an epoch after quick validation, and the standing of those that take
    part."""

    assignment: Assignment
    view: ChainView
    results: Mapping[Hotkey, QuickResult]
    standings: Mapping[Hotkey, Standing]
    market: Market


@dataclass(frozen=True)
class CheckPlan:
    """Who is checked deeply, and every row to check with the validators it is given to."""

    seed: str
    chosen: Chosen
    rows: tuple[SampledRow, ...]

    def rows_of(self, validator: Hotkey) -> tuple[SampledRow, ...]:
        """The rows that a validator is to check."""
        return tuple(row for row in self.rows if validator in row.validators)


@dataclass(frozen=True)
class MinerOutcome:
    """All there is to say of one miner's epoch. None where a step was not reached."""

    quick: QuickResult
    standing: Standing | None
    candidate: bool
    reserve: bool
    checks: CheckCounts | None
    quality: Ppm | None
    final: Ppm
    rank: int | None
    weight: Ppm
    disqualified: bool
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Outcome:
    """An epoch's result: the same for every honest validator."""

    assignment: Assignment
    miners: Mapping[Hotkey, MinerOutcome]
    winners: tuple[Hotkey, ...]
    weights: Mapping[Hotkey, Ppm]
    merged: tuple[MergedRow, ...]
    voices: int
    ignored_evidence: Mapping[Hotkey, str]

    @property
    def consensus_hash(self) -> str:
        """Hash of the canonical JSON of ``{epoch_id, scores: {hotkey: final}, weights}``."""
        return hash_json(
            {
                "epoch_id": self.assignment.epoch_id,
                "scores": {hotkey: miner.final for hotkey, miner in self.miners.items()},
                "weights": dict(self.weights),
            }
        )


def line_up(assignment: Assignment, view: ChainView, results: Iterable[QuickResult]) -> LineUp:
    """Score the participants for speed and line them up. The order of results never matters."""
    by_hotkey = {r.hotkey: r for r in sorted(results, key=lambda r: r.hotkey)}
    taking_part = {h: r for h, r in by_hotkey.items() if r.participant and r.submission_time}
    times = {h: r.submission_time for h, r in taking_part.items() if r.submission_time}
    speeds = speed_scores(times, assignment.epoch)
    coldkeys = {h: view.coldkey_of(h) for h in taking_part}
    standings = {
        hotkey: Standing(
            hotkey=hotkey,
            coldkey=coldkeys[hotkey],
            time=times[hotkey],
            speed=speeds[hotkey],
            completeness=result.completeness or Ppm(0),
            volume=result.volume or Ppm(0),
            preliminary=blend(
                speeds[hotkey], result.completeness or Ppm(0), result.volume or Ppm(0)
            ),
        )
        for hotkey, result in taking_part.items()
    }
    market = Market({h: r.kept for h, r in taking_part.items()}, coldkeys)
    return LineUp(assignment, view, by_hotkey, standings, market)


def plan_checks(lined_up: LineUp) -> CheckPlan:
    """Choose candidates, reserves and the randomly checked, and sample their rows."""
    assignment, view = lined_up.assignment, lined_up.view
    rules = assignment.rules
    seed = validation_seed(view.block.hash, assignment.epoch_id)
    chosen = choose(lined_up.standings.values(), assignment, seed)
    validators = checking_validators(assignment, view)
    rows: list[SampledRow] = []
    kept = [lined_up.results[hotkey].kept for hotkey in chosen.all]
    suspicions = lined_up.market.suspicions(kept)
    for hotkey, rows_of_it, suspicion_of_it in zip(chosen.all, kept, suspicions, strict=True):
        sampled = sample_rows(
            hotkey=hotkey,
            kept=rows_of_it,
            suspicions=suspicion_of_it,
            percentage=rules.spot_check_percentage,
            seed=seed,
        )
        rows.extend(
            SampledRow(
                hotkey,
                listing_id,
                index,
                suspicion,
                assign_checks(hotkey, listing_id, validators, rules.spot_check_replicas, seed),
            )
            for index, listing_id, suspicion in sampled
        )
    return CheckPlan(seed, chosen, tuple(rows))


def is_vouched(lined_up: LineUp, row: SampledRow) -> bool:
    """Whether enough others reported a home that the source does not know: at least two other
    coldkeys, and at least half of the other coldkeys whose participants have rows in its ZIP."""
    kept = lined_up.results[row.miner].kept
    address_key, zipcode = kept.row(row.index)[1:3]
    own = lined_up.standings[row.miner].coldkey
    market = lined_up.market
    reported = market.vouchers(row.listing_id, str(address_key), str(zipcode)) - {own}
    covering = market.covering(str(zipcode)) - {own}
    return len(reported) >= 2 and len(reported) * 2 >= len(covering)


def _merge(
    lined_up: LineUp, plan: CheckPlan, evidence: Iterable[Evidence]
) -> tuple[MergedRow, ...]:
    stakes = {n.hotkey: n.stake for n in lined_up.view.neurons}
    voices = voices_by_row(evidence, plan.rows)
    merged: list[MergedRow] = []
    for row in plan.rows:
        checks = voices[row.miner, row.listing_id]
        # Only a NOT_FOUND can be vouched for, and looking for vouchers reads the whole market.
        missing = any(check.verdict == Verdict.NOT_FOUND for check in checks.values())
        vouched = missing and is_vouched(lined_up, row)
        merged.append(merge_row(row, checks, stakes, vouched=vouched))
    return tuple(merged)


def _count(merged: Iterable[MergedRow]) -> dict[Hotkey, CheckCounts]:
    found: dict[Hotkey, dict[Merged, int]] = {}
    for row in merged:
        of_miner = found.setdefault(row.row.miner, {})
        of_miner[row.verdict] = of_miner.get(row.verdict, 0) + 1
    return {
        hotkey: CheckCounts(
            confirmed=counts.get(Merged.CONFIRMED, 0),
            contradicted=counts.get(Merged.CONTRADICTED, 0),
            fake=counts.get(Merged.FAKE, 0),
            inconclusive=counts.get(Merged.INCONCLUSIVE, 0),
        )
        for hotkey, counts in found.items()
    }


def _examples(merged: Iterable[MergedRow], verdicts: set[Merged]) -> str:
    rows = sorted((m for m in merged if m.verdict in verdicts), key=lambda m: m.row.listing_id)
    return " ".join(f"{m.row.listing_id}: {m.detail}" for m in rows[:3])


def disqualification(
    lined_up: LineUp, counts: CheckCounts, merged: Iterable[MergedRow]
) -> Reason | None:
    """Why deep validation disqualifies a miner, None where it does not: one FAKE, or an accuracy
    under MIN_ACCURACY_PERCENT over at least five conclusive checks."""
    rows = tuple(merged)
    if counts.fake:
        return Reason(
            Code.FAKE_LISTING,
            counts.fake,
            f"{counts.fake} of {len(rows)} checked rows are homes that do not exist as submitted. "
            + _examples(rows, {Merged.FAKE}),
        )
    least = lined_up.assignment.rules.min_accuracy_percent
    if counts.conclusive >= MIN_CONCLUSIVE_CHECKS and counts.accuracy < least * 10_000:
        return Reason(
            Code.LOW_ACCURACY,
            counts.contradicted,
            f"{counts.contradicted} of {counts.conclusive} conclusive checks contradict the "
            f"submitted row: {counts.accuracy / 10_000:.1f} % accuracy, {least} % are needed. "
            + _examples(rows, {Merged.CONTRADICTED}),
        )
    return None


def is_verified(counts: CheckCounts, sampled: int) -> bool:
    """Whether enough of a candidate's sample could be told: five rows, or all where it has fewer.
    Where nothing could be, its accuracy is taken for full; it must not win by that."""
    return counts.conclusive >= min(MIN_CONCLUSIVE_CHECKS, sampled)


def too_few_checks(counts: CheckCounts, rows: Sequence[MergedRow]) -> tuple[Reason, ...]:
    """Why a candidate that is not verified stands behind those that are."""
    return (
        Reason(
            Code.TOO_FEW_CHECKS,
            counts.conclusive,
            f"Only {counts.conclusive} of {len(rows)} checked rows could be told; a candidate with "
            f"fewer than {min(MIN_CONCLUSIVE_CHECKS, len(rows))} stands behind those that have "
            f"them. {_examples(rows, {Merged.INCONCLUSIVE})}",
        ),
    )


def conclude(lined_up: LineUp, plan: CheckPlan, evidence: Iterable[Evidence]) -> Outcome:
    """Merge all evidence and settle scores, winners and weights."""
    given = tuple(sorted(evidence, key=lambda e: e.validator))
    merged = _merge(lined_up, plan, given)
    counts = {hotkey: CheckCounts() for hotkey in plan.chosen.all} | _count(merged)
    by_miner: dict[Hotkey, list[MergedRow]] = {hotkey: [] for hotkey in plan.chosen.all}
    for row in merged:
        by_miner[row.row.miner].append(row)
    faults = {h: disqualification(lined_up, counts[h], by_miner[h]) for h in plan.chosen.all}
    candidates = _candidates(plan, faults, lined_up.assignment.rules.deep_validation_top)
    finals = _final_scores(lined_up, plan, counts, faults, candidates)
    contenders = [
        Contender(
            hotkey,
            lined_up.standings[hotkey].coldkey,
            finals[hotkey],
            lined_up.standings[hotkey].time,
            is_verified(counts[hotkey], len(by_miner[hotkey])),
        )
        for hotkey in candidates
    ]
    winners = choose_winners(contenders, lined_up.assignment.rules)
    honest = {h: s.coldkey for h, s in lined_up.standings.items() if faults.get(h) is None}
    weights = weights_of(
        winners,
        honest,
        honest,
        burn=lined_up.view.owner_hotkey,
        rules=lined_up.assignment.rules,
    )
    ranks = _ranks(lined_up, contenders, finals, honest)
    unverified = {c.hotkey for c in contenders if not c.verified}
    miners = {
        hotkey: MinerOutcome(
            quick=result,
            standing=lined_up.standings.get(hotkey),
            candidate=hotkey in candidates or hotkey in plan.chosen.candidates,
            reserve=hotkey in plan.chosen.reserves,
            checks=counts.get(hotkey),
            quality=_quality(lined_up, counts, hotkey),
            final=finals[hotkey],
            rank=ranks.get(hotkey),
            weight=weights.get(hotkey, Ppm(0)),
            disqualified=faults.get(hotkey) is not None,
            reasons=(
                *_reasons(lined_up, hotkey, faults.get(hotkey), winners, honest),
                *(too_few_checks(counts[hotkey], by_miner[hotkey]) if hotkey in unverified else ()),
            ),
        )
        for hotkey, result in lined_up.results.items()
    }
    return Outcome(
        assignment=lined_up.assignment,
        miners=miners,
        winners=winners,
        weights=weights,
        merged=merged,
        voices=sum(row.voices for row in merged),
        ignored_evidence={e.validator: e.ignored for e in given if e.ignored is not None},
    )


def _candidates(
    plan: CheckPlan, faults: Mapping[Hotkey, Reason | None], top: int
) -> tuple[Hotkey, ...]:
    """The candidates that stand, reserves moved up in their order."""
    line = plan.chosen.candidates + plan.chosen.reserves
    return tuple([hotkey for hotkey in line if faults[hotkey] is None][:top])


def _quality(lined_up: LineUp, counts: Mapping[Hotkey, CheckCounts], hotkey: Hotkey) -> Ppm | None:
    if hotkey not in counts:
        return None
    return quality_score(lined_up.standings[hotkey].completeness, counts[hotkey].accuracy)


def _final_scores(
    lined_up: LineUp,
    plan: CheckPlan,
    counts: Mapping[Hotkey, CheckCounts],
    faults: Mapping[Hotkey, Reason | None],
    candidates: tuple[Hotkey, ...],
) -> dict[Hotkey, Ppm]:
    finals: dict[Hotkey, Ppm] = {}
    for hotkey in lined_up.results:
        standing = lined_up.standings.get(hotkey)
        if standing is None or faults.get(hotkey) is not None:
            finals[hotkey] = Ppm(0)
        elif hotkey in candidates:
            quality = quality_score(standing.completeness, counts[hotkey].accuracy)
            finals[hotkey] = blend(standing.speed, quality, standing.volume)
        else:
            finals[hotkey] = standing.preliminary
    return finals


def _ranks(
    lined_up: LineUp,
    contenders: Sequence[Contender],
    finals: Mapping[Hotkey, Ppm],
    honest: Mapping[Hotkey, Coldkey],
) -> dict[Hotkey, int]:
    """Standing among those not disqualified: candidates first, then the others, each by final
    score, time and hotkey."""
    first = standing_order(contenders)
    candidates = {contender.hotkey for contender in contenders}
    then = standing_order(
        [
            Contender(h, coldkey, finals[h], lined_up.standings[h].time)
            for h, coldkey in honest.items()
            if h not in candidates
        ]
    )
    return {c.hotkey: place for place, c in enumerate(first + then, start=1)}


def _reasons(
    lined_up: LineUp,
    hotkey: Hotkey,
    fault: Reason | None,
    winners: tuple[Hotkey, ...],
    honest: Mapping[Hotkey, Coldkey],
) -> tuple[Reason, ...]:
    reasons = list(lined_up.results[hotkey].reasons)
    if fault is not None:
        reasons.append(fault)
    winner = next((w for w in winners if honest.get(w) == honest.get(hotkey) and w != hotkey), None)
    if hotkey in honest and hotkey not in winners and winner is not None:
        place = winners.index(winner) + 1
        reasons.append(
            Reason(
                Code.COLDKEY_LIMIT,
                1,
                f"Another hotkey of the same coldkey, {winner}, is paid for place {place}; a "
                "coldkey with a winner earns nothing for its other hotkeys.",
            )
        )
    return tuple(reasons)
