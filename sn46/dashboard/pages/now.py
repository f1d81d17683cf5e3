"""What is going on: the running epoch, its phases, and how the last one ended."""

from collections.abc import Sequence

from sn46.dashboard.alerts import taking_part
from sn46.dashboard.markup import Child, Html, h
from sn46.dashboard.pages.parts import (
    Moment,
    Row,
    alert_cards,
    cards,
    clock,
    hotkey,
    note,
    number,
    page,
    plural,
    section,
    share,
    table,
    time,
)
from sn46.dashboard.phases import Phase, judging, uploading
from sn46.dashboard.snapshot import Stats
from sn46.mechanism.times import format_time


def now_page(at: Moment) -> bytes:
    stats = at.snapshot.stats
    if stats is None:
        return page(at, "Now", "", alert_cards(at, brief=True), note("There are no figures yet."))
    return page(
        at,
        "Now",
        "",
        alert_cards(at, brief=True),
        h("h1", "Epoch ", h("span", stats.epoch.id, class_="epoch")),
        _phases(at, stats),
        _draw(stats),
        _participation(stats),
        section("Last result", h("p", last_result(at))),
    )


# Phases ------------------------------------------------------------------------------------------


def _phases(at: Moment, stats: Stats) -> Html:
    epoch, moment = stats.epoch, at.api_now
    left: Child = None
    if not at.stale:
        left = h(
            "p",
            h("b", clock(epoch.end - moment), data_until=format_time(at.ours(epoch.end))),
            " until the deadline at ", time(epoch.end, day=False), " UTC",
            class_="countdown",
        )  # fmt: skip
    before = epoch.previous()
    return h(
        "section",
        left,
        _line(at, f"Miners upload {epoch.id}", uploading(epoch, stats.grace_end)),
        _line(at, f"Validators judge {before.id}", judging(before)),
        note("The draw for ", epoch.next().id, " is made at ", time(stats.next_draw_at), " UTC."),
    )


def _line(at: Moment, title: str, phases: Sequence[Phase]) -> Html:
    return h(
        "div", h("h3", title), h("ol", [_phase(at, phase) for phase in phases], class_="phases")
    )


def _phase(at: Moment, phase: Phase) -> Html:
    moment = at.api_now
    current = phase.is_now(moment) and not at.stale
    ends: Child = ["until ", time(phase.end, day=False)]
    if current:
        until = format_time(at.ours(phase.end))
        ends = [h("span", clock(phase.end - moment), data_until=until), " left"]
    return h(
        "li",
        h("b", phase.name),
        h("span", phase.text, class_="dim"),
        h(
            "progress",
            max="1000",
            value=round(1000 * phase.done(moment)),
            data_start=None if at.stale else format_time(at.ours(phase.start)),
            data_end=None if at.stale else format_time(at.ours(phase.end)),
            aria_label=f"How much of “{phase.name}” is over",
        ),
        h("span", ends, class_="dim"),
        class_="now" if current else None,
        aria_current="step" if current else None,
    )


# Figures -----------------------------------------------------------------------------------------


def _draw(stats: Stats) -> Html:
    running = stats.running
    if running is None:
        return section("Draw", h("p", "This epoch has no draw."))
    zipcodes = sum(tier.zipcodes for tier in stats.tiers)
    off = (running.listings - running.target) * 1_000_000 // running.target if running.target else 0
    shown = cards(
        [
            (number(running.listings), f"homes to find, target {number(running.target)}"),
            (f"{'+' if off > 0 else ''}{off / 10_000:.1f} %", "off the target"),
            (number(zipcodes), f"ZIPs of {number(running.eligible)} eligible"),
            (number(stats.zipcodes_lately), "different ZIPs drawn in 30 days"),
        ]
    )
    listings = sum(tier.listings for tier in stats.tiers)
    rows = [
        Row(
            [
                tier.name,
                number(tier.zipcodes),
                number(tier.listings),
                share(tier.listings * 1_000_000 // listings) if listings else None,
            ]
        )
        for tier in stats.tiers
    ]
    tiers = table(["Tier", "ZIPs", "Homes", "Share"], rows, label="Tiers of the draw")
    relaxed = note("Relaxed: ", ", ".join(running.relaxed), ".") if running.relaxed else None
    return section(
        "Draw",
        shown,
        tiers,
        relaxed,
        note("Which ZIPs these are is public once the epoch has ended."),
    )


_STATUSES = {
    "in_progress": "at work, as they say",
    "completed": "done, as they say",
    "failed": "failed, as they say",
    "timeout": "out of time, as they say",
}


def _participation(stats: Stats) -> Html:
    said = [(number(n), _STATUSES.get(name, name)) for name, n in sorted(stats.statuses.items())]
    return section(
        "Participation",
        cards([(number(stats.credentials), "miners fetched upload credentials"), *said]),
    )


def last_result(at: Moment) -> Child:
    """The last epoch with reports, in a line."""
    reported = at.snapshot.reported()
    if not reported:
        return "No validator has announced a report yet."
    row = reported[0]
    agreed = row.agreed
    same = (
        "all agree"
        if agreed.hash_share == 1_000_000 and agreed.validators > 1
        else f"{share(agreed.hash_share)} agree"
    )
    if agreed.validators == 1:
        same = "nobody to compare it with"
    who: list[Child] = []
    for place, winner in enumerate(agreed.top):
        who += [", " if place else "", hotkey(winner, at)]
    part = next((p for p in taking_part(at.snapshot) if p.row.id == row.id), None)
    took: Child = None
    if part is not None:
        took = (
            f" {plural(part.participants, 'miner')} took part, {part.reached} of them reached 95 % "
            "of the volume."
        )
    return [
        h("a", row.id, href=at.to("agreement", row.id)), ": ",
        plural(agreed.validators, "report"), ", ", same, ". ",
        ["First three: ", who, "."] if who else "Nobody won.",
        took,
    ]  # fmt: skip
