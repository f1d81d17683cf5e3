"""What the subnet's owner should know without asking: pure functions over a snapshot.

Every alert says what happened, what it means, what to do, and since when. ``alerts_of`` gives all
that are active, the urgent ones first; it reads no clock, so the same snapshot, moment and
thresholds always give the same.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from statistics import median
from typing import Final

from sn46.dashboard.snapshot import EpochRow, Part, Snapshot
from sn46.mechanism.names import PPM, EpochId, Hotkey
from sn46.mechanism.wording import percent, short

_BEFORE: Final = 6
"""So many epochs before an epoch say what is usual (as mechanism 3 has it for validators)."""

_FEWEST_BEFORE: Final = 3
"""Fewer than this say nothing of what is usual."""


class Level(StrEnum):
    """How urgent: something is wrong, or should be looked at."""

    URGENT = "urgent"
    NOTICE = "notice"


class Kind(StrEnum):
    """What an alert is about."""

    API_UNREACHABLE = "api-unreachable"
    STALE = "stale"
    PART_STALE = "part-stale"
    NOT_READY = "not-ready"
    DRAW_FAILED = "draw-failed"
    DRAW_MISSING = "draw-missing"
    DRAW_RELAXED = "draw-relaxed"
    DRAW_UNSOUND = "draw-unsound"
    LOW_AGREEMENT = "low-agreement"
    FEW_REPORTS = "few-reports"
    VALIDATOR_SILENT = "validator-silent"
    PARTICIPATION_FELL = "participation-fell"
    VOLUME_FELL = "volume-fell"
    ONE_WINNER = "one-winner"
    TABLE_OLD = "table-old"


@dataclass(frozen=True)
class Thresholds:
    """When there is an alert; the settings ``ALERT_…`` set them.

    Args:
        stale_seconds: age from which figures are called old.
        unreachable_seconds: how long the API may fail to answer before that is an alert.
        reports_percent: an epoch has few reports where fewer of the usual number came.
        silent_epochs: so many epochs without a report of one that used to announce.
        fall_percent: a fall of participation or of volume by so much.
        winner_percent, winner_epochs: one hotkey that is first in so many of so many epochs.
        table_days: so long before the ZIP table's figures are too old.
    """

    stale_seconds: int = 180
    unreachable_seconds: int = 60
    reports_percent: int = 50
    silent_epochs: int = 2
    fall_percent: int = 30
    winner_percent: int = 90
    winner_epochs: int = 12
    table_days: int = 7


@dataclass(frozen=True)
class Alert:
    """One alert. ``since`` is None where nobody can know."""

    kind: Kind
    level: Level
    happened: str
    means: str
    todo: str
    since: datetime | None


Rule = Callable[[Snapshot, datetime, Thresholds], Iterator[Alert]]


def alerts_of(snapshot: Snapshot, now: datetime, limits: Thresholds) -> tuple[Alert, ...]:
    """All active alerts at a moment of this machine's clock: urgent ones first, then the oldest."""
    found = [alert for rule in _RULES for alert in rule(snapshot, now, limits)]
    late = datetime.max.replace(tzinfo=UTC)
    return tuple(
        sorted(found, key=lambda a: (a.level is not Level.URGENT, a.since or late, a.kind.value))
    )


def is_stale(snapshot: Snapshot, now: datetime, limits: Thresholds) -> bool:
    """Whether the running epoch's figures are too old to be shown as live ones, or not there."""
    age = snapshot.age(now)
    return age is None or age > timedelta(seconds=limits.stale_seconds)


# The API -----------------------------------------------------------------------------------------


def _unreachable(snapshot: Snapshot, now: datetime, limits: Thresholds) -> Iterator[Alert]:
    look = snapshot.look(Part.STATS)
    since = look.failing_since
    never = look.fetched_at is None
    if since is None or (not never and now - since < timedelta(seconds=limits.unreachable_seconds)):
        return
    yield Alert(
        Kind.API_UNREACHABLE,
        Level.URGENT,
        f"The API at {snapshot.api_url} cannot be read: {look.error}.",
        "Nothing was ever read from it."
        if never
        else "All figures are those of the last answer. Miners that have the assignment go on "
        "with it, and validators relay it to each other.",
        "Look whether the server runs and can be reached from here; `sn46 api check` on its "
        "machine says what is wrong. The dashboard goes on asking.",
        since,
    )


