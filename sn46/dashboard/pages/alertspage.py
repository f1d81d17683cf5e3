"""All active alerts, and what is watched."""

from sn46.dashboard.markup import Html, h
from sn46.dashboard.pages.parts import (
    NOTHING,
    Moment,
    Row,
    ago,
    alert_cards,
    note,
    page,
    section,
    table,
)
from sn46.dashboard.snapshot import Part, Snapshot


def alerts_page(at: Moment) -> bytes:
    return page(
        at,
        "Alerts",
        "alerts",
        h("h1", "Alerts"),
        alert_cards(at) if at.alerts else h("p", "There is none.", class_="good"),
        _readiness(at),
        _looks(at),
    )


def _readiness(at: Moment) -> Html:
    rows = [
        Row(
            [part.name, "ok" if part.ok else "not ready", part.detail, ago(part.since, at)],
            mark=None if part.ok else "bad",
        )
        for part in at.snapshot.ready
    ]
    head = ["Part", "State", "What it says", "Since"]
    return section("Is the API fit?", table(head, rows, label="Parts of the API", left=4))


def _looks(at: Moment) -> Html:
    """When each part was read last, so that nobody need guess how old a figure is."""
    snapshot = at.snapshot
    rows: list[Row] = []
    for part in Part:
        if part is Part.REPORTS and not snapshot.reads_reports:
            continue
        look = snapshot.look(part)
        rows.append(
            Row(
                [
                    part.value,
                    ago(look.fetched_at, at) if look.fetched_at else NOTHING,
                    look.error or "read",
                ],
                mark="bad" if look.error else None,
            )
        )
    return section(
        "What the dashboard read",
        table(["What", "Last read", "How it went"], rows, label="What was read", left=3),
        note("The dashboard was started ", ago(snapshot.started_at, at), ". ", _reports(snapshot)),
    )


def _reports(snapshot: Snapshot) -> str:
    if not snapshot.reads_reports:
        return "It reads no published reports: VALIDATED_BUCKET is not set."
    return f"It keeps the reports on {len(snapshot.published)} epochs."
