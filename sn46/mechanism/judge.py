"""From quick results and evidence to scores and weights (mechanism 6 to 9).

Three pure steps, which a validator's own epoch and a replay of it share::

    line_up(assignment, view, quick results)   who takes part, speed and preliminary scores
    plan_checks(line-up)                       who is checked, which rows, by whom
    conclude(line-up, plan, evidence)          merged verdicts, final scores, winners, weights
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from sn46.mechanism.agreement import consensus_hash
from sn46.mechanism.assignment import Assignment
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.credibility import NO_RECORD, UNKNOWN, WINDOW, Credibility
from sn46.mechanism.evidence import Evidence, Merged, MergedRow, merge_row, voices_by_row
from sn46.mechanism.names import Coldkey, Hotkey, Ppm
from sn46.mechanism.quick import QuickResult
from sn46.mechanism.reasons import Code, Reason
from sn46.mechanism.rewards import (
    Contender,
    Lot,
    choose_winners,
    shared_part,
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
_FAILED_SHOWN = 5
EXCUSED_PERCENT = 10
"""So much of a sample may be missing at the source where others vouch for it."""


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
    """All there is to say of one miner's epoch. None where a step was not reached.

    ``earned`` is the score of this epoch alone, ``final`` what its credibility leaves of it.
    """

    quick: QuickResult
    standing: Standing | None
    candidate: bool
    reserve: bool
    checks: CheckCounts | None
    quality: Ppm | None
    earned: Ppm
    credibility: Credibility
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
        """As ``agreement.consensus_hash`` makes it of the final scores and the weights."""
        scores = {hotkey: miner.final for hotkey, miner in self.miners.items()}
        return consensus_hash(self.assignment.epoch_id, scores, dict(self.weights))


def line_up(assignment: Assignment, view: ChainView, results: Iterable[QuickResult]) -> LineUp:
    """Score the participants for speed and line them up. The order of results never matters."""
    by_hotkey = {r.hotkey: r for r in sorted(results, key=lambda r: r.hotkey)}
    taking_part = {h: r for h, r in by_hotkey.items() if r.participant and r.submission_time}
    times = {h: r.submission_time for h, r in taking_part.items() if r.submission_time}
    speeds = speed_scores(times, assignment.grace_end)
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
    marks = lined_up.market.marks(kept)
    for hotkey, rows_of_it, marks_of_it in zip(chosen.all, kept, marks, strict=True):
        sampled = sample_rows(
            kept=rows_of_it,
            marks=marks_of_it,
            percentage=rules.spot_check_percentage,
            seed=seed,
        )
        rows.extend(
            SampledRow(
                hotkey,
                listing_id,
                index,
                suspicion,
                assign_checks(listing_id, validators, rules.spot_check_replicas, seed),
                rows_of_it.item(index, "filled"),
            )
            for index, listing_id, suspicion in sampled
        )
    return CheckPlan(seed, chosen, tuple(rows))


def is_vouched(lined_up: LineUp, row: SampledRow) -> bool:
    """Whether enough others reported a home that the source does not know: at least two other
    coldkeys, and at least half of the other coldkeys that cover its ZIP. Those that have half of
    what is expected of it cover it; where they are fewer than two, all with rows in it do."""
    return bool(_vouched(lined_up, [row]))


def _vouched(lined_up: LineUp, rows: Sequence[SampledRow]) -> set[tuple[Hotkey, str]]:
    """Those of the rows, by miner and listing_id, that are vouched for."""
    if not rows:
        return set()
    market = lined_up.market
    asked = pl.concat(
        [
            lined_up.results[row.miner]
            .kept[row.index]
            .select("listing_id", "address_key", "zipcode")
            for row in rows
        ]
    )
    assignment = lined_up.assignment
    half = {z.zipcode: -(-assignment.cap_of(z) // 2) for z in assignment.zipcodes}
    vouched: set[tuple[Hotkey, str]] = set()
    vouchers = market.vouchers_of(asked)
    for row, zipcode, reported in zip(rows, asked["zipcode"], vouchers, strict=True):
        own = lined_up.standings[row.miner].coldkey
        others = reported - {own}
        covering = market.covering(zipcode, half.get(zipcode, 1)) - {own}
        if len(covering) < 2:
            covering = market.covering(zipcode) - {own}
        if len(others) >= 2 and len(others) * 2 >= len(covering):
            vouched.add((row.miner, row.listing_id))
    return vouched


def _excused(plan: CheckPlan, vouched: set[tuple[Hotkey, str]]) -> set[tuple[Hotkey, str]]:
    """Homes do get delisted, but few within hours: where more than one, and more than a tenth of a
    miner's sample, is vouched for, its vouchers are its friends, and none of it is excused."""
    sampled = Counter(row.miner for row in plan.rows)
    missing = Counter(miner for miner, _ in vouched)
    return {
        (miner, listing_id)
        for miner, listing_id in vouched
        if missing[miner] <= max(1, sampled[miner] * EXCUSED_PERCENT // 100)
    }


def _merge(
    lined_up: LineUp, plan: CheckPlan, evidence: Iterable[Evidence]
) -> tuple[MergedRow, ...]:
    stakes = {n.hotkey: n.stake for n in lined_up.view.neurons}
    voices = voices_by_row(evidence, plan.rows)
    # Only a NOT_FOUND can be vouched for, and looking for vouchers reads the whole market.
    missing = [
        row
        for row in plan.rows
        if any(c.verdict == Verdict.NOT_FOUND for c in voices[row.miner, row.listing_id].values())
    ]
    vouched = _excused(plan, _vouched(lined_up, missing))
    return tuple(
        merge_row(
            row,
            voices[row.miner, row.listing_id],
            stakes,
            vouched=(row.miner, row.listing_id) in vouched,
        )
        for row in plan.rows
    )


def _count(merged: Iterable[MergedRow]) -> dict[Hotkey, CheckCounts]:
    found: dict[Hotkey, dict[Merged, int]] = {}
    fields: dict[Hotkey, tuple[int, int]] = {}
    for row in merged:
        of_miner = found.setdefault(row.row.miner, {})
        of_miner[row.verdict] = of_miner.get(row.verdict, 0) + 1
        if row.shown is not None:
            filled, shown = fields.get(row.row.miner, (0, 0))
            fields[row.row.miner] = filled + row.row.filled, shown + row.shown
    return {
        hotkey: CheckCounts(
            confirmed=counts.get(Merged.CONFIRMED, 0),
            contradicted=counts.get(Merged.CONTRADICTED, 0),
            fake=counts.get(Merged.FAKE, 0),
            inconclusive=counts.get(Merged.INCONCLUSIVE, 0),
            fields_filled=fields.get(hotkey, (0, 0))[0],
            fields_shown=fields.get(hotkey, (0, 0))[1],
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


def unshown_fields(counts: CheckCounts) -> tuple[Reason, ...]:
    """What quality lost because the source does not show all that the rows have filled."""
    unshown = counts.fields_filled - counts.fields_shown
    if not unshown:
        return ()
    return (
        Reason(
            Code.FIELDS_NOT_SHOWN,
            unshown,
            f"Of {counts.fields_filled} optional fields filled in the checked rows the source "
            f"shows {counts.fields_shown} in agreement; each of the others takes one of these "
            "away.",
        ),
    )


def conclude(
    lined_up: LineUp,
    plan: CheckPlan,
    evidence: Iterable[Evidence],
    past: Mapping[Hotkey, Credibility] = NO_RECORD,
) -> Outcome:
    """Merge all evidence and settle scores, winners and weights.

    ``past`` is each miner's credibility from the epochs before; who is not in it is unknown.
    """
    given = tuple(sorted(evidence, key=lambda e: e.validator))
    merged = _merge(lined_up, plan, given)
    counts = {hotkey: CheckCounts() for hotkey in plan.chosen.all} | _count(merged)
    by_miner: dict[Hotkey, list[MergedRow]] = {hotkey: [] for hotkey in plan.chosen.all}
    for row in merged:
        by_miner[row.row.miner].append(row)
    faults = {h: disqualification(lined_up, counts[h], by_miner[h]) for h in plan.chosen.all}
    candidates = _candidates(plan, faults)
    earned = _final_scores(lined_up, plan, counts, faults, candidates)
    exponent = lined_up.assignment.rules.credibility_exponent
    finals = {h: past.get(h, UNKNOWN).applied_to(s, exponent) for h, s in earned.items()}
    contenders = [
        Contender(
            hotkey,
            lined_up.standings[hotkey].coldkey,
            finals[hotkey],
            is_verified(counts[hotkey], len(by_miner[hotkey])),
        )
        for hotkey in candidates
    ]
    winners = choose_winners(contenders, lined_up.assignment.rules, plan.seed)
    honest = {h: s.coldkey for h, s in lined_up.standings.items() if faults.get(h) is None}
    weights = weights_of(
        winners,
        shared_part(
            {h: honest[h] for h in candidates if counts[h].confirmed},
            {honest[h] for h in winners},
            _lot(plan, counts, faults),
        ),
        burn=lined_up.view.owner_hotkey,
        rules=lined_up.assignment.rules,
    )
    ranks = _ranks(plan.seed, contenders, finals, honest)
    unverified = {c.hotkey for c in contenders if not c.verified}
    miners = {
        hotkey: MinerOutcome(
            quick=result,
            standing=lined_up.standings.get(hotkey),
            candidate=hotkey in candidates or hotkey in plan.chosen.candidates,
            reserve=hotkey in plan.chosen.reserves,
            checks=counts.get(hotkey),
            quality=_quality(lined_up, counts, hotkey),
            earned=earned[hotkey],
            credibility=past.get(hotkey, UNKNOWN),
            final=finals[hotkey],
            rank=ranks.get(hotkey),
            weight=weights.get(hotkey, Ppm(0)),
            disqualified=faults.get(hotkey) is not None,
            reasons=(
                *_reasons(lined_up, plan, hotkey, counts, faults.get(hotkey), winners, honest),
                *(too_few_checks(counts[hotkey], by_miner[hotkey]) if hotkey in unverified else ()),
                *(unshown_fields(counts[hotkey]) if hotkey in candidates else ()),
                *_low_credibility(past.get(hotkey, UNKNOWN), earned[hotkey], finals[hotkey]),
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


def _low_credibility(past: Credibility, earned: Ppm, final: Ppm) -> tuple[Reason, ...]:
    """Why a score is lower than what was earned in this epoch."""
    if final == earned:
        return ()
    newest = past.failed[-_FAILED_SHOWN:]
    more = len(past.failed) - len(newest)
    told = ", ".join(newest) + (f" and {more} before" if more else "")
    return (
        Reason(
            Code.LOW_CREDIBILITY,
            len(past.failed),
            f"Its record takes {earned - final:,} of the {earned:,} that it earned: credibility "
            f"{past.value / 10_000:.2f} %. Of the {WINDOW} epochs before, {past.epochs} count for "
            f"it, and in {len(past.failed)} it was invalid or disqualified: {told}.",
        ),
    )


def _lot(
    plan: CheckPlan, counts: Mapping[Hotkey, CheckCounts], faults: Mapping[Hotkey, Reason | None]
) -> Lot:
    """Those that were checked for all who are neither candidates nor reserves."""
    standing = tuple(h for h in plan.chosen.random if faults[h] is None)
    return Lot(
        paid=tuple(h for h in standing if counts[h].confirmed),
        disqualified=len(plan.chosen.random) - len(standing),
        coldkeys=plan.chosen.unseen,
    )


def _nothing_confirmed(counts: CheckCounts) -> Reason:
    """Why who was checked and stands has no part in what is shared."""
    rows = counts.conclusive + counts.inconclusive
    return Reason(
        Code.NOTHING_CONFIRMED,
        rows,
        f"None of its {rows} checked rows was confirmed: {counts.inconclusive} could not be told, "
        f"{counts.contradicted} are contradicted. Of what is shared only those have a part of whom "
        "something is confirmed. What could not be told costs no score and no record.",
    )


def _not_drawn(lined_up: LineUp, plan: CheckPlan, hotkey: Hotkey) -> Reason:
    """Why who is no candidate and was not drawn has no part in this epoch."""
    chosen, standings = plan.chosen, lined_up.standings
    coldkey = standings[hotkey].coldkey
    own = next((h for h in chosen.all if standings[h].coldkey == coldkey), None)
    if own is not None:
        return Reason(
            Code.NOT_DRAWN,
            1,
            f"Another hotkey of its coldkey, {own}, was checked for it: nobody is paid unseen.",
        )
    return Reason(
        Code.NOT_DRAWN,
        1,
        f"{chosen.unseen} coldkeys are below the candidates and reserves; {len(chosen.random)} of "
        "them were drawn, checked, and paid for all, and this one was not: nobody is paid unseen. "
        "The lot is another in each epoch.",
    )


def _candidates(plan: CheckPlan, faults: Mapping[Hotkey, Reason | None]) -> tuple[Hotkey, ...]:
    """Who competes for the places: candidates and reserves that stand. Reserves do not wait for a
    place to become free: what a candidate claimed before it was checked may be all it has."""
    line = plan.chosen.candidates + plan.chosen.reserves
    return tuple(hotkey for hotkey in line if faults[hotkey] is None)


def _quality(lined_up: LineUp, counts: Mapping[Hotkey, CheckCounts], hotkey: Hotkey) -> Ppm | None:
    if hotkey not in counts:
        return None
    checked = counts[hotkey]
    completeness = lined_up.standings[hotkey].completeness
    return quality_score(completeness, checked.accuracy, checked.shown)


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
            quality = _quality(lined_up, counts, hotkey) or Ppm(0)
            finals[hotkey] = blend(standing.speed, quality, standing.volume)
        else:
            finals[hotkey] = standing.preliminary
    return finals


def _ranks(
    seed: str,
    contenders: Sequence[Contender],
    finals: Mapping[Hotkey, Ppm],
    honest: Mapping[Hotkey, Coldkey],
) -> dict[Hotkey, int]:
    """Standing among those not disqualified: candidates first, then the others, each by final
    score, ties by lot."""
    first = standing_order(contenders, seed)
    candidates = {contender.hotkey for contender in contenders}
    then = standing_order(
        [Contender(h, coldkey, finals[h]) for h, coldkey in honest.items() if h not in candidates],
        seed,
    )
    return {c.hotkey: place for place, c in enumerate(first + then, start=1)}


def _reasons(
    lined_up: LineUp,
    plan: CheckPlan,
    hotkey: Hotkey,
    counts: Mapping[Hotkey, CheckCounts],
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
    elif hotkey in honest and hotkey not in plan.chosen.all:
        reasons.append(_not_drawn(lined_up, plan, hotkey))
    elif hotkey in honest and hotkey not in winners and not counts[hotkey].confirmed:
        reasons.append(_nothing_confirmed(counts[hotkey]))
    return tuple(reasons)
