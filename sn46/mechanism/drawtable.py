"""The master table in columns: what may be drawn, in which tier, with which weight, in which order.

A ``DrawTable`` is made once from the rows and drawn from many times; nothing in it changes.

The order follows from ln(u) / weight, which is computed for all eligible ZIPs at once in floating
point. Neighbours that are nearer than ``NEAR`` to each other are ordered anew in decimal arithmetic
of 60 digits, which is correctly rounded and hence the same on every machine. That settles every
order for good as long as a floating-point key is off by less than ``NEAR`` / 2 of itself. What goes
into one is a sum of four products (4 roundings), a logarithm of it, another of the people, and
seven products and quotients; NumPy's own tests hold its logarithms to 4 units in the last place.
That is at most some 20 units of 1.1e-16, so 1e-11 leaves a factor of over 2,000 for other
mathematical libraries and processors (decision 3).
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sn46.mechanism.drawinputs import TIERS, DrawHistory, DrawRules, ZipRow
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.names import ZipCode
from sn46.mechanism.regions import region_of

Integers: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

NEAR: Final = 1e-11
PREMIUM_PERCENT: Final = 20
EMERGING_PERCENT: Final = 30
PREFERRED_LISTINGS: Final = range(500, 2001)
COVERAGE_DAYS: Final = 10

_DAY: Final = 86_400
_FEWEST_PEOPLE: Final = 3
_TWO_256: Final = 1 << 256
_EXACT: Final = Context(prec=60)
_UNIX: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_NEVER: Final = np.iinfo(np.int64).min
_NO_DAY: Final = np.iinfo(np.int64).min
_BLOCK: Final = 64
_WORDS: Final = np.array([2.0**-64, 2.0**-128, 2.0**-192, 2.0**-256])


def unix_seconds(moment: datetime) -> int:
    """Whole seconds since 1970, rounded up, so that what is left of a later whole second is the
    same as if the difference had been rounded down."""
    return -((_UNIX - moment) // _SECOND)


class LastDrawn:
    """When each row of a ``DrawTable`` was last drawn, in its order, and when the first draw was.

    ``seconds`` are Unix seconds of epochs' starts; a row that was never drawn has the smallest
    number there is. A simulation begins with :meth:`none` and notes its draws with :meth:`note`.
    """

    def __init__(self, seconds: Integers, first: int | None) -> None:
        self.seconds = seconds
        self.first = first

    @classmethod
    def of(cls, table: "DrawTable", history: DrawHistory) -> "LastDrawn":
        noted = cls.none(table)
        for zipcode, last in history.last_drawn.items():
            place = table.place_of.get(zipcode)
            if place is not None:
                noted.seconds[place] = unix_seconds(last)
        if history.first_draw is not None:
            noted.first = unix_seconds(history.first_draw)
        return noted

    @classmethod
    def none(cls, table: "DrawTable") -> "LastDrawn":
        """Before the first draw."""
        return cls(np.full(len(table), _NEVER), None)

    def note(self, chosen: Integers, epoch: Epoch) -> None:
        """These rows were drawn for this epoch, which is later than all before it."""
        start = unix_seconds(epoch.start)
        self.seconds[chosen] = start
        self.first = start if self.first is None else self.first

    def waited(self, chosen: Integers, epoch: Epoch) -> Integers:
        """Seconds since each was last drawn; for one never drawn, since the first draw."""
        start = unix_seconds(epoch.start)
        seconds = self.seconds[chosen]
        never = start if self.first is None else self.first
        return np.maximum(0, start - np.where(seconds == _NEVER, never, seconds))


class DrawTable:
    """The rows of a master table, in any order, and their columns in the same order.

    A column is computed when it is first asked for and kept.
    """

    def __init__(self, rows: Iterable[ZipRow]) -> None:
        self.rows = tuple(rows)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def place_of(self) -> dict[ZipCode, int]:
        """Each ZIP's place among the rows."""
        return {row.zipcode: place for place, row in enumerate(self.rows)}

    @cached_property
    def expected(self) -> Integers:
        """Expected listings, 0 where no figure is known."""
        return np.array(self.expected_numbers, dtype=np.int64)

    @cached_property
    def expected_numbers(self) -> list[int]:
        """The same as Python's numbers, for the walk."""
        return [row.expected_listings or 0 for row in self.rows]

    @cached_property
    def states(self) -> list[str]:
        return [row.state for row in self.rows]

    @cached_property
    def regions(self) -> list[str]:
        return [region_of(state) for state in self.states]

    @cached_property
    def value_order(self) -> Integers:
        """Those whose home value is known, the lowest first, equal ones by ZIP."""
        known = [
            (row.home_value, row.zipcode, index)
            for index, row in enumerate(self.rows)
            if row.home_value is not None
        ]
        return np.array([index for _, _, index in sorted(known)], dtype=np.int64)

    @cached_property
    def people(self) -> Integers:
        """Population and housing units together. Where the census knows nobody and no unit, 3 is
        taken, so that the ZIP keeps a small positive weight."""
        return np.array(
            [max(_FEWEST_PEOPLE, row.population + row.property_count) for row in self.rows],
            dtype=np.int64,
        )

    @cached_property
    def zipcode_bytes(self) -> list[bytes]:
        return [row.zipcode.encode() for row in self.rows]

    @cached_property
    def base_weights(self) -> Floats:
        """expected × ln(people) × preference: the part of the weight that no history changes."""
        low, high = PREFERRED_LISTINGS[0], PREFERRED_LISTINGS[-1]
        preferred = (self.expected >= low) & (self.expected <= high)
        logarithms_of_people: Floats = np.log(self.people.astype(np.float64))
        return self.expected * logarithms_of_people * np.where(preferred, 1.0, 0.5)

    @cached_property
    def _updated(self) -> Integers:
        """The day of each figure as a proleptic ordinal."""
        days = [_NO_DAY if r.updated_on is None else r.updated_on.toordinal() for r in self.rows]
        return np.array(days, dtype=np.int64)

    @cached_property
    def _state_codes(self) -> tuple[list[str], Integers]:
        names = sorted(set(self.states))
        codes = {name: code for code, name in enumerate(names)}
        return names, np.array([codes[state] for state in self.states], dtype=np.int64)

    def eligible(self, last: LastDrawn, rules: DrawRules, epoch: Epoch) -> Integers:
        """The places of the rows that may be drawn for this epoch, in the rows' order."""
        oldest = epoch.start.date().toordinal() - rules.max_data_age_days
        cooled = unix_seconds(epoch.start) - rules.cooldown_hours * 3_600
        fits = (self.expected >= rules.min_zipcode_listings) & (
            self.expected <= rules.max_zipcode_listings
        )
        fits &= (self._updated >= oldest) & (self._updated != _NO_DAY) & (last.seconds <= cooled)
        if rules.eligible_states is not None:
            names, codes = self._state_codes
            fits &= np.array([name in rules.eligible_states for name in names], dtype=bool)[codes]
        return np.flatnonzero(fits)

    def tiers(self, chosen: Integers) -> NDArray[np.int8]:
        """The tier of every row as its place in ``TIERS``, by home value within ``chosen``:
        premium the top 20 %, emerging the bottom 30 %, standard the rest, those whose value is
        unknown, and those that are not of the chosen."""
        tiers = np.full(len(self), TIERS.index("standard"), dtype=np.int8)
        among = np.zeros(len(self), dtype=bool)
        among[chosen] = True
        valued = self.value_order[among[self.value_order]]
        count = len(valued)
        tiers[valued[: count * EMERGING_PERCENT // 100]] = TIERS.index("emerging")
        tiers[valued[count - count * PREMIUM_PERCENT // 100 :]] = TIERS.index("premium")
        return tiers

    def weights(self, chosen: Integers, last: LastDrawn, epoch: Epoch) -> Floats:
        """expected × ln(population + property_count) × preference × coverage (mechanism 2)."""
        days = last.waited(chosen, epoch) / _DAY
        return self.base_weights[chosen] * (1 + (days / COVERAGE_DAYS) ** 2)

    def digests(self, chosen: Integers, seed: str) -> list[bytes]:
        """HMAC(seed, zipcode) of each, the seed taken as its hex text."""
        names = self.zipcode_bytes
        return hmac_digests(seed.encode(), [names[index] for index in chosen.tolist()])

    def order(
        self, chosen: Integers, last: LastDrawn, epoch: Epoch, digests: Sequence[bytes]
    ) -> Integers:
        """``chosen`` in the order in which the draw looks at them: highest ln(u) / weight first.

        u = (digest as a number + 1) / (2^256 + 1), and ``digests`` has one for each of ``chosen``.
        Those of :meth:`digests` depend on the seed and the ZIP alone, so the order of rows never
        matters.
        """
        keys = logarithms(digests) / self.weights(chosen, last, epoch)
        ranked = np.argsort(-keys, kind="stable")
        waited = last.waited(chosen, epoch)
        for start, end in _near_runs(keys[ranked]):
            run: list[int] = ranked[start:end].tolist()
            run.sort(
                key=lambda i: (
                    -_exact_key(digests[i], self.rows[chosen[i]], int(waited[i])),
                    self.rows[chosen[i]].zipcode,
                )
            )
            ranked[start:end] = run
        return chosen[ranked]


def hmac_digests(key: bytes, messages: Iterable[bytes]) -> list[bytes]:
    """HMAC-SHA-256 of each message under one key (RFC 2104).

    The key's two blocks are hashed once instead of once a message, which takes a third of the
    time of ``hmac.digest``.
    """
    block = (hashlib.sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
    inner_of = hashlib.sha256(bytes(byte ^ 0x36 for byte in block)).copy
    outer_of = hashlib.sha256(bytes(byte ^ 0x5C for byte in block)).copy
    digests: list[bytes] = []
    for message in messages:
        inner = inner_of()
        inner.update(message)
        outer = outer_of()
        outer.update(inner.digest())
        digests.append(outer.digest())
    return digests


def logarithms(digests: Sequence[bytes]) -> Floats:
    """ln((d + 1) / (2^256 + 1)) of each digest d as a number, with all digits of a double.

    Near u = 1, which is where winners are, 1 − u = (2^256 − d) / (2^256 + 1) is formed exactly
    from d's complement and its logarithm taken by ``log1p``. Dividing by 2^256 instead of
    2^256 + 1 changes less than any digit shown.
    """
    words = np.frombuffer(b"".join(digests), dtype=">u8").reshape(-1, 4).astype(np.uint64)
    u = words @ _WORDS + _WORDS[3]
    complement = ~words @ _WORDS + _WORDS[3]
    return np.where(u < 0.5, np.log(u), np.log1p(-np.minimum(complement, 0.5)))


def _near_runs(keys: Floats) -> list[tuple[int, int]]:
    """Stretches of neighbours, two or more, that are nearer than ``NEAR``; keys descend."""
    near = keys[:-1] - keys[1:] <= -NEAR * keys[1:]
    if not near.any():
        return []
    edges = np.flatnonzero(np.diff(np.concatenate(([False], near, [False])).astype(np.int8)))
    return [(int(start), int(end) + 1) for start, end in edges.reshape(-1, 2)]


def _exact_key(digest: bytes, row: ZipRow, waited: int) -> Decimal:
    """ln(u) / weight to 60 digits: correctly rounded, hence the same on every machine."""
    expected = row.expected_listings or 0
    people = Decimal(max(_FEWEST_PEOPLE, row.population + row.property_count)).ln(_EXACT)
    halves = 2 if expected in PREFERRED_LISTINGS else 1
    days = _EXACT.divide(Decimal(waited), Decimal(_DAY * COVERAGE_DAYS))
    coverage = _EXACT.add(Decimal(1), _EXACT.multiply(days, days))
    product = _EXACT.multiply(_EXACT.multiply(Decimal(expected), people), halves)
    weight = _EXACT.divide(_EXACT.multiply(product, coverage), Decimal(2))
    drawn = int.from_bytes(digest, "big")
    u = _EXACT.divide(Decimal(drawn + 1), Decimal(_TWO_256 + 1))
    return _EXACT.divide(u.ln(_EXACT), weight)
