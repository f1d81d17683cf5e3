"""``sn46 plan``: what a goal needs, and what is impossible."""

import json as jsonlib
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sn46.commands.draws import (
    CooldownOption,
    HtmlOption,
    JsonOption,
    MinimumOption,
    Setting,
    StatesOption,
    TableOption,
    TargetOption,
    check_folder,
    read_setting,
    table_errors,
)
from sn46.commands.outcome import saying

if TYPE_CHECKING:
    from rich.console import Console

    from sn46.mechanism.planning import Plan, Reach, Way

PROXY_RATE = 10.0


@saying("plan", failed=table_errors)
def plan(
    listings: Annotated[int, typer.Option(min=1, help="The goal: so many different listings.")],
    days: Annotated[int, typer.Option(min=1, max=365, help="Within so many days.")] = 30,
    target: TargetOption = None,
    min_listings: MinimumOption = None,
    cooldown_hours: CooldownOption = None,
    states: StatesOption = None,
    table: TableOption = None,
    proxy_rate: Annotated[
        float,
        typer.Option(min=0.01, help="Listings that one proxy brings a miner in a minute."),
    ] = PROXY_RATE,
    html: HtmlOption = None,
    json: JsonOption = None,
) -> int:
    """Say what target, rate and proxies a number of listings needs, with re-draws counted, and
    what is impossible. Settings that are not given are those of the environment and .env."""
    from sn46.mechanism.planning import MOST_DAYS, make_plan

    check_folder(html, "--html")
    check_folder(json, "--json")
    setting = read_setting(
        table,
        days=MOST_DAYS,
        target_listings=target,
        min_zipcode_listings=min_listings,
        cooldown_hours=cooldown_hours,
        eligible_states=states,
    )

    def progress(text: str) -> None:
        print(f"drawing: {text} …", file=sys.stderr, flush=True)

    made = make_plan(
        setting.table, setting.rules, setting.start, goal=listings, days=days, progress=progress
    )
    _show(made, setting, proxy_rate)
    if json is not None:
        json.write_text(jsonlib.dumps(_figures(made, setting, proxy_rate), indent=1) + "\n")
    if html is not None:
        from sn46.commands.drawpages import write_plan

        write_plan(html, made, setting, proxy_rate)
        print(f"Written: {html}")
    return 0


def _show(plan: "Plan", setting: Setting, proxy_rate: float) -> None:
    from rich.console import Console

    console = (
        Console(highlight=False) if sys.stdout.isatty() else Console(width=120, highlight=False)
    )
    rules, supply, present = setting.rules, plan.supply, plan.present
    rate = plan.without_redraws * 60 / plan.epoch_seconds
    console.print(
        f"Goal: {plan.goal:,} different listings in {plan.days} days, from {setting.origin}.\n"
        f"May be drawn: {supply.eligible.zipcodes:,} ZIPs with {supply.eligible.listings:,} "
        f"listings ({rules.min_zipcode_listings} to {rules.max_zipcode_listings} each). Not: "
        f"{supply.too_small.zipcodes:,} that are too small ({supply.too_small.listings:,} listings)"
        f", {supply.too_large.zipcodes:,} too large ({supply.too_large.listings:,}), "
        f"{supply.elsewhere.zipcodes:,} in other states ({supply.elsewhere.listings:,}), "
        f"{supply.unknown.zipcodes:,} without a figure.\n"
        f"If nothing were drawn twice: {plan.without_redraws:,} an epoch, {rate:.0f} a minute.\n"
        f"The cooldown of {rules.cooldown_hours} hours allows targets up to {plan.most_target:,}.\n"
        f"At present, {present.target:,} an epoch ({present.per_minute:.0f} a minute): "
        f"{present.listings:,} listings in {plan.days} days, "
        f"{100 * present.listings / plan.goal:.0f} % of the goal; {present.drawn_again:.0f} % of "
        "what is drawn was drawn before.",
        soft_wrap=True,
    )
    for note in plan.notes:
        console.print(f"! {note}", soft_wrap=True)
    _show_ways(plan, proxy_rate, console)


