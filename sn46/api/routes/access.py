"""Access to the two buckets: upload policies and lists of readable objects."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request

from sn46.api.bodies import invalid, read_body, text_field, validated
from sn46.api.contract import (
    EXAMPLE_EPOCH,
    POSTED,
    READ_EXAMPLE,
    UPLOAD_EXAMPLE,
    answers,
    signed,
)
from sn46.api.identity import Call, Identity
from sn46.api.problems import Problem
from sn46.api.reading import BucketName
from sn46.api.records import StoredEpoch
from sn46.api.services import origin_of, services_of
from sn46.api.settings import ApiSettings
from sn46.api.wire import (
    MinerUploadBody,
    ObjectAnswer,
    ReadAnswer,
    UploadAnswer,
    ValidatorReadBody,
    ValidatorUploadBody,
)
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.submission import (
    EPOCH_METADATA,
    MAX_FILE_BYTES,
    NONCE_METADATA,
    miner_prefix,
    validator_prefix,
)
from sn46.mechanism.times import format_time
from sn46.store.base import UploadPolicy

router = APIRouter(prefix="/s3-access", tags=["s3-access"])

MAX_RESULT_BYTES = 256 * 1024 * 1024
"""A validated_data.parquet holds three miners' rows of all ZIPs in one file."""


@router.post(
    "/miner-upload",
    responses=answers(UPLOAD_EXAMPLE, *POSTED),
    openapi_extra=signed(MinerUploadBody, {"epoch_id": EXAMPLE_EPOCH}),
)
async def miner_upload(request: Request) -> UploadAnswer:
    """An upload policy for the caller's own folder of the current epoch. It expires at the
    submission deadline; asking again gives the same one."""
    services = services_of(request)
    raw = await read_body(request)
    named = request.state.epoch = text_field(raw, "epoch_id") or "current"
    call = Call(
        "miner-upload",
        services.settings.limit_credentials,
        (f"s3:miner:upload:{named}",),
        repeats=True,
    )
    caller = await services.authenticator.identify(request, raw, call)
    body = validated(MinerUploadBody, raw)
    stored = await services.epochs.begun(body.epoch_id or "current")
    now = services.outside.clock.now()
    if now >= stored.epoch.end:
        raise Problem(
            409,
            "epoch_ended",
            f"The submission deadline of epoch {stored.epoch_id} was "
            f"{format_time(stored.epoch.end)}. Work on the current epoch.",
        )
    issued_at = await services.records.issue(
        stored.epoch_id, "miner", caller.hotkey, now, origin_of(request, caller)
    )
    policy = services.outside.miners.upload_policy(
        prefix=miner_prefix(caller.hotkey, stored.epoch_id),
        expires_at=stored.epoch.end,
        max_bytes=MAX_FILE_BYTES,
        metadata=policy_metadata(stored),
        now=issued_at,
    )
    return _upload_answer(stored, policy)


@router.post(
    "/validator-upload",
    responses=answers(UPLOAD_EXAMPLE, *POSTED),
    openapi_extra=signed(ValidatorUploadBody, {"epoch_id": EXAMPLE_EPOCH, "purpose": "results"}),
)
async def validator_upload(request: Request) -> UploadAnswer:
    """An upload policy for a validator's evidence (to the evidence deadline, E + L/2) or results
    (to E + L) of an epoch."""
    services = services_of(request)
    raw = await read_body(request)
    request.state.epoch = text_field(raw, "epoch_id")
    call = validator_upload_call(services.settings)
    caller = await services.authenticator.identify(request, raw, call)
    body = validated(ValidatorUploadBody, raw)
    stored = await services.epochs.begun(body.epoch_id)
    return await validator_policy(request, stored, caller, body.purpose)


def validator_upload_call(settings: ApiSettings) -> Call:
    return Call(
        "validator-upload",
        settings.limit_credentials,
        ("s3:validator:upload",),
        validators_only=True,
        repeats=True,
    )


