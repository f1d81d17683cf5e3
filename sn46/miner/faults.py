"""Why rows do not count, in words, with rows as examples."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import polars as pl

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.listings import REQUIRED
from sn46.mechanism.quick import range_rules

EXAMPLES: Final = 3
_IDENTITY: Final = ("listing_id", "address", "zipcode")


@dataclass(frozen=True)
class RowFault:
    """``count`` rows that do not count for one reason. Each example names its file, the row's
    number in it (from 1), what identifies the row, and the values concerned."""

    what: str
    count: int
    examples: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        examples = [dict(example) for example in self.examples]
        return {"what": self.what, "count": self.count, "examples": examples}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "RowFault":
        """
        Raises:
            KeyError, TypeError: where it is none.
        """
        examples = cast(list[Mapping[str, Any]], value["examples"])
        return cls(str(value["what"]), int(value["count"]), tuple(dict(e) for e in examples))


def row_faults(assignment: Assignment, judged: pl.DataFrame) -> tuple[RowFault, ...]:
    """What is wrong with rows that ``judge_rows`` judged. A row counts for the first thing that
    is wrong with it."""
    rows = judged.with_columns(pl.int_range(1, pl.len() + 1).over("folder").alias("row"))
    found: list[RowFault] = []
    for what, columns, is_faulty in _kinds(assignment):
        faulty = rows.filter(is_faulty)
        if faulty.height:
            found.append(RowFault(what, faulty.height, _examples(faulty, columns)))
            rows = rows.filter(~is_faulty)
    return tuple(found)


def merged_faults(faults: Iterable[RowFault]) -> tuple[RowFault, ...]:
    """Several parts' faults as one list."""
    together: dict[str, RowFault] = {}
    for fault in faults:
        before = together.get(fault.what, RowFault(fault.what, 0))
        together[fault.what] = RowFault(
            fault.what,
            before.count + fault.count,
            (*before.examples, *fault.examples)[:EXAMPLES],
        )
    return tuple(together.values())


def _kinds(assignment: Assignment) -> Iterator[tuple[str, tuple[str, ...], pl.Expr]]:
    """(what is wrong, the columns concerned, which rows), in the order in which it is looked at."""
    yield "the row is of another ZIP than its file", (), pl.col("wrong_zip")
    for rule in range_rules(assignment):
        yield rule.broken, rule.columns, ~rule.keeps
    same_id = ~pl.col("listing_id").is_first_distinct()
    duplicate = pl.col("duplicate")
    yield "it repeats an earlier row's listing_id", (), duplicate & same_id
    yield "it repeats an earlier row's address and ZIP", (), duplicate


def _examples(faulty: pl.DataFrame, columns: tuple[str, ...]) -> tuple[Mapping[str, Any], ...]:
    return tuple(_example(row, columns) for row in faulty.head(EXAMPLES).iter_rows(named=True))


def _example(row: Mapping[str, Any], columns: tuple[str, ...]) -> dict[str, Any]:
    example: dict[str, Any] = {
        "file": f"zipcode={row['folder']}/listings.parquet",
        "row": row["row"],
        **{name: row[name] for name in _IDENTITY},
    }
    if columns == REQUIRED:
        absent = [name for name in columns if row[name] is None or not str(row[name]).strip()]
        return example | {"absent": ", ".join(absent)}
    return example | {name: _plain(row[name]) for name in columns}


def _plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    return value if value is None or isinstance(value, str | int | float) else str(value)
