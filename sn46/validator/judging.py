"""Judging an epoch from frozen objects: what a validator's own epoch and a replay both run."""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.evidence import Evidence, checks_key, evidence_key, read_evidence
from sn46.mechanism.judge import CheckPlan, LineUp, Outcome, conclude, line_up, plan_checks
from sn46.mechanism.names import Hotkey
from sn46.mechanism.quick import QuickResult, Upload, kept_listings
from sn46.mechanism.report import published_rows
from sn46.mechanism.submission import (
    MAX_FILE_BYTES,
    ObjectInfo,
    manifest_key,
    miner_file_key,
    split_miner_key,
)
from sn46.store.base import Snapshot
from sn46.validator.examiner import Examiner

Report = Callable[[int, int], None]
"""Told how many of how many are done."""


@dataclass(frozen=True)
class QuickStage:
    """An epoch after quick validation."""

    lined_up: LineUp
    plan: CheckPlan


def _nothing(done: int, of: int) -> None:
    pass


class Judging:
    """One epoch: its assignment, the chain at its validation block, and its frozen uploads."""

    def __init__(
        self,
        assignment: Assignment,
        view: ChainView,
        uploads: Snapshot,
        examiner: Examiner,
    ) -> None:
        self._assignment = assignment
        self._view = view
        self._uploads = uploads
        self._examiner = examiner
        self._folders: dict[Hotkey, dict[str, ObjectInfo]] = {}
        for info in uploads.objects:
            owner = split_miner_key(info.key)
            if owner is not None and owner[1] == assignment.epoch_id:
                self._folders.setdefault(owner[0], {})[info.key] = info

    async def quick(self, report: Report = _nothing) -> QuickStage:
        """Validate every submission quickly and choose what is to be checked.

        Raises:
            StoreError: where objects cannot be read now. That is our trouble, not a miner's.
        """
        results: list[QuickResult] = []
        hotkeys = sorted(self._folders)
        for done, hotkey in enumerate(hotkeys):
            report(done, len(hotkeys))
            manifest, files = await self._read(hotkey)
            results.append(
                await self._examiner.examine(self._assignment, self._view, hotkey, manifest, files)
            )
        report(len(hotkeys), len(hotkeys))
        lined_up = line_up(self._assignment, self._view, results)
        return QuickStage(lined_up, plan_checks(lined_up))

    async def kept(self, hotkey: Hotkey) -> pl.DataFrame:
        """The kept rows of a valid submission with all columns, in the order of the plan."""
        manifest, files = await self._read(hotkey)
        if manifest is None:
            raise KeyError(hotkey)
        return kept_listings(self._assignment, hotkey, manifest, files)

    async def conclude(self, stage: QuickStage, results: Snapshot) -> tuple[Outcome, pl.DataFrame]:
        """Merge the evidence in the results bucket; the outcome and the rows to publish."""
        evidence = await read_all_evidence(self._assignment, self._view, results)
        outcome = conclude(stage.lined_up, stage.plan, evidence)
        winners = {hotkey: await self.kept(hotkey) for hotkey in outcome.winners}
        return outcome, published_rows(stage.lined_up, outcome, winners)

    async def _read(self, hotkey: Hotkey) -> tuple[Upload | None, dict[str, Upload]]:
        """The manifest and the files in the places of assigned ZIPs; anything else in the folder
        is never fetched, and nothing larger than its limit is."""
        folder = self._folders[hotkey]
        epoch_id = self._assignment.epoch_id
        wanted = [
            miner_file_key(hotkey, epoch_id, zip_.zipcode) for zip_ in self._assignment.zipcodes
        ]
        files = {key: await self._upload(folder[key]) for key in wanted if key in folder}
        manifest = folder.get(manifest_key(hotkey, epoch_id))
        return (await self._upload(manifest) if manifest else None), files

    async def _upload(self, info: ObjectInfo) -> Upload:
        if info.size > MAX_FILE_BYTES:
            return Upload(info, b"")
        return Upload(info, await self._uploads.read(info.key))


async def read_all_evidence(
    assignment: Assignment, view: ChainView, results: Snapshot
) -> list[Evidence]:
    """The evidence of every permit holder that uploaded some."""
    infos = {info.key: info for info in results.objects}
    found: list[Evidence] = []
    for validator in view.permit_holders():
        keys = (
            evidence_key(validator, assignment.epoch_id),
            checks_key(validator, assignment.epoch_id),
        )
        if not any(key in infos for key in keys):
            continue
        document, body = [
            Upload(infos[key], await results.read(key)) if key in infos else None for key in keys
        ]
        found.append(read_evidence(assignment, view, validator, document, body))
    return found
