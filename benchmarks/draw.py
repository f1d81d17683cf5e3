"""How fast draws are: ``python -m benchmarks.draw [--json FILE] [--draws N]``.

Over every US ZIP, with listings estimated from housing units:

- one draw of the whole table, warm: from the rows as the API server draws, and from a table that
  was put into columns before; beside a plain one, a ZIP at a time (``benchmarks.naive``)
- the draws of a year, one after the other; beside the plain one, some of it extrapolated
- importing 30,000 rows into a master table and publishing it; beside csv and a dict alone
"""

import argparse
import csv
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.naive import naive_draw
from sn46.clock import SystemClock
from sn46.mechanism.assignment import selection_seed
from sn46.mechanism.draw import draw_zipcodes
from sn46.mechanism.drawinputs import DrawHistory, DrawRules
from sn46.mechanism.drawtable import DrawTable
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.names import ZipCode
from sn46.mechanism.simulating import keyed_chance, simulated_draws
from sn46.zipcodes import (
    Library,
    MasterTable,
    load_bundled_table,
    with_estimates,
    with_expected,
)

YEAR = 2_190
IMPORTED_ROWS = 30_000
DAY = date(2026, 1, 1)
START = Epoch(datetime(2026, 1, 1, tzinfo=UTC))
SECRET = b"a benchmark's secret, of no worth to anyone"
RULES = DrawRules(max_data_age_days=366)


def country() -> MasterTable:
    measured = with_expected(load_bundled_table(), {ZipCode("11211"): 1_007}, DAY)
    return with_estimates(measured, DAY)


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The median of several runs, after one that does not count."""
    work()
    taken: list[float] = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def one_draw(table: MasterTable) -> dict[str, float]:
    rows = table.rows
    columns = DrawTable(rows)
    # A month of draws before it, so that cooldown and coverage have something to do.
    past = list(islice(simulated_draws(columns, RULES, START, chance=keyed_chance(SECRET)), 180))
    history = DrawHistory.of(
        (draw.epoch.start, [rows[place].zipcode for place in draw.places]) for draw in past
    )
    epoch = past[-1].epoch.next()
    seed = selection_seed(SECRET, epoch.id)

    def plain() -> object:
        return naive_draw(rows, history, RULES, epoch, seed, exact=False)

    draw = draw_zipcodes(rows, history, RULES, epoch, seed)
    assert draw == draw_zipcodes(columns, history, RULES, epoch, seed)
    found = naive_draw(rows, history, RULES, epoch, seed)
    names = [z.zipcode for z in draw.zipcodes]
    assert found == (names, draw.total, draw.eligible, draw.relaxed)
    return {
        "rows_ms": 1_000 * seconds(
            lambda: draw_zipcodes(rows, history, RULES, epoch, seed), 15),
        "columns_ms": 1_000 * seconds(
            lambda: draw_zipcodes(columns, history, RULES, epoch, seed), 15),
        "naive_ms": 1_000 * seconds(plain, 5),
    }  # fmt: skip


def a_year(table: MasterTable, draws: int, naive_ms: float) -> dict[str, float]:
    columns = DrawTable(table.rows)
    began = time.perf_counter()
    for _ in islice(simulated_draws(columns, RULES, START, chance=keyed_chance(SECRET)), draws):
        pass
    taken = time.perf_counter() - began
    return {"seconds": taken, "draws": draws, "naive_seconds": naive_ms / 1_000 * draws}


def an_import(table: MasterTable) -> dict[str, float]:
    """The owner's own format, over 30,000 ZIPs of the bundled table."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.csv"
        with file.open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["zipcode", "expected_listings", "as_of"])
            for number, row in enumerate(table.rows[:IMPORTED_ROWS]):
                writer.writerow([row.zipcode, 100 + number % 900, "2026-01-01"])

        def plain() -> object:
            with file.open(newline="") as given:
                return {r["zipcode"]: int(r["expected_listings"]) for r in csv.DictReader(given)}

        taken: list[float] = []
        for number in range(3):
            path = Path(folder) / str(number) / "zipcodes.parquet"
            path.parent.mkdir()
            library = Library(path, SystemClock())
            began = time.perf_counter()
            library.import_file(file)
            taken.append(time.perf_counter() - began)
        return {"seconds": statistics.median(taken), "naive_seconds": seconds(plain, 5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--draws", type=int, default=YEAR, help="of the simulation")
    arguments = parser.parse_args()
    table = country()
    figures: dict[str, Any] = {"rows": len(table)}
    draw = figures["draw"] = one_draw(table)
    print(
        f"one draw of {len(table):,} rows   {draw['rows_ms']:8.1f} ms from rows, "
        f"{draw['columns_ms']:.1f} ms from columns; plain {draw['naive_ms']:.1f} ms",
        flush=True,
    )
    year = figures["year"] = a_year(table, arguments.draws, draw["naive_ms"])
    print(
        f"{arguments.draws:,} draws               {year['seconds']:8.1f} s; "
        f"plain {year['naive_seconds']:.0f} s",
        flush=True,
    )
    imported = figures["import"] = an_import(table)
    print(
        f"import of {IMPORTED_ROWS:,} rows     {imported['seconds']:8.2f} s, read to published; "
        f"csv alone {imported['naive_seconds']:.2f} s"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
