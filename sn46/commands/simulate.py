"""``sn46 simulate-draws``: every draw of some days, and what they add up to."""

import json as jsonlib
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
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
from sn46.commands.outcome import EXIT_FAILED, AskedWrongly, saying

if TYPE_CHECKING:
    from sn46.mechanism.capacity import Miners, Settling
    from sn46.mechanism.findings import Findings, Share
    from sn46.mechanism.simulating import SimulatedDraw

SEED = "sn46"


@saying("simulate-draws", failed=table_errors)
def simulate_draws(
    days: Annotated[int, typer.Option(min=1, max=3_650, help="So many days of draws.")] = 365,
    target: TargetOption = None,
    min_listings: MinimumOption = None,
    cooldown_hours: CooldownOption = None,
    states: StatesOption = None,
    table: TableOption = None,
    seed: Annotated[
        str, typer.Option(help="Stands for SECRET_KEY; another one gives other draws.")
    ] = SEED,
    miners_can: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Adaptive target: what the middle miner can do in an epoch, such as 8000; several "
            "separated by commas follow each other in equal parts of the time.",
        ),
    ] = None,
    miner_spread: Annotated[
        float,
        typer.Option(min=0, max=100, help="How far apart miners are: standard deviation in %."),
    ] = 5.0,
    html: HtmlOption = None,
    json: JsonOption = None,
) -> int:
    """Run every draw of a year, or of --days, as the API server would, with figures that imports
    keep fresh and nothing drawn before. Settings that are not given are those of the environment
    and .env. Exits with 1 where something that is to hold does not."""
    check_folder(html, "--html")
    check_folder(json, "--json")
    setting = read_setting(
        table,
        days=days,
        target_listings=target,
        min_zipcode_listings=min_listings,
        cooldown_hours=cooldown_hours,
        eligible_states=states,
    )
    network = _Network(miners_can, miner_spread, setting, days)
    found, settlings = _run(setting, network, days, seed)
    _show(found, settlings, setting)
    if json is not None:
        json.write_text(jsonlib.dumps(_figures(found, settlings, setting, seed), indent=1) + "\n")
    if html is not None:
        from sn46.commands.drawpages import write_simulation

        write_simulation(html, found, [text for _, text in settlings], setting, seed)
        print(f"Written: {html}")
    well = all(c.holds for c in found.criteria()) and all(s.holds for s, _ in settlings)
    return 0 if well else EXIT_FAILED


