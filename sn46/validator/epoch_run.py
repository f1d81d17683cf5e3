"""One epoch's validation, from its end to weights on the chain (mechanism 1, 6 to 10).

For an epoch that ended at E, in this order; each step is recorded when it is done, and a restart
goes on after the last one recorded:

    1. the assignment, and the chain at the first finalized block at or after E
    2. quick validation of all frozen uploads; candidates and samples follow
    3. own checks at the source, signed and uploaded before E + L/2
    4. after E + L/2: all evidence, merged; scores and weights follow
    5. three objects published, the report announced to the API
    6. weights set, and read back from the chain
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import structlog

from sn46.chain.base import BlockNotFinal, Chain, ChainError
from sn46.client.api import (
    ApiClient,
    ApiError,
    ApiUnavailable,
    BucketName,
    ReceivedAssignment,
)
from sn46.clock import Clock, sleep_until
from sn46.mechanism.assignment import Assignment, read_assignment
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.evidence import checks_key, evidence_key, write_evidence
from sn46.mechanism.judge import CheckPlan, Outcome
from sn46.mechanism.names import Hotkey, Ppm
from sn46.mechanism.report import (
    build_report,
    data_key,
    metadata_key,
    report_key,
    write_published,
)
from sn46.mechanism.sampling import SampledRow
from sn46.mechanism.signing import Signer, address_of
from sn46.mechanism.target import REACHED_VOLUME
from sn46.mechanism.times import format_time
from sn46.store.base import StoreError
from sn46.store.snapshot import RemoteSnapshot
from sn46.store.upload import upload_object
from sn46.validator.checking import SpotChecker
from sn46.validator.examiner import Examiner, ExaminerError
from sn46.validator.journal import Journal
from sn46.validator.judging import Judging, QuickStage
from sn46.validator.progress import Progress

_log = structlog.get_logger("sn46.validator")

T = TypeVar("T")

PASSING = (
    ApiError,
    ApiUnavailable,
    StoreError,
    ChainError,
    ExaminerError,
    httpx.HTTPError,
    OSError,
)
"""Faults of the world around us: tried again while the epoch's time lasts."""


class EpochLostError(Exception):
    """An epoch whose time ran out before it was done. The next one goes on."""


class NoSuchEpochError(Exception):
    """The API never drew this epoch: there is nothing to validate."""


def _as_served(served: ReceivedAssignment) -> ReceivedAssignment:
    return served


@dataclass(frozen=True)
class Parts:
    """What a validator works with. ``api_hotkey`` is whose assignments it trusts; ``chosen`` gives
    the assignment to use where the API serves one at the epoch's end."""

    api: ApiClient
    chain: Chain
    http: httpx.AsyncClient
    signer: Signer
    checker: SpotChecker
    examiner: Examiner
    clock: Clock
    progress: Progress
    data_dir: Path
    api_hotkey: str
    chosen: Callable[[ReceivedAssignment], ReceivedAssignment] = _as_served

    @property
    def hotkey(self) -> Hotkey:
        return address_of(self.signer)


async def insist(clock: Clock, until: datetime, doing: str, step: Callable[[], Awaitable[T]]) -> T:
    """Do a step, again after passing faults with growing pauses, until a moment.

    Raises:
        EpochLostError: where it did not succeed by then.
        NoSuchEpochError: where the API does not know the epoch.
    """
    pause = 0.5
    while True:
        try:
            return await step()
        except PASSING as error:
            if isinstance(error, ApiError) and error.code == "unknown_epoch":
                raise NoSuchEpochError(error.detail) from error
            left = (until - clock.now()).total_seconds()
            if left <= 0:
                raise EpochLostError(f"{doing} did not succeed in time: {error}") from error
            waiting = _is_early(error)
            if not waiting:
                _log.warning("will try again", doing=doing, fault=str(error))
            await clock.sleep(timedelta(seconds=min(pause, max(0.1, left))))
            pause = pause if waiting else min(pause * 2, 30.0)