async def validator_policy(
    request: Request,
    stored: StoredEpoch,
    caller: Identity,
    purpose: Literal["evidence", "results"],
) -> UploadAnswer:
    """The upload policy for a validator's own folder of an epoch.

    Raises:
        Problem: 409, where the deadline for this purpose has passed.
    """
    services, hotkey = services_of(request), caller.hotkey
    deadline = _upload_deadline(stored.epoch, purpose)
    now = services.outside.clock.now()
    if now >= deadline:
        raise Problem(
            409,
            "upload_closed",
            f"The {purpose} of epoch {stored.epoch_id} could be uploaded until "
            f"{format_time(deadline)}.",
        )
    prefix = validator_prefix(hotkey, stored.epoch_id)
    issued_at = await services.records.issue(
        stored.epoch_id, purpose, hotkey, now, origin_of(request, caller)
    )
    policy = services.outside.results.upload_policy(
        prefix=f"{prefix}evidence/" if purpose == "evidence" else prefix,
        expires_at=deadline,
        max_bytes=MAX_FILE_BYTES if purpose == "evidence" else MAX_RESULT_BYTES,
        metadata=policy_metadata(stored),
        now=issued_at,
    )
    return _upload_answer(stored, policy)


@router.post(
    "/validator-read",
    responses=answers(READ_EXAMPLE, *POSTED),
    openapi_extra=signed(ValidatorReadBody, {"epoch_id": EXAMPLE_EPOCH, "cursor": None}),
)
async def validator_read(
    request: Request,
    bucket: Annotated[str, Query(examples=["miners"])] = "miners",
) -> ReadAnswer:
    """An epoch's objects with presigned addresses, 1,000 a page: miners' submissions
    (`?bucket=miners`) once the epoch has ended, evidence and reports (`?bucket=results`) once
    the evidence deadline has passed, the reports alone (`?bucket=reports`) once none can change
    any more. All are shown as they were at their deadline. What the caller itself uploaded to the
    results bucket (`?bucket=own`) is shown at any time."""
    services = services_of(request)
    raw = await read_body(request)
    named = request.state.epoch = text_field(raw, "epoch_id") or ""
    # A new validator reads the reports of 42 epochs at once; they have a limit of their own.
    history = bucket == "reports"
    call = Call(
        "validator-history" if history else "validator-read",
        services.settings.limit_history if history else services.settings.limit_read,
        (f"s3:validator:read:{named}",),
        validators_only=True,
    )
    caller = await services.authenticator.identify(request, raw, call)
    body = validated(ValidatorReadBody, raw)
    chosen = _bucket_name(bucket)
    stored = await services.epochs.begun(body.epoch_id)
    if chosen == "own":
        page = await services.reader.own(stored, caller.hotkey)
    else:
        page = await services.reader.page(stored, chosen, body.cursor)
    return ReadAnswer(
        epoch_id=stored.epoch_id,
        bucket=chosen,
        objects=[
            ObjectAnswer(
                key=o.info.key,
                size=o.info.size,
                last_modified=o.info.last_modified,
                metadata=dict(o.info.metadata),
                url=o.url,
            )
            for o in page.objects
        ],
        next_cursor=page.next_cursor,
    )


def _upload_deadline(epoch: Epoch, purpose: Literal["evidence", "results"]) -> datetime:
    return epoch.evidence_deadline if purpose == "evidence" else epoch.results_deadline


def _bucket_name(text: str) -> BucketName | Literal["own"]:
    if text == "miners" or text == "results" or text == "reports" or text == "own":
        return text
    raise invalid([{"field": "bucket", "message": "it is miners, results, reports or own"}])


def policy_metadata(stored: StoredEpoch) -> Mapping[str, str]:
    """What every object uploaded for an epoch must carry."""
    return {EPOCH_METADATA: stored.epoch_id, NONCE_METADATA: stored.nonce}


def _upload_answer(stored: StoredEpoch, policy: UploadPolicy) -> UploadAnswer:
    return UploadAnswer(
        epoch_id=stored.epoch_id,
        url=policy.url,
        fields=dict(policy.fields),
        prefix=policy.prefix,
        expires_at=policy.expires_at,
        max_bytes=policy.max_bytes,
    )
