"""A small field of honest miners and validators, and what one more that cheats is paid in it.

The arena's market, validators and strategies; uploads that are tampered with are made by the
builders of the mechanism's tests.
"""

from collections.abc import Iterable
from datetime import datetime
from functools import cache
from typing import Any

import polars as pl
from mechanism.builders import Submission as Forged

from sn46.arena.accounts import hotkey_of, signer
from sn46.arena.heats import Heat, Past, Submission
from sn46.arena.market import Market
from sn46.arena.rounds import FIRST_EPOCH, HOMES, ZIPS, Frames, Round
from sn46.arena.running import LEAKING, registered, submitted
from sn46.arena.strategies import STRATEGIES, Move, Turn, others_moves
from sn46.mechanism.judge import MinerOutcome, Outcome, conclude, line_up, plan_checks
from sn46.mechanism.names import Hotkey
from sn46.mechanism.quick import QuickResult
from sn46.mechanism.reasons import Code
from sn46.mechanism.rules import Rules

SEED = "attacks"
CHEAT = hotkey_of("op-1")


@cache
def market() -> Market:
    return Market(SEED, FIRST_EPOCH.start.date(), zips=ZIPS, homes=HOMES)


@cache
def epoch(number: int = 0) -> Round:
    return Round(market(), SEED, number, registered(number), Rules())


@cache
def others(number: int = 0) -> tuple[Submission, ...]:
    """What the independent honest miners upload."""
    return tuple(submitted(epoch(number), move) for move in others_moves(epoch(number)))


def turn(number: int = 0) -> Turn:
    return Turn(epoch(number), others_moves(epoch(number))[LEAKING])


def whole(number: int = 0) -> dict[Any, pl.DataFrame]:
    """What an honest scrape gives."""
    return dict(epoch(number).fetch("op-1").frames)


def played(
    moves: Iterable[Move], number: int = 0, *, league: bool = False, beside: int | None = None
) -> Outcome:
    """The epoch's outcome where these are uploaded beside the honest ones, or so many of them."""
    round_ = epoch(number)
    own = [submitted(round_, move) for move in moves]
    there = {s.hotkey: s for s in (*others(number)[:beside], *own)}
    favoured = frozenset(s.hotkey for s in own) if league else frozenset[Hotkey]()
    return Heat(round_, there, favoured).play(Past())


def strategy(name: str, number: int = 0) -> Outcome:
    """The same with what a strategy of the arena uploads."""
    chosen = STRATEGIES[name]
    moves = chosen.play(turn(number)).moves
    return played(moves, number, league=chosen.league, beside=chosen.others)


def uploaded(frames: Frames, minutes: float = 15.0, number: int = 0) -> Outcome:
    """The same with these rows."""
    return played([Move("op-1", frames, minutes)], number)


def of(outcome: Outcome, hotkey: Hotkey = CHEAT) -> MinerOutcome:
    return outcome.miners[hotkey]


def codes(miner: MinerOutcome) -> set[Code]:
    return {reason.code for reason in miner.reasons}


def forged(frames: Frames | None = None, at: datetime | None = None, **tampering: Any) -> Forged:
    """An upload of the cheat's to tamper with, within the grace."""
    rows = frames or whole()
    moment = at or epoch().assignment.rules.grace_end(epoch().epoch)
    return Forged(epoch().assignment, signer("op-1"), rows, moment, **tampering)


def examined(upload: Forged) -> QuickResult:
    return upload.examine(epoch().view)


def judged(result: QuickResult) -> Outcome:
    """The outcome with this result beside the honest ones, where no validator checks anything."""
    results = [*(submission.result for submission in others()), result]
    lined_up = line_up(epoch().assignment, epoch().view, results)
    return conclude(lined_up, plan_checks(lined_up), [])