class _Network:
    """What the miners of ``--miners-can`` can do; nothing where that is not given.

    Raises:
        AskedWrongly: where the option cannot be read.
    """

    def __init__(self, text: str | None, spread: float, setting: Setting, days: int) -> None:
        self.phases: list[int] = []
        self.spread = spread / 100
        self.setting = setting
        self.epochs = days * 86_400 // setting.start.seconds
        if text is not None:
            parts = [part.strip().replace("_", "") for part in text.split(",")]
            if not all(part.isdigit() and int(part) > 0 for part in parts):
                raise AskedWrongly(
                    f"--miners-can {text} cannot be read. Write listings an epoch, such as 8000, "
                    "or 12000,8000 for a change half-way."
                )
            self.phases = [int(part) for part in parts]
            if len(self.phases) > self.epochs:
                raise AskedWrongly(
                    f"--miners-can has more parts than there are epochs in {days} days."
                )

    @property
    def miners(self) -> "Miners":
        from sn46.mechanism.capacity import Miners

        return Miners(spread=self.spread)

    def middle(self, number: int) -> int:
        """What the middle miner can do in epoch ``number``."""
        return self.phases[min(number * len(self.phases) // self.epochs, len(self.phases) - 1)]

    def targets(self) -> "Callable[[Sequence[SimulatedDraw]], int] | None":
        """Each epoch's target, None where it is fixed."""
        from sn46.mechanism.capacity import AdaptiveTargets

        settings = self.setting.settings
        if not self.phases:
            return None
        return AdaptiveTargets(
            self.miners,
            self.middle,
            first=settings.target_listings,
            least=settings.target_min,
            most=settings.target_max,
        )

    def settlings(self, draws: "Sequence[SimulatedDraw]") -> "list[tuple[Settling, str]]":
        """How the target settled in each phase, and that in words."""
        from sn46.mechanism.capacity import settling

        settings = self.setting.settings
        found: list[tuple[Settling, str]] = []
        for number, middle in enumerate(self.phases):
            phase = [
                d for k, d in enumerate(draws)
                if min(k * len(self.phases) // self.epochs, len(self.phases) - 1) == number
            ]  # fmt: skip
            made = settling(
                phase, self.miners, middle, least=settings.target_min, most=settings.target_max
            )
            found.append((made, _settled(made, middle)))
        return found


def _settled(made: "Settling", middle: int) -> str:
    when = "never settles" if made.epochs is None else f"settles after {made.epochs} epochs"
    steady = "steady" if made.steady else "not steady"
    return (
        f"miners who can do {middle:,}: the target {when} (12 are two days) between {made.low:,} "
        f"and {made.high:,}; after two days {made.least:,} to {made.most:,}, {steady}"
    )


def _run(
    setting: Setting, network: _Network, days: int, seed: str
) -> "tuple[Findings, list[tuple[Settling, str]]]":
    from sn46.mechanism.findings import Findings
    from sn46.mechanism.simulating import keyed_chance, simulated_draws

    endless = simulated_draws(
        setting.table,
        setting.rules,
        setting.start,
        chance=keyed_chance(seed.encode()),
        target_of=network.targets(),
    )
    with _told(network.epochs, setting, days) as told:
        draws = list(told(endless))
    return Findings(setting.table, draws), network.settlings(draws)


@contextmanager
def _told(
    epochs: int, setting: Setting, days: int
) -> "Generator[Callable[[Iterable[SimulatedDraw]], Iterator[SimulatedDraw]]]":
    """Passes on so many draws and tells how far they are: a bar on a terminal, else ten lines."""
    print(
        f"{epochs:,} draws of {days} days from {setting.origin}, "
        f"target {setting.rules.target_listings:,} …",
        file=sys.stderr,
        flush=True,
    )
    if not sys.stderr.isatty():
        step = max(1, epochs // 10)

        def lines(draws: "Iterable[SimulatedDraw]") -> "Iterator[SimulatedDraw]":
            for number, draw in zip(range(1, epochs + 1), draws, strict=False):
                yield draw
                if number % step == 0:
                    print(f"{number:,} of {epochs:,} draws", file=sys.stderr, flush=True)

        yield lines
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Drawing", total=epochs)

        def shown(draws: "Iterable[SimulatedDraw]") -> "Iterator[SimulatedDraw]":
            for _, draw in zip(range(epochs), draws, strict=False):
                yield draw
                bar.advance(task)

        yield shown


def _show(found: "Findings", settlings: "Sequence[tuple[Settling, str]]", setting: Setting) -> None:
    for criterion in found.criteria():
        print(f"{'ok  ' if criterion.holds else 'FAIL'} {criterion.text}")
    for made, text in settlings:
        print(f"{'ok  ' if made.holds else 'FAIL'} {text}")
    zipcodes, listings = found.covered()
    totals = found.totals
    print(
        f"listings a draw      {totals.least:,.0f} to {totals.most:,.0f}, mean {totals.mean:,.0f}\n"
        f"eligible             {len(found.eligible):,} ZIPs, {found.eligible_listings:,} listings\n"
        f"one pass             {found.pass_days:.1f} days\n"
        f"covered in 30 days   {listings.least:,.0f} to {listings.most:,.0f} listings, mean "
        f"{listings.mean:,.0f}; {zipcodes.least:,.0f} to {zipcodes.most:,.0f} ZIPs\n"
        f"waits                mean {found.waits.mean():.1f} days, longest "
        f"{found.longest_waits.max():.1f}; {found.waits_within:.2f} % within "
        f"{found.wait_limit:.0f} days; {found.zipcodes_within:.2f} % of ZIPs never waited longer\n"
        f"never drawn          {len(found.undrawn):,} ZIPs\n"
        f"Gini of times drawn  {found.gini:.3f}\n"
        f"relaxed              {found.relaxed_draws:,} draws"
        + "".join(f", {name} in {count:,}" for name, count in sorted(found.relaxed.items()))
    )
    print("share of listings    drawn %   eligible %   in one draw %      quota %")
    for share in (*found.tiers, *found.regions, *found.states[:8]):
        print(_share_line(share))
    if len(found.states) > 8:
        print(f"  and {len(found.states) - 8} more states")


def _share_line(share: "Share") -> str:
    eligible = "" if share.eligible is None else f"{share.eligible:.1f}"
    return (
        f"  {share.name:18} {share.drawn:7.1f} {eligible:>12}   "
        f"{share.least:5.1f} to {share.most:5.1f}   {share.quota[0]:3} to {share.quota[1]:3}"
    )


def _figures(
    found: "Findings",
    settlings: "Sequence[tuple[Settling, str]]",
    setting: Setting,
    seed: str,
) -> dict[str, Any]:
    zipcodes, listings = found.covered()
    states = setting.rules.eligible_states
    table = setting.table
    return {
        "table": setting.origin,
        "seed": seed,
        "days": found.days,
        "rules": asdict(setting.rules)
        | {"eligible_states": None if states is None else sorted(states)},
        "criteria": [asdict(criterion) for criterion in found.criteria()],
        "settling": [asdict(made) | {"holds": made.holds} for made, _ in settlings],
        "draws": len(found.draws),
        "refused": found.refused,
        "tolerance_misses": found.misses,
        "quota_breaches": found.quota_breaches,
        "relaxed": dict(found.relaxed),
        "cooldown_violations": found.cooldown_violations,
        "totals": asdict(found.totals),
        "eligible_zipcodes": len(found.eligible),
        "eligible_listings": found.eligible_listings,
        "pass_days": found.pass_days,
        "covered_in_30_days": {"zipcodes": asdict(zipcodes), "listings": asdict(listings)},
        "waits": {
            "mean_days": float(found.waits.mean()),
            "longest_days": float(found.longest_waits.max()),
            "limit_days": found.wait_limit,
            "within_limit_percent": found.waits_within,
            "zipcodes_within_limit_percent": found.zipcodes_within,
        },
        "undrawn": [table.rows[place].zipcode for place in found.undrawn.tolist()],
        "gini": found.gini,
        "tiers": [asdict(share) for share in found.tiers],
        "regions": [asdict(share) for share in found.regions],
        "states": [asdict(share) for share in found.states],
        "targets": [draw.target for draw in found.draws],
    }
