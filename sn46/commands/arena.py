"""``sn46 arena``: what cheating earns beside honest work, played on the real rules."""

import json as jsonlib
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sn46.commands.draws import check_folder
from sn46.commands.outcome import EXIT_FAILED, AskedWrongly, saying

if TYPE_CHECKING:
    from collections.abc import Generator

    from sn46.arena.running import Results
    from sn46.arena.strategies import Strategy
    from sn46.mechanism.rules import Rules

SEED = "sn46"


@saying("arena")
def arena(
    epochs: Annotated[int, typer.Option(min=1, max=10_000, help="So many epochs.")] = 20,
    seed: Annotated[str, typer.Option(help="From which the market, draws and luck follow.")] = SEED,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STRATEGY",
            help="Play this strategy and what it stands beside; may be given several times.",
        ),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Play with this rule of the assignment, such as grace_percent=6; may be given "
            "several times.",
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes; by default one for each core.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write every epoch's figures to this file.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="Write the documentation's page to this file.")
    ] = None,
) -> int:
    """Play strategies of miners, honest and not, in a simulated market on the real rules, and show
    what each earned beside honest work of the same effort. Exits with 1 where a cheat earned
    more."""
    check_folder(json, "--json")
    check_folder(page, "--page")
    # Frames are small here, and many threads over small frames only wait for each other.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    from sn46.arena.page import claim, write_page
    from sn46.arena.running import run

    strategies = _chosen(only or ())
    rules = _rules(rule or ())
    parts = len(strategies) * epochs
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    with _progress(parts) as progress:
        results = run(seed, epochs, strategies, rules=rules, jobs=jobs or cores, progress=progress)
    _show(results)
    if json is not None:
        json.write_text(jsonlib.dumps(results.to_json(), separators=(",", ":")) + "\n")
    if page is not None:
        page.write_text(write_page(results) + "\n")
    print(claim(results))
    return EXIT_FAILED if any(s.earns_more for s in results.cheats()) else 0


def _rules(asked: Sequence[str]) -> "Rules":
    """The rules by default, but for those that were asked for."""
    from sn46.mechanism.errors import AssignmentError
    from sn46.mechanism.rules import Rules

    default = Rules().to_json()
    names = [name for name in default if name != "version"]
    changed: dict[str, object] = {}
    for one in asked:
        name, _, text = one.partition("=")
        if name not in names:
            raise AskedWrongly(
                f"“{one}” is no rule: write NAME=VALUE. The rules are: {', '.join(names)}."
            )
        if isinstance(default[name], str):
            changed[name] = text
        elif text.isdecimal():
            changed[name] = int(text)
        else:
            raise AskedWrongly(f"“{one}”: write a whole number, such as {name}={default[name]}.")
    try:
        return Rules.from_json(default | changed)
    except AssignmentError as error:
        raise AskedWrongly(str(error)) from error


def _chosen(names: Sequence[str]) -> "list[Strategy]":
    from difflib import get_close_matches

    from sn46.arena.running import chosen
    from sn46.arena.strategies import STRATEGIES

    for name in names:
        if name not in STRATEGIES:
            [closest] = get_close_matches(name, STRATEGIES, 1, 0)
            raise AskedWrongly(
                f"There is no strategy {name}. Did you mean {closest}? All are: "
                f"{', '.join(STRATEGIES)}."
            )
    return chosen(names)


@contextmanager
def _progress(parts: int) -> "Generator[Callable[[int, int], None]]":
    """A bar on a terminal, else a line for each tenth."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("playing", total=parts)
            yield lambda done, of: bar.update(task, completed=done)
        return
    said = [0]

    def tell(done: int, of: int) -> None:
        tenth = done * 10 // of
        if tenth > said[0]:
            said[0] = tenth
            print(f"{done:,} of {of:,} fields played", file=sys.stderr, flush=True)

    yield tell


def _show(results: "Results") -> None:
    from sn46.arena.page import CHEAT_COLUMNS, HONEST_COLUMNS, cheat_rows, honest_rows

    _table("Honest work", HONEST_COLUMNS, honest_rows(results))
    if results.cheats():
        _table(
            "Cheats beside honest work of the same effort",
            CHEAT_COLUMNS,
            cheat_rows(results.cheats()),
        )
    for supposed, standings in results.supposed().items():
        _table(f"If {supposed} (no cheat as it is)", CHEAT_COLUMNS, cheat_rows(standings))


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(title=title)
        for column in columns:
            right = column in ("requests", "earned", "earns", "gain")
            table.add_column(column, justify="right" if right else "left")
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        return
    widths = [max(len(row[n]) for row in (columns, *rows)) for n in range(len(columns))]
    print(title)
    for row in (columns, *rows):
        print(
            "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    print()