def _show_ways(plan: "Plan", proxy_rate: float, console: "Console") -> None:
    from rich.table import Table

    from sn46.mechanism.planning import MOST_DAYS

    shown = Table(title="Ways to the goal", title_justify="left")
    for name in HEAD:
        shown.add_column(name.format(days=plan.days, target=f"{plan.present.target:,}"),
                         justify="right")  # fmt: skip
    for way in plan.ways:
        shown.add_row(*way_cells(way, plan.goal, proxy_rate))
    console.print(shown)
    best = plan.best
    if best is None or best.in_time is None:
        text = f"No way reaches the goal in {plan.days} days."
        if plan.soonest is not None and plan.soonest.at_present_target is not None:
            text += (
                f" MIN_ZIPCODE_LISTINGS={plan.soonest.min_zipcode_listings} reaches it in "
                f"{plan.soonest.at_present_target.days:.0f} days at the present target."
            )
        elif not any(way.supply.listings >= plan.goal for way in plan.ways):
            text += " The table does not hold so many; import figures, or admit more states."
        else:
            text += f" At the present target it takes over {MOST_DAYS} days."
        console.print(text, soft_wrap=True)
    else:
        console.print(advice(best, best.in_time, proxy_rate), soft_wrap=True)


HEAD = (
    "minimum",
    "cooldown",
    "may be drawn",
    "target for {days} days",
    "a minute",
    "proxies",
    "drawn again",
    "days at {target}",
)


def way_cells(way: "Way", goal: int, proxy_rate: float) -> list[str]:
    """A way as a table shows it, under ``HEAD``."""
    from sn46.mechanism.planning import MOST_DAYS, proxies_for

    cells = [
        f"{way.min_zipcode_listings}",
        f"{way.cooldown_hours} h",
        f"{way.supply.listings:,}",
    ]
    if way.in_time is None:
        cells += ["impossible", "", "", ""]
    else:
        reach = way.in_time
        cells += [
            f"{reach.target:,}",
            f"{reach.per_minute:.0f}",
            f"{proxies_for(reach.per_minute, proxy_rate)}",
            f"{reach.drawn_again:.0f} %",
        ]
    patient = way.at_present_target
    if patient is not None:
        return [*cells, f"{patient.days:.0f}"]
    return [*cells, "never" if way.supply.listings < goal else f"over {MOST_DAYS}"]


def advice(way: "Way", reach: "Reach", proxy_rate: float) -> str:
    """The way with the smallest target, in words."""
    from sn46.mechanism.planning import proxies_for

    proxies = proxies_for(reach.per_minute, proxy_rate)
    return (
        f"Smallest target: MIN_ZIPCODE_LISTINGS={way.min_zipcode_listings}, "
        f"COOLDOWN_HOURS={way.cooldown_hours}, TARGET_LISTINGS={reach.target}: "
        f"{reach.listings:,} listings in {reach.days:.0f} days, {reach.per_minute:.0f} a minute "
        f"for every miner, {proxies} proxies at {proxy_rate:g} listings a minute each."
    )


def _figures(plan: "Plan", setting: Setting, proxy_rate: float) -> dict[str, Any]:
    from sn46.mechanism.planning import proxies_for

    def reached(reach: "Reach | None") -> dict[str, Any] | None:
        if reach is None:
            return None
        return asdict(reach) | {
            "per_minute": round(reach.per_minute, 2),
            "drawn_again_percent": round(reach.drawn_again, 2),
            "proxies": proxies_for(reach.per_minute, proxy_rate),
        }

    return {
        "goal": plan.goal,
        "days": plan.days,
        "table": setting.origin,
        "rules": asdict(setting.rules) | {"eligible_states": _states(setting)},
        "proxy_rate": proxy_rate,
        "supply": asdict(plan.supply),
        "without_redraws": plan.without_redraws,
        "most_target": plan.most_target,
        "present": reached(plan.present),
        "ways": [
            {
                "min_zipcode_listings": way.min_zipcode_listings,
                "cooldown_hours": way.cooldown_hours,
                "supply": asdict(way.supply),
                "in_time": reached(way.in_time),
                "at_present_target": reached(way.at_present_target),
            }
            for way in plan.ways
        ],
        "notes": list(plan.notes),
    }


def _states(setting: Setting) -> list[str] | None:
    states = setting.rules.eligible_states
    return None if states is None else sorted(states)
