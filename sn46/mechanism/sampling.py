"""Who is checked deeply, which rows, and by which validators (mechanism 7).

Everything is drawn from ``validation_seed``, which nobody can know while uploads are open.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.canonical import sha256_hex
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.names import PPM, Coldkey, EpochId, Hotkey, Ppm

RESERVES: Final = 3
MAX_SAMPLE: Final = 50
SUSPICIOUS_MADS: Final = 3


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
    """Whose rows are checked. The three groups do not overlap."""

    candidates: tuple[Hotkey, ...]
    reserves: tuple[Hotkey, ...]
    random: tuple[Hotkey, ...]

    @property
    def all(self) -> tuple[Hotkey, ...]:
        return self.candidates + self.reserves + self.random


def choose(standings: Iterable[Standing], assignment: Assignment, seed: str) -> Chosen:
    """Candidates by preliminary score, ties by time, then hotkey; the next three as reserves;
    and of the rest those with the smallest hash(``{validation_seed}:{hotkey}``)."""
    ordered = sorted(standings, key=lambda s: (-s.preliminary, s.time, s.hotkey))
    top = assignment.rules.deep_validation_top
    hotkeys = [s.hotkey for s in ordered]
    rest = sorted(hotkeys[top + RESERVES :], key=lambda h: (sha256_hex(f"{seed}:{h}"), h))
    return Chosen(
        candidates=tuple(hotkeys[:top]),
        reserves=tuple(hotkeys[top : top + RESERVES]),
        random=tuple(rest[: assignment.rules.random_deep_validations]),
    )


def sample_size(rows: int, percentage: int) -> int:
    """min(max(1, ceil(rows × percentage / 100)), 50), and no more than there are rows."""
    return min(max(1, math.ceil(rows * percentage / 100)), MAX_SAMPLE, rows)


class Market:
    """All participants' kept rows together: what others reported, and what is usual in a ZIP.

    Args:
        kept: each participant's rows with the columns of ``quick.KEPT_COLUMNS``.
        coldkeys: each participant's coldkey.
    """

    def __init__(
        self, kept: Mapping[Hotkey, pl.DataFrame], coldkeys: Mapping[Hotkey, Coldkey]
    ) -> None:
        frames = [
            frame.select(
                "listing_id",
                "address_key",
                "zipcode",
                _price_per_sqft().alias("price_per_sqft"),
                pl.lit(coldkeys[hotkey], dtype=pl.String).alias("coldkey"),
            )
            for hotkey, frame in sorted(kept.items())
        ]
        schema = {
            "listing_id": pl.String(),
            "address_key": pl.String(),
            "zipcode": pl.String(),
            "price_per_sqft": pl.Int64(),
            "coldkey": pl.String(),
        }
        self._rows = pl.concat([pl.DataFrame(schema=schema), *frames], how="vertical")
        self._by_id = self._rows.group_by("listing_id").agg(pl.len().alias("same_id"))
        self._by_address = self._rows.group_by("address_key", "zipcode").agg(
            pl.len().alias("same_address")
        )
        self._usual = self._rows.group_by("zipcode").agg(
            _twice_median("price_per_sqft").alias("twice_usual")
        )
        spread = self._rows.join(self._usual, on="zipcode").with_columns(
            twice_off=(2 * pl.col("price_per_sqft") - pl.col("twice_usual")).abs()
        )
        self._spread = spread.group_by("zipcode").agg(_twice_median("twice_off").alias("four_mads"))

    def with_reports(self, kept: pl.DataFrame) -> pl.DataFrame:
        """The rows with ``same_id`` and ``same_address``: how many participants, themselves
        included, reported the row's listing_id, and its address and ZIP. Order is kept."""
        return kept.join(self._by_id, on="listing_id", how="left", maintain_order="left").join(
            self._by_address, on=["address_key", "zipcode"], how="left", maintain_order="left"
        )

    def suspicions(self, kept: pl.DataFrame) -> pl.Series:
        """Suspicion 0 to 3 of each of a participant's kept rows (mechanism 7): nobody else
        reported it; its price per square foot is further than 3 MADs from its ZIP's median; it
        shares price and living area with another row of the submission."""
        marked = (
            self.with_reports(kept)
            .join(self._usual, on="zipcode", how="left", maintain_order="left")
            .join(self._spread, on="zipcode", how="left", maintain_order="left")
        )
        alone = (pl.col("same_id") < 2) & (pl.col("same_address") < 2)
        # |x − median| > 3 MAD, both sides times four, to stay in whole numbers.
        twice_off = (2 * _price_per_sqft() - pl.col("twice_usual")).abs()
        off = 2 * twice_off > SUSPICIOUS_MADS * pl.col("four_mads")
        twin = pl.col("living_area_sqft").is_not_null() & (
            pl.struct("sale_price", "living_area_sqft").is_duplicated()
        )
        parts = [alone.fill_null(value=True), off.fill_null(value=False), twin]
        return marked.select(
            pl.sum_horizontal([part.cast(pl.Int8) for part in parts]).alias("suspicion")
        )["suspicion"]

    def vouchers(self, listing_id: str, address_key: str, zipcode: str) -> frozenset[Coldkey]:
        """Coldkeys that reported this listing_id, or this address and ZIP."""
        same = (pl.col("listing_id") == listing_id) | (
            (pl.col("address_key") == address_key) & (pl.col("zipcode") == zipcode)
        )
        return self._coldkeys(same)

    def covering(self, zipcode: str) -> frozenset[Coldkey]:
        """Coldkeys whose participants have rows in a ZIP."""
        return self._coldkeys(pl.col("zipcode") == zipcode)

    def _coldkeys(self, where: pl.Expr) -> frozenset[Coldkey]:
        found = self._rows.filter(where)["coldkey"].unique().to_list()
        return frozenset(Coldkey(str(coldkey)) for coldkey in found)


