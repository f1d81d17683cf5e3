"""The pages of ``--html``: what a plan or a simulation found, as a map and charts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sn46.commands.draws import Setting
from sn46.commands.pictures import (
    Bar,
    Mark,
    bar_chart,
    cards,
    histogram,
    line_chart,
    number,
    paragraph,
    section,
    table,
    verdicts,
    write_page,
)
from sn46.commands.plan import HEAD, advice, way_cells
from sn46.mechanism.drawinputs import ZipRow
from sn46.mechanism.findings import PASSES, Findings, Share
from sn46.mechanism.planning import Plan, proxies_for
from sn46.zipmap import Dot, map_data, map_svg

_STATES_SHOWN: Final = 16
_BINS: Final = 60


def write_simulation(
    path: Path, found: Findings, settled: Sequence[str], setting: Setting, seed: str
) -> None:
    """Write the page of a simulation. ``settled`` says how an adaptive target came to rest.

    Raises:
        OSError: where it cannot be written.
    """
    rows = setting.table.rows
    eligible: list[int] = found.eligible.tolist()
    times, longest = found.times_drawn, found.longest_waits
    dots = [
        _dot(rows[p], f"drawn {times[p]} times, longest wait {longest[p]:.0f} days")
        for p in eligible
    ]
    drawn = [float(times[place]) or None for place in eligible]
    waits = [float(longest[place]) if times[place] else None for place in eligible]
    criteria = [(c.holds, c.text) for c in found.criteria()]
    parts = [
        cards(_cards(found)),
        verdicts(criteria),
        "".join(paragraph(text) for text in settled),
        map_svg(dots, drawn, label="How often each ZIP was drawn", say=lambda v: f"{v:.0f} times"),
        map_svg(dots, waits, label="Its longest wait", say=lambda v: f"{v:.0f} days"),
        section("Draws", _totals(found), *_targets(found)),
        section("Coverage", _coverage(found), _waits(found)),
        section("Shares against quotas", *_shares(found)),
    ]
    write_page(
        path,
        title="Simulated draws",
        lead=f"{len(found.draws):,} draws of {found.days:.0f} days from {setting.origin}, target "
        f"{found.rules.target_listings:,}, seed “{seed}”. Figures stay fresh, as if imports went "
        "on; nothing was drawn before.",
        parts=parts,
        zips=map_data(dots),
    )


def write_plan(path: Path, plan: Plan, setting: Setting, proxy_rate: float) -> None:
    """Write the page of a plan.

    Raises:
        OSError: where it cannot be written.
    """
    supply, present = plan.supply, plan.present
    places = [p for p, row in enumerate(setting.table.rows) if row.expected_listings]
    dots = [
        _dot(row, f"{row.expected_listings:,} listings")
        for row in (setting.table.rows[place] for place in places)
    ]
    values = [float(setting.table.expected_numbers[place]) for place in places]
    best = plan.best
    said = [(False, note) for note in plan.notes]
    if best is not None and best.in_time is not None:
        said.append((True, advice(best, best.in_time, proxy_rate)))
    rows = [way_cells(way, plan.goal, proxy_rate) for way in plan.ways]
    head = [name.format(days=plan.days, target=f"{present.target:,}") for name in HEAD]
    shown = [
        (f"{present.listings:,}", f"listings in {plan.days} days at present"),
        (f"{100 * present.listings / plan.goal:.0f} %", "of the goal"),
        (f"{supply.eligible.listings:,}", "listings may be drawn"),
        (f"{plan.without_redraws:,}", "an epoch, were nothing drawn twice"),
        (f"{proxies_for(present.per_minute, proxy_rate)}", "proxies a miner at present"),
    ]
    parts = [
        cards(shown),
        verdicts(said),
        f"<h2>Ways to the goal</h2>{table(head, rows)}",
        section("What there is", _minimum_chart(plan, setting)),
        map_svg(dots, values, label="Expected listings", say=lambda v: f"{v:,.0f}"),
    ]
    write_page(
        path,
        title=f"{plan.goal:,} listings in {plan.days} days",
        lead=f"From {setting.origin}; {setting.rules.min_zipcode_listings} to "
        f"{setting.rules.max_zipcode_listings} listings a ZIP, target "
        f"{setting.rules.target_listings:,}, cooldown {setting.rules.cooldown_hours} hours.",
        parts=parts,
        zips=map_data(dots),
    )


def _dot(row: ZipRow, text: str) -> Dot:
    place = ", ".join(part for part in (row.city, row.state) if part)
    return Dot(row.latitude, row.longitude, f"{row.zipcode} {place}: {text}")


def _cards(found: Findings) -> list[tuple[str, str]]:
    zipcodes, listings = found.covered()
    return [
        (f"{listings.mean:,.0f}", "different listings in 30 days"),
        (f"{zipcodes.mean:,.0f}", f"of {len(found.eligible):,} ZIPs in 30 days"),
        (f"{found.pass_days:.1f}", "days for one pass"),
        (f"{found.longest_waits.max():.0f}", "days, the longest wait"),
        (f"{found.gini:.3f}", "Gini of times drawn"),
        (f"{found.relaxed_draws:,}", "draws relaxed a quota"),
    ]


def _days(found: Findings) -> list[float]:
    return [number / found.epochs_a_day for number in range(len(found.draws))]


def _totals(found: Findings) -> str:
    days = _days(found)
    values = [(x, float(d.total)) for x, d in zip(days, found.draws, strict=True)]
    band = [
        (x, float(draw.rules.least), float(draw.rules.most))
        for x, draw in zip(days, found.draws, strict=True)
    ]
    return line_chart(
        "Listings of each epoch",
        values,
        x_name="day",
        y_name="listings",
        band=band,
        from_zero=False,
        note=f"The area is the tolerance. Mean {number(found.totals.mean)}.",
    )


def _targets(found: Findings) -> list[str]:
    """A chart where the target moves."""
    targets = [float(draw.target) for draw in found.draws]
    if len(set(targets)) == 1:
        return []
    values = list(zip(_days(found), targets, strict=True))
    return [line_chart("The adaptive target", values, x_name="day", y_name="listings")]


def _coverage(found: Findings) -> str:
    values = [(0.0, 0.0), *((float(d), float(n)) for d, _, n in found.covered_by_day)]
    return line_chart(
        "Different listings drawn since the first day",
        values,
        x_name="day",
        y_name="listings",
        marks=[Mark(float(found.eligible_listings), "all that are eligible")],
    )


def _waits(found: Findings) -> str:
    return histogram(
        "How long ZIPs waited for their next draw",
        [float(value) for value in found.waits],
        bins=_BINS,
        x_name="days",
        y_name="waits",
        marks=[Mark(found.wait_limit, f"{found.wait_limit:.0f} days")],
        note=f"{found.waits_within:.2f} % of the waits are within {found.wait_limit:.0f} days; "
        f"{PASSES} passes take {PASSES * found.pass_days:.0f}.",
    )


def _shares(found: Findings) -> list[str]:
    def bars(shares: Sequence[Share]) -> list[Bar]:
        return [Bar(s.name, s.drawn, (s.least, s.most), s.quota) for s in shares]

    note = "Bar: of all listings. Line below: from the least to the most of a draw. Tick: quota."
    states = found.states[:_STATES_SHOWN]
    left = len(found.states) - len(states)
    return [
        bar_chart("Tiers", bars(found.tiers), unit="%", note=note),
        bar_chart("Census regions", bars(found.regions), unit="%"),
        bar_chart(
            "States", bars(states), unit="%", note=f"And {left} more states." if left else ""
        ),
    ]


def _minimum_chart(plan: Plan, setting: Setting) -> str:
    """Listings that may be drawn, by the smallest ZIP that is admitted."""
    most = setting.rules.max_zipcode_listings
    known = sorted(e for e in setting.table.expected_numbers if 0 < e <= most)
    held = sum(known)
    values: list[tuple[float, float]] = []
    place = 0
    for minimum in range(1, 601):
        while place < len(known) and known[place] < minimum:
            held -= known[place]
            place += 1
        values.append((float(minimum), float(held)))
    return line_chart(
        "Listings that may be drawn, by MIN_ZIPCODE_LISTINGS",
        values,
        x_name="smallest ZIP admitted",
        y_name="listings",
        marks=[Mark(float(plan.goal), "goal")],
    )
