"""The audit of draws (mechanism 3): whatever was drawn by the rules is clean, and whatever was
changed afterwards is named."""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sn46.mechanism.assignment import (
    Assignment,
    assignment_nonce,
    seed_commitment,
    selection_seed,
)
from sn46.mechanism.auditing import (
    DrawAudit,
    DrawTracker,
    PastDraw,
    PublicRecord,
    PublicTable,
    PublishedDraw,
    audit_draw,
    compare_history,
    read_published,
)
from sn46.mechanism.draw import ALGORITHM, DrawRules, ZipRow, draw_zipcodes
from sn46.mechanism.drawtable import DrawTable
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.names import EpochId
from sn46.mechanism.reported import (
    AnnouncedReport,
    ReportHistory,
    active_validators,
    agreed_figures,
    counted_until,
    reported_epochs,
)
from sn46.mechanism.rules import Rules
from sn46.mechanism.selection import AdaptiveTarget, FixedTarget, Selection, TargetBasis
from sn46.mechanism.signing import sign_document

from .builders import EPOCH, SECRET, hotkey, key, zip_row

VERSION = "ab" * 32
VALIDATORS = tuple(hotkey(f"v{n}") for n in range(3))
STATES = ("PA", "TX", "OH", "CA", "NJ", "FL")
ROWS = tuple(
    zip_row(
        10_000 + 7 * n,
        state=STATES[n % 6],
        expected_listings=210 + 37 * (n * n % 29),
        population=4_000 + 71 * n,
        home_value=90_000 + 7_919 * n % 800_000,
    )
    for n in range(150)
)
LEAST, MOST = 4_000, 9_000


@dataclass
class Drawn:
    """A draw with everything that was public when it was made."""

    assignment: Assignment
    published: PublishedDraw
    record: PublicRecord


class Owner:
    """An honest owner: draws epoch after epoch as the API server does, and publishes it all."""

    def __init__(self, *, adaptive: bool, secret: bytes = SECRET) -> None:
        self.adaptive = adaptive
        self.secret = secret
        self.rules = DrawRules(target_listings=6_000, cooldown_hours=8)
        self.rows: Sequence[ZipRow] = ROWS
        self.tracker = DrawTracker()
        self.reports: list[AnnouncedReport] = []
        self.last: dict[str, Any] | None = None

    def basis(self, epoch: Epoch) -> TargetBasis:
        if not self.adaptive:
            return FixedTarget()
        newest = self.tracker.newest
        previous = self.rules.target_listings if newest is None else newest.target_listings
        epochs = reported_epochs(epoch, self.reports, self.tracker.targets)
        return AdaptiveTarget(previous, LEAST, MOST, epochs)

    def draw(self, epoch: Epoch) -> Drawn:
        basis = self.basis(epoch)
        target = self.rules.target_listings if isinstance(basis, FixedTarget) else basis.target
        rules = replace(self.rules, target_listings=target)
        seed = selection_seed(self.secret, epoch.id)
        draw = draw_zipcodes(self.rows, self.tracker.history, rules, epoch, seed)
        active = active_validators(epoch, self.reports)
        assignment = Assignment(
            epoch=epoch,
            nonce=assignment_nonce(self.secret, epoch, draw.zipcodes),
            rules=Rules(),
            validators=tuple(v for v in VALIDATORS if v in active) or VALIDATORS,
            zipcodes=draw.zipcodes,
            selection=Selection(
                algorithm=ALGORITHM,
                commitment=seed_commitment(seed),
                next_commitment=seed_commitment(selection_seed(self.secret, epoch.next().id)),
                seed=seed,
                table_version=VERSION,
                draw_rules=rules,
                target_basis=basis,
                relaxed=draw.relaxed,
            ),
            api_hotkey=hotkey("api"),
        )
        document = json.loads(json.dumps(assignment.sign(key("api"))))
        record = PublicRecord(
            history=copy.deepcopy(self.tracker.history),
            before=self.tracker.newest,
            before_document=self.last,
            table=PublicTable(VERSION, DrawTable(self.rows)),
            reports=tuple(self.reports),
            targets=dict(self.tracker.targets),
        )
        published = PublishedDraw(document, seed, epoch.draw_at + timedelta(seconds=2))
        zipcodes = tuple(z.zipcode for z in draw.zipcodes)
        self.tracker.add(PastDraw(epoch, target, zipcodes))
        self.last = document
        return Drawn(assignment, published, record)

    def report(self, epoch: Epoch, name: int, reached: int, *, late: bool = False) -> None:
        due = epoch.end + epoch.length * (0.9 if late else 0.7)
        who = VALIDATORS[name]
        self.reports.append(AnnouncedReport(epoch.id, epoch.start, who, 20, reached, due))


