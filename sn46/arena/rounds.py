"""One epoch of the arena: its assignment, its chain view, and what can be scraped in it."""

import hashlib
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from math import ceil
from typing import Any, Final

import polars as pl

from sn46.arena.accounts import hotkey_of
from sn46.arena.market import SEARCH_SHOWS, Market
from sn46.mechanism.assignment import (
    AssignedZip,
    Assignment,
    assignment_nonce,
    seed_commitment,
    selection_seed,
)
from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.chainview import RAO_PER_ALPHA, Block, ChainView, Neuron
from sn46.mechanism.draw import ALGORITHM, DrawRules
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.listings import OPTIONAL
from sn46.mechanism.names import Coldkey, Hotkey, Uid, ZipCode
from sn46.mechanism.quick import QuickResult
from sn46.mechanism.rules import Rules
from sn46.mechanism.selection import FixedTarget, Selection
from sn46.mechanism.verdicts import Verdict, compare, shown_fields

FIRST_EPOCH: Final = Epoch(datetime(2025, 3, 1, tzinfo=UTC))
ZIPS: Final = 24
ZIPS_AN_EPOCH: Final = 2
HOMES: Final = 130
PAGE_ROWS: Final = 40
"""So many homes stand on a page of search results, which is one request; a home's own page is
another."""

EXPECTED: Final = (0.9, 1.05)
"""Between so much and so much of what the portal shows is expected of a ZIP."""

MISSING: Final = 0.01
"""So much of what a miner asks for does not arrive: blocked pages, layouts it cannot read."""

GONE: Final = 0.004
CHANGED: Final = 0.006
"""So many homes have left the portal, or show another sale, by the time that validators ask."""

Frames = Mapping[ZipCode, pl.DataFrame]


@dataclass(frozen=True)
class Validator:
    """A validator of the arena. ``away`` is the share of epochs in which it publishes nothing.
    ``lies`` says that it contradicts every row it is given, but for those of miners that it is in
    league with, which it confirms."""

    name: str
    stake: int
    away: float = 0.05
    lies: bool = False

    @property
    def hotkey(self) -> Hotkey:
        return hotkey_of(self.name)


VALIDATORS: Final = (
    Validator("validator-1", 400_000),
    Validator("validator-2", 300_000),
    Validator("validator-3", 200_000),
    Validator("validator-4", 100_000, away=0.5),
    Validator("validator-5", 350_000, lies=True),
)
"""Stakes in alpha."""


@dataclass(frozen=True)
class Catch:
    """What was scraped: rows by ZIP, and how many requests to the source it took."""

    frames: Frames
    requests: int


@dataclass(frozen=True)
class Finding:
    """A check's verdict and sentence, and how many of the row's optional fields are shown."""

    verdict: Verdict
    detail: str
    shown: int


