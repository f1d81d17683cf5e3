"""What anyone may read: how the competition stands."""

import json
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request

from sn46.api.announcing import agreement_of
from sn46.api.commitments import EXAMPLE_HOTKEY
from sn46.api.contract import (
    EXAMPLE_EPOCH,
    EXAMPLE_HASH,
    PUBLIC,
    RESULTS_EXAMPLE,
    answers,
)
from sn46.api.legacy import stats_fields as legacy_stats
from sn46.api.problems import Problem
from sn46.api.records import EpochFigures, StoredEpoch
from sn46.api.services import Services, services_of
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.errors import AssignmentError
from sn46.mechanism.names import ZipCode
from sn46.mechanism.rules import Rules
from sn46.mechanism.times import format_time

router = APIRouter(tags=["public"])

_HISTORY = 12
_MOST_EPOCHS = 200
_COVERAGE_DAYS = 30


@router.get(
    "/zipcode-assignments/stats",
    responses=answers(
        {
            "now": "2024-03-15T17:00:00Z",
            "current_epoch": {"epoch_id": EXAMPLE_EPOCH, "seconds_left": 10_800},
            "timing": {"epoch_seconds": 14_400},
            "coverage": {"epochs": 2190, "zipcodes_ever": 6720, "zipcodes_30_days": 1900},
            "tiers": {"premium": {"zipcodes": 3, "listings": 3050}},
            "participation": {"upload_credentials": 41, "statuses": {"completed": 12}},
            "history": [],
            "draw_error": None,
        },
        *PUBLIC,
    ),
)
async def stats(request: Request) -> dict[str, Any]:
    """The current epoch and its timing, coverage, tiers, participation and the last epochs."""
    services = services_of(request)
    await services.authenticator.count_address(request)
    now = services.outside.clock.now()
    stored = await _current(services)
    epoch = services.epochs.at(now) if stored is None else stored.epoch
    records = services.records
    return {
        "now": format_time(now),
        "current_epoch": None if stored is None else _current_json(stored, now),
        "timing": _timing_json(epoch, _rules(services, stored)),
        "coverage": await records.coverage(now, now - timedelta(days=_COVERAGE_DAYS)),
        "tiers": {} if stored is None else await records.tiers(stored.epoch_id),
        "participation": await _participation(services, epoch),
        "history": [
            _figures_json(figures)
            for figures in await records.recent_epochs(now, _HISTORY + 1)
            if figures.end <= now
        ],
        "draw_error": services.scheduler.last_error,
        **legacy_stats(stored, now),
    }


@router.get(
    "/epochs",
    responses=answers(
        {
            "epochs": [
                {
                    "epoch_id": EXAMPLE_EPOCH,
                    "start": "2024-03-15T16:00:00Z",
                    "end": "2024-03-15T20:00:00Z",
                    "target_listings": 10_000,
                    "total_listings": 9_812,
                    "zipcodes": 11,
                    "relaxed": [],
                    "agreement": RESULTS_EXAMPLE["agreement"],
                }
            ]
        },
        422,
        *PUBLIC,
    ),
)
async def epoch_history(
    request: Request, limit: Annotated[int, Query(ge=1, le=_MOST_EPOCHS, examples=[50])] = 50
) -> dict[str, Any]:
    """The begun epochs with the agreement of their reports, newest first (at most 200)."""
    services = services_of(request)
    await services.authenticator.count_address(request)
    now = services.outside.clock.now()
    figures = await services.records.recent_epochs(now, limit)
    reports = await services.records.reports_between(figures[-1].start, now) if figures else []
    return {
        "epochs": [
            {
                **_figures_json(f),
                "agreement": asdict(agreement_of([r for r in reports if r.start == f.start])),
            }
            for f in figures
        ]
    }