def audited(drawn: Drawn) -> DrawAudit:
    assignment = read_published(drawn.assignment.epoch_id, drawn.published, hotkey("api"))
    if isinstance(assignment, DrawAudit):
        return assignment
    return audit_draw(assignment, drawn.published, drawn.record)


def epochs_of(owner: Owner, count: int, reached: Callable[[int], int] = lambda n: 19) -> Drawn:
    """The last of some epochs, each reported on by all validators as it should be."""
    epoch, drawn = EPOCH, None
    for n in range(count):
        drawn = owner.draw(epoch)
        for name in range(len(VALIDATORS)):
            owner.report(epoch, name, reached(n))
        epoch = epoch.next()
    assert drawn is not None
    return drawn


@pytest.fixture(scope="module")
def fifth() -> Drawn:
    """The fifth draw of an adaptive owner."""
    return epochs_of(Owner(adaptive=True), 5)


def test_an_honest_draw_is_clean(fifth: Drawn) -> None:
    found = audited(fifth)
    assert found.agrees
    assert found.drawn is not None
    assert found.drawn.zipcodes == fifth.assignment.zipcodes
    assert found.notes == ()
    assert fifth.assignment.target_listings > 6_000  # the basis had something to say
    assert len(fifth.record.reports) == 12


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_whatever_an_honest_owner_does_is_clean(data: st.DataObject) -> None:
    """Gaps, new rules and tables, validators that are late, differ or stay away."""
    owner = Owner(adaptive=data.draw(st.booleans()))
    epoch = EPOCH
    for _ in range(data.draw(st.integers(2, 9))):
        owner.rules = replace(
            owner.rules,
            cooldown_hours=data.draw(st.sampled_from([0, 4, 24])),
            tier_shares=data.draw(st.sampled_from([(30, 50, 20), (20, 50, 30)])),
            eligible_states=data.draw(st.sampled_from([None, frozenset(STATES[:5])])),
        )
        owner.rows = ROWS[data.draw(st.integers(0, 9)) :]
        found = audited(owner.draw(epoch))
        assert found.agrees, [str(d) for d in found.differences]
        for name in range(len(VALIDATORS)):
            if data.draw(st.booleans()):
                owner.report(
                    epoch, name, data.draw(st.integers(0, 20)), late=data.draw(st.booleans())
                )
        epoch = epoch.next() if data.draw(st.integers(0, 4)) else epoch.next().next()


def fields_named(found: DrawAudit) -> set[str]:
    return {difference.field for difference in found.differences}


def resigned(drawn: Drawn, change: Callable[[Any], None], signer: str = "api") -> Drawn:
    """The draw with its assignment changed and signed again."""
    document = {k: v for k, v in drawn.published.document.items() if k != "signature"}
    document = copy.deepcopy(document)
    change(document)
    signed = sign_document(document, key(signer))
    return replace(drawn, published=replace(drawn.published, document=signed))


def set_in(*path: Any) -> Callable[[Any], None]:
    """Set what stands at a path to its last part."""

    def change(document: Any) -> None:
        for step in path[:-2]:
            document = document[step]
        document[path[-2]] = path[-1]

    return change


def other_zip(document: Any) -> None:
    """Another ZIP in place of a drawn one, with the same listings."""
    taken = {z["zipcode"] for z in document["zipcodes"]}
    free = next(row.zipcode for row in ROWS if row.zipcode not in taken)
    document["zipcodes"][0]["zipcode"] = free
    document["zipcodes"].sort(key=lambda z: z["zipcode"])