class Round:
    """An epoch.

    Args:
        market: the portal.
        seed: from which draw, block hash and luck follow.
        number: of the epoch, from 0 on.
        coldkeys: every registered miner's hotkey with its coldkey.
        rules: that its assignment carries.
    """

    def __init__(
        self,
        market: Market,
        seed: str,
        number: int,
        coldkeys: Mapping[Hotkey, Coldkey],
        rules: Rules,
    ) -> None:
        self.market = market
        self.seed = seed
        self.number = number
        self.epoch = Epoch(FIRST_EPOCH.start + number * FIRST_EPOCH.length)
        self.results: dict[tuple[Hotkey, str], QuickResult] = {}
        self._found: dict[tuple[Any, ...], Finding] = {}
        drawn = self.chance("draw").sample(market.zipcodes, ZIPS_AN_EPOCH)
        self._shown = {z: market.shown(z, self.today) for z in sorted(drawn)}
        self.assignment = self._assign(rules)
        self.view = self._view(coldkeys)

    def chance(self, what: str) -> random.Random:
        """Luck of one kind in this epoch."""
        return random.Random(f"{self.seed}:{self.number}:{what}")

    def luck(self, what: str) -> float:
        """One number from 0 to 1, for what happens often."""
        digest = hashlib.sha256(f"{self.seed}:{self.number}:{what}".encode()).digest()
        return int.from_bytes(digest[:7], "big") / 2**56

    @property
    def today(self) -> date:
        return self.epoch.start.date()

    @property
    def zipcodes(self) -> tuple[ZipCode, ...]:
        return tuple(self._shown)

    @cached_property
    def whole(self) -> int:
        """Requests that a complete scrape takes, every home's own page included."""
        return sum(requests_for(frame.height, details=True) for frame in self._shown.values())

    def fetch(
        self,
        who: str,
        *,
        zips: Iterable[ZipCode] | None = None,
        share: float = 1.0,
        details: bool = True,
    ) -> Catch:
        """Scrape the portal now.

        Args:
            who: whose luck it is.
            zips: which ZIPs; None for all.
            share: how much of each ZIP, newest sales first.
            details: whether each home's own page is read as well.
        """
        return self._fetched(
            {z: self._shown[z] for z in zips or self.zipcodes}, who, share, details
        )

    def archive(self, who: str, age: timedelta) -> Catch:
        """A complete scrape of the same ZIPs as the portal showed them some time ago, with the
        scraping time of today written into it."""
        before = (self.epoch.start - age).date()
        shown = {z: self.market.shown(z, before) for z in self.zipcodes}
        return self._fetched(shown, who, 1.0, details=True)

    def newest(self, who: str, age: timedelta) -> Catch:
        """What was sold since an archive of that age was made: search results by the newest sale,
        a page at a time until one shows a sale that the archive has, and the new homes' pages."""
        before = (self.epoch.start - age).date()
        new = {z: frame.filter(pl.col("sale_date") > before) for z, frame in self._shown.items()}
        catch = self._fetched(new, f"{who}:newest", 1.0, details=True)
        pages = sum(
            requests_for(min(new[z].height + 1, frame.height), details=False)
            for z, frame in self._shown.items()
        )
        return Catch(catch.frames, pages + sum(frame.height for frame in new.values()))

    def at(self, minutes: float) -> datetime:
        """So many minutes after the epoch's start; never after its deadline."""
        moment = self.epoch.start + timedelta(seconds=round(minutes * 60))
        return min(moment, self.epoch.end - timedelta(minutes=1))

    def record(self, listing_id: str) -> dict[str, Any] | None:
        """The portal's record of an id when validators ask, hours later: some homes are gone by
        then, some show another sale."""
        record = self.market.record(listing_id, self.epoch.end.date())
        luck = self.luck(f"later:{listing_id}")
        if record is None or luck < GONE:
            return None
        if luck < GONE + CHANGED and record["sale_price"] is not None:
            return record | {"sale_price": round(record["sale_price"] * 1.2)}
        return record

    def found(self, row: Mapping[str, Any]) -> Finding:
        """What comes of holding a row against the portal's record. Honest miners upload the same
        rows, so each is compared once."""
        key = tuple(row.values())
        if key not in self._found:
            record = self.record(str(row["listing_id"]))
            self._found[key] = Finding(*compare(row, record), shown_fields(row, record))
        return self._found[key]

    def _fetched(
        self, shown: Mapping[ZipCode, pl.DataFrame], who: str, share: float, details: bool
    ) -> Catch:
        frames: dict[ZipCode, pl.DataFrame] = {}
        requests = 0
        for zipcode, frame in shown.items():
            chance = self.chance(f"fetch:{who}:{zipcode}")
            wanted = ceil(frame.height * share)
            kept = [n for n in range(wanted) if chance.random() >= MISSING]
            rows = frame[kept]
            if not details:
                hidden = [name for name in OPTIONAL if name not in SEARCH_SHOWS]
                rows = rows.with_columns(pl.lit(None).cast(rows.schema[n]).alias(n) for n in hidden)
            frames[zipcode] = self.stamped(rows)
            requests += requests_for(wanted, details=details)
        return Catch(frames, requests)

    def stamped(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows as scraped five minutes into the epoch."""
        moment = self.epoch.start + timedelta(minutes=5)
        return rows.with_columns(scraped_at=pl.lit(moment, dtype=pl.Datetime("us", "UTC")))

    def _assign(self, rules: Rules) -> Assignment:
        zips = tuple(self._assigned(z) for z in self.zipcodes)
        secret = self.seed.encode()
        total = sum(z.expected_listings for z in zips)
        return Assignment(
            epoch=self.epoch,
            nonce=assignment_nonce(secret, self.epoch, zips),
            rules=rules,
            validators=tuple(sorted(v.hotkey for v in VALIDATORS)),
            zipcodes=zips,
            selection=Selection(
                algorithm=ALGORITHM,
                commitment=seed_commitment(selection_seed(secret, self.epoch.id)),
                next_commitment=seed_commitment(selection_seed(secret, self.epoch.next().id)),
                seed=None,
                table_version=sha256_hex(f"arena:{self.seed}"),
                draw_rules=DrawRules(target_listings=total),
                target_basis=FixedTarget(),
            ),
            api_hotkey=hotkey_of("api"),
        )

    def _assigned(self, zipcode: ZipCode) -> AssignedZip:
        """A ZIP of which more or less is expected than the portal shows: it is an estimate."""
        zip_ = self.market.assigned(zipcode, self.today)
        off = self.chance(f"expected:{zipcode}").uniform(*EXPECTED)
        return replace(zip_, expected_listings=round(zip_.expected_listings * off))

    def _view(self, coldkeys: Mapping[Hotkey, Coldkey]) -> ChainView:
        owner = hotkey_of("owner")
        holders = {v.hotkey: v for v in VALIDATORS}
        owners = {
            owner: Coldkey("owner"),
            **{h: Coldkey(f"of {v.name}") for h, v in holders.items()},
            **coldkeys,
        }
        neurons = tuple(
            Neuron(
                Uid(uid),
                hotkey,
                coldkey,
                holders[hotkey].stake * RAO_PER_ALPHA if hotkey in holders else 0,
                validator_permit=hotkey in holders,
            )
            for uid, (hotkey, coldkey) in enumerate(owners.items())
        )
        block = Block(
            1_000 + self.number * 1_200,
            "0x" + sha256_hex(f"{self.seed}:block:{self.number}"),
            self.epoch.end + timedelta(seconds=12),
        )
        return ChainView(46, owner, block, neurons)


def requests_for(rows: int, *, details: bool) -> int:
    """Pages of search results, and one for each home where its own page is read."""
    return ceil(rows / PAGE_ROWS) + (rows if details else 0)
