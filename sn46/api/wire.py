"""What callers send and read, as pydantic models; unknown fields are ignored."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

EpochInPath = Annotated[
    str,
    Path(
        description="`2024-03-15-16:00`, or `current`, or `previous` for the last ended one.",
        examples=["2024-03-15-16:00", "previous"],
    ),
]
EpochText = Annotated[str, Field(min_length=1, max_length=32, examples=["2024-03-15-16:00"])]
HotkeyText = Annotated[str, Field(min_length=1, max_length=64)]
Hex64 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2_000_000_000, strict=True)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class StatusBody(_Body):
    """A miner's status in an epoch."""

    epoch_id: EpochText
    miner_hotkey: HotkeyText
    nonce: Annotated[str, Field(max_length=64)]
    status: Literal["in_progress", "completed", "failed", "timeout"]
    listings_found: Count
    zipcodes_completed: Count | None = None
    s3_upload_complete: bool


class MinerUploadBody(_Body):
    """Which epoch to upload for; the current one where it is not named."""

    epoch_id: EpochText | None = None


class ValidatorUploadBody(_Body):
    """What a validator is about to upload."""

    epoch_id: EpochText
    purpose: Literal["evidence", "results"]


class ValidatorReadBody(_Body):
    """Which epoch to read; ``cursor`` is the ``next_cursor`` of the page before."""

    epoch_id: EpochText
    cursor: Annotated[str, Field(max_length=1024)] | None = None


class AnnounceBody(_Body):
    """A report that lies in the bucket."""

    epoch_id: EpochText
    consensus_hash: Hex64
    assignment_hash: Hex64
    top_3: Annotated[list[HotkeyText], Field(max_length=3)] = []
    participants: Count | None = None
    reached_95: Count | None = None


class StatusAnswer(BaseModel):
    success: Literal[True] = True
    epoch_id: str
    status: str


class UploadAnswer(BaseModel):
    """A POST policy: send ``fields`` first and ``file`` last; 204 is success."""

    epoch_id: str
    url: str
    fields: dict[str, str]
    prefix: str
    expires_at: datetime
    max_bytes: int


class ObjectAnswer(BaseModel):
    key: str
    size: int
    last_modified: datetime
    metadata: dict[str, str]
    url: str


class ReadAnswer(BaseModel):
    epoch_id: str
    bucket: Literal["miners", "results", "reports", "own"]
    objects: list[ObjectAnswer]
    next_cursor: str | None


class ReportAnswer(BaseModel):
    """One announced report, as read from the bucket."""

    epoch_id: str
    validator_hotkey: str
    consensus_hash: str
    assignment_hash: str
    top_3: list[str]
    participants: int
    reached_95: int
    announced_at: datetime


class AgreementAnswer(BaseModel):
    """Shares are in ppm of the validators that announced."""

    validators: int
    consensus_hash: str | None
    consensus_share: int
    top_3: list[str]
    top_3_share: int


class EpochResultsAnswer(BaseModel):
    epoch_id: str
    agreement: AgreementAnswer
    reports: list[ReportAnswer]


class ResultsAnswer(BaseModel):
    epochs: list[EpochResultsAnswer]