def fewer(document: Any) -> None:
    gone = document["zipcodes"].pop()
    document["total_expected_listings"] -= gone["expected_listings"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_zip, "ZIP "),
        (fewer, "total_expected_listings"),
        (set_in("zipcodes", 0, "market_tier", "none"), "market_tier"),
        (set_in("zipcodes", 1, "city", "Elsewhere"), "city"),
        (set_in("zipcodes", 1, "latitude", 41.5), "latitude"),
        (set_in("selection", "relaxed", ["tiers"]), "relaxed"),
        (set_in("selection", "algorithm", "dice/1"), "algorithm"),
        (set_in("selection", "table_version", "cd" * 32), "table"),
        (set_in("selection", "commitment", "cd" * 32), "seed"),
        (set_in("selection", "seed", "cd" * 32), "seed"),
        (set_in("selection", "draw_rules", "cooldown_hours", 0), "ZIP "),
        (set_in("selection", "draw_rules", "eligible_states", ["PA"]), "ZIP "),
        (set_in("selection", "draw_rules", "eligible_states", ["AK"]), "zipcodes"),
        (set_in("selection", "draw_rules", "tier_shares", [10, 50, 40]), "ZIP "),
        (set_in("target_listings", 7_500), "target_listings"),
        (set_in("selection", "target_basis", "previous", 7_500), "target_basis.previous"),
        (set_in("selection", "target_basis", "most", 6_001), "target_listings"),
        (set_in("selection", "target_basis", "epochs", []), "target_basis of "),
        (set_in("selection", "target_basis", "epochs", 0, "reached", 3), "target_basis of "),
        (set_in("selection", "target_basis", "epochs", 1, "target", 5_000), "target_basis of "),
        (set_in("validators", [hotkey("friend")]), "validators"),
        (set_in("validators", [*VALIDATORS, hotkey("friend")]), "validators"),
    ],
)
def test_what_an_owner_signs_against_the_rules_is_named(
    fifth: Drawn, change: Callable[[Any], None], named: str
) -> None:
    found = audited(resigned(fifth, change))
    assert any(named in field for field in fields_named(found)), found.differences


def test_the_basis_is_written_in_order(fifth: Drawn) -> None:
    def turn(document: Any) -> None:
        document["selection"]["target_basis"]["epochs"].reverse()

    def repeat(document: Any) -> None:
        epochs = document["selection"]["target_basis"]["epochs"]
        epochs.append(epochs[-1])

    for change in (turn, repeat):
        assert "target_basis.epochs" in fields_named(audited(resigned(fifth, change)))


def test_an_assignment_that_is_not_the_apis_ends_the_audit(fifth: Drawn) -> None:
    forged = resigned(fifth, set_in("api_hotkey", hotkey("mallory")), signer="mallory")
    broken = replace(
        fifth,
        published=replace(fifth.published, document={**fifth.published.document, "nonce": "0"}),
    )
    older = {k: v for k, v in fifth.assignment.selection.to_json().items() if k != "draw_rules"}
    for drawn in (forged, broken, resigned(fifth, set_in("selection", older))):
        found = audited(drawn)
        assert fields_named(found) == {"assignment"}
        assert found.drawn is None
    assert isinstance(read_published("previous", forged.published), Assignment)


def test_another_epochs_draw_is_no_answer(fifth: Drawn) -> None:
    found = read_published(EpochId("2024-03-15-16:00"), fifth.published)
    assert isinstance(found, DrawAudit)
    assert fields_named(found) == {"epoch_id"}


def with_record(drawn: Drawn, **changes: Any) -> Drawn:
    return replace(drawn, record=replace(drawn.record, **changes))


def test_a_false_seed_is_named(fifth: Drawn) -> None:
    false = replace(fifth, published=replace(fifth.published, seed="ef" * 32))
    found = audited(false)
    assert fields_named(found) == {"seed"}
    assert found.drawn is None


