"""What the arena's miners do: honest work at several efforts, and every cheat that is known.

A strategy is played by one operator, who has up to five coldkeys and works at one pace: all that
its hotkeys fetch in an epoch is fetched one request after the other. ``beside`` names the honest
strategies that take no less of the source; where there is none, honest work of the same effort is
no work, which earns nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import polars as pl

from sn46.arena import cheating
from sn46.arena.rounds import PAGE_ROWS, Catch, Frames, Round
from sn46.mechanism.listings import OPTIONAL
from sn46.mechanism.names import Coldkey, ZipCode

MEMBERS: Final = tuple(f"op-{n}" for n in range(1, 6))
"""Hotkeys of the operator's five coldkeys."""

SIBLINGS: Final = ("op-1", *(f"op-1{letter}" for letter in "bcde"))
"""Five hotkeys of one coldkey."""

PACE_MINUTES: Final = 60.0
"""How long the operator takes for a complete scrape, on a usual day."""

FAST_MINUTES: Final = 15.0
"""How long it takes with as many machines as it needs."""

PASS: Final = timedelta(days=41)
"""In so long honest work sees each of the country's eligible ZIPs once (mechanism 2)."""

TENTH: Final = 0.11
"""A tenth, and a little more, so that what goes missing does not cost the minimum."""


def fresh_name(number: int) -> str:
    """A hotkey that was registered for one epoch."""
    return f"new-{number}"


def coldkey_of(name: str) -> Coldkey:
    """Who owns one of the arena's hotkeys."""
    return Coldkey(f"of {'op-1' if name in SIBLINGS else name}")


@dataclass(frozen=True)
class Move:
    """What one hotkey uploads, and when, in minutes after the epoch's start."""

    who: str
    frames: Frames
    minutes: float


@dataclass(frozen=True)
class Play:
    """What an operator does in one epoch: its uploads, its requests to the source, and how many
    hotkeys it registered for it."""

    moves: tuple[Move, ...]
    requests: int
    registrations: int = 0


@dataclass(frozen=True)
class Turn:
    """What an operator has before it: the epoch, and, if it leaks, another's upload."""

    round: Round
    leak: Move

    def minutes(self, requests: int) -> float:
        """How long so many requests take the operator today."""
        slow = self.round.chance("pace:op").uniform(0.75, 1.35)
        return PACE_MINUTES * slow * requests / self.round.whole

    def fetch(
        self,
        who: str,
        *,
        share: float = 1.0,
        details: bool = True,
        zips: Iterable[ZipCode] | None = None,
    ) -> Catch:
        return self.round.fetch(who, share=share, details=details, zips=zips)

    def known(self, zipcode: ZipCode) -> pl.DataFrame:
        """What homes of a ZIP are like, as anybody knows."""
        return self.round.stamped(self.round.market.shown(zipcode, self.round.today))


@dataclass(frozen=True)
class Strategy:
    """One way to mine.

    ``others`` is how many independent honest miners stand in the field, ``league`` whether the
    validator that lies is the operator's. ``supposes`` names what would have to fail first, where
    it takes something that the system does not let happen; it then counts as no cheat.
    """

    name: str
    does: str
    play: Callable[[Turn], Play]
    beside: tuple[str, ...] = ()
    honest: bool = False
    league: bool = False
    others: int = 13
    supposes: str = ""


# The independent honest miners of a field: minutes for what they fetch, and its share.
OTHERS: Final = (
    (70.0, 1.0),
    (45.0, 1.0),
    (100.0, 1.0),
    (58.0, 1.0),
    (85.0, 1.0),
    (130.0, 1.0),
    (180.0, 1.0),
    (50.0, 0.5),
    (90.0, 0.5),
    (12.0, TENTH),
    (25.0, TENTH),
    (40.0, TENTH),
    (60.0, 0.2),
)


def others_moves(round_: Round) -> tuple[Move, ...]:
    """What the independent honest miners upload in an epoch."""
    moves: list[Move] = []
    for number, (minutes, share) in enumerate(OTHERS, start=1):
        who = f"other-{number}"
        slow = round_.chance(f"pace:{who}").uniform(0.75, 1.35)
        moves.append(Move(who, round_.fetch(who, share=share).frames, minutes * slow))
    return tuple(moves)


OTHER_NAMES: Final = tuple(f"other-{n}" for n in range(1, len(OTHERS) + 1))


# Honest work.


def _alone(share: float = 1.0, *, details: bool = True) -> Callable[[Turn], Play]:
    def play(turn: Turn) -> Play:
        catch = turn.fetch("op-1", share=share, details=details)
        return Play((Move("op-1", catch.frames, turn.minutes(catch.requests)),), catch.requests)

    return play


