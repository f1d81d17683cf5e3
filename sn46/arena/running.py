"""Many epochs of the arena: each strategy in a field of its own, beside honest work in the same
field with the same luck."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from math import sqrt
from multiprocessing import get_context
from queue import Empty
from statistics import fmean, stdev
from typing import Any, Final

from sn46.arena.accounts import hotkey_of
from sn46.arena.heats import Heat, Past, Submission
from sn46.arena.market import Market
from sn46.arena.rounds import FIRST_EPOCH, HOMES, ZIPS, Round
from sn46.arena.strategies import (
    MEMBERS,
    OTHER_NAMES,
    SIBLINGS,
    STRATEGIES,
    Move,
    Play,
    Strategy,
    Turn,
    coldkey_of,
    fresh_name,
    others_moves,
)
from sn46.mechanism.judge import Outcome
from sn46.mechanism.names import PPM, Coldkey, Hotkey
from sn46.mechanism.reasons import Code
from sn46.mechanism.rules import Rules

LEAKING: Final = 1
"""Whose upload leaks: the fastest of the others that scrape everything."""

CERTAIN: Final = 2.0
"""A gain counts where it is more than so many of its standard errors."""

Progress = Callable[[int, int], None]
"""Told how many of how many parts are done; a part is one strategy's epoch."""


