"""Who is checked deeply, which rows, and by which validators (mechanism 7).

Everything is drawn from ``validation_seed``, which nobody can know while uploads are open.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from heapq import nsmallest
from itertools import accumulate, pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.lots import lot_of, order_by_lot
from sn46.mechanism.names import PPM, Coldkey, EpochId, Hotkey, Ppm

RESERVES: Final = 3
RESERVE_POOL: Final = 12
"""Of so many that come after the candidates the reserves are drawn."""
MAX_SAMPLE: Final = 50
SUSPICIOUS_MADS: Final = 3

_Whole = npt.NDArray[np.int64]


def validation_seed(block_hash: str, epoch_id: EpochId) -> str:
    """hash(``{block_hash}:{epoch_id}``), the block being the first finalized one at or after the
    deadline."""
    return sha256_hex(f"{block_hash}:{epoch_id}")


@dataclass(frozen=True)
class Standing:
    """A participant before deep validation."""

    hotkey: Hotkey
    coldkey: Coldkey
    time: datetime
    speed: Ppm
    completeness: Ppm
    volume: Ppm
    preliminary: Ppm


@dataclass(frozen=True)
class Chosen:
    """Whose rows are checked. The three groups do not overlap. ``unseen`` is how many coldkeys
    have neither a candidate nor a reserve: those of the randomly checked, and all that these stand
    for."""

    candidates: tuple[Hotkey, ...]
    reserves: tuple[Hotkey, ...]
    random: tuple[Hotkey, ...]
    unseen: int

    @property
    def all(self) -> tuple[Hotkey, ...]:
        return self.candidates + self.reserves + self.random


def choose(standings: Iterable[Standing], assignment: Assignment, seed: str) -> Chosen:
    """Candidates by preliminary score, ties by lot; three reserves by lot of the next twelve; and
    by lot of the coldkeys that have neither, each with the one of its hotkeys that is drawn.

    Candidates and reserves of one coldkey are no more than the places that it can win: its other
    hotkeys would only keep others from being candidates (docs/decisions/0044). Reserves are drawn,
    so that to keep all others out takes more than as many coldkeys as are in line
    (docs/decisions/0065).
    """
    ordered = sorted(
        standings, key=lambda s: (-s.preliminary, order_by_lot(seed, "tie", s.coldkey, s.hotkey))
    )
    top = assignment.rules.deep_validation_top
    most = assignment.rules.max_winners_per_coldkey
    of_coldkey: Counter[Coldkey] = Counter()
    line: list[Standing] = []
    for standing in ordered:
        if len(line) < top + RESERVE_POOL and of_coldkey[standing.coldkey] < most:
            of_coldkey[standing.coldkey] += 1
            line.append(standing)
    candidates = line[:top]
    reserves = sorted(line[top:], key=lambda s: order_by_lot(seed, "reserve", s.coldkey, s.hotkey))[
        :RESERVES
    ]
    in_line = {standing.hotkey for standing in (*candidates, *reserves)}
    seen = {standing.coldkey for standing in (*candidates, *reserves)}
    rest: dict[Coldkey, list[Hotkey]] = {}
    for standing in ordered:
        if standing.hotkey not in in_line:
            rest.setdefault(standing.coldkey, []).append(standing.hotkey)

    def by_lot(name: str) -> str:
        return lot_of(seed, name)

    drawn = sorted(rest.keys() - seen, key=by_lot)
    return Chosen(
        candidates=tuple(standing.hotkey for standing in candidates),
        reserves=tuple(standing.hotkey for standing in reserves),
        random=tuple(
            min(rest[coldkey], key=by_lot)
            for coldkey in drawn[: assignment.rules.random_deep_validations]
        ),
        unseen=len(drawn),
    )


def sample_size(rows: int, percentage: int) -> int:
    """min(max(1, ceil(rows × percentage / 100)), 50), and no more than there are rows."""
    return min(max(1, math.ceil(rows * percentage / 100)), MAX_SAMPLE, rows)


class Market:
    """All participants' kept rows together: what others reported, and what is usual in a ZIP.

    The rows of an epoch are millions, so they stay in their frames, and nothing of their size is
    made of them: what is counted is counted for the rows that are asked about.

    Args:
        kept: each participant's rows with the columns of ``quick.KEPT_COLUMNS``.
        coldkeys: each participant's coldkey.
    """

    def __init__(
        self, kept: Mapping[Hotkey, pl.DataFrame], coldkeys: Mapping[Hotkey, Coldkey]
    ) -> None:
        self._kept = [(coldkeys[hotkey], frame) for hotkey, frame in sorted(kept.items())]
        self._usual = _usual(frame for _, frame in self._kept)

    def with_reports(self, rows: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
        """Each frame of rows with ``same_id`` and ``same_address``: how many participants' rows,
        their own included, have the row's listing_id, and its address and ZIP. Order is kept."""
        keys = ["listing_id", "address_key", "zipcode"]
        # All in one: a join per frame would go through all counts each time.
        nobody = pl.DataFrame(schema=dict.fromkeys(keys, pl.String()))
        asked = pl.concat([nobody, *(frame.select(keys) for frame in rows)])
        same_id = self._counts(asked, ("listing_id",)).alias("same_id")
        same_address = self._counts(asked, ("address_key", "zipcode")).alias("same_address")
        return _beside(rows, pl.DataFrame([same_id, same_address]))

    def _counts(self, asked: pl.DataFrame, keys: tuple[str, ...]) -> pl.Series:
        """How often the key of each of these rows comes among all participants' rows."""
        wanted = asked.select(keys)
        everyone = [wanted.clear().lazy(), *(f.lazy().select(keys) for _, f in self._kept)]
        counted = (
            pl.concat(everyone)
            .join(wanted.unique().lazy(), on=keys, how="semi")
            .group_by(keys)
            .agg(pl.len().cast(pl.UInt32()).alias("count"))
            .collect(engine="streaming")
        )
        return wanted.join(counted, on=keys, how="left", maintain_order="left")["count"]

    def _as_full(self, rows: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """``as_full`` of all these rows: of how many coldkeys a row with its listing_id has as
        many fields filled."""
        nobody = pl.DataFrame(schema={"listing_id": pl.String(), "filled": pl.UInt8()})
        wanted = pl.concat([nobody, *(frame.select("listing_id", "filled") for frame in rows)])
        ids = wanted.select("listing_id").unique().lazy()
        counted = (
            pl.concat([nobody.lazy(), *(frame.lazy() for frame in self._fullest)])
            .join(ids, on="listing_id", how="semi")
            .group_by("listing_id", "filled")
            .agg(pl.len().cast(pl.UInt32()).alias("count"))
            .collect(engine="streaming")
        )
        questions = wanted.unique()
        answers = (
            questions.join(counted, on="listing_id", how="left", suffix="_there")
            .filter(pl.col("filled_there") >= pl.col("filled"))
            .group_by("listing_id", "filled")
            .agg(pl.col("count").sum())
        )
        keys = ["listing_id", "filled"]
        found = wanted.join(answers, on=keys, how="left", maintain_order="left")
        return found.select(as_full="count")

    @cached_property
    def _fullest(self) -> list[pl.DataFrame]:
        """Each coldkey's listings with the most fields that it has filled of each."""
        frames: dict[Coldkey, list[pl.DataFrame]] = {}
        for coldkey, frame in self._kept:
            frames.setdefault(coldkey, []).append(frame.select("listing_id", "filled"))
        return [
            of_it[0]
            if len(of_it) == 1
            else pl.concat(of_it).group_by("listing_id").agg(pl.col("filled").max())
            for of_it in frames.values()
        ]

    def marks(self, rows: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
        """What decides which of some participants' kept rows are checked, a line a row:
        ``suspicion`` (mechanism 7) is 0 to 3, one each where nobody else reported it, where its
        price per square foot is further than 3 MADs from its ZIP's median, and where it shares
        price and living area with another row of the submission; ``as_full`` says of how many
        coldkeys, its own included, a row with that listing_id has as many fields filled."""
        alone = (pl.col("same_id") < 2) & (pl.col("same_address") < 2)
        # |x − median| > 3 MAD, both sides times four, to stay in whole numbers.
        twice_off = (2 * _price_per_sqft() - pl.col("twice_usual")).abs()
        off = 2 * twice_off > SUSPICIOUS_MADS * pl.col("four_mads")
        twin = pl.col("living_area_sqft").is_not_null() & (
            pl.struct("sale_price", "living_area_sqft").is_duplicated()
        )
        parts = [alone.fill_null(value=True), off.fill_null(value=False), twin]
        suspicion = pl.sum_horizontal([part.cast(pl.Int8) for part in parts]).alias("suspicion")
        return [
            marked.join(self._usual, on="zipcode", how="left", maintain_order="left").select(
                suspicion, "as_full"
            )
            for marked in _beside(self.with_reports(rows), self._as_full(rows))
        ]

    def vouchers(self, listing_id: str, address_key: str, zipcode: str) -> frozenset[Coldkey]:
        """Coldkeys that reported this listing_id, or this address and ZIP."""
        asked = {"listing_id": [listing_id], "address_key": [address_key], "zipcode": [zipcode]}
        return self.vouchers_of(pl.DataFrame(asked))[0]

    def vouchers_of(self, asked: pl.DataFrame) -> list[frozenset[Coldkey]]:
        """The same for many rows (``listing_id``, ``address_key`` and ``zipcode``): each
        participant's rows are read twice, however many are asked about."""
        rows = asked.with_row_index("place")
        found: list[set[Coldkey]] = [set() for _ in range(rows.height)]
        for coldkey, frame in self._kept:
            for keys in (["listing_id"], ["address_key", "zipcode"]):
                for place in rows.join(frame.select(keys), on=keys, how="semi")["place"]:
                    found[place].add(coldkey)
        return [frozenset(coldkeys) for coldkeys in found]

    def covering(self, zipcode: str, least: int = 1) -> frozenset[Coldkey]:
        """Coldkeys of which a participant has at least so many rows in a ZIP."""
        return frozenset(c for c, most in self._covered.get(zipcode, {}).items() if most >= least)

    @cached_property
    def _covered(self) -> dict[str, dict[Coldkey, int]]:
        """By ZIP, the most rows that a participant of each coldkey has in it."""
        found: dict[str, dict[Coldkey, int]] = {}
        for coldkey, frame in self._kept:
            for zipcode, rows in frame.group_by("zipcode").len().iter_rows():
                of_zip = found.setdefault(zipcode, {})
                of_zip[coldkey] = max(rows, of_zip.get(coldkey, 0))
        return found


def _beside(rows: Sequence[pl.DataFrame], found: pl.DataFrame) -> list[pl.DataFrame]:
    """Each frame with its part of what was found for all of their rows together."""
    ends = accumulate((frame.height for frame in rows), initial=0)
    return [
        frame.hstack(found[start:end])
        for frame, (start, end) in zip(rows, pairwise(ends), strict=True)
    ]


def _price_per_sqft() -> pl.Expr:
    """Millionths of a dollar a square foot, null where the living area is unknown or not over 0."""
    area = pl.col("living_area_sqft")
    usable = pl.when(area > 0).then(area).otherwise(None)
    return (pl.col("sale_price") * PPM) // usable


def _usual(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """What is usual in each ZIP: ``twice_usual`` is twice the median price per square foot, and
    ``four_mads`` four times the median of how far prices are from it."""
    prices: dict[str, list[_Whole]] = {}
    for frame in frames:
        priced = frame.select("zipcode", price=_price_per_sqft()).drop_nulls()
        values, start = priced["price"].to_numpy(), 0
        # In the order of keys, so that the rows of a ZIP are one run, or few.
        for length, zipcode in priced["zipcode"].rle().struct.unnest().iter_rows():
            prices.setdefault(zipcode, []).append(values[start : start + length])
            start += length
    usual: dict[str, tuple[int, int]] = {}
    for zipcode, parts in prices.items():
        of_zip = np.concatenate(parts)
        twice_median = _twice_median(of_zip)
        usual[zipcode] = twice_median, _twice_median(np.abs(2 * of_zip - twice_median))
    return pl.DataFrame(
        [(zipcode, *found) for zipcode, found in usual.items()],
        schema={"zipcode": pl.String(), "twice_usual": pl.Int64(), "four_mads": pl.Int64()},
        orient="row",
    )


def _twice_median(values: _Whole) -> int:
    """Twice the median: the sum of the two values in the middle, or of the one with itself."""
    middle = [(len(values) - 1) // 2, len(values) // 2]
    return int(np.partition(values, middle)[middle].sum())


@dataclass(frozen=True)
class SampledRow:
    """A row to check: its place among the miner's kept rows, the validators it is given to, and
    how many optional fields it has filled."""

    miner: Hotkey
    listing_id: str
    index: int
    suspicion: int
    validators: tuple[Hotkey, ...]
    filled: int


def sample_rows(
    *,
    kept: pl.DataFrame,
    marks: pl.DataFrame,
    percentage: int,
    seed: str,
) -> list[tuple[int, str, int]]:
    """Which of a miner's kept rows are checked, as (index, listing_id, suspicion).

    Half of them (rounded up) are those with the smallest hash(``{seed}:{listing_id}``). Up to half
    of the others (rounded down) are rows of which fewer than half as many coldkeys as is usual in
    the submission (the median, of two the lower) have as many fields filled, the fewest first. The
    rest are the most suspicious of what remains. Ties go by the same hash. The miner is not in the
    hash, so that who uploads the same is asked the same (docs/decisions/0063 and 0064).
    """
    size = sample_size(kept.height, percentage)
    ids: list[str] = kept["listing_id"].to_list()
    suspicion: list[int] = marks["suspicion"].to_list()
    as_full: list[int] = marks["as_full"].to_list()
    begun = f"{seed}:"
    ranked = [
        (hashlib.sha256((begun + listing_id).encode()).digest(), listing_id, index)
        for index, listing_id in enumerate(ids)
    ]
    chosen = nsmallest((size + 1) // 2, ranked)
    taken = {index for _, _, index in chosen}

    def add(count: int, candidates: Iterable[int], order: Callable[[int], int]) -> None:
        rows = (ranked[index] for index in candidates if index not in taken)
        added = nsmallest(count, rows, key=lambda one: (order(one[2]), one))
        chosen.extend(added)
        taken.update(index for _, _, index in added)

    usual = sorted(as_full)[(len(as_full) - 1) // 2] if as_full else 0
    unshared = [index for index, count in enumerate(as_full) if 2 * count < usual]
    add((size - len(chosen)) // 2, unshared, as_full.__getitem__)
    add(size - len(chosen), range(len(ids)), lambda index: -suspicion[index])
    return [(index, listing_id, suspicion[index]) for _, listing_id, index in chosen]


def checking_validators(assignment: Assignment, view: ChainView) -> tuple[Hotkey, ...]:
    """The assignment's validators that hold a permit at the validation block, sorted."""
    permitted = set(view.permit_holders())
    return tuple(sorted(v for v in set(assignment.validators) if v in permitted))


def assign_checks(
    listing_id: str, validators: Sequence[Hotkey], replicas: int, seed: str
) -> tuple[Hotkey, ...]:
    """The validators that check a listing, whoever reported it, by rendezvous hashing: those with
    the highest hash(``{validation_seed}:{listing_id}:{validator_hotkey}``)."""
    prefix = f"{seed}:{listing_id}"
    ranked = sorted(validators, key=lambda v: sha256_hex(f"{prefix}:{v}"), reverse=True)
    return tuple(ranked[:replicas])
