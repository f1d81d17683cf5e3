"""Snapshots made by hand: a subnet with as many epochs, validators and miners as a test wants."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from mechanism.builders import SECRET, assigned_zip, hotkey, new_assignment

from sn46.dashboard.snapshot import (
    Agreed,
    Announced,
    Checks,
    DrawRecord,
    EpochRow,
    Leader,
    Look,
    MinerRow,
    Part,
    PublishedEpoch,
    ReadyPart,
    ReasonRow,
    Running,
    Snapshot,
    Stats,
    TableAge,
    Tier,
)
from sn46.mechanism.assignment import selection_seed
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.names import PPM, Hotkey

EPOCH = Epoch(datetime(2026, 3, 15, 16, tzinfo=UTC))
"""The running one."""

NOW = EPOCH.start + timedelta(hours=1)
ANN, BOB, CID = (hotkey(name) for name in ("ann", "bob", "cid"))
VALIDATORS = tuple(hotkey(f"validator {n}") for n in range(3))
HASH, OTHER_HASH = "a" * 64, "b" * 64


def before(count: int) -> Epoch:
    """The epoch so many before the running one."""
    return Epoch(EPOCH.start - count * EPOCH.length)


def stats(**changes: Any) -> Stats:
    made = Stats(
        now=NOW,
        running=Running(EPOCH, target=10_000, listings=9_812, eligible=6_720, relaxed=()),
        epoch=EPOCH,
        grace_end=EPOCH.start + EPOCH.length / 2,
        next_draw_at=EPOCH.next().draw_at,
        tiers=(Tier("emerging", 4, 2_000), Tier("premium", 3, 2_812), Tier("standard", 5, 5_000)),
        credentials=41,
        statuses={"completed": 12, "in_progress": 7},
        drawn_epochs=120,
        zipcodes_ever=1_400,
        zipcodes_lately=900,
        draw_error=None,
    )
    return replace(made, **changes)


def announced(
    epoch: Epoch,
    validators: Sequence[Hotkey] = VALIDATORS,
    *,
    top: tuple[Hotkey, ...] = (ANN, BOB, CID),
    other: Sequence[Hotkey] = (),
    participants: int = 40,
    reached: int = 30,
) -> tuple[Announced, ...]:
    """Reports; those of ``other`` carry another hash."""
    return tuple(
        Announced(
            validator=validator,
            consensus_hash=OTHER_HASH if validator in other else HASH,
            top=top,
            participants=participants,
            reached=reached,
            at=epoch.evidence_deadline + timedelta(minutes=1),
        )
        for validator in validators
    )


def agreed(reports: Sequence[Announced]) -> Agreed:
    if not reports:
        return Agreed()
    same = sum(1 for report in reports if report.consensus_hash == HASH)
    share = same * PPM // len(reports)
    return Agreed(len(reports), HASH, share, reports[0].top, PPM)


def row(epoch: Epoch, reports: Sequence[Announced] = (), **changes: Any) -> EpochRow:
    made = EpochRow(epoch, 10_000, 9_800, 12, (), agreed(reports))
    return replace(made, **changes)


def with_reports(
    reports: Mapping[int, Sequence[Announced]], *, epochs: int | None = None, **changes: Any
) -> Snapshot:
    """A snapshot whose epochs have these reports, by how many epochs before the running one."""
    count = max([*reports, 0]) if epochs is None else epochs
    rows = tuple(row(before(n), reports.get(n, ())) for n in range(count + 1))
    found = {row.id: tuple(reports.get(n, ())) for n, row in enumerate(rows) if reports.get(n)}
    return snapshot(epochs=rows, results=found, **changes)


def usual(count: int = 8, **changes: Any) -> dict[int, tuple[Announced, ...]]:
    """Reports on the epochs from the second before the running one on, on which all agree."""
    return {n: announced(before(n), **changes) for n in range(2, count + 2)}


def snapshot(**changes: Any) -> Snapshot:
    """All is well."""
    looks = dict.fromkeys(Part, Look(NOW))
    made = Snapshot(
        api_url="http://api.example",
        started_at=NOW - timedelta(days=1),
        version=7,
        looks=looks,
        ready=(ReadyPart("store", True, "both buckets answer", NOW - timedelta(hours=3)),),
        stats=stats(),
    )
    return replace(made, **changes)


def draw_record(epoch: Epoch, **changes: Any) -> DrawRecord:
    """A draw that holds."""
    zips = [
        assigned_zip("15213", 900, market_tier="premium"),
        assigned_zip("98109", 700, state="WA", city="Seattle", latitude=47.63, longitude=-122.35),
        assigned_zip("33101", 400, state="FL", city="Miami", latitude=25.8, longitude=-80.2,
                     market_tier="emerging"),
    ]  # fmt: skip
    made = DrawRecord(
        epoch_id=epoch.id,
        drawn_at=epoch.draw_at,
        seed=selection_seed(SECRET, epoch.id),
        assignment=new_assignment(zips, epoch=epoch),
        fault=None,
    )
    return replace(made, **changes)


def miner_row(**changes: Any) -> MinerRow:
    made = MinerRow(
        valid=True, participant=True, candidate=True, disqualified=False, rank=1, speed=PPM,
        completeness=910_000, volume=980_000, accuracy=950_000, quality=864_500, final=941_800,
        credibility=953_488, credibility_epochs=12, weight=500_000, rows=9_700, rows_kept=9_612,
        zipcodes=12, checks=Checks(38, 2, 0, 1), submitted_at=EPOCH.start + timedelta(minutes=20),
        reasons=(),
    )  # fmt: skip
    return replace(made, **changes)


def published(epoch: Epoch, miners: Mapping[Hotkey, MinerRow] | None = None) -> PublishedEpoch:
    rows = miners or {
        ANN: miner_row(),
        BOB: miner_row(rank=2, final=800_000, weight=300_000),
        CID: miner_row(
            disqualified=True, rank=None, final=0, weight=0,
            reasons=(ReasonRow("fake_listing", 1, "portal:77 does not exist as submitted."),),
        ),
    }  # fmt: skip
    weights = {key: miner.weight for key, miner in rows.items() if miner.weight}
    return PublishedEpoch(epoch.id, VALIDATORS[0], HASH, rows, weights)


def busy(epochs: int = 8, **changes: Any) -> Snapshot:
    """A subnet at work, with everything that a page can show."""
    made = with_reports(usual(epochs))
    known = [before(n) for n in range(1, epochs + 2)]
    return replace(
        made,
        reads_reports=True,
        draws={epoch.id: draw_record(epoch) for epoch in known},
        published={epoch.id: published(epoch) for epoch in known if epoch.id in made.results},
        leaders=(Leader(ANN, epochs, 0, 0), Leader(BOB, 0, epochs, 0), Leader(CID, 0, 0, epochs)),
        leader_epochs=epochs,
        table=TableAge("c" * 64, 42_000, 6_720, date(2026, 3, 10), date(2026, 2, 1)),
        **changes,
    )