def test_a_seed_that_nothing_committed_to_is_named(fifth: Drawn) -> None:
    """The owner tries seeds until it likes the draw: the epoch before had committed to another."""
    before = fifth.record.before_document
    assert before is not None
    unsigned = {k: v for k, v in before.items() if k != "signature"}
    unsigned = copy.deepcopy(unsigned)
    unsigned["selection"]["next_commitment"] = "ef" * 32
    other = sign_document(unsigned, key("api"))
    assert fields_named(audited(with_record(fifth, before_document=other))) == {"commitment"}
    tampered = {**before, "nonce": "0"}
    (named,) = fields_named(audited(with_record(fifth, before_document=tampered)))
    assert named.startswith("assignment of ")
    (named,) = fields_named(audited(with_record(fifth, before_document=None)))
    assert named.startswith("draw of ")


def test_a_time_at_which_nothing_is_drawn_is_named(fifth: Drawn) -> None:
    epoch = fifth.assignment.epoch
    for moment in (epoch.draw_at - timedelta(seconds=1), epoch.end):
        at = replace(fifth, published=replace(fifth.published, drawn_at=moment))
        assert fields_named(audited(at)) == {"drawn_at"}
    late = replace(fifth, published=replace(fifth.published, drawn_at=epoch.start))
    assert audited(late).agrees
    assert "drawn 0 s after" in audited(late).notes[0]


@pytest.mark.parametrize(
    "table",
    [
        PublicTable("cd" * 32, DrawTable(ROWS)),
        "the API has none",
    ],
)
def test_a_table_that_is_another_is_named(fifth: Drawn, table: Any) -> None:
    found = audited(with_record(fifth, table=table))
    assert fields_named(found) == {"table"}
    assert found.drawn is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("expected_listings", 351),
        ("expected_listings", None),
        ("state", "WA"),
        ("city", "Other"),
        ("home_value", None),
        ("updated_on", None),
        ("longitude", -80.0),
    ],
)
def test_one_changed_row_of_a_drawn_zip_is_named(fifth: Drawn, field: str, value: Any) -> None:
    """Were it possible to find a table of the same hash."""
    drawn = fifth.assignment.zipcodes[0].zipcode
    rows = [replace(row, **{field: value}) if row.zipcode == drawn else row for row in ROWS]
    if field == "home_value":  # tiers are by rank: all others would have to be worth less
        rows = [replace(row, home_value=None) for row in ROWS]
    found = audited(with_record(fifth, table=PublicTable(VERSION, DrawTable(rows))))
    assert found.differences


def test_another_history_is_named(fifth: Drawn) -> None:
    known = dict(fifth.record.history.last_drawn)
    drawn = fifth.assignment.zipcodes[0].zipcode
    start = fifth.assignment.epoch.start
    cooling = replace(fifth.record.history, last_drawn={**known, drawn: start - timedelta(hours=1)})
    assert f"ZIP {drawn}" in fields_named(audited(with_record(fifth, history=cooling)))


def test_the_history_is_held_against_what_was_signed(fifth: Drawn) -> None:
    assignment = fifth.assignment
    zipcodes = tuple(z.zipcode for z in assignment.zipcodes)
    past = PastDraw(assignment.epoch, assignment.target_listings, zipcodes)
    assert compare_history(past, assignment) == []
    for other in (
        replace(past, zipcodes=zipcodes[1:]),
        replace(past, target_listings=1),
        replace(past, epoch=Epoch(past.epoch.start, 3_600)),
    ):
        assert len(compare_history(other, assignment)) == 1
    before = fifth.record.before
    assert before is not None
    lied = replace(before, zipcodes=before.zipcodes[1:])
    assert f"history of {before.epoch.id}" in fields_named(audited(with_record(fifth, before=lied)))


def test_reports_that_say_otherwise_are_named(fifth: Drawn) -> None:
    reports = list(fifth.record.reports)
    fewer = [replace(r, reached=3) for r in reports[:3]] + reports[3:]
    found = audited(with_record(fifth, reports=fewer))
    assert fields_named(found) == {f"target_basis of {EPOCH.id}"}
    withheld = [r for r in reports if r.validator_hotkey != VALIDATORS[0]]
    assert fields_named(audited(with_record(fifth, reports=withheld))) == {"validators"}


