"""Replay: an epoch judged again from an export, by the code that judged it first.

It needs no network and no key, and says where a published report differs.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import polars as pl

from sn46.mechanism.agreement import MAX_REPORT_BYTES, differences
from sn46.mechanism.assignment import Assignment, read_assignment
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.errors import ExportError
from sn46.mechanism.judge import Outcome
from sn46.mechanism.names import EpochId, Hotkey
from sn46.mechanism.report import build_report, common_part, report_key
from sn46.store.base import Snapshot, StoreError
from sn46.store.snapshot import MINER_DATA, VALIDATED_DATA, FolderSnapshot
from sn46.validator.examiner import Examiner
from sn46.validator.folder import ASSIGNMENT, CHAIN, epoch_folder, find_epoch, read_document
from sn46.validator.historyfile import read_history
from sn46.validator.judging import Judging, QuickStage, Report


@dataclass(frozen=True)
class Replay:
    """A replayed epoch.

    ``report`` is the report without what is a validator's own; ``published`` holds, by validator,
    where its published report differs (empty where it agrees).
    """

    epoch_id: str
    report: Mapping[str, Any]
    published: Mapping[Hotkey, list[str]]

    @property
    def agrees(self) -> bool:
        """Whether every published report agrees; also where none was published."""
        return not any(self.published.values())


@dataclass(frozen=True)
class Judged:
    """An epoch judged again: who took part, what was checked, what came of it, the winners' rows,
    and what lies in the buckets."""

    assignment: Assignment
    view: ChainView
    stage: QuickStage
    outcome: Outcome
    rows: pl.DataFrame
    judging: Judging
    results: Snapshot


def _nothing(done: int, of: int) -> None:
    pass


async def judge_again(
    directory: Path,
    epoch_id: str,
    *,
    examiner: Examiner,
    api_hotkey: str | None = None,
    report: Report = _nothing,
) -> Judged:
    """Judge an exported epoch again. Arguments and errors are those of :func:`replay_epoch`."""
    epoch = find_epoch(directory, epoch_id)
    folder = epoch_folder(directory, epoch)
    assignment = read_assignment(read_document(folder / ASSIGNMENT), api_hotkey)
    if assignment.epoch_id != epoch:
        raise ExportError(f"{folder / ASSIGNMENT} is of epoch {assignment.epoch_id}.")
    view = ChainView.from_json(read_document(folder / CHAIN))
    results = FolderSnapshot(directory, VALIDATED_DATA)
    judging = Judging(assignment, view, FolderSnapshot(directory, MINER_DATA), examiner)
    try:
        stage = await judging.quick(report)
        published = await read_history(directory, assignment.epoch, results)
        outcome, rows = await judging.conclude(stage, results, published)
    except StoreError as error:
        raise ExportError(str(error)) from error
    return Judged(assignment, view, stage, outcome, rows, judging, results)


async def replay_epoch(
    directory: Path,
    epoch_id: str,
    *,
    examiner: Examiner,
    api_hotkey: str | None = None,
    report: Report = _nothing,
) -> Replay:
    """Judge an exported epoch again, and compare with what was published.

    Args:
        directory: the export.
        epoch_id: either form.
        examiner: where uploads are decoded.
        api_hotkey: whose assignment to trust; None trusts the one that it names.
        report: told how many submissions of how many are examined.

    Raises:
        ExportError: where the export is incomplete or damaged.
        AssignmentError: where the assignment's signature or rules are not right.
        ExaminerError: where this machine cannot examine uploads now.
    """
    judged = await judge_again(
        directory, epoch_id, examiner=examiner, api_hotkey=api_hotkey, report=report
    )
    try:
        published = await published_reports(judged.assignment.epoch_id, judged.view, judged.results)
    except StoreError as error:
        raise ExportError(str(error)) from error
    replayed = common_part(
        build_report(
            judged.outcome,
            validator=judged.view.owner_hotkey,
            finished_at=judged.assignment.epoch.weights_by,
            duration_seconds=0,
            listings_validated=judged.rows.height,
        )
    )
    return Replay(
        epoch_id=judged.assignment.epoch_id,
        report=replayed,
        published={
            validator: differences(replayed, common_part(document))
            for validator, document in published.items()
        },
    )


async def published_reports(
    epoch_id: EpochId, view: ChainView, results: Snapshot
) -> dict[Hotkey, dict[str, Any]]:
    """The published reports, by validator; an empty one stands for what is no report.

    Raises:
        StoreError: where an object cannot be read.
    """
    keys = {info.key: info for info in results.objects}
    found: dict[Hotkey, dict[str, Any]] = {}
    for validator in view.permit_holders():
        key = report_key(validator, epoch_id)
        if key not in keys:
            continue
        found[validator] = {}
        if keys[key].size > MAX_REPORT_BYTES:
            continue
        try:
            value = json.loads((await results.read(key)).decode("utf-8"))
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found[validator] = cast(dict[str, Any], value)
    return found
