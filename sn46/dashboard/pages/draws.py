"""The draws: epoch by epoch, and one epoch's ZIPs with what makes the draw checkable."""

from collections import Counter
from collections.abc import Mapping, Sequence

from sn46.dashboard.alerts import draw_faults
from sn46.dashboard.markup import Child, Html, h
from sn46.dashboard.pages.charts import zip_map
from sn46.dashboard.pages.parts import (
    NOTHING,
    Moment,
    Row,
    code,
    facts,
    note,
    number,
    page,
    plural,
    section,
    share,
    table,
    time,
)
from sn46.dashboard.snapshot import DrawRecord, EpochRow
from sn46.mechanism.assignment import Assignment
from sn46.mechanism.drawinputs import TIERS
from sn46.mechanism.names import PPM, EpochId
from sn46.mechanism.selection import AdaptiveTarget

_STATES_SHOWN = 4
_HEAD = [
    "Epoch", "Target", "Homes", "ZIPs", "States", "Premium / standard / emerging", "Chain",
    "Relaxed",
]  # fmt: skip


def draws_page(at: Moment) -> bytes:
    faults = draw_faults(at.snapshot)
    rows = [_row(at, row, faults) for row in at.snapshot.epochs]
    return page(
        at,
        "Draws",
        "draws",
        h("h1", "Draws"),
        table(
            _HEAD, rows, label="Draws of the last epochs", last=4, empty="No epoch has begun yet."
        ),
        note(
            "Chain: the revealed seed is the one that was committed to, and the commitment is the "
            "one that the epoch before had announced. Whether the draw itself follows from them, ",
            code("sn46 audit"), " tells.",
        ),
    )  # fmt: skip


def _row(at: Moment, row: EpochRow, faults: Mapping[EpochId, str]) -> Row:
    record = at.snapshot.draws.get(row.id)
    ended = row.epoch.end <= at.api_now
    assignment = record.assignment if record else None
    return Row(
        [
            h("a", row.id, href=at.to("draws", row.id)),
            number(row.target),
            number(row.listings),
            number(row.zipcodes),
            _states(assignment) if assignment else NOTHING,
            _tiers(assignment) if assignment else NOTHING,
            _chain(at, record, faults) if ended else "open until its end",
            ", ".join(row.relaxed) or NOTHING,
        ],
        mark="bad" if row.id in faults else None,
    )


def _states(assignment: Assignment) -> str:
    homes: Counter[str] = Counter()
    for zip_ in assignment.zipcodes:
        homes[zip_.state] += zip_.expected_listings
    named = [state for state, _ in homes.most_common(_STATES_SHOWN)]
    more = len(homes) - len(named)
    return f"{', '.join(named)}{f' and {more} more' if more > 0 else ''}"


def _tiers(assignment: Assignment) -> str:
    homes: Counter[str] = Counter()
    for zip_ in assignment.zipcodes:
        homes[zip_.market_tier] += zip_.expected_listings
    total = max(1, sum(homes.values()))
    return " / ".join(f"{homes[tier] * 100 / total:.0f}" for tier in TIERS) + " %"


def _chain(at: Moment, record: DrawRecord | None, faults: Mapping[EpochId, str]) -> str:
    if record is None:
        return "not read yet"
    if record.epoch_id in faults:
        return "does not hold"
    before = _before(at, record)
    return "holds" if before is not None else "seed holds"


def _before(at: Moment, record: DrawRecord) -> Assignment | None:
    """The readable draw of the epoch before."""
    if record.assignment is None:
        return None
    before = at.snapshot.draws.get(record.assignment.epoch.previous().id)
    return before.assignment if before else None


def draw_page(at: Moment, epoch_id: EpochId) -> bytes | None:
    """One epoch's draw; None where it is not among those that are kept."""
    row = next((row for row in at.snapshot.epochs if row.id == epoch_id), None)
    if row is None:
        return None
    record = at.snapshot.draws.get(epoch_id)
    return page(
        at,
        f"Draw of {epoch_id}",
        "draws",
        h("h1", "Draw of ", h("span", epoch_id, class_="epoch")),
        facts(
            [
                ("Epoch", [time(row.epoch.start), " to ", time(row.epoch.end), " UTC"]),
                ("Homes", f"{number(row.listings)} of a target of {number(row.target)}"),
                ("ZIPs", number(row.zipcodes)),
                ("Relaxed", ", ".join(row.relaxed) or "nothing"),
                ("Agreement", h("a", "reports side by side", href=at.to("agreement", epoch_id))),
            ]
        ),
        _published(at, row, record),
    )


def _published(at: Moment, row: EpochRow, record: DrawRecord | None) -> Child:
    if row.epoch.end > at.api_now:
        return note("The ZIPs and the seed are public once the epoch has ended.")
    if record is None:
        return note("The draw has not been read from the API yet.")
    fault = draw_faults(at.snapshot).get(row.id)
    wrong = None if fault is None else h("p", fault, class_="bad")
    assignment = record.assignment
    if assignment is None:
        return wrong
    return [
        wrong,
        zip_map(assignment.zipcodes, at.to("static", "country.svg")),
        _zipcodes(assignment),
        _checkable(at, record, assignment),
    ]


def _zipcodes(assignment: Assignment) -> Html:
    rows = [
        Row([z.zipcode, z.city, z.county, z.state, z.market_tier, number(z.expected_listings)])
        for z in sorted(assignment.zipcodes, key=lambda z: (-z.expected_listings, z.zipcode))
    ]
    states: Counter[str] = Counter()
    for zip_ in assignment.zipcodes:
        states[zip_.state] += zip_.expected_listings
    total = max(1, assignment.total_expected_listings)
    spread: Sequence[str] = [f"{s} {share(n * PPM // total)}" for s, n in states.most_common()]
    return section(
        plural(len(rows), "ZIP"),
        note("By state: ", ", ".join(spread), "."),
        table(
            ["ZIP", "City", "County", "State", "Tier", "Homes"], rows, label="ZIPs of the draw",
            left=5,
        ),
    )  # fmt: skip


def _checkable(at: Moment, record: DrawRecord, assignment: Assignment) -> Html:
    selection, before = assignment.selection, _before(at, record)
    announced = "its epoch before is not among those that are kept"
    if before is not None:
        same = before.selection.next_commitment == selection.commitment
        announced = (
            f"as {before.epoch_id} had announced" if same else f"{before.epoch_id} had another one"
        )
    basis = selection.target_basis
    audit = f"sn46 audit {record.epoch_id} --api {at.snapshot.api_url}"
    return section(
        "What makes it checkable",
        facts(
            [
                ("Drawn at", [time(record.drawn_at), " UTC"]),
                ("Seed", code(record.seed)),
                ("Commitment", [code(selection.commitment), f" {announced}"]),
                ("Next commitment", code(selection.next_commitment)),
                ("ZIP table", code(selection.table_version)),
                ("Algorithm", selection.algorithm),
                ("Target", "adaptive" if isinstance(basis, AdaptiveTarget) else "fixed"),
                ("Signed by", code(assignment.api_hotkey)),
                (
                    "Make it again",
                    code(audit),
                ),
            ]
        ),
        note("The audit needs no key: see docs/audit.md."),
    )
