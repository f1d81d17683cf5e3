"""Published epochs made by hand: reports and rows as validators publish them, in an export folder
or in a bucket."""

import asyncio
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from mechanism.builders import FULL_OPTIONAL, hotkey, listing

from sn46.data.decoder import Decoder
from sn46.data.library import KeptEpoch, Library
from sn46.data.objects import FolderOrigin
from sn46.mechanism.canonical import hash_json
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.names import EpochId
from sn46.mechanism.report import PUBLISHED_SCHEMA, data_key, report_key, write_published
from sn46.mechanism.submission import ObjectInfo
from sn46.store.s3 import S3Bucket
from sn46.store.snapshot import VALIDATED_DATA, write_export

FIRST = Epoch(datetime(2026, 1, 5, tzinfo=UTC))
WINNERS = (hotkey("ann"), hotkey("bob"))
VALIDATORS = ("vali", "other", "third")


def epoch_ids(count: int) -> list[EpochId]:
    """The ids of so many epochs from the first on."""
    found, epoch = [], FIRST
    for _ in range(count):
        found.append(epoch.id)
        epoch = epoch.next()
    return found


def home(number: int, zipcode: str = "15213", **changes: Any) -> dict[str, Any]:
    return listing(number, zipcode, **{**FULL_OPTIONAL, **changes})


def rows_frame(
    epoch_id: str,
    homes: Iterable[Mapping[str, Any]],
    winners: Sequence[str] = WINNERS,
    **changes: Any,
) -> pl.DataFrame:
    """Published rows: the winners take turns; ``changes`` are for every row."""
    rows = [
        {
            **row,
            "miner_hotkey": winners[n % len(winners)],
            "rank": 1 + n % len(winners),
            "epoch_id": epoch_id,
            "confirmations": row.get("confirmations", 1 + n % 3),
            **changes,
        }
        for n, row in enumerate(homes)
    ]
    full = [{name: row.get(name) for name in PUBLISHED_SCHEMA} for row in rows]
    return pl.DataFrame(full, schema=dict(PUBLISHED_SCHEMA), orient="row")


def report(
    validator: str,
    epoch_id: str,
    rows: int,
    *,
    winners: Sequence[str] = WINNERS,
    best: int = 900_000,
    **changes: Any,
) -> dict[str, Any]:
    """A report that holds together; ``best`` is the first winner's score."""
    scores = {winner: best - 1_000 * n for n, winner in enumerate(winners)}
    weights = dict(zip(winners, (500_000, 300_000, 150_000), strict=False))
    hashed = {"epoch_id": epoch_id, "scores": scores, "weights": weights}
    return {
        "epoch_id": epoch_id,
        "validator_hotkey": hotkey(validator),
        "top_3_winners": [
            {"rank": rank, "miner_hotkey": winner, "score": scores[winner]}
            for rank, winner in enumerate(winners, start=1)
        ],
        "validation_summary": {"total_listings_validated": rows},
        "miners": {winner: {"final": score} for winner, score in scores.items()},
        "weights": weights,
        "consensus_hash": hash_json(hashed),
        **changes,
    }


@dataclass
class Publications:
    """Objects of the results bucket, by key."""

    bodies: dict[str, bytes] = field(default_factory=dict)

    def put(
        self,
        validator: str,
        epoch_id: str,
        frame: pl.DataFrame | bytes | None,
        document: Mapping[str, Any] | bytes | None = None,
        **changes: Any,
    ) -> None:
        """One validator's rows and report; the report follows from the rows unless given."""
        if frame is not None:
            body = frame if isinstance(frame, bytes) else write_published(frame)
            self.bodies[data_key(hotkey(validator), epoch_id)] = body
        if document is None:
            height = frame.height if isinstance(frame, pl.DataFrame) else 0
            document = report(validator, epoch_id, height, **changes)
        text = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.bodies[report_key(hotkey(validator), epoch_id)] = text

    def all_agree(
        self,
        epoch_id: str,
        frame: pl.DataFrame,
        validators: Sequence[str] = VALIDATORS,
        **changes: Any,
    ) -> None:
        """Everyone publishes the same."""
        for validator in validators:
            self.put(validator, epoch_id, frame, **changes)

    @property
    def objects(self) -> Sequence[ObjectInfo]:
        at = FIRST.end + timedelta(hours=3)
        return [ObjectInfo(key, len(body), at, {}) for key, body in sorted(self.bodies.items())]

    async def read(self, key: str) -> bytes:
        return self.bodies[key]

    async def export(self, folder: Path) -> Path:
        """As an export folder."""
        await write_export(folder, VALIDATED_DATA, self)
        return folder

    def write(self, folder: Path) -> Path:
        """As ``export``, where no event loop runs."""
        return asyncio.run(self.export(folder))

    async def upload(self, bucket: S3Bucket) -> None:
        """Into a bucket."""
        for key, body in self.bodies.items():
            await bucket.put(key, body)


def parquet(frame: pl.DataFrame, **options: Any) -> bytes:
    """A Parquet file of any frame."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, **options)
    return buffer.getvalue()


def some_epochs(count: int, homes: int = 20) -> Publications:
    """Epochs on which all agree. Each sees half of the homes of the one before again."""
    made = Publications()
    for number, epoch_id in enumerate(epoch_ids(count)):
        first = 1 + number * homes // 2
        made.all_agree(epoch_id, rows_frame(epoch_id, map(home, range(first, first + homes))))
    return made


async def kept_of(
    made: Publications, folder: Path, cache: Path, decoder: Decoder, trusted: tuple[Any, ...] = ()
) -> list[KeptEpoch]:
    """What the library keeps of what was published."""
    origin = FolderOrigin(await made.export(folder))
    library = Library(cache, origin.name, trusted)
    return await library.refresh(origin, decoder, lambda done, of: None)