def _is_early(error: Exception) -> bool:
    """Whether a moment is not reached yet: the block's, or by the API's clock, an epoch's."""
    if isinstance(error, BlockNotFinal):
        return True
    return isinstance(error, ApiError) and error.status == 409 and error.retry_after is not None


class EpochRun:
    """One epoch's validation, resumable at every step."""

    def __init__(self, parts: Parts, epoch: Epoch) -> None:
        self._parts = parts
        self._epoch = epoch
        self._journal = Journal(parts.data_dir, epoch.id)
        self._began = parts.clock.now()

    async def run(self) -> None:
        """From wherever the journal stands to weights on the chain.

        Raises:
            EpochLostError: where the epoch's time ran out.
            NoSuchEpochError: where the API never drew it.
            MechanismError: where the assignment cannot be trusted or understood.
        """
        self._show("opening")
        self._check_time("validating the epoch")
        assignment = await self._assignment()
        view = await self._view()
        report = self._journal.get("report")
        if report is None or self._journal.get("published") is None:
            report = await self._validate(assignment, view)
        await self._announce(assignment, report)
        await self._set_weights(report)
        self._show("done")

    def _check_time(self, doing: str) -> None:
        """What is not done by E + L is left: the next epoch's weights are due."""
        if self._parts.clock.now() >= self._epoch.results_deadline:
            raise EpochLostError(
                f"{doing} is too late: its time was over at "
                f"{format_time(self._epoch.results_deadline)}."
            )

    def _show(self, phase: str, done: int = 0, of: int = 0) -> None:
        self._parts.progress.show(phase, done, of, epoch_id=self._epoch.id)

    def _showing(self, phase: str) -> Callable[[int, int], None]:
        return lambda done, of: self._show(phase, done, of)

    # 1 ----------------------------------------------------------------------------------------

    async def _assignment(self) -> Assignment:
        """The epoch's assignment, its seed revealed if the API shows it by now."""
        kept = self._journal.get("assignment")
        try:
            served = await insist(
                self._parts.clock,
                self._epoch.weights_by if kept is None else self._epoch.candidates_by,
                "fetching the assignment",
                lambda: self._parts.api.epoch(self._epoch.id),
            )
        except EpochLostError:
            if kept is None:
                raise
            return read_assignment(kept, self._parts.api_hotkey)
        chosen = self._parts.chosen(served)
        self._journal.put("assignment", chosen.document)
        return chosen.assignment

    async def _view(self) -> ChainView:
        kept = self._journal.get("chain")
        if kept is not None:
            return ChainView.from_json(kept)
        view = await insist(
            self._parts.clock,
            self._epoch.weights_by,
            "reading the chain at the epoch's end",
            lambda: self._parts.chain.view_at(self._epoch.end),
        )
        self._journal.put("chain", view.to_json())
        return view

    # 2 to 4 -----------------------------------------------------------------------------------

    async def _validate(self, assignment: Assignment, view: ChainView) -> dict[str, Any]:
        uploads = await self._snapshot("miners", self._epoch.weights_by)
        judging = Judging(assignment, view, uploads, self._parts.examiner)
        stage = await insist(
            self._parts.clock,
            self._epoch.weights_by,
            "quick validation",
            lambda: judging.quick(self._showing("quick validation")),
        )
        await self._give_evidence(judging, stage)
        self._show("waiting for evidence")
        await sleep_until(self._parts.clock, self._epoch.evidence_deadline + timedelta(seconds=1))
        results = await self._snapshot("results", self._epoch.results_deadline)
        outcome, rows = await insist(
            self._parts.clock,
            self._epoch.results_deadline,
            "merging the evidence",
            lambda: judging.conclude(stage, results),
        )
        for validator, why in outcome.ignored_evidence.items():
            _log.warning("evidence ignored", validator=validator, why=why)
        report = self._journal.get("report") or self._report(outcome, rows.height)
        self._journal.put("report", report)
        await self._publish(assignment, report, write_published(rows))
        return report

    async def _snapshot(self, bucket: BucketName, until: datetime) -> RemoteSnapshot:
        objects = await insist(
            self._parts.clock,
            until,
            f"listing the epoch's {bucket}",
            lambda: self._parts.api.validator_read(self._epoch.id, bucket=bucket),
        )
        return RemoteSnapshot(self._parts.http, objects)

    async def _give_evidence(self, judging: Judging, stage: QuickStage) -> None:
        """Check the rows given to us and upload what was found, if there is time."""
        if self._journal.get("evidence") is not None:
            return
        margin = max(timedelta(seconds=3), self._epoch.length / 24)
        until = self._epoch.evidence_deadline - margin
        if self._parts.clock.now() >= until:
            _log.warning("too late for evidence; the others' decides", epoch=self._epoch.id)
            return
        try:
            rows = await self._rows_to_check(judging, stage.plan)
            self._show("checking", 0, len(rows))
            checks = await self._parts.checker.check(
                rows, until=until, report=self._showing("checking")
            )
            body, document = write_evidence(
                checks, epoch_id=self._epoch.id, signer=self._parts.signer
            )
            await insist(
                self._parts.clock,
                self._epoch.evidence_deadline,
                "uploading the evidence",
                lambda: self._upload_evidence(body, document),
            )
        except EpochLostError as error:
            _log.error("no evidence of ours in this epoch", detail=str(error))
            return
        self._journal.put(
            "evidence",
            {"uploaded_at": format_time(self._parts.clock.now()), "checks": len(checks)},
        )

    async def _rows_to_check(
        self, judging: Judging, plan: CheckPlan
    ) -> list[tuple[SampledRow, Mapping[str, Any]]]:
        """Our rows with their listings, in rounds over the miners, so that a deadline that cuts
        the list short costs each of them alike."""
        mine: dict[Hotkey, list[SampledRow]] = {}
        for row in plan.rows_of(self._parts.hotkey):
            mine.setdefault(row.miner, []).append(row)
        listed: list[tuple[int, int, SampledRow, Mapping[str, Any]]] = []
        for order, (miner, rows) in enumerate(mine.items()):
            kept = await insist(
                self._parts.clock,
                self._epoch.evidence_deadline,
                "reading the rows to check",
                lambda miner=miner: judging.kept(miner),
            )
            for turn, row in enumerate(rows):
                listed.append((turn, order, row, kept.row(row.index, named=True)))
        listed.sort(key=lambda item: item[:2])
        return [(row, listing) for _, _, row, listing in listed]

    async def _upload_evidence(self, body: bytes, document: Mapping[str, Any]) -> None:
        policy = await self._parts.api.validator_upload(self._epoch.id, purpose="evidence")
        hotkey, epoch_id = self._parts.hotkey, self._epoch.id
        http = self._parts.http
        await upload_object(http, policy, checks_key(hotkey, epoch_id), body)
        await upload_object(
            http, policy, evidence_key(hotkey, epoch_id), json.dumps(document, indent=1).encode()
        )

    def _report(self, outcome: Outcome, listings: int) -> dict[str, Any]:
        now = self._parts.clock.now()
        return build_report(
            outcome,
            validator=self._parts.hotkey,
            finished_at=now,
            duration_seconds=int((now - self._began).total_seconds()),
            listings_validated=listings,
        )

    # 5 ----------------------------------------------------------------------------------------

    async def _publish(
        self, assignment: Assignment, report: Mapping[str, Any], data: bytes
    ) -> None:
        if self._journal.get("published") is not None:
            return
        self._show("publishing")
        metadata = {
            "assignment": self._journal.get("assignment") or assignment.to_json(),
            "phases": {
                "validation_began": format_time(self._began),
                "evidence_uploaded": (self._journal.get("evidence") or {}).get("uploaded_at"),
                "report_built": report["validation_timestamp"],
                "published": format_time(self._parts.clock.now()),
            },
        }
        hotkey, epoch_id = self._parts.hotkey, self._epoch.id
        objects = {
            data_key(hotkey, epoch_id): data,
            metadata_key(hotkey, epoch_id): json.dumps(metadata, indent=1).encode(),
            report_key(hotkey, epoch_id): json.dumps(report, indent=1).encode(),
        }

        async def publish() -> None:
            policy = await self._parts.api.validator_upload(epoch_id, purpose="results")
            for key, body in objects.items():
                await upload_object(self._parts.http, policy, key, body)

        await insist(
            self._parts.clock, self._epoch.results_deadline, "publishing the report", publish
        )
        self._journal.put("published", {"at": format_time(self._parts.clock.now())})

    async def _announce(self, assignment: Assignment, report: Mapping[str, Any]) -> None:
        if self._journal.get("announced") is not None:
            return
        self._show("announcing")
        await insist(
            self._parts.clock,
            self._epoch.results_deadline,
            "announcing the report",
            lambda: self._send_announcement(assignment, report),
        )
        self._journal.put("announced", {"at": format_time(self._parts.clock.now())})

    async def _send_announcement(self, assignment: Assignment, report: Mapping[str, Any]) -> None:
        taking_part = [m for m in report["miners"].values() if m["participant"]]
        try:
            await self._parts.api.announce(
                epoch_id=assignment.epoch_id,
                consensus_hash=report["consensus_hash"],
                assignment_hash=report["assignment_hash"],
                top_3=[Hotkey(w["miner_hotkey"]) for w in report["top_3_winners"]],
                participants=len(taking_part),
                reached_95=sum(1 for m in taking_part if m["volume"] >= REACHED_VOLUME),
            )
        except ApiError as error:
            if error.code != "assignment_mismatch":
                raise
            _log.error(
                "the API does not take a report on the assignment that validators agreed on; the "
                "weights are set all the same",
                epoch=assignment.epoch_id,
            )

    # 6 ----------------------------------------------------------------------------------------

    async def _set_weights(self, report: Mapping[str, Any]) -> None:
        """Set the weights until they are read back, never twice in doubt: an attempt whose end is
        unknown is looked for on the chain before the next."""
        if self._journal.get("weights") is not None:
            return
        self._show("setting weights")
        self._check_time("setting weights")
        weights = {Hotkey(h): Ppm(int(w)) for h, w in report["weights"].items()}
        done = await insist(
            self._parts.clock,
            self._epoch.results_deadline,
            "setting weights",
            lambda: self._attempt(weights),
        )
        self._journal.put("weights", {"at": format_time(self._parts.clock.now()), **done})
        _log.info(
            "weights set and read back",
            epoch=self._epoch.id,
            block=done.get("block"),
            consensus_hash=str(report["consensus_hash"])[:16],
        )

    async def _attempt(self, weights: Mapping[Hotkey, Ppm]) -> dict[str, Any]:
        """One attempt, after a look at what an earlier one came to; what is to be recorded.

        Where the same weights stood there before the first attempt, such as the last epoch's, a
        look tells nothing, and they are set anew.
        """
        earlier = self._journal.get("attempt")
        stands = await self._stands_on_chain(weights)
        if earlier is not None and stands and not earlier.get("stood_before"):
            return {"found_on_chain": True}
        if earlier is None:
            now = format_time(self._parts.clock.now())
            self._journal.put("attempt", {"at": now, "stood_before": stands})
        receipt = await self._parts.chain.set_weights(weights)
        return {
            "block": receipt.block,
            "committed_only": receipt.committed_only,
            "on_chain": dict(receipt.on_chain),
        }

    async def _stands_on_chain(self, weights: Mapping[Hotkey, Ppm]) -> bool:
        """Whether what stands on the chain is what is wanted, within the chain's 16 bits."""
        found = await self._parts.chain.weights_of(self._parts.hotkey)
        largest = max(weights.values())
        rounding = largest // 65_535 * 2 + 2
        return all(abs(found.get(h, 0) - weights.get(h, 0)) <= rounding for h in {*found, *weights})
