"""Judging an epoch from frozen objects: what a validator's own epoch and a replay both run."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from sn46.mechanism.assignment import Assignment
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.credibility import Published, agreed_records, credibilities
from sn46.mechanism.evidence import (
    MAX_EVIDENCE_BYTES,
    Evidence,
    checks_key,
    evidence_key,
)
from sn46.mechanism.judge import CheckPlan, LineUp, Outcome, conclude, line_up, plan_checks
from sn46.mechanism.names import Hotkey
from sn46.mechanism.quick import QuickResult, Upload, are_too_large
from sn46.mechanism.report import published_rows
from sn46.mechanism.signing import is_hotkey
from sn46.mechanism.submission import (
    MAX_FILE_BYTES,
    MAX_MANIFEST_BYTES,
    ObjectInfo,
    manifest_key,
    miner_file_key,
    split_miner_key,
)
from sn46.store.base import Snapshot, StoreError
from sn46.validator.examiner import Examiner, ExaminerError

Report = Callable[[int, int], None]
"""Told how many of how many are done."""

READ_AHEAD = 2
"""How many submissions are read from the store beyond those that are being examined."""


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
        self._examined: dict[Hotkey, QuickResult] = {}
        self._folders: dict[Hotkey, dict[str, ObjectInfo]] = {}
        for info in uploads.objects:
            owner = split_miner_key(info.key)
            if owner is not None and owner[1] == assignment.epoch_id:
                self._folders.setdefault(owner[0], {})[info.key] = info
        self._folders = {h: found for h, found in self._folders.items() if is_hotkey(h)}

    async def quick(self, report: Report = _nothing) -> QuickStage:
        """Validate every submission quickly and choose what is to be checked. Called again after
        an error, it goes on where it was.

        Raises:
            StoreError: where objects cannot be read now. That is our trouble, not a miner's.
            ExaminerError: where this machine cannot examine them now.
        """
        hotkeys = sorted(self._folders)
        left = iter([hotkey for hotkey in hotkeys if hotkey not in self._examined])
        errors: list[StoreError | ExaminerError] = []

        async def work() -> None:
            for hotkey in left:
                report(len(self._examined), len(hotkeys))
                try:
                    self._examined[hotkey] = await self._examine(hotkey)
                except (StoreError, ExaminerError) as error:
                    errors.append(error)
                if errors:  # What is under way ends, nothing more is begun.
                    return

        await asyncio.gather(*(work() for _ in range(self._examiner.workers + READ_AHEAD)))
        if errors:
            raise errors[0]
        report(len(hotkeys), len(hotkeys))
        lined_up = line_up(self._assignment, self._view, self._examined.values())
        return QuickStage(lined_up, plan_checks(lined_up))

    async def _examine(self, hotkey: Hotkey) -> QuickResult:
        manifest, files = await self._read(hotkey)
        return await self._examiner.examine(self._assignment, self._view, hotkey, manifest, files)

    async def kept(self, hotkey: Hotkey) -> pl.DataFrame:
        """The kept rows of a valid submission with all columns, in the order of the plan."""
        manifest, files = await self._read(hotkey)
        if manifest is None:
            raise KeyError(hotkey)
        return await self._examiner.kept_listings(self._assignment, hotkey, manifest, files)

    async def conclude(
        self, stage: QuickStage, results: Snapshot, published: Published
    ) -> tuple[Outcome, pl.DataFrame]:
        """Merge the evidence in the results bucket and weigh the scores by what reports on the
        epochs before say; the outcome and the rows to publish."""
        evidence = await self._evidence(results)
        records = agreed_records(published, self._assignment.epoch, self._view)
        outcome = conclude(stage.lined_up, stage.plan, evidence, credibilities(records))
        winners = {hotkey: await self.kept(hotkey) for hotkey in outcome.winners}
        return outcome, published_rows(stage.lined_up, outcome, winners)

    async def _read(self, hotkey: Hotkey) -> tuple[Upload | None, dict[str, Upload]]:
        """The manifest and the files in the places of assigned ZIPs; anything else in the folder
        is never fetched, nothing larger than its limit is, and no file that nobody will read."""
        folder = self._folders[hotkey]
        epoch_id = self._assignment.epoch_id
        manifest = folder.get(manifest_key(hotkey, epoch_id))
        if manifest is None:
            return None, {}
        document = await _upload(self._uploads, manifest, MAX_MANIFEST_BYTES)
        if not self._view.is_registered(hotkey):
            return document, {}
        keys = [miner_file_key(hotkey, epoch_id, z.zipcode) for z in self._assignment.zipcodes]
        infos = [folder[key] for key in keys if key in folder]
        most = 0 if are_too_large(self._assignment, hotkey, infos) else MAX_FILE_BYTES
        uploads = await asyncio.gather(*(_upload(self._uploads, info, most) for info in infos))
        return document, {upload.info.key: upload for upload in uploads}

    async def _evidence(self, results: Snapshot) -> list[Evidence]:
        """The evidence of every permit holder that uploaded some."""
        infos = {info.key: info for info in results.objects}
        epoch_id = self._assignment.epoch_id
        found: list[Evidence] = []
        for validator in self._view.permit_holders():
            document = infos.get(evidence_key(validator, epoch_id))
            body = infos.get(checks_key(validator, epoch_id))
            if document is None and body is None:
                continue
            found.append(
                await self._examiner.read_evidence(
                    self._assignment,
                    self._view,
                    validator,
                    await _upload(results, document, MAX_EVIDENCE_BYTES) if document else None,
                    await _upload(results, body, MAX_EVIDENCE_BYTES) if body else None,
                )
            )
        return found


async def _upload(source: Snapshot, info: ObjectInfo, most: int) -> Upload:
    """An object with its bytes; without them where they are more than any reader takes."""
    if info.size > most:
        return Upload(info, b"")
    return Upload(info, await source.read(info.key))
