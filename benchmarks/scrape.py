"""How fast and in how much memory a miner scrapes: ``python -m benchmarks.scrape [--json FILE]``.

15,000 listings of 15 ZIPs, over 8 HTTP proxies that each add 150 ms to a request, from a portal
that refuses one request in twenty. Portal and proxies run on one core, the miner on another. Beside
it, in the same run and over one of these proxies, stands the sequential scraper that one writes
first, whole.

The homes are the portal's own, really sold in the 15 ZIPs of the county that have the most (7,731).
That is too few, so each appears a second time with another id, and a few of these copies are left
out; some ZIPs then have more than the 1,000 homes that the portal shows of a search. All days of
sale are moved by the same number, so that the last one is today and the usual rules hold.

The miner has its default settings: SOURCES, PROXY_FILE and DATA_DIR are all it is told.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast

import polars as pl

from sn46.localnet.portal import bundled_sales_path, expected_counts
from sn46.sources import realtor, zillow

LISTINGS = 15_000
ZIPS = 15
PROXIES = 8
LATENCY_MS = 150
REFUSALS = ("--p403", "0.025", "--p429", "0.025", "--slow", "0")
WANTED_A_MINUTE = 3_000_000 / 30 / 24 / 60
MOST_MB, LEAST_RATIO = 300.0, 8.0
_COPY = 90_000_000_000
"""Added to a home's number: one that no parcel has."""

_HOTKEY = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
"""Well known, and asked for nothing here."""


def write_sales(path: Path) -> None:
    """The benchmark's homes, in the form of the portal's file."""
    counts = expected_counts()
    largest = sorted(counts, key=lambda z: (-counts[z], z))[:ZIPS]
    homes = (
        pl.read_parquet(bundled_sales_path())
        .sort("date", "price", descending=True)
        .unique("id", keep="first", maintain_order=True)
        .filter(pl.col("zipcode").cast(pl.String).is_in(largest))
        .sort("id")
    )
    copies = homes.with_columns(pl.col("id").cast(pl.Int64) + _COPY)
    step = copies.height / (LISTINGS - homes.height)
    taken = [int(n * step) for n in range(LISTINGS - homes.height)]
    every = pl.concat([homes.with_columns(pl.col("id").cast(pl.Int64)), copies[taken]])
    since = datetime.now(UTC).date() - cast(date, every["date"].max())
    every.with_columns(pl.col("date") + since).write_parquet(path)


@contextmanager
def beside(core: int, *command: str) -> Iterator[str]:
    """A server in a process of its own, pinned to a core. Gives the first line that it prints."""
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True)
    try:
        os.sched_setaffinity(process.pid, {core})
        assert process.stdout
        line = process.stdout.readline().strip()
        if not line:
            raise SystemExit(f"{command[0]} ended; its lines above say why.")
        yield line
    finally:
        process.terminate()
        process.wait()


def run(core: int, environment: dict[str, str], *command: str) -> dict[str, Any]:
    """What a process, pinned to a core, says it did."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    os.sched_setaffinity(process.pid, {core})
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{command[0]} failed; its lines above say why.")
    return json.loads(out)


def measure(folder: Path) -> dict[str, Any]:
    mine, theirs = (sorted(os.sched_getaffinity(0)) * 2)[:2]
    sales = folder / "sales.parquet"
    write_sales(sales)
    counts = expected_counts(sales)
    serve = ("sn46.localnet.portal", "--data", str(sales), "--seed", "benchmark", *REFUSALS)
    forward = ("benchmarks.forwarding", str(PROXIES), str(LATENCY_MS))
    with beside(theirs, *serve) as told, beside(theirs, *forward) as ports:
        portal = told.split()[-1]
        proxies = [f"http://127.0.0.1:{port}" for port in ports.split()]
        (folder / "proxies.txt").write_text("\n".join(proxies) + "\n")
        settings = {
            "SOURCES": f"portal:{portal}",
            "PROXY_FILE": str(folder / "proxies.txt"),
            "DATA_DIR": str(folder / "data"),
            # Without these no miner starts; scraping asks neither.
            "API_URL": portal,
            "API_HOTKEY": _HOTKEY,
        }
        miner = run(mine, settings, "benchmarks.scraping", str(sales))
        search = (portal, proxies[0], *miner["days"], *counts)
        plain = run(mine, {}, "benchmarks.sequential", *search)
    return {"zips": counts, "miner": miner, "sequential": plain}


def polite(requests_a_listing: float) -> dict[str, dict[str, float]]:
    """Listings a minute at real portals' polite pace, one request a second over each way, with as
    many requests for a listing as were measured, and what share of it 3 million a month need."""
    found: dict[str, dict[str, float]] = {}
    sizes = {"zillow": 41, "realtor": realtor.PAGE_SIZE}
    pace = {"zillow": zillow.MOST_PER_SECOND, "realtor": realtor.MOST_PER_SECOND}
    for name, size in sizes.items():
        # The local portal's pages hold 40; what it took beyond that is refusals and splitting.
        overhead = requests_a_listing * 40
        for ways, label in ((1, "direct"), (PROXIES, f"{PROXIES} proxies")):
            rate = 60 * pace[name] * ways
            with_pages = rate / overhead * size
            with_details = rate / overhead / (1 + 1 / size)
            found[f"{name}, {label}"] = {
                "listings_a_minute": with_pages,
                "with_details": with_details,
                "needed_share": WANTED_A_MINUTE / with_pages,
                "needed_share_with_details": WANTED_A_MINUTE / with_details,
            }
    return found


def show(figures: dict[str, Any]) -> None:
    miner, plain = figures["miner"], figures["sequential"]
    for name, one in (("miner", miner), ("sequential", plain)):
        print(
            f"{name:10} {one['rows']:,} listings in {one['seconds']:6.2f} s, "
            f"{one['rows'] / one['seconds']:7.1f} a second; {one['requests']} requests, "
            f"{one['refused']} of them refused"
        )
    print(
        f"{figures['ratio']:.1f} times sequential (at least {LEAST_RATIO:g} are wanted); "
        f"all {miner['zips']} ZIPs complete; peak memory {miner['peak_mb']:.0f} MB "
        f"({miner['before_mb']:.0f} MB before; at most {MOST_MB:g} are wanted)"
    )
    print(f"3 million listings a month are {WANTED_A_MINUTE:.0f} a minute. At a polite pace:")
    for name, rate in figures["polite"].items():
        print(
            f"  {name:18} {rate['listings_a_minute']:8,.0f} a minute, of which "
            f"{100 * rate['needed_share']:.1f} % are needed; with each home's own page "
            f"{rate['with_details']:5,.0f} ({100 * rate['needed_share_with_details']:.0f} %)"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder))
    miner, plain = figures["miner"], figures["sequential"]
    if miner["rows"] != LISTINGS or plain["rows"] != LISTINGS or miner["zips"] != ZIPS:
        raise SystemExit(f"Something is missing: {json.dumps(figures, indent=1)}")
    figures["ratio"] = plain["seconds"] / miner["seconds"]
    figures["polite"] = polite(miner["requests"] / miner["rows"])
    show(figures)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