def _stale(snapshot: Snapshot, now: datetime, limits: Thresholds) -> Iterator[Alert]:
    look = snapshot.look(Part.STATS)
    if look.fetched_at is None or not is_stale(snapshot, now, limits):
        return
    yield Alert(
        Kind.STALE,
        Level.URGENT,
        f"The figures are from {look.fetched_at:%Y-%m-%d %H:%M:%S} UTC.",
        "What is shown is what was so then, not what is so now.",
        "See the alert on the API; where there is none, restart the dashboard and read its log.",
        look.fetched_at,
    )


_OTHER_PARTS: Final = tuple(part for part in Part if part is not Part.STATS)


def _parts_stale(snapshot: Snapshot, now: datetime, limits: Thresholds) -> Iterator[Alert]:
    """Parts that fail while the running epoch is read."""
    if is_stale(snapshot, now, limits):
        return
    patience = timedelta(seconds=limits.stale_seconds)
    for part in _OTHER_PARTS:
        look = snapshot.look(part)
        since = look.failing_since
        if since is None or now - since < patience:
            continue
        kept = "not there" if look.fetched_at is None else "those that were read before"
        yield Alert(
            Kind.PART_STALE,
            Level.NOTICE,
            f"Reading {part.value} fails: {look.error}.",
            f"What the pages show of {part.value} is {kept}.",
            "Look at the API's log for the refused requests."
            if part is not Part.REPORTS
            else "Look at S3_ENDPOINT_URL, VALIDATED_BUCKET and the keys, and whether the bucket "
            "is open to readers.",
            since,
        )


def _not_ready(snapshot: Snapshot, now: datetime, limits: Thresholds) -> Iterator[Alert]:
    seen = snapshot.look(Part.READY).fetched_at
    if seen is None or now - seen > timedelta(seconds=limits.stale_seconds):
        return
    for part in snapshot.ready:
        if not part.ok:
            means, todo = _PARTS.get(part.name, _OTHER_PART)
            yield Alert(
                Kind.NOT_READY,
                Level.URGENT,
                f"The API is not ready: {part.name}: {part.detail}.",
                means,
                todo,
                part.since,
            )


_OTHER_PART: Final = (
    "The server says itself that it is not fit to serve.",
    "`sn46 api check` on its machine says what to do.",
)
_PARTS: Final = {
    "database": (
        "Assignments that the server remembers are served, everything else is refused with 503.",
        "Bring the database back (DATABASE_URL); the server goes on by itself.",
    ),
    "limits": (
        "Nobody is served uncounted: signed requests are refused with 503.",
        "Bring the counters' Valkey back (LIMITS_STORAGE); it passes by itself then.",
    ),
    "store": (
        "Miners cannot upload, and validators cannot read uploads.",
        "Look at the S3 store and its keys; `sn46 api check` tries both buckets.",
    ),
    "chain": (
        "Who is registered is no longer known; once the view is too old every signed request is "
        "refused.",
        "Look at the node behind CHAIN_ENDPOINT, and whether the chain stands still.",
    ),
    "epoch": (
        "The running epoch has no draw, so miners have nothing to do.",
        "The server tries again by itself; its log says why it fails.",
    ),
    "scheduler": (
        "No further epoch is drawn.",
        "Restart the server, and read what its log said last.",
    ),
}


# Draws -------------------------------------------------------------------------------------------