def _price_per_sqft() -> pl.Expr:
    """Millionths of a dollar a square foot, null where the living area is unknown or not over 0."""
    area = pl.col("living_area_sqft")
    usable = pl.when(area > 0).then(area).otherwise(None)
    return (pl.col("sale_price") * PPM) // usable


def _twice_median(column: str) -> pl.Expr:
    """Twice the median: the sum of the two values in the middle, or of the one with itself."""
    values = pl.col(column).drop_nulls().sort()
    count = values.len().cast(pl.Int64)
    lower = values.get((count - 1) // 2, null_on_oob=True)
    return lower + values.get(count // 2, null_on_oob=True)


@dataclass(frozen=True)
class SampledRow:
    """A row to check: its place among the miner's kept rows and the validators it is given to."""

    miner: Hotkey
    listing_id: str
    index: int
    suspicion: int
    validators: tuple[Hotkey, ...]


def sample_rows(
    *,
    hotkey: Hotkey,
    kept: pl.DataFrame,
    suspicions: pl.Series,
    percentage: int,
    seed: str,
) -> list[tuple[int, str, int]]:
    """Which of a miner's kept rows are checked, as (index, listing_id, suspicion).

    Half of them (rounded up) are those with the smallest hash(``{seed}:{hotkey}:{listing_id}``),
    the other half the most suspicious of the remaining rows, ties by the same hash.
    """
    size = sample_size(kept.height, percentage)
    ids: list[str] = kept["listing_id"].to_list()
    suspicion: list[int] = suspicions.to_list()
    hashes = [sha256_hex(f"{seed}:{hotkey}:{listing_id}") for listing_id in ids]
    by_hash = sorted(range(len(ids)), key=lambda i: (hashes[i], ids[i]))
    at_random = by_hash[: (size + 1) // 2]
    remaining = by_hash[(size + 1) // 2 :]
    suspicious = sorted(remaining, key=lambda i: -suspicion[i])[: size - len(at_random)]
    return [(i, ids[i], suspicion[i]) for i in at_random + suspicious]


def checking_validators(assignment: Assignment, view: ChainView) -> tuple[Hotkey, ...]:
    """The assignment's validators that hold a permit at the validation block, sorted."""
    permitted = set(view.permit_holders())
    return tuple(sorted(v for v in set(assignment.validators) if v in permitted))


def assign_checks(
    hotkey: Hotkey, listing_id: str, validators: Sequence[Hotkey], replicas: int, seed: str
) -> tuple[Hotkey, ...]:
    """The validators that check a row, by rendezvous hashing: those with the highest
    hash(``{validation_seed}:{hotkey}:{listing_id}:{validator_hotkey}``)."""
    prefix = f"{seed}:{hotkey}:{listing_id}"
    ranked = sorted(validators, key=lambda v: sha256_hex(f"{prefix}:{v}"), reverse=True)
    return tuple(ranked[:replicas])