def _parts(turn: Turn, count: int) -> list[Catch]:
    """The assignment in so many parts, each fetched by another."""
    whole = turn.fetch("op-1")
    parts: list[Catch] = []
    for place in range(count):
        frames = {z: frame[place::count] for z, frame in whole.frames.items()}
        parts.append(Catch(frames, -(-whole.requests // count)))
    return parts


def _each_its_part(count: int) -> Callable[[Turn], Play]:
    def play(turn: Turn) -> Play:
        parts = _parts(turn, count)
        took = turn.minutes(sum(part.requests for part in parts))
        return Play(
            tuple(Move(who, p.frames, took) for who, p in zip(MEMBERS, parts, strict=False)),
            sum(part.requests for part in parts),
        )

    return play


def _five_whole(turn: Turn) -> Play:
    catches = [turn.fetch(who) for who in MEMBERS]
    return Play(
        tuple(
            Move(who, catch.frames, turn.minutes(catch.requests))
            for who, catch in zip(MEMBERS, catches, strict=True)
        ),
        sum(catch.requests for catch in catches),
    )


def _nine_of_ten(tenth: Callable[[Turn], Play]) -> Callable[[Turn], Play]:
    """Honest and whole for nine epochs; the tenth is another's."""
    whole = _alone()

    def play(turn: Turn) -> Play:
        return tenth(turn) if turn.round.number % 10 == 9 else whole(turn)

    return play


def _first_page(turn: Turn) -> Catch:
    """The first page of search results of each ZIP, which is one request."""
    pages = turn.fetch("op-1", details=False).frames
    return Catch({z: rows.head(PAGE_ROWS) for z, rows in pages.items()}, len(pages))


def _page_alone(turn: Turn) -> Play:
    catch = _first_page(turn)
    return Play((Move("op-1", catch.frames, turn.minutes(catch.requests)),), catch.requests)


# Cheats of one hotkey.


def _spoilt(
    spoil: Callable[[Turn, ZipCode, pl.DataFrame], pl.DataFrame],
    share: float = 1.0,
    *,
    details: bool = True,
) -> Callable[[Turn], Play]:
    """Fetches a share, and uploads what it makes of it."""

    def play(turn: Turn) -> Play:
        catch = turn.fetch("op-1", share=share, details=details)
        frames = {z: spoil(turn, z, frame) for z, frame in catch.frames.items()}
        return Play((Move("op-1", frames, turn.minutes(catch.requests)),), catch.requests)

    return play


def _with_invented(share: float) -> Callable[[Turn, ZipCode, pl.DataFrame], pl.DataFrame]:
    """Rows and so many invented homes beside them, as a share of what the ZIP has."""

    def spoil(turn: Turn, zipcode: ZipCode, rows: pl.DataFrame) -> pl.DataFrame:
        known = turn.known(zipcode)
        chance = turn.round.chance(f"invented:{zipcode}")
        return pl.concat([rows, cheating.invented(known, round(known.height * share), chance)])

    return spoil


def _padded(turn: Turn, zipcode: ZipCode, rows: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([rows, cheating.respelled(rows)])


def _padded_within(turn: Turn, zipcode: ZipCode, rows: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([rows, cheating.respelled(rows.head(rows.height // 100))])


def _with_units(turn: Turn, zipcode: ZipCode, rows: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([rows, cheating.in_units(rows)])


def _priced(percent: int, share: float) -> Callable[[Turn, ZipCode, pl.DataFrame], pl.DataFrame]:
    def spoil(turn: Turn, zipcode: ZipCode, rows: pl.DataFrame) -> pl.DataFrame:
        return cheating.priced(rows, percent, share, turn.round.chance(f"priced:{zipcode}"))

    return spoil


def _filled(turn: Turn, zipcode: ZipCode, rows: pl.DataFrame) -> pl.DataFrame:
    return cheating.filled(rows, cheating.UNPROVABLE)


def _filled_in(share: float) -> Callable[[Turn, ZipCode, pl.DataFrame], pl.DataFrame]:
    """A value in every field of a share of the rows, those that lack most."""

    def spoil(turn: Turn, zipcode: ZipCode, rows: pl.DataFrame) -> pl.DataFrame:
        lacking = pl.sum_horizontal(pl.col(name).is_null() for name in cheating.UNPROVABLE)
        order = rows.sort(lacking, descending=True, maintain_order=True)
        count = round(order.height * share)
        return pl.concat([cheating.filled(order[:count], cheating.UNPROVABLE), order[count:]])

    return spoil


def _picked(turn: Turn, zipcode: ZipCode, rows: pl.DataFrame) -> pl.DataFrame:
    """As many as are expected, those with most fields."""
    [expected] = [
        z.expected_listings for z in turn.round.assignment.zipcodes if z.zipcode == zipcode
    ]
    lacking = pl.sum_horizontal(pl.col(name).is_null() for name in OPTIONAL)
    return rows.sort(lacking, maintain_order=True)[:expected]


def _made_up(turn: Turn, zipcode: ZipCode, rows: pl.DataFrame) -> pl.DataFrame:
    return cheating.made_up(rows, turn.round.chance(f"made-up:{zipcode}"))


def _stapled(turn: Turn, zipcode: ZipCode, rows: pl.DataFrame) -> pl.DataFrame:
    """Beside the real half, homes of the rest as they are known, under ids of other ZIPs."""
    market = turn.round.market
    elsewhere = next(z for z in market.zipcodes if z not in turn.round.zipcodes)
    ids: list[str] = market.shown(elsewhere, turn.round.today)["listing_id"].to_list()
    offset = 30 * turn.round.zipcodes.index(zipcode)
    known = turn.known(zipcode)
    rest = known.filter(~pl.col("listing_id").is_in(rows["listing_id"].to_list()))
    rest = rest.head(30).head(len(ids[offset : offset + 30]))
    return pl.concat([rows, cheating.stapled(rest, ids[offset:])])


def _one_listing(turn: Turn) -> Play:
    first = turn.round.zipcodes[0]
    frames = {first: turn.fetch("op-1", zips=[first]).frames[first].head(1)}
    return Play((Move("op-1", frames, 1.0),), 2)


def _unseen(turn: Turn) -> Play:
    """Nothing fetched; just enough invented homes to take part."""
    return Play((Move("op-1", _only_invented(turn, 0.12), 200.0),), 0)


def _baited(turn: Turn) -> Play:
    """As unseen, with as many real homes of a page among them, so that something is confirmed."""
    catch = _first_page(turn)
    spoil = _with_invented(0.06)
    frames = {
        z: spoil(turn, z, rows.head(round(0.06 * turn.known(z).height)))
        for z, rows in catch.frames.items()
    }
    return Play((Move("op-1", frames, 200.0),), catch.requests)


def _only_invented(turn: Turn, share: float) -> dict[ZipCode, pl.DataFrame]:
    spoil = _with_invented(share)
    return {z: spoil(turn, z, turn.known(z).clear()) for z in turn.round.zipcodes}


def _fresh(turn: Turn) -> Play:
    """As unseen, by a hotkey that nobody knows yet."""
    who = fresh_name(turn.round.number)
    return Play((Move(who, _only_invented(turn, 0.12), 200.0),), 0, registrations=1)


def _archived(age: timedelta) -> Callable[[Turn], Play]:
    """Uploads what it has of every ZIP that can be drawn, none of it older than ``age``.

    A pass over all of these takes what PASS of honest work does, and has to be made anew within
    the age; that is its effort.
    """
    scrapes = PASS / age

    def play(turn: Turn) -> Play:
        catch = turn.round.archive("op-1", age)
        return Play((Move("op-1", catch.frames, 2.0),), round(turn.round.whole * scrapes))

    return play


def _archived_and_newest(age: timedelta) -> Callable[[Turn], Play]:
    """As archived, and what was sold since is fetched as the epoch begins."""
    archived = _archived(age)

    def play(turn: Turn) -> Play:
        kept = archived(turn)
        [old] = kept.moves
        newest = turn.round.newest("op-1", age)
        frames = {
            z: pl.concat([rows, old.frames[z].join(rows, on="listing_id", how="anti")])
            for z, rows in newest.frames.items()
        }
        return Play(
            (Move("op-1", frames, old.minutes + turn.minutes(newest.requests)),),
            kept.requests + newest.requests,
        )

    return play


def _with_many_machines(turn: Turn) -> Play:
    catch = turn.fetch("op-1")
    return Play((Move("op-1", catch.frames, FAST_MINUTES),), catch.requests)


def _leaked(turn: Turn) -> Play:
    return Play((Move("op-1", turn.leak.frames, turn.leak.minutes + 5),), 0)


# Cheats of several.


def _together(names: Sequence[str], frames: Frames, requests: int, minutes: float) -> Play:
    return Play(tuple(Move(who, frames, minutes) for who in names), requests)


def _shared(names: Sequence[str]) -> Callable[[Turn], Play]:
    """One scrape, uploaded by each."""

    def play(turn: Turn) -> Play:
        catch = turn.fetch("op-1")
        return _together(names, catch.frames, catch.requests, turn.minutes(catch.requests))

    return play


def _together_spoilt(
    names: Sequence[str], spoil: Callable[[Turn, ZipCode, pl.DataFrame], pl.DataFrame]
) -> Callable[[Turn], Play]:
    """One scrape, and what is made of it uploaded by each."""

    def play(turn: Turn) -> Play:
        catch = turn.fetch("op-1")
        frames = {z: spoil(turn, z, frame) for z, frame in catch.frames.items()}
        return _together(names, frames, catch.requests, turn.minutes(catch.requests))

    return play


def _vouching(count: int) -> Callable[[Turn], Play]:
    """A tenth is fetched; the rest are invented homes, the same for each."""

    def play(turn: Turn) -> Play:
        catch = turn.fetch("op-1", share=TENTH)
        spoil = _with_invented(1 - TENTH)
        frames = {z: spoil(turn, z, rows) for z, rows in catch.frames.items()}
        return _together(MEMBERS[:count], frames, catch.requests, turn.minutes(catch.requests))

    return play


def _mixed(turn: Turn) -> Play:
    """One honest and whole; the other four invent a tenth each and vouch for each other."""
    catch = turn.fetch("op-1")
    took = turn.minutes(catch.requests)
    invented = _only_invented(turn, 0.12)
    return Play(
        (
            Move("op-1", catch.frames, took),
            *(Move(who, invented, 210.0) for who in MEMBERS[1:]),
        ),
        catch.requests,
    )


def _crowd(turn: Turn) -> Play:
    """Five cheats side by side, each with a scrape of its own."""
    spoils = (_filled, _padded_within, _with_invented(0.01), _priced(3, 0.25), _with_invented(0.3))
    honest = _five_whole(turn)
    return Play(
        tuple(
            Move(move.who, {z: spoil(turn, z, f) for z, f in move.frames.items()}, move.minutes)
            for spoil, move in zip(spoils, honest.moves, strict=True)
        ),
        honest.requests,
    )


_ALL: Final = (
    Strategy("honest", "scrapes everything, once", _alone(), honest=True),
    Strategy(
        "honest-fast", "scrapes everything in 15 minutes, with as many machines as that takes",
        _with_many_machines, honest=True,
    ),
    Strategy("honest-half", "scrapes half of each ZIP", _alone(0.5), honest=True),
    Strategy("honest-tenth", "scrapes a tenth of each ZIP", _alone(TENTH), honest=True),
    Strategy(
        "honest-pages", "reads search results, and no home's own page", _alone(details=False),
        honest=True,
    ),
    Strategy(
        "honest-page", "reads the first page of search results of each ZIP", _page_alone,
        honest=True,
    ),
    Strategy(
        "honest-2-parts", "two coldkeys scrape half each, and upload that", _each_its_part(2),
        honest=True,
    ),
    Strategy(
        "honest-5-parts", "five coldkeys scrape a fifth each, and upload that", _each_its_part(5),
        honest=True,
    ),
    Strategy(
        "honest-5", "five coldkeys scrape everything, each for itself", _five_whole, honest=True
    ),
    Strategy(
        "honest-9-of-10", "scrapes everything in nine epochs of ten, and a tenth in the last",
        _nine_of_ten(_alone(TENTH)), honest=True,
    ),
    Strategy(
        "honest-few", "scrapes everything, with four others in the field", _alone(),
        honest=True, others=4,
    ),
    Strategy(
        "honest-tenth-few", "scrapes a tenth of each ZIP, with four others in the field",
        _alone(TENTH), honest=True, others=4,
    ),
    Strategy("one-listing", "uploads one home in the first minute", _one_listing),
    Strategy("unseen", "invents just enough to take part, and stays below the candidates", _unseen),
    Strategy(
        "new-hotkey", "the same with a hotkey and coldkey registered for each epoch", _fresh
    ),
    Strategy(
        "unseen-bait", "as unseen, with a real home of the first page to each invented one",
        _baited, ("honest-page",),
    ),
    Strategy(
        "padding", "half, and all of it again in another spelling", _spoilt(_padded, 0.5),
        ("honest-half",),
    ),
    Strategy(
        "padding-1-percent", "everything, and as many repetitions as are let pass",
        _spoilt(_padded_within), ("honest",),
    ),
    Strategy(
        "units", "half, and all of it again as units that do not exist",
        _spoilt(_with_units, 0.5), ("honest-half",),
    ),
    Strategy(
        "price-3", "everything; a quarter of the prices 3 % off", _spoilt(_priced(3, 0.25)),
        ("honest",),
    ),
    Strategy(
        "price-10", "everything; all prices 10 % off", _spoilt(_priced(10, 1.0)), ("honest",)
    ),
    Strategy(
        "made-up", "real ids and addresses from search results; the rest is guessed",
        _spoilt(_made_up, details=False), ("honest-pages",),
    ),
    Strategy(
        "invented-few", "everything, and one invented home in a hundred",
        _spoilt(_with_invented(0.01)), ("honest",),
    ),
    Strategy(
        "invented-many", "a tenth; the rest is invented",
        _spoilt(_with_invented(1 - TENTH), TENTH), ("honest-tenth",),
    ),
    Strategy(
        "stapled", "half; beside it real homes under other homes' ids",
        _spoilt(_stapled, 0.5), ("honest-half",),
    ),
    Strategy(
        "filled", "everything, and a value in every field that the portal does not show",
        _spoilt(_filled), ("honest",),
    ),
    Strategy(
        "filled-some", "everything, and a value in every field of one home in ten",
        _spoilt(_filled_in(0.1)), ("honest",),
    ),
    Strategy(
        "filled-few", "everything, and a value in every field of one home in fifty",
        _spoilt(_filled_in(0.02)), ("honest",),
    ),
    Strategy(
        "filled-3", "one scrape, uploaded by three coldkeys, with the same guesses in one of fifty",
        _together_spoilt(MEMBERS[:3], _filled_in(0.02)), ("honest", "honest-2-parts"),
    ),
    Strategy(
        "picked", "everything, but of each ZIP only so many as are expected, the fullest",
        _spoilt(_picked), ("honest",),
    ),
    Strategy(
        "filled-pages", "search results alone, and a value in every field that they do not show",
        _spoilt(_filled, details=False), ("honest-pages",),
    ),
    Strategy(
        "yesterday", "scrapes the whole country every day, and uploads at once what it has",
        _archived(timedelta(days=1)), ("honest-fast",),
    ),
    Strategy(
        "archive", "scrapes the whole country every 45 days, and uploads at once what it has",
        _archived(timedelta(days=45)), ("honest",),
    ),
    Strategy(
        "archive-fresh",
        "the same, and fetches what was sold since as the epoch begins, newest sales first",
        _archived_and_newest(timedelta(days=45)), ("honest",),
    ),
    Strategy(
        "copier", "uploads another's rows five minutes after it", _leaked,
        supposes="the isolation of folders failed",
    ),
    Strategy(
        "five-hotkeys", "one scrape, uploaded by five hotkeys of one coldkey",
        _shared(SIBLINGS), ("honest",),
    ),
    Strategy(
        "share-2", "one scrape, uploaded by two coldkeys", _shared(MEMBERS[:2]),
        ("honest", "honest-2-parts"),
    ),
    Strategy(
        "share-3", "one scrape, uploaded by three coldkeys", _shared(MEMBERS[:3]),
        ("honest", "honest-2-parts"),
    ),
    Strategy(
        "share-5", "one scrape, uploaded by five coldkeys", _shared(MEMBERS),
        ("honest", "honest-5-parts"),
    ),
    *(
        Strategy(
            f"vouch-{count}",
            f"{word} coldkeys upload one tenth, and vouch for the same invented homes",
            _vouching(count), ("honest-tenth",),
        )
        for count, word in ((2, "two"), (3, "three"), (4, "four"), (5, "five"))
    ),
    Strategy(
        "vouch-5-few", "the same five, with four others in the field", _vouching(5),
        ("honest-tenth-few",), others=4,
    ),
    Strategy(
        "burst", "honest for nine epochs, then a tenth and the rest invented",
        _nine_of_ten(_spoilt(_with_invented(1 - TENTH), TENTH)), ("honest-9-of-10",),
    ),
    Strategy(
        "league", "a tenth, the rest invented, and a validator that confirms it",
        _spoilt(_with_invented(1 - TENTH), TENTH), ("honest-tenth",), league=True,
    ),
    Strategy(
        "league-3", "three coldkeys vouch for the same invented homes, and a validator confirms",
        _vouching(3), ("honest-tenth",), league=True,
    ),
    Strategy(
        "mixed", "one coldkey honest; four invent just enough, and vouch for each other", _mixed,
        ("honest", "honest-5-parts"),
    ),
    Strategy(
        "crowd", "five coldkeys scrape everything; each cheats in another way", _crowd,
        ("honest-5",),
    ),
)  # fmt: skip

STRATEGIES: Final[Mapping[str, Strategy]] = {s.name: s for s in _ALL}