def _draw(snapshot: Snapshot, now: datetime, limits: Thresholds) -> Iterator[Alert]:
    stats = snapshot.stats
    if stats is None or is_stale(snapshot, now, limits):
        return
    if stats.draw_error is not None:
        yield Alert(
            Kind.DRAW_FAILED,
            Level.URGENT,
            f"A draw failed: {stats.draw_error}",
            "Unless it succeeds before the epoch starts, that epoch has no assignment.",
            "Do what the sentence says: often the ZIP table is too old or too small for the rules "
            "(`sn46 zipcodes`, `sn46 api check`). It is tried again by itself.",
            stats.next_draw_at if stats.next_draw_at <= stats.now else None,
        )
    if stats.running is None and snapshot.epochs:
        yield Alert(
            Kind.DRAW_MISSING,
            Level.URGENT,
            f"Epoch {stats.epoch.id} has begun without a draw.",
            "Miners have nothing to do, and nobody earns anything in it.",
            "Read why in the API's log or with `sn46 api check`; the next epoch is drawn by itself "
            "once the cause is gone.",
            stats.epoch.start,
        )
    elif stats.running is None:
        yield Alert(
            Kind.DRAW_MISSING,
            Level.NOTICE,
            "No epoch is drawn yet.",
            "A new subnet waits for its first epoch, or EPOCH_GENESIS lies ahead.",
            "Nothing, where that is meant; else `sn46 api check` says what is missing.",
            None,
        )
    elif stats.running.relaxed:
        yield Alert(
            Kind.DRAW_RELAXED,
            Level.NOTICE,
            f"The draw of {stats.running.epoch.id} relaxed {', '.join(stats.running.relaxed)}.",
            "Too few ZIPs were eligible to keep all quotas; the draw is valid.",
            "Import fresh figures, or widen the rules: `sn46 plan` and docs/coverage.md say what "
            "is enough.",
            stats.running.epoch.start,
        )


def _unsound(snapshot: Snapshot, _now: datetime, _limits: Thresholds) -> Iterator[Alert]:
    """A published draw that does not hold: its signature, its seed, or the chain of commitments."""
    for epoch_id, fault in draw_faults(snapshot).items():
        record = snapshot.draws[epoch_id]
        if record.assignment is None and "rules of version" in fault:
            continue  # Of another time, which is no fault.
        yield Alert(
            Kind.DRAW_UNSOUND,
            Level.URGENT,
            f"The published draw of {epoch_id} does not hold: {fault}",
            "Anyone who audits it finds it; a changed SECRET_KEY or database is the usual cause.",
            f"`sn46 audit {epoch_id}` says all that differs; docs/audit.md says what it means.",
            record.drawn_at,
        )


def draw_faults(snapshot: Snapshot) -> dict[EpochId, str]:
    """What does not hold of each published draw, those without a fault left out."""
    faults = {d.epoch_id: d.fault for d in snapshot.draws.values() if d.fault}
    known = sorted(
        (d.assignment for d in snapshot.draws.values() if d.assignment is not None),
        key=lambda assignment: assignment.epoch,
    )
    for before, after in pairwise(known):
        if (
            before.epoch.next() == after.epoch
            and before.selection.next_commitment != after.selection.commitment
        ):
            faults.setdefault(
                after.epoch_id, "Its seed is not the one that the epoch before committed to."
            )
    return faults


def _table(snapshot: Snapshot, now: datetime, limits: Thresholds) -> Iterator[Alert]:
    table, newest = snapshot.table, _newest_rules(snapshot)
    if table is None or newest is None:
        return
    if table.newest is None:
        return
    epoch_id, days = newest
    until = datetime(table.newest.year, table.newest.month, table.newest.day, tzinfo=UTC)
    try:
        until += timedelta(days=days + 1)
    except OverflowError:
        return
    left = until - snapshot.api_now(now)
    if left > timedelta(days=limits.table_days):
        return
    over = left <= timedelta(0)
    yield Alert(
        Kind.TABLE_OLD,
        Level.URGENT if over else Level.NOTICE,
        f"The newest figures of the ZIP table are of {table.newest}; MAX_DATA_AGE_DAYS is {days}.",
        "No ZIP may be drawn any more from the table of the last published draw."
        if over
        else f"From {until:%Y-%m-%d} on none of its ZIPs may be drawn.",
        "Import newer figures (docs/zipcodes.md). A table that was imported since the draw of "
        f"{epoch_id} is seen here once an epoch drawn from it has ended.",
        until if over else until - timedelta(days=limits.table_days),
    )


def _newest_rules(snapshot: Snapshot) -> tuple[EpochId, int] | None:
    """The newest readable draw, and how old its figures might be."""
    found = [d.assignment for d in snapshot.draws.values() if d.assignment is not None]
    if not found:
        return None
    newest = max(found, key=lambda assignment: assignment.epoch)
    return newest.epoch_id, newest.selection.draw_rules.max_data_age_days


