"""An epoch's result for people: a table, and the reasons in plain words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from sn46.localnet.people import People
from sn46.localnet.results import EpochResult
from sn46.mechanism.names import PPM, Hotkey
from sn46.mechanism.wording import short, verdict
from sn46.printing import printable

_LINE = 200
_WHY = "valid or why not"
_SCORES = ("speed", "complete", "volume", "accuracy", "final", "weight")
_FOLDED = 20
"""Reasons are folded to so many characters, and no further."""

_ANY_WIDTH = 1_000


def epoch_summary(result: EpochResult, people: People) -> RenderableType:
    """The table of an epoch, the reasons, the weights on the chain and the agreement."""
    names = {person.hotkey: person.name for person in people.everyone()}
    parts: list[RenderableType] = []
    if result.reports:
        report = next(iter(result.reports.values()))
        miners = {miner.hotkey: miner.name for miner in people.miners}
        parts.append(report_table(report, names=miners))
        parts += report_lines(report, names=miners)
    parts += [*_chain_lines(result, people, names), _agreement(result)]
    return Group(*parts)


def report_table(report: Mapping[str, Any], *, names: Mapping[Hotkey, str]) -> RenderableType:
    """A report's miners, best paid first. ``names`` are the miners that are known by one, and
    stand in the table whether they submitted anything or not. Where the terminal is too narrow
    for hotkeys and lines, the table does without them."""
    rows = _rows(report, names)
    title = f"Epoch {report.get('epoch_id')}"
    wide = Table(title=title, title_justify="left")
    narrow = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=0
    )
    _fill(wide, ("miner", "strategy") if names else ("miner",), rows, lambda row: row.who)
    _fill(narrow, ("miner",), rows, lambda row: (row.called,))
    return _Fitting(wide, narrow)


@dataclass(frozen=True)
class _Row:
    """A line of a report's table: ``who`` are its first cells, ``called`` is the same in short."""

    who: tuple[str, ...]
    called: str
    cells: Sequence[str]


def _rows(report: Mapping[str, Any], names: Mapping[Hotkey, str]) -> list[_Row]:
    miners: Mapping[str, Any] = report.get("miners") or {}

    def row(hotkey: str, name: str, cells: Sequence[str]) -> _Row:
        who = (short(hotkey), name) if names else (hotkey,)
        return _Row(who, name or short(hotkey), cells)

    known = {**{Hotkey(hotkey): "" for hotkey in miners}, **names}
    order = sorted(known, key=lambda h: (_order(miners.get(h)), known[h], h))
    rows = [row(hotkey, known[hotkey], _cells(miners.get(hotkey))) for hotkey in order]
    for hotkey, weight in (report.get("weights") or {}).items():
        if hotkey not in known and weight:
            cells = ["what nobody earned", *[""] * 5, _share(weight)]
            rows.append(row(hotkey, "owner" if names else "", cells))
    return rows


def _fill(
    table: Table,
    titles: Sequence[str],
    rows: Sequence[_Row],
    who: Callable[[_Row], Sequence[str]],
) -> None:
    """Give a table its columns and rows. Only the reasons may be folded: a number or a name of
    which a part is missing says nothing."""
    lines = [(*who(row), *row.cells) for row in rows]
    for number, title in enumerate((*titles, _WHY, *_SCORES)):
        widest = max(cell_len(text) for text in (title, *(line[number] for line in lines)))
        if title == _WHY:
            table.add_column(title, overflow="fold", min_width=min(widest, _FOLDED))
        else:
            right = "right" if title in _SCORES else "left"
            table.add_column(title, justify=right, no_wrap=True, min_width=widest)
    for line in lines:
        table.add_row(*line)


@dataclass(frozen=True)
class _Fitting:
    """Two forms of one thing: the narrow one is shown where the wide one does not fit."""

    wide: Table
    narrow: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        needed = Measurement.get(console, options.update(width=_ANY_WIDTH), self.wide).minimum
        yield self.wide if needed <= options.max_width else self.narrow


def report_lines(report: Mapping[str, Any], *, names: Mapping[Hotkey, str]) -> list[Text]:
    """A line for each reason of each miner, in the report's own words, and one where a lot decided
    between the first three."""
    miners: Mapping[str, Any] = report.get("miners") or {}
    lines = [
        _line(name, "submitted nothing before the deadline.")
        for hotkey, name in names.items()
        if hotkey not in miners
    ]
    for hotkey, entry in miners.items():
        who = names.get(Hotkey(hotkey), short(hotkey))
        lines += [
            _line(who, _first_words(printable(str(reason["detail"]))))
            for reason in entry.get("reasons") or []
        ]
    scores = [entry.get("final") for entry in miners.values() if (entry.get("rank") or 9) <= 3]
    if len(set(scores)) < len(scores):
        lines.append(Text("  Who has the same score stands where a lot after the deadline put it."))
    return lines


def _cells(entry: Mapping[str, Any] | None) -> list[str]:
    """From the verdict to the weight."""
    if entry is None:
        return ["submitted nothing", *[""] * 5, "0 %"]
    scores = ("speed", "completeness", "volume", "accuracy", "final")
    return [verdict(entry), *(_score(entry.get(n)) for n in scores), _share(entry.get("weight"))]


def _chain_lines(
    result: EpochResult, people: People, names: Mapping[Hotkey, str]
) -> list[RenderableType]:
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


def _agreement(result: EpochResult) -> Text:
    if result.consensus:
        some = next(iter(result.hashes.values()))
        count = len(result.hashes)
        who = f"All {count} validators agree" if count > 1 else "The validator published"
        return Text(f"{who}: consensus_hash {some}", style="bold green")
    return Text("\n".join(result.faults) or "No validator published a report.", style="bold red")


def _first_words(detail: str) -> str:
    """A reason that fits a line or two; the report has all of it."""
    return detail if len(detail) <= _LINE else f"{detail[:_LINE].rpartition(' ')[0]} …"


def _line(who: str, what: str) -> Text:
    return Text.from_markup(f"  [bold]{escape(who)}[/bold]: {escape(what)}")


def _order(entry: Mapping[str, Any] | None) -> tuple[int, int, int]:
    """Best paid first, then by score; who submitted nothing comes last."""
    if entry is None:
        return 1, 0, 0
    return 0, -int(entry.get("weight") or 0), -int(entry.get("final") or 0)


def _score(ppm: Any) -> str:
    return f"{ppm / 10_000:.2f}" if isinstance(ppm, int) else "–"


def _share(ppm: Any) -> str:
    return f"{ppm * 100 / PPM:.2f} %" if isinstance(ppm, int) and ppm else "0 %"