@dataclass
class Tally:
    """What one strategy did and earned, epoch by epoch. ``requests`` are in ppm of a complete
    scrape's; ``earned`` in ppm of the epoch's emission, all hotkeys together; ``others`` what the
    independent honest miners earned on average; ``reasons`` in how many epochs a hotkey of it got
    nothing for a reason. ``checked`` counts the independent honest miners that stood and won no
    place: ``drawn`` and ``line`` (candidates and reserves), and of each those of whom nothing was
    confirmed."""

    name: str
    requests: list[int] = field(default_factory=list[int])
    hotkeys: list[int] = field(default_factory=list[int])
    registrations: int = 0
    earned: list[int] = field(default_factory=list[int])
    others: list[int] = field(default_factory=list[int])
    reasons: Counter[str] = field(default_factory=Counter[str])
    checked: Counter[str] = field(default_factory=Counter[str])

    @property
    def strategy(self) -> Strategy:
        return STRATEGIES[self.name]

    def note(self, play: Play, outcome: Outcome, whole: int, others: Sequence[Hotkey]) -> None:
        """Add one epoch."""
        own = [hotkey_of(move.who) for move in play.moves]
        self.requests.append(play.requests * PPM // whole)
        self.hotkeys.append(len(set(own)))
        self.registrations += play.registrations
        self.earned.append(sum(outcome.weights.get(hotkey, 0) for hotkey in own))
        self.others.append(sum(outcome.weights.get(h, 0) for h in others) // len(others))
        self.reasons.update(
            {r.code.value for h in own for r in outcome.miners[h].reasons if _is_out(outcome, h)}
        )
        for hotkey in others:
            self.checked.update(_as_checked(outcome, hotkey))

    def to_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "hotkeys": self.hotkeys,
            "registrations": self.registrations,
            "earned": self.earned,
            "others": self.others,
            "reasons": dict(sorted(self.reasons.items())),
            "checked": dict(sorted(self.checked.items())),
        }

    @classmethod
    def from_json(cls, name: str, value: Mapping[str, Any]) -> "Tally":
        return cls(
            name,
            list(value["requests"]),
            list(value["hotkeys"]),
            int(value["registrations"]),
            list(value["earned"]),
            list(value["others"]),
            Counter(value["reasons"]),
            Counter(value["checked"]),
        )


def _is_out(outcome: Outcome, hotkey: Hotkey) -> bool:
    miner = outcome.miners[hotkey]
    return miner.disqualified or not miner.quick.participant


def _as_checked(outcome: Outcome, hotkey: Hotkey) -> list[str]:
    """What ``Tally.checked`` counts of a miner in one epoch."""
    miner = outcome.miners[hotkey]
    if miner.checks is None or miner.disqualified or hotkey in outcome.winners:
        return []
    group = "line" if miner.candidate or miner.reserve else "drawn"
    unconfirmed = any(r.code is Code.NOTHING_CONFIRMED for r in miner.reasons)
    return [group, *([f"{group}_unconfirmed"] if unconfirmed else ())]


@dataclass(frozen=True)
class Standing:
    """A cheat beside honest work of the same effort. ``gain`` is the mean over epochs of what it
    earned more, in ppm; ``error`` that mean's standard error. ``beside`` is None where honest work
    of the same effort is no work."""

    tally: Tally
    beside: Tally | None
    gain: float
    error: float

    @property
    def earns_more(self) -> bool:
        """Whether the cheat earned more than honest work of the same effort."""
        return self.gain > max(0.0, CERTAIN * self.error)

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.earns_more:
            return "would earn more" if self.tally.strategy.supposes else "EARNS MORE"
        if self.gain == 0:
            return "the same"
        if -self.gain > CERTAIN * self.error:
            return "earns less"
        return "no clear difference"


def standing_beside(tally: Tally, beside: Tally | None) -> Standing:
    """What was earned more than by other work, played in the same epochs with the same luck."""
    theirs = beside.earned if beside else [0] * len(tally.earned)
    gains = [mine - other for mine, other in zip(tally.earned, theirs, strict=True)]
    error = stdev(gains) / sqrt(len(gains)) if len(gains) > 1 else 0.0
    return Standing(tally, beside, fmean(gains), error)


@dataclass(frozen=True)
class Results:
    """Everything that was played, under one set of rules."""

    seed: str
    epochs: int
    tallies: Mapping[str, Tally]
    rules: Rules = field(default_factory=Rules)

    def cheats(self) -> list[Standing]:
        """Every cheat that was played, in the table's order; none that supposes a fault."""
        return [s for s in self._dishonest() if not s.tally.strategy.supposes]

    def supposed(self) -> dict[str, list[Standing]]:
        """What takes a fault that the system does not have, by what that would be."""
        found: dict[str, list[Standing]] = {}
        for standing in self._dishonest():
            if standing.tally.strategy.supposes:
                found.setdefault(standing.tally.strategy.supposes, []).append(standing)
        return found

    def honest(self) -> list[Tally]:
        return [t for t in self.tallies.values() if t.strategy.honest]

    def to_json(self) -> dict[str, Any]:
        """All figures, epoch by epoch: those of fewer epochs are their beginning."""
        return {
            "seed": self.seed,
            "epochs": self.epochs,
            "rules": self.rules.to_json(),
            "strategies": {name: tally.to_json() for name, tally in self.tallies.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Results":
        """Read what ``to_json`` gave.

        Raises:
            KeyError: where a field is missing, or a strategy is none of these.
            AssignmentError: where the rules are none that this program plays.
        """
        tallies = {name: Tally.from_json(name, t) for name, t in value["strategies"].items()}
        ordered = {name: tallies.pop(name) for name in STRATEGIES if name in tallies}
        for name in tallies:
            raise KeyError(name)
        rules = Rules.from_json(value["rules"])
        return cls(str(value["seed"]), int(value["epochs"]), ordered, rules)

    def _dishonest(self) -> list[Standing]:
        return [self._standing(t) for t in self.tallies.values() if not t.strategy.honest]

    def _standing(self, tally: Tally) -> Standing:
        ways = [self.tallies[name] for name in tally.strategy.beside]
        return standing_beside(tally, max(ways, key=lambda way: sum(way.earned), default=None))


def changed_rules(rules: Rules, since: Rules) -> list[str]:
    """The rules that differ, as NAME=VALUE."""
    return [
        f"{name}={value}" for name, value in vars(rules).items() if value != getattr(since, name)
    ]


def chosen(names: Iterable[str]) -> list[Strategy]:
    """These strategies, all where none is named, with the honest ones that they stand beside.

    Raises:
        KeyError: where there is no strategy of a name.
    """
    wanted = set(names) or set(STRATEGIES)
    for name in tuple(wanted):
        wanted.update(STRATEGIES[name].beside)
    return [strategy for name, strategy in STRATEGIES.items() if name in wanted]


def run(
    seed: str,
    epochs: int,
    strategies: Sequence[Strategy],
    *,
    rules: Rules | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Results:
    """Play every strategy in every epoch. The same seed gives the same to the last figure.

    Args:
        seed: from which market, draws, block hashes and luck follow.
        epochs: how many.
        strategies: what is played, with whatever it stands beside.
        rules: that assignments carry; those by default where none are given.
        jobs: in so many processes.
        progress: told how far it is.
    """
    ruled = rules or Rules()
    names = [strategy.name for strategy in strategies]
    shares = [names[place::jobs] for place in range(min(jobs, len(names)))]
    told = _Told(len(names) * epochs, progress)
    if len(shares) <= 1:
        tallies = play(seed, epochs, names, told.more, ruled)
    else:
        tallies = _in_processes(seed, epochs, shares, told, ruled)
    by_name = {tally.name: tally for tally in tallies}
    return Results(seed, epochs, {name: by_name[name] for name in names}, ruled)


class _Told:
    """Counts what is done."""

    def __init__(self, of: int, progress: Progress | None) -> None:
        self._done = 0
        self._of = of
        self._progress = progress

    def more(self, parts: int) -> None:
        self._done += parts
        if self._progress is not None:
            self._progress(self._done, self._of)


def _in_processes(
    seed: str, epochs: int, shares: Sequence[Sequence[str]], told: _Told, rules: Rules
) -> list[Tally]:
    context = get_context("spawn")
    reports: Any = context.Queue()
    with ProcessPoolExecutor(len(shares), context, _report_to, (reports,)) as pool:
        running = [pool.submit(_play_and_report, seed, epochs, share, rules) for share in shares]
        while not all(future.done() for future in running):
            try:
                told.more(reports.get(timeout=0.2))
            except Empty:
                continue
        return [tally for future in running for tally in future.result()]


_reports: list[Any] = []
"""In a process of the pool: the queue of what is done."""


def _report_to(queue: Any) -> None:
    _reports.append(queue)


def _play_and_report(seed: str, epochs: int, names: Sequence[str], rules: Rules) -> list[Tally]:
    return play(seed, epochs, names, _reports[0].put, rules)


def play(
    seed: str, epochs: int, names: Sequence[str], done: Callable[[int], None], rules: Rules
) -> list[Tally]:
    """Play these in this process. ``done`` is told how many parts were played since it last was."""
    market = Market(seed, FIRST_EPOCH.start.date(), zips=ZIPS, homes=HOMES)
    tallies = [Tally(name) for name in names]
    pasts = {name: Past() for name in names}
    for number in range(epochs):
        _epoch(Round(market, seed, number, registered(number), rules), tallies, pasts)
        done(len(names))
    return tallies


def registered(number: int) -> dict[Hotkey, Coldkey]:
    """All miners that are registered in an epoch, with their coldkeys."""
    names = (*OTHER_NAMES, *MEMBERS, *SIBLINGS[1:], fresh_name(number))
    return {hotkey_of(name): coldkey_of(name) for name in names}


def _epoch(round_: Round, tallies: Iterable[Tally], pasts: Mapping[str, Past]) -> None:
    moves = others_moves(round_)
    others = [submitted(round_, move) for move in moves]
    turn = Turn(round_, moves[LEAKING])
    for tally in tallies:
        strategy = tally.strategy
        made = strategy.play(turn)
        own = [submitted(round_, move) for move in made.moves]
        present = others[: strategy.others]
        heat = Heat(
            round_,
            {s.hotkey: s for s in (*present, *own)},
            frozenset(s.hotkey for s in own) if strategy.league else frozenset(),
        )
        outcome = heat.play(pasts[strategy.name])
        tally.note(made, outcome, round_.whole, [s.hotkey for s in present])


def submitted(round_: Round, move: Move) -> Submission:
    """A move as the store has it."""
    return Submission(round_, move.who, move.frames, round_.at(move.minutes))