# Validators --------------------------------------------------------------------------------------


def due_epochs(snapshot: Snapshot) -> list[EpochRow]:
    """The epochs whose reports should have been there when the epochs were read, newest first."""
    moment = snapshot.api_now(snapshot.look(Part.EPOCHS).fetched_at or snapshot.started_at)
    return [row for row in snapshot.epochs if row.epoch.weights_by <= moment]


def _low_agreement(snapshot: Snapshot, _now: datetime, _limits: Thresholds) -> Iterator[Alert]:
    """Of the newest epoch with reports; that of earlier ones is on the page."""
    reported = snapshot.reported()
    if not reported or not reported[0].agreed.is_low:
        return
    row = reported[0]
    low = [one for one in reported[:_BEFORE] if one.agreed.is_low]
    count = "" if len(low) < 2 else f", as in {len(low)} of the last {min(_BEFORE, len(reported))}"
    yield Alert(
        Kind.LOW_AGREEMENT,
        Level.URGENT,
        f"Validators disagree on {row.id}{count}: {percent(row.agreed.hash_share)} have the same "
        f"result, {percent(row.agreed.top_share)} the same first three.",
        "Honest validators agree to the bit. Some read other uploads, run another version, or lie; "
        "the chain's weights follow the stake behind each.",
        f"`sn46 compare --epoch {row.id}` names the fields that differ. Ask those who are in the "
        "minority for their version and their log.",
        min(one.epoch.end for one in _run_of_low(reported)),
    )


def _run_of_low(reported: Sequence[EpochRow]) -> list[EpochRow]:
    """The newest epochs on which they disagree, without a break."""
    run: list[EpochRow] = []
    for row in reported:
        if not row.agreed.is_low:
            break
        run.append(row)
    return run


def _few_reports(snapshot: Snapshot, _now: datetime, limits: Thresholds) -> Iterator[Alert]:
    due = due_epochs(snapshot)
    if not due:
        return
    newest, usual = due[0], usual_reports(due[1:])
    count = newest.agreed.validators
    if count and (usual is None or count * 100 >= usual * limits.reports_percent):
        return
    if not count and usual is None and not any(row.agreed.validators for row in due):
        means = "No validator has announced anything yet; weights are not set."
    else:
        means = "Fewer validators check and publish; where none does, nobody is paid for the epoch."
    told = {0: "There is no report", 1: "There is 1 report"}.get(
        count, f"There are {count} reports"
    )
    expected = "" if usual is None else f"; usually there are {usual:g}"
    yield Alert(
        Kind.FEW_REPORTS,
        Level.NOTICE if count else Level.URGENT,
        f"{told} on {newest.id}{expected}.",
        means,
        "Ask the validators for `sn46 validator status`; the page Agreement says who is missing.",
        newest.epoch.weights_by,
    )


def usual_reports(before: Sequence[EpochRow]) -> float | None:
    """How many reports epochs usually have; None where too few epochs say so."""
    counts = [row.agreed.validators for row in before[:_BEFORE]]
    return float(median(counts)) if len(counts) >= _FEWEST_BEFORE and any(counts) else None


def _silent(snapshot: Snapshot, _now: datetime, limits: Thresholds) -> Iterator[Alert]:
    for validator, last in silent_validators(snapshot, limits.silent_epochs):
        yield Alert(
            Kind.VALIDATOR_SILENT,
            Level.NOTICE,
            f"The validator {short(validator)} announced nothing after {last.id}.",
            f"It did before. Its hotkey is {validator}.",
            "Its operator can see why with `sn46 validator status` and `sn46 validator doctor`.",
            last.epoch.next().weights_by,
        )


