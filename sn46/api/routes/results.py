"""Announced validation reports."""

from collections.abc import Sequence
from dataclasses import asdict

from fastapi import APIRouter, Request

from sn46.api.announcing import agreement_of, read_report
from sn46.api.bodies import read_body, text_field, validated
from sn46.api.contract import (
    EXAMPLE_EPOCH,
    EXAMPLE_HASH,
    POSTED,
    PUBLIC,
    REPORT_EXAMPLE,
    RESULTS_EXAMPLE,
    answers,
    signed,
)
from sn46.api.identity import Call
from sn46.api.problems import Problem
from sn46.api.records import Report
from sn46.api.services import origin_of, services_of
from sn46.api.wire import (
    AgreementAnswer,
    AnnounceBody,
    EpochInPath,
    EpochResultsAnswer,
    ReportAnswer,
    ResultsAnswer,
)
from sn46.mechanism.times import format_time

router = APIRouter(prefix="/validation-results", tags=["validation-results"])

_EPOCHS_SHOWN = 20


@router.post(
    "",
    responses=answers(REPORT_EXAMPLE, *POSTED),
    openapi_extra=signed(
        AnnounceBody,
        {
            "epoch_id": EXAMPLE_EPOCH,
            "consensus_hash": EXAMPLE_HASH,
            "assignment_hash": EXAMPLE_HASH,
        },
    ),
)
async def announce(request: Request) -> ReportAnswer:
    """Announce a report that lies in the bucket. The record is read from the report itself;
    announcing the same again changes nothing."""
    services = services_of(request)
    raw = await read_body(request)
    named = request.state.epoch = text_field(raw, "epoch_id") or ""
    call = Call(
        "validation-results",
        services.settings.limit_results,
        (f"validation:result:{named}",),
        validators_only=True,
    )
    caller = await services.authenticator.identify(request, raw, call)
    body = validated(AnnounceBody, raw)
    stored = await services.epochs.begun(body.epoch_id)
    now = services.outside.clock.now()
    if now < stored.epoch.end:
        raise Problem(
            409,
            "epoch_not_ended",
            f"Epoch {stored.epoch_id} ends at {format_time(stored.epoch.end)}; there is nothing "
            "to report on before.",
            retry_after=int((stored.epoch.end - now).total_seconds()) + 1,
        )
    if body.assignment_hash != stored.assignment_hash:
        raise Problem(
            409,
            "assignment_mismatch",
            f"The report was made from another assignment than that of epoch {stored.epoch_id}. "
            "Fetch the epoch's assignment from here and validate again.",
        )
    report = await read_report(
        services.outside.results, stored, caller.hotkey, body.consensus_hash, now
    )
    # The next draw but one counts what stands here now, and anyone must be able to find it again.
    replace = now < stored.epoch.weights_by
    kept = await services.records.put_report(
        report, replace=replace, origin=origin_of(request, caller)
    )
    if kept.consensus_hash != report.consensus_hash:
        raise Problem(
            409,
            "report_final",
            f"Another report on epoch {stored.epoch_id} was announced, and since "
            f"{format_time(stored.epoch.weights_by)} it can no longer be replaced.",
        )
    return _report_answer(kept)


@router.get("", responses=answers({"epochs": [RESULTS_EXAMPLE]}, *PUBLIC))
async def recent_results(request: Request) -> ResultsAnswer:
    """The announced reports on the last 20 epochs that have any, newest first."""
    services = services_of(request)
    await services.authenticator.count_address(request)
    now = services.outside.clock.now()
    starts = await services.records.newest_reported(now, _EPOCHS_SHOWN)
    reports = await services.records.reports_between(starts[0], now) if starts else []
    by_start = {start: [r for r in reports if r.start == start] for start in starts}
    return ResultsAnswer(
        epochs=[
            _epoch_answer(found[0].epoch_id, found) for _, found in sorted(by_start.items())[::-1]
        ]
    )


@router.get("/{epoch_id}", responses=answers(RESULTS_EXAMPLE, 404, *PUBLIC))
async def epoch_results(request: Request, epoch_id: EpochInPath) -> EpochResultsAnswer:
    """One epoch's announced reports and how far they agree."""
    services = services_of(request)
    await services.authenticator.count_address(request)
    stored = await services.epochs.begun(epoch_id)
    return _epoch_answer(stored.epoch_id, await services.records.reports_of(stored.epoch_id))


def _epoch_answer(epoch_id: str, reports: Sequence[Report]) -> EpochResultsAnswer:
    return EpochResultsAnswer(
        epoch_id=epoch_id,
        agreement=AgreementAnswer.model_validate(asdict(agreement_of(reports))),
        reports=[_report_answer(report) for report in reports],
    )


def _report_answer(report: Report) -> ReportAnswer:
    values = {k: v for k, v in asdict(report).items() if k != "start"}
    return ReportAnswer.model_validate(values)