def test_a_validator_that_reported_and_is_not_named_is_noted(fifth: Drawn) -> None:
    found = audited(resigned(fifth, set_in("validators", list(VALIDATORS[1:]))))
    assert found.agrees
    assert VALIDATORS[0] in found.notes[0]


def test_the_first_draw_and_one_after_a_gap_had_no_commitment() -> None:
    owner = Owner(adaptive=False)
    first = audited(owner.draw(EPOCH))
    assert first.agrees
    assert "first draw on record" in first.notes[0]
    later = audited(owner.draw(EPOCH.next().next()))
    assert later.agrees
    assert "not on record" in later.notes[0]


def test_other_secrets_from_one_epoch_to_the_next_are_named() -> None:
    owner = Owner(adaptive=False)
    owner.draw(EPOCH)
    owner.secret = b"another secret"
    assert fields_named(audited(owner.draw(EPOCH.next()))) == {"commitment"}


@pytest.mark.parametrize("seconds", [7_200, 28_800])
def test_a_change_of_the_epochs_length_frees_no_owner_of_its_commitment(seconds: int) -> None:
    owner = Owner(adaptive=False)
    # It ends at midnight, where epochs of every length begin.
    last = Epoch(EPOCH.start.replace(hour=20), EPOCH.seconds)
    owner.draw(last)
    honest = audited(owner.draw(Epoch(last.end, seconds)))
    assert (honest.differences, honest.notes) == ((), ())
    owner = Owner(adaptive=False)
    owner.draw(last)
    owner.secret = b"another secret"
    assert fields_named(audited(owner.draw(Epoch(last.end, seconds)))) == {"commitment"}


def test_reports_count_up_to_a_quarter_of_an_epoch_before() -> None:
    owner, epoch = Owner(adaptive=True), EPOCH.next().next()
    targets = {EPOCH.start: 6_000}
    owner.report(EPOCH, 0, 20)
    owner.report(EPOCH, 1, 3, late=True)
    in_time, late = owner.reports
    assert in_time.announced_at <= counted_until(epoch) < late.announced_at
    assert counted_until(epoch) == EPOCH.weights_by  # when it can no longer be replaced
    assert active_validators(epoch, owner.reports) == {VALIDATORS[0]}
    (counted,) = reported_epochs(epoch, owner.reports, targets)
    assert (counted.participants, counted.reached) == (20, 20)
    both = {VALIDATORS[0], VALIDATORS[1]}
    assert active_validators(epoch.next(), owner.reports) == both
    assert reported_epochs(epoch, [late], targets) == ()
    assert reported_epochs(epoch, [in_time], {}) == ()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_the_figures_of_most_reports_hold(figures: list[tuple[int, int]]) -> None:
    agreed = agreed_figures(figures)
    most = max(figures.count(pair) for pair in figures)
    assert agreed == min(pair for pair in figures if figures.count(pair) == most)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2), st.booleans())), st.integers(0, 45)
)
def test_no_report_that_matters_is_overlooked(
    made: list[tuple[int, int, bool]], number: int
) -> None:
    owner = Owner(adaptive=True)
    for n, name, late in made:
        owner.report(Epoch(EPOCH.start + n * EPOCH.length), name, 10 + n % 10, late=late)
    epoch = Epoch(EPOCH.start + number * EPOCH.length)
    targets = {EPOCH.start + n * EPOCH.length: 6_000 for n in range(41)}
    found = ReportHistory(owner.reports).before(epoch)
    assert active_validators(epoch, found) == active_validators(epoch, owner.reports)
    expected = reported_epochs(epoch, owner.reports, targets)
    assert reported_epochs(epoch, found, targets) == expected


def test_a_history_grows_forwards_only() -> None:
    tracker = DrawTracker()
    tracker.add(PastDraw(EPOCH.next(), 6_000, ()))
    for epoch in (EPOCH, EPOCH.next()):
        with pytest.raises(ValueError, match="not after"):
            tracker.add(PastDraw(epoch, 6_000, ()))
