"""An epoch's result for people: a table, and the reasons in plain words."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sn46.localnet.people import People
from sn46.localnet.results import EpochResult
from sn46.mechanism.names import PPM, Hotkey

_SHORT = {
    "hotkey_not_registered": "not registered",
    "manifest_missing": "no manifest in time",
    "manifest_signature": "manifest wrongly signed",
    "nonce_mismatch": "another epoch's nonce",
    "epoch_mismatch": "another epoch's manifest",
    "late": "late",
    "file_missing": "a file is missing",
    "file_hash_mismatch": "a file was changed",
    "file_schema": "a file cannot be read",
    "file_rows": "rows miscounted",
    "file_too_large": "a file is too large",
    "wrong_zipcode": "wrong ZIP code",
    "duplicates_over_limit": "too many duplicates",
    "out_of_range_over_limit": "too many impossible rows",
    "below_min_volume": "too few homes",
    "fake_listing": "a home that does not exist",
    "low_accuracy": "does not agree with the portal",
    "coldkey_limit": "its coldkey has won already",
}


def epoch_summary(result: EpochResult, people: People) -> RenderableType:
    """The table of an epoch, the reasons, the weights on the chain and the agreement."""
    parts: list[RenderableType] = []
    if result.reports:
        report = next(iter(result.reports.values()))
        miners: Mapping[str, Any] = report.get("miners") or {}
        parts += [_table(result, miners, people), *_reasons(miners, people)]
    parts += [*_chain_lines(result, people), _agreement(result)]
    return Group(*parts)


def _table(result: EpochResult, miners: Mapping[str, Any], people: People) -> Table:
    table = Table(title=f"Epoch {result.epoch.id}", title_justify="left", expand=False)
    table.add_column("miner", no_wrap=True)
    table.add_column("strategy", no_wrap=True)
    table.add_column("valid or why not", overflow="fold")
    for name in ("speed", "complete", "volume", "accuracy", "final", "weight"):
        table.add_column(name, justify="right", no_wrap=True)
    known = [(m.hotkey, m.name) for m in people.miners]
    known += [(Hotkey(h), "—") for h in miners if h not in people.strategies]
    for hotkey, strategy in sorted(known, key=lambda k: _order(miners.get(k[0]), k[1])):
        entry = miners.get(hotkey)
        if entry is None:
            table.add_row(short(hotkey), strategy, "submitted nothing", *[""] * 5, "0 %")
            continue
        table.add_row(
            short(hotkey),
            strategy,
            verdict(entry),
            *(_score(entry.get(n)) for n in ("speed", "completeness", "volume", "accuracy")),
            _score(entry.get("final")),
            _share(entry.get("weight")),
        )
    burnt = next(iter(result.reports.values())).get("weights", {}).get(people.owner.hotkey, 0)
    if burnt:
        table.add_row(short(people.owner.hotkey), "owner", "what nobody earned", *[""] * 5,
            _share(burnt))  # fmt: skip
    return table


def verdict(entry: Mapping[str, Any]) -> str:
    """Whether a miner's part of a report counts, and why not, in a few words."""
    codes = [str(reason["code"]) for reason in entry.get("reasons") or []]
    why = ", ".join(_SHORT.get(code, code.replace("_", " ")) for code in dict.fromkeys(codes))
    if not entry.get("valid"):
        return f"no: {why}" if why else "no"
    if entry.get("disqualified"):
        return f"disqualified: {why}"
    return f"yes, but {why}" if why else "yes"


def _reasons(miners: Mapping[str, Any], people: People) -> list[RenderableType]:
    """A line for each reason of each miner."""
    lines: list[RenderableType] = []
    for miner in people.miners:
        entry = miners.get(miner.hotkey)
        if entry is None:
            lines.append(_line(miner.name, "submitted nothing before the deadline."))
            continue
        for reason in entry.get("reasons") or []:
            lines.append(_line(miner.name, str(reason["detail"])))
    return lines


def _chain_lines(result: EpochResult, people: People) -> list[RenderableType]:
    names = {hotkey: name for hotkey, name in _names(people)}
    lines: list[RenderableType] = []
    for validator in people.validators:
        weights = result.weights_on_chain.get(validator.hotkey)
        if not weights:
            lines.append(_line(validator.name, "has no weights on the chain."))
            continue
        order = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join(f"{names.get(h, short(h))} {_share(w)}" for h, w in order)
        lines.append(_line(validator.name, f"weights on the chain: {listed}"))
    return lines


def _names(people: People) -> Sequence[tuple[Hotkey, str]]:
    return [(person.hotkey, person.name) for person in people.everyone()]


def _agreement(result: EpochResult) -> Text:
    if result.consensus:
        some = next(iter(result.hashes.values()))
        count = len(result.hashes)
        who = f"All {count} validators agree" if count > 1 else "The validator published"
        return Text(f"{who}: consensus_hash {some}", style="bold green")
    return Text("\n".join(result.faults) or "No validator published a report.", style="bold red")


def _line(who: str, what: str) -> Text:
    return Text.from_markup(f"  [bold]{escape(who)}[/bold]: {escape(what)}")


def _order(entry: Mapping[str, Any] | None, name: str) -> tuple[int, int, str]:
    if entry is None:
        return 1, 0, name
    return -int(entry.get("weight") or 0), -int(entry.get("final") or 0), name


def _score(ppm: Any) -> str:
    return f"{ppm / 10_000:.2f}" if isinstance(ppm, int) else "–"


def _share(ppm: Any) -> str:
    return f"{ppm * 100 / PPM:.2f} %" if isinstance(ppm, int) and ppm else "0 %"


def short(hotkey: str) -> str:
    """An address that a person can tell from others."""
    return f"{hotkey[:6]}…{hotkey[-4:]}"