def silent_validators(snapshot: Snapshot, epochs: int) -> list[tuple[Hotkey, EpochRow]]:
    """Those who announced before and not in the last ``epochs`` due epochs that others announced,
    with the last epoch that each announced."""
    due = [row for row in due_epochs(snapshot) if snapshot.results.get(row.id)]
    lately, before = due[:epochs], due[epochs : epochs + _BEFORE]
    if len(lately) < epochs:
        return []
    heard = {
        announced.validator
        for row in snapshot.epochs
        if row.epoch >= lately[-1].epoch
        for announced in snapshot.results.get(row.id, ())
    }
    last: dict[Hotkey, EpochRow] = {}
    for row in before:
        for announced in snapshot.results[row.id]:
            last.setdefault(announced.validator, row)
    return sorted(((v, r) for v, r in last.items() if v not in heard), key=lambda one: one[0])


# Miners ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TakingPart:
    """How many took part in an epoch, and how many of them reached 95 % of the volume."""

    row: EpochRow
    participants: int
    reached: int


def taking_part(snapshot: Snapshot) -> list[TakingPart]:
    """Of each epoch with reports, newest first: what those who agree say."""
    found: list[TakingPart] = []
    for row in snapshot.reported():
        agree = [
            r
            for r in snapshot.results.get(row.id, ())
            if r.consensus_hash == row.agreed.consensus_hash
        ]
        if agree:
            pair = Counter((r.participants, r.reached) for r in agree)
            (participants, reached), _ = max(pair.items(), key=lambda item: (item[1], item[0]))
            found.append(TakingPart(row, participants, reached))
    return found


def _falling(snapshot: Snapshot, _now: datetime, limits: Thresholds) -> Iterator[Alert]:
    parts = taking_part(snapshot)
    newest, before = parts[:1], parts[1 : 1 + _BEFORE]
    if not newest or len(before) < _FEWEST_BEFORE:
        return
    one = newest[0]
    left = 100 - limits.fall_percent
    usual = float(median(part.participants for part in before))
    if one.participants * 100 < usual * left:
        yield Alert(
            Kind.PARTICIPATION_FELL,
            Level.NOTICE,
            f"{one.participants} miners took part in {one.row.id}, usually {usual:g} do.",
            "Miners stay away or fail: a portal that refuses, an expired key, a reward too small.",
            "Look at the reasons on the page Miners, and ask miners for `sn46 miner doctor`.",
            one.row.epoch.end,
        )
    shares = [part.reached / part.participants for part in before if part.participants]
    if one.participants and len(shares) >= _FEWEST_BEFORE:
        share, common = one.reached / one.participants, float(median(shares))
        if share * 100 < common * left:
            yield Alert(
                Kind.VOLUME_FELL,
                Level.NOTICE,
                f"{one.reached} of {one.participants} miners reached 95 % of the volume in "
                f"{one.row.id}; usually {percent(int(common * PPM))} do.",
                "More is asked for than miners find: the target is too high, expected listings are "
                "too many, or a portal refuses.",
                "Compare the draw's ZIPs with others; TARGET_LISTINGS, or TARGET_MODE=adaptive, "
                "which follows by itself.",
                one.row.epoch.end,
            )


def _one_winner(snapshot: Snapshot, _now: datetime, limits: Thresholds) -> Iterator[Alert]:
    rows = [row for row in snapshot.reported() if row.agreed.top][: limits.winner_epochs]
    if len(rows) < limits.winner_epochs:
        return
    firsts = Counter(row.agreed.top[0] for row in rows)
    winner, count = max(firsts.items(), key=lambda item: (item[1], item[0]))
    if count * 100 < limits.winner_percent * len(rows):
        return
    yield Alert(
        Kind.ONE_WINNER,
        Level.NOTICE,
        f"The miner {short(winner)} was first in {count} of the last {len(rows)} epochs.",
        "It may simply be the best. Where it always is, others give up, and nobody else would "
        f"notice what it leaves out. Its hotkey is {winner}; whose coldkey that is, and whether it "
        "owns other winners, stands on the chain and not here.",
        "Look at its page, and at GRACE_PERCENT and the target: a short grace lets machines win.",
        min(row.epoch.end for row in rows if row.agreed.top[0] == winner),
    )


_RULES: Final[tuple[Rule, ...]] = (
    _unreachable,
    _stale,
    _parts_stale,
    _not_ready,
    _draw,
    _unsound,
    _table,
    _low_agreement,
    _few_reports,
    _silent,
    _falling,
    _one_winner,
)
