"""What a validator publishes of an epoch (mechanism 10)."""

import io
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import polars as pl

from sn46.mechanism.judge import LineUp, MinerOutcome, Outcome
from sn46.mechanism.listings import COLUMNS, SCHEMA
from sn46.mechanism.names import Hotkey
from sn46.mechanism.submission import validator_prefix
from sn46.mechanism.times import format_time

PUBLISHED_SCHEMA: Final[Mapping[str, pl.DataType]] = {
    **SCHEMA,
    "miner_hotkey": pl.String(),
    "rank": pl.Int64(),
    "epoch_id": pl.String(),
    "confirmations": pl.Int64(),
}

# What differs between honest validators: who they are, when they were done, how long it took.
OWN_FIELDS: Final = ("validation_timestamp", "validator_hotkey")
OWN_SUMMARY_FIELDS: Final = ("validation_duration_seconds",)


def data_key(validator: str, epoch_id: str) -> str:
    return f"{validator_prefix(validator, epoch_id)}validated_data.parquet"


def report_key(validator: str, epoch_id: str) -> str:
    return f"{validator_prefix(validator, epoch_id)}validation_report.json"


def metadata_key(validator: str, epoch_id: str) -> str:
    return f"{validator_prefix(validator, epoch_id)}epoch_metadata.json"


def miner_entry(miner: MinerOutcome) -> dict[str, Any]:
    """A miner's part of the report; null where a step was not reached."""
    quick, standing = miner.quick, miner.standing
    return {
        "valid": quick.valid,
        "participant": quick.participant,
        "candidate": miner.candidate,
        "reserve": miner.reserve,
        "disqualified": miner.disqualified,
        "submission_time": format_time(quick.submission_time) if quick.submission_time else None,
        "rows": quick.rows,
        "rows_kept": quick.rows_kept,
        "duplicates": quick.duplicates,
        "out_of_range": quick.out_of_range,
        "zipcodes": quick.zipcodes,
        "speed": standing.speed if standing else None,
        "completeness": quick.completeness,
        "volume": quick.volume,
        "preliminary": standing.preliminary if standing else None,
        "accuracy": miner.checks.accuracy if miner.checks else None,
        "quality": miner.quality,
        "credibility": miner.credibility.value,
        "credibility_epochs": miner.credibility.epochs,
        "final": miner.final,
        "rank": miner.rank,
        "weight": miner.weight,
        "checks": miner.checks.to_json() if miner.checks else None,
        "reasons": [reason.to_json() for reason in miner.reasons],
    }


def build_report(
    outcome: Outcome,
    *,
    validator: Hotkey,
    finished_at: datetime,
    duration_seconds: int,
    listings_validated: int,
) -> dict[str, Any]:
    """validation_report.json.

    Args:
        outcome: the epoch's result.
        validator: whose report it is.
        finished_at: when, aware UTC.
        duration_seconds: how long the validation took, in whole seconds.
        listings_validated: rows of validated_data.parquet.
    """
    miners = outcome.miners
    qualities = [m.quality for m in miners.values() if m.quality is not None]
    return {
        "epoch_id": outcome.assignment.epoch_id,
        "epoch_seconds": outcome.assignment.epoch.seconds,
        "validation_timestamp": format_time(finished_at),
        "validator_hotkey": validator,
        "total_miners_evaluated": len(miners),
        "top_3_winners": [
            {
                "rank": place,
                "miner_hotkey": hotkey,
                "score": miners[hotkey].final,
                "listings_submitted": miners[hotkey].quick.rows,
                "zipcodes_completed": miners[hotkey].quick.zipcodes,
                "validation_issues": [
                    f"{reason.code.value}: {reason.detail}" for reason in miners[hotkey].reasons
                ],
            }
            for place, hotkey in enumerate(outcome.winners, start=1)
        ],
        "validation_summary": {
            "total_listings_validated": listings_validated,
            "spot_checks_performed": outcome.voices,
            "validation_duration_seconds": duration_seconds,
            "quality_score_average": sum(qualities) // len(qualities) if qualities else None,
        },
        "miners": {hotkey: miner_entry(miner) for hotkey, miner in miners.items()},
        "ignored_evidence": dict(outcome.ignored_evidence),
        "weights": dict(outcome.weights),
        "assignment_hash": outcome.assignment.hash,
        "consensus_hash": outcome.consensus_hash,
    }


def common_part(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report without what is a validator's own: equal for all honest validators."""
    common = {key: value for key, value in report.items() if key not in OWN_FIELDS}
    summary = report.get("validation_summary")
    if isinstance(summary, Mapping):
        common["validation_summary"] = {
            key: value
            for key, value in summary.items()  # pyright: ignore[reportUnknownVariableType]
            if key not in OWN_SUMMARY_FIELDS
        }
    return common


def published_rows(
    lined_up: LineUp, outcome: Outcome, rows: Mapping[Hotkey, pl.DataFrame]
) -> pl.DataFrame:
    """The winners' rows, one per home, the best rank's kept (mechanism 10).

    Args:
        lined_up: the epoch's line-up, for what other participants reported.
        outcome: the epoch's result.
        rows: each winner's kept rows, as ``quick.kept_listings`` gives them.

    Returns:
        A frame in PUBLISHED_SCHEMA; ``confirmations`` is the number of participants that
        reported the home, the winner included.
    """
    parts: list[pl.DataFrame] = []
    reported = lined_up.market.with_reports([rows[hotkey] for hotkey in outcome.winners])
    for place, (hotkey, marked) in enumerate(zip(outcome.winners, reported, strict=True), start=1):
        parts.append(
            marked.with_columns(
                miner_hotkey=pl.lit(hotkey, dtype=pl.String),
                rank=pl.lit(place, dtype=pl.Int64),
                epoch_id=pl.lit(outcome.assignment.epoch_id, dtype=pl.String),
                confirmations=pl.max_horizontal("same_id", "same_address").cast(pl.Int64),
            )
        )
    if not parts:
        return pl.DataFrame(schema=dict(PUBLISHED_SCHEMA))
    together = pl.concat(parts, how="vertical")
    first = (
        pl.col("listing_id").is_first_distinct()
        & pl.struct("address_key", "zipcode").is_first_distinct()
    )
    return together.filter(first).select(*COLUMNS, *list(PUBLISHED_SCHEMA)[len(COLUMNS) :])


def write_published(frame: pl.DataFrame) -> bytes:
    """validated_data.parquet, snappy."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="snappy")
    return buffer.getvalue()
