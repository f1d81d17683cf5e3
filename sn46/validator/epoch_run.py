"""One epoch's validation, from its end to weights on the chain (mechanism 1, 6 to 10).

For an epoch that ended at E, in this order; each step is recorded when it is done, and a restart
goes on after the last one recorded:

    1. the assignment, and the chain at the first finalized block at or after E
    2. quick validation of all frozen uploads; candidates and samples follow
    3. own checks at the source, signed and uploaded before E + L/2
       and what reports on the epochs before say of each miner
    4. after E + L/2: all evidence, merged; scores and weights follow
    5. three objects published, the report announced to the API
    6. weights set, and read back from the chain

Weights wait for 5 no longer than to E + 3L/4; what is not out by then is brought out after them.
A machine that lost its disk finds in the bucket what it uploaded, and on the chain what it set.
"""

import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast

import httpx
import structlog

from sn46.chain.base import BlockNotFinal, Chain, ChainError
from sn46.chain.errors import NoPermit, NotRegistered, RateLimited
from sn46.client.api import (
    ApiClient,
    ApiError,
    ApiUnavailable,
    BucketName,
    ReceivedAssignment,
)
from sn46.clock import Clock, sleep_until
from sn46.mechanism.agreement import MAX_REPORT_BYTES, consensus_hash
from sn46.mechanism.assignment import Assignment, read_assignment
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.credibility import Published
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.errors import ExportError
from sn46.mechanism.evidence import (
    MAX_EVIDENCE_BYTES,
    checks_key,
    evidence_key,
    write_evidence,
)
from sn46.mechanism.judge import CheckPlan, Outcome
from sn46.mechanism.names import Hotkey, Ppm
from sn46.mechanism.quick import Upload
from sn46.mechanism.report import (
    build_report,
    common_part,
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
from sn46.validator.history import History
from sn46.validator.journal import Journal
from sn46.validator.judging import Judging, QuickStage
from sn46.validator.progress import Progress
from sn46.validator.weighing import Weighing

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

LONGEST_PAUSE: Final = 30.0
STANDING_PAUSE: Final = 300.0
"""Seconds between attempts; the second where only stake or a registration can help."""


class EpochLostError(Exception):
    """An epoch whose time ran out before it was done. The next one goes on. ``doing`` names the
    step that was not done."""

    def __init__(self, message: str, doing: str = "") -> None:
        super().__init__(message)
        self.doing = doing


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
    pause, told = 0.5, ""
    while True:
        try:
            return await step()
        except PASSING as error:
            if isinstance(error, ApiError) and error.code == "unknown_epoch":
                raise NoSuchEpochError(error.detail) from error
            left = (until - clock.now()).total_seconds()
            if left <= 0:
                raise EpochLostError(f"{doing} did not succeed in time: {error}", doing) from error
            waiting = _is_early(error)
            if not waiting and str(error) != told:
                told = str(error)
                _log.warning("will try again", doing=doing, fault=told)
            await clock.sleep(timedelta(seconds=min(_pause(error, pause), max(0.1, left))))
            pause = pause if waiting else min(pause * 2, LONGEST_PAUSE)


def _pause(error: Exception, usual: float) -> float:
    """Seconds to the next attempt: as long as a rate limit lasts, and longer than usual where
    nothing here can help."""
    if isinstance(error, RateLimited) and error.wait is not None:
        return max(usual, error.wait.total_seconds())
    refused = isinstance(error, ApiError) and error.status == 403
    if refused or isinstance(error, NoPermit | NotRegistered):
        return max(usual, STANDING_PAUSE if usual >= LONGEST_PAUSE else usual)
    return usual


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
        try:
            await self._bring_out(assignment, view, self._epoch.weights_by)
        except EpochLostError as error:
            if self._kept_report() is None:
                raise
            _log.error("the report is not out; the weights come first", detail=str(error))
        report = self._kept_report()
        if report is None:
            raise OSError("the report that was written to the journal cannot be read back")
        await self._set_weights(report)
        await self._bring_out(assignment, view, self._epoch.results_deadline)
        self._show("done")

    async def _bring_out(self, assignment: Assignment, view: ChainView, until: datetime) -> None:
        """Have the report in the journal, in the bucket and announced.

        Raises:
            EpochLostError: where there is no report by E + L, or it is not out by ``until``.
        """
        report = self._kept_report()
        if report is None or self._journal.get("published") is None:
            report = await self._validate(assignment, view, until)
        await self._announce(assignment, report, until)

    def _kept_report(self) -> dict[str, Any] | None:
        """The report in the journal, None where there is none. Weights follow from it, so one that
        its own consensus_hash does not bear out is damaged, and none."""
        report = self._journal.get("report")
        if report is None:
            return None
        try:
            scores = {hotkey: miner["final"] for hotkey, miner in report["miners"].items()}
            computed = consensus_hash(self._epoch.id, scores, report["weights"])
            if computed == report["consensus_hash"]:
                return report
        except (LookupError, TypeError, ValueError, AttributeError):
            pass
        _log.error("the report that was kept is damaged; made again", epoch=self._epoch.id)
        return None

    def _check_time(self, doing: str) -> None:
        """What is not done by E + L is left: the next epoch's weights are due."""
        if self._parts.clock.now() >= self._epoch.results_deadline:
            raise EpochLostError(
                f"{doing} is too late: its time was over at "
                f"{format_time(self._epoch.results_deadline)}.",
                doing,
            )

    def _show(self, phase: str, done: int = 0, of: int = 0) -> None:
        self._parts.progress.show(phase, done, of, epoch_id=self._epoch.id)

    def _expect(self, until: datetime) -> None:
        self._parts.progress.expect(until)

    def _showing(self, phase: str) -> Callable[[int, int], None]:
        return lambda done, of: self._show(phase, done, of)

    # 1 ----------------------------------------------------------------------------------------

    async def _assignment(self) -> Assignment:
        """The epoch's assignment, its seed revealed if the API shows it by now."""
        kept = self._journal.get("assignment")
        if kept is not None and self._journal.get("published") is not None:
            return read_assignment(kept, self._parts.api_hotkey)
        try:
            served = await insist(
                self._parts.clock,
                self._epoch.results_deadline if kept is None else self._epoch.candidates_by,
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
            try:
                return ChainView.from_json(kept)
            except ExportError as error:
                _log.warning(
                    "the chain that was kept cannot be read; asked again", fault=str(error)
                )
        view = await insist(
            self._parts.clock,
            self._epoch.results_deadline,
            "reading the chain at the epoch's end",
            lambda: self._parts.chain.view_at(self._epoch.end),
        )
        self._journal.put("chain", view.to_json())
        return view

    # 2 to 4 -----------------------------------------------------------------------------------

    async def _validate(
        self, assignment: Assignment, view: ChainView, until: datetime
    ) -> dict[str, Any]:
        """The report, once it is in the bucket. Judging may take to E + L where there is none
        yet; bringing it out may take to ``until``."""
        judged = self._kept_report() is not None
        judged_by = until if judged else self._epoch.results_deadline
        uploads = await self._snapshot("miners", judged_by)
        judging = Judging(assignment, view, uploads, self._parts.examiner)
        stage = await insist(
            self._parts.clock,
            judged_by,
            "quick validation",
            lambda: judging.quick(self._showing("quick validation")),
        )
        await self._give_evidence(assignment, view, judging, stage)
        published = await self._history(judged_by)
        self._show("waiting for evidence")
        self._expect(self._epoch.evidence_deadline)
        await sleep_until(self._parts.clock, self._epoch.evidence_deadline + timedelta(seconds=1))
        results = await self._snapshot("results", judged_by)
        outcome, rows = await insist(
            self._parts.clock,
            judged_by,
            "merging the evidence",
            lambda: judging.conclude(stage, results, published),
        )
        for validator, why in outcome.ignored_evidence.items():
            _log.warning("evidence ignored", validator=validator, why=why)
        report = self._kept_report()
        if report is None:
            report = self._report(outcome, rows.height)
            found = await self._published_before(results, report)
            if found is not None:
                report = found
                self._journal.put("published", {"found_in_bucket": True})
            self._journal.put("report", report)
        await self._publish(assignment, report, write_published(rows), until)
        return report

    async def _history(self, until: datetime) -> Published:
        """What the reports on the epochs before say. They were final when this epoch ended, so
        whoever reads them, and whenever, finds the same."""
        parts = self._parts
        history = History(parts.api, parts.http, parts.data_dir / "history")
        self._show("reading earlier reports")
        return await insist(
            parts.clock,
            until,
            "reading earlier reports",
            lambda: history.before(self._epoch, self._showing("reading earlier reports")),
        )

    async def _published_before(
        self, results: RemoteSnapshot, report: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """This hotkey's own report in the bucket, where it says the same and nothing beside it is
        missing: from a machine or a disk that is gone."""
        hotkey, epoch_id = self._parts.hotkey, self._epoch.id
        infos = {info.key: info for info in results.objects}
        own = infos.get(report_key(hotkey, epoch_id))
        whole = {data_key(hotkey, epoch_id), metadata_key(hotkey, epoch_id)} <= infos.keys()
        if own is None or not whole or own.size > MAX_REPORT_BYTES:
            return None
        try:
            found: Any = json.loads(await results.read(own.key))
            same = common_part(found) == common_part(report)
        except (StoreError, ValueError, LookupError, TypeError, AttributeError) as error:
            _log.warning("an own report in the bucket cannot be read", fault=repr(error))
            return None
        return cast(dict[str, Any], found) if same else None

    async def _snapshot(self, bucket: BucketName, until: datetime) -> RemoteSnapshot:
        objects = await insist(
            self._parts.clock,
            until,
            f"listing the epoch's {bucket}",
            lambda: self._parts.api.validator_read(self._epoch.id, bucket=bucket),
        )
        return RemoteSnapshot(self._parts.http, objects)

    async def _give_evidence(
        self, assignment: Assignment, view: ChainView, judging: Judging, stage: QuickStage
    ) -> None:
        """Check the rows given to us and upload what was found, if there is time."""
        if self._journal.get("evidence") is not None:
            return
        margin = max(timedelta(seconds=3), self._epoch.length / 24)
        until = self._epoch.evidence_deadline - margin
        if self._parts.clock.now() >= until:
            _log.warning("too late for evidence; the others' decides", epoch=self._epoch.id)
            return
        try:
            if await self._gave_evidence(assignment, view):
                _log.info("own evidence is in the bucket already", epoch=self._epoch.id)
                self._journal.put("evidence", {"found_in_bucket": True})
                return
            body, document, count = await self._evidence(judging, stage, until)
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
            "evidence", {"uploaded_at": format_time(self._parts.clock.now()), "checks": count}
        )

    async def _gave_evidence(self, assignment: Assignment, view: ChainView) -> bool:
        """Whether whole evidence of this hotkey is in the bucket, though this disk knows of none:
        from a machine or a disk that is gone. A second one could say something else."""
        if self._journal.get("checks") is not None:
            return False
        objects = await insist(
            self._parts.clock,
            self._epoch.evidence_deadline,
            "looking for own evidence",
            lambda: self._parts.api.validator_read(self._epoch.id, bucket="own"),
        )
        own, hotkey = RemoteSnapshot(self._parts.http, objects), self._parts.hotkey
        keys = (evidence_key(hotkey, self._epoch.id), checks_key(hotkey, self._epoch.id))
        infos = [info for info in own.objects if info.key in keys]
        if len(infos) < len(keys) or any(info.size > MAX_EVIDENCE_BYTES for info in infos):
            return False
        try:
            uploads = {info.key: Upload(info, await own.read(info.key)) for info in infos}
            found = await self._parts.examiner.read_evidence(
                assignment, view, hotkey, *(uploads[key] for key in keys)
            )
        except (StoreError, ExaminerError, httpx.HTTPError) as error:
            _log.warning("own evidence in the bucket cannot be read", fault=str(error))
            return False
        return found.ignored is None

    async def _evidence(
        self, judging: Judging, stage: QuickStage, until: datetime
    ) -> tuple[bytes, Mapping[str, Any], int]:
        """spot_checks.parquet, evidence.json and the number of checks: those of an earlier attempt
        where there was one, to the bit."""
        kept = self._journal.get("checks")
        if kept is not None:
            try:
                return base64.b64decode(kept["body"]), kept["document"], int(kept["checks"])
            except (KeyError, TypeError, ValueError, binascii.Error):
                _log.warning("the checks that were kept cannot be read; made again")
        rows = await self._rows_to_check(judging, stage.plan)
        self._show("checking", 0, len(rows))
        self._expect(until)
        checks = await self._parts.checker.check(
            rows, until=until, report=self._showing("checking")
        )
        self._parts.progress.count_checks(check.verdict for check in checks)
        body, document = write_evidence(checks, epoch_id=self._epoch.id, signer=self._parts.signer)
        self._journal.put(
            "checks",
            {
                "body": base64.b64encode(body).decode(),
                "document": document,
                "checks": len(checks),
            },
        )
        return body, document, len(checks)

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
        self, assignment: Assignment, report: Mapping[str, Any], data: bytes, until: datetime
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

        await insist(self._parts.clock, until, "publishing the report", publish)
        self._journal.put("published", {"at": format_time(self._parts.clock.now())})

    async def _announce(
        self, assignment: Assignment, report: Mapping[str, Any], until: datetime
    ) -> None:
        if self._journal.get("announced") is not None:
            return
        self._show("announcing")
        await insist(
            self._parts.clock,
            until,
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
        """Set the weights until they are read back, never twice in doubt."""
        if self._journal.get("weights") is not None:
            return
        self._show("setting weights")
        self._check_time("setting weights")
        weights = {Hotkey(h): Ppm(int(w)) for h, w in report["weights"].items()}
        parts = self._parts
        weighing = Weighing(
            parts.chain, self._journal, clock=parts.clock, hotkey=parts.hotkey, epoch=self._epoch
        )
        done = await insist(
            parts.clock,
            self._epoch.results_deadline,
            "setting weights",
            lambda: weighing.attempt(weights),
        )
        self._journal.put("weights", {"at": format_time(parts.clock.now()), **done})
        how: Literal["found", "committed", "set"] = (
            "found"
            if "found_on_chain" in done
            else "committed"
            if done["committed_only"]
            else "set"
        )
        parts.progress.count_weights(how)
        _log.info(
            "weights are on the chain",
            how=how,
            epoch=self._epoch.id,
            block=done["block"],
            consensus_hash=str(report["consensus_hash"])[:16],
        )
