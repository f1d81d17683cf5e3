"""How far the validators agree: epoch by epoch, and one epoch side by side."""

from collections import Counter
from collections.abc import Sequence
from string import ascii_uppercase

from sn46.dashboard.alerts import silent_validators
from sn46.dashboard.markup import Child, Html, h
from sn46.dashboard.pages.parts import (
    NOTHING,
    Moment,
    Row,
    facts,
    hotkey,
    note,
    number,
    page,
    section,
    share,
    table,
    time,
    validator,
)
from sn46.dashboard.snapshot import Announced, EpochRow
from sn46.mechanism.names import EpochId, Hotkey


def groups(reports: Sequence[Announced]) -> dict[str, str]:
    """A letter for each consensus_hash: A for the most common one, ties by the smaller hash."""
    counted = Counter(report.consensus_hash for report in reports)
    ordered = sorted(counted, key=lambda found: (-counted[found], found))
    last = len(ascii_uppercase) - 1
    return {found: ascii_uppercase[min(n, last)] for n, found in enumerate(ordered)}


def agreement_page(at: Moment) -> bytes:
    return page(
        at,
        "Agreement",
        "agreement",
        h("h1", "Agreement"),
        _matrix(at),
        note(
            "A is the result (consensus_hash) that most have, B the next; – is no report. Honest "
            "validators agree to the bit. Below 90 % is marked."
        ),
        _silent(at),
    )


def _matrix(at: Moment) -> Html:
    snapshot = at.snapshot
    rows = [row for row in snapshot.epochs if row.epoch.end <= at.api_now]
    counted = Counter(r.validator for reports in snapshot.results.values() for r in reports)
    validators = sorted(counted, key=lambda v: (-counted[v], v))
    head: list[Child] = ["Epoch", "Reports", "Same result", "Same first three"]
    head += [validator(key) for key in validators]
    lines = [_line(at, row, validators) for row in rows]
    return table(head, lines, label="Validators by epochs", empty="No epoch has ended yet.")


def _line(at: Moment, row: EpochRow, validators: Sequence[Hotkey]) -> Row:
    reports = {r.validator: r for r in at.snapshot.results.get(row.id, ())}
    letters = groups(list(reports.values()))
    agreed = row.agreed

    def letter(key: Hotkey) -> Child:
        if key not in reports:
            return h("span", NOTHING, class_="none")
        found = letters[reports[key].consensus_hash]
        return h("span", found, class_="group" if found == "A" else "group other")

    waits = row.epoch.weights_by > at.api_now and not agreed.validators
    return Row(
        [
            h("a", row.id, href=at.to("agreement", row.id)),
            "awaited" if waits else number(agreed.validators),
            share(agreed.hash_share) if agreed.validators else NOTHING,
            share(agreed.top_share) if agreed.validators else NOTHING,
            *map(letter, validators),
        ],
        mark="bad" if agreed.is_low else None,
    )


def _silent(at: Moment) -> Child:
    silent = silent_validators(at.snapshot, at.limits.silent_epochs)
    if not silent:
        return None
    rows = [Row([key, row.id]) for key, row in silent]
    return section(
        "Announced before, and no longer",
        table(["Validator", "Last epoch announced"], rows, label="Silent validators", left=2),
    )


def epoch_page(at: Moment, epoch_id: EpochId) -> bytes | None:
    """One epoch's reports side by side; None where it is not among those that are kept."""
    row = next((row for row in at.snapshot.epochs if row.id == epoch_id), None)
    if row is None:
        return None
    reports = at.snapshot.results.get(epoch_id, ())
    letters = groups(reports)
    lines = [_report(at, row, r, letters[r.consensus_hash]) for r in reports]
    agreed = row.agreed
    return page(
        at,
        f"Agreement on {epoch_id}",
        "agreement",
        h("h1", "Agreement on ", h("span", epoch_id, class_="epoch")),
        facts(
            [
                ("Reports", number(agreed.validators)),
                ("Same result", share(agreed.hash_share) if agreed.validators else NOTHING),
                ("Same first three", share(agreed.top_share) if agreed.validators else NOTHING),
                ("Agreed consensus_hash", h("code", agreed.consensus_hash or NOTHING)),
                ("Draw", h("a", epoch_id, href=at.to("draws", epoch_id))),
            ]
        ),
        table(
            ["Validator", "Result", "1st", "2nd", "3rd", "Took part", "95 % volume", "Announced"],
            lines,
            label="Reports side by side",
            left=5,
            empty=_why_none(at, row),
        ),
        _unread(at, epoch_id),
    )


def _report(at: Moment, row: EpochRow, report: Announced, letter: str) -> Row:
    top = [hotkey(key, at) for key in report.top]
    return Row(
        [
            validator(report.validator),
            h("span", letter, class_="group" if letter == "A" else "group other",
              title=report.consensus_hash),
            *top, *[NOTHING] * (3 - len(top)),
            number(report.participants),
            number(report.reached),
            time(report.at),
        ],
        mark="bad" if report.consensus_hash != row.agreed.consensus_hash else None,
    )  # fmt: skip


def _why_none(at: Moment, row: EpochRow) -> str:
    if row.epoch.end > at.api_now:
        return "The epoch has not ended."
    if row.epoch.weights_by > at.api_now:
        return f"Reports are due by {row.epoch.weights_by:%Y-%m-%d %H:%M} UTC."
    if row.agreed.validators:
        return "Who announced what is read for the last 20 epochs with reports alone."
    return "No validator announced a report."


def _unread(at: Moment, epoch_id: EpochId) -> Child:
    why = at.snapshot.unreadable.get(epoch_id)
    return None if why is None else note(f"The published report could not be read: {why}.")