@router.get(
    "/leaderboard",
    responses=answers(
        {
            "epochs": 100,
            "miners": [{"hotkey": EXAMPLE_HOTKEY, "first": 40, "second": 12, "third": 3}],
        },
        *PUBLIC,
    ),
)
async def leaderboard(request: Request) -> dict[str, Any]:
    """How often each miner was among the agreed top three of the last 100 epochs."""
    services = services_of(request)
    await services.authenticator.count_address(request)
    now = services.outside.clock.now()
    starts = await services.records.newest_reported(now, 100)
    reports = await services.records.reports_between(starts[0], now) if starts else []
    places: dict[str, list[int]] = {}
    for start in starts:
        agreed = agreement_of([r for r in reports if r.start == start])
        for place, hotkey in enumerate(agreed.top_3):
            places.setdefault(hotkey, [0, 0, 0])[place] += 1
    ranked = sorted(places.items(), key=lambda item: ([-n for n in item[1]], item[0]))
    return {
        "epochs": len(starts),
        "miners": [
            {"hotkey": hotkey, "first": n[0], "second": n[1], "third": n[2]} for hotkey, n in ranked
        ],
    }


@router.get(
    "/zipcodes/{zipcode}",
    responses=answers(
        {
            "zipcode": "11211",
            "expected_listings": 1007,
            "state": "NY",
            "city": "Brooklyn",
            "updated_on": "2024-03-01",
            "table_version": EXAMPLE_HASH,
            "drawn_in": [EXAMPLE_EPOCH],
        },
        404,
        *PUBLIC,
    ),
)
async def zipcode(
    request: Request, zipcode: Annotated[str, Path(examples=["11211"])]
) -> dict[str, Any]:
    """One ZIP of the master table, and the ended epochs that drew it."""
    services = services_of(request)
    await services.authenticator.count_address(request)
    table = await services.table.load()
    row = table.by_zipcode.get(ZipCode(zipcode))
    if row is None:
        raise Problem(
            404,
            "unknown_zipcode",
            "The master table has no such ZIP. ZIPs are five digits, such as 08701.",
        )
    now = services.outside.clock.now()
    return {
        **asdict(row),
        "updated_on": row.updated_on.isoformat() if row.updated_on else None,
        "table_version": table.version,
        "drawn_in": await services.records.draws_of(zipcode, now),
    }


async def _current(services: Services) -> StoredEpoch | None:
    try:
        return await services.epochs.current()
    except Problem:
        return None


async def _participation(services: Services, epoch: Epoch) -> dict[str, Any]:
    statuses = await services.records.status_counts(epoch.id)
    holders = await services.records.holders(epoch.id, ["miner"])
    return {"upload_credentials": len(holders), "statuses": statuses}


def _current_json(stored: StoredEpoch, now: datetime) -> dict[str, Any]:
    epoch = stored.epoch
    return {
        "epoch_id": epoch.id,
        "epoch_start": format_time(epoch.start),
        "epoch_end": format_time(epoch.end),
        "seconds_left": max(0, int((epoch.end - now).total_seconds())),
        "target_listings": stored.target_listings,
        "total_expected_listings": stored.total_listings,
        "eligible_zipcodes": stored.eligible,
        "relaxed": list(stored.relaxed),
        "assignment_hash": stored.assignment_hash,
    }


def _rules(services: Services, stored: StoredEpoch | None) -> Rules:
    """Of the epoch, or, where none is stored or another version of this program drew it, of the
    settings."""
    if stored is not None:
        try:
            return Rules.from_json(json.loads(stored.document)["rules"])
        except AssignmentError:
            pass
    return services.settings.rules()


def _timing_json(epoch: Epoch, rules: Rules) -> dict[str, Any]:
    return {
        "epoch_seconds": epoch.seconds,
        "grace_end": format_time(rules.grace_end(epoch)),
        "submission_deadline": format_time(epoch.end),
        "next_draw_at": format_time(epoch.next().draw_at),
        "next_epoch_id": epoch.next().id,
        "evidence_deadline_of_previous": format_time(epoch.previous().evidence_deadline),
        "weights_due_of_previous": format_time(epoch.previous().weights_by),
    }


def _figures_json(figures: EpochFigures) -> dict[str, Any]:
    return {
        **asdict(figures),
        "start": format_time(figures.start),
        "end": format_time(figures.end),
    }
