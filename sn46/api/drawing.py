"""One epoch's draw, from what the server knows to signed bytes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sn46.api.drawrecords import DrawRecords
from sn46.api.records import Records, Report, StoredEpoch
from sn46.api.settings import ApiSettings
from sn46.api.tables import TableFile, packed
from sn46.clock import Clock
from sn46.mechanism.assignment import (
    AssignedZip,
    Assignment,
    assignment_nonce,
    seed_commitment,
    selection_seed,
)
from sn46.mechanism.canonical import canonical_json
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.draw import ALGORITHM, DrawHistory, DrawRules, draw_zipcodes
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.names import Hotkey
from sn46.mechanism.reported import (
    VALIDATOR_EPOCHS,
    AnnouncedReport,
    active_validators,
    counted_until,
    reported_epochs,
)
from sn46.mechanism.selection import AdaptiveTarget, FixedTarget, Selection, TargetBasis
from sn46.mechanism.signing import Signer, address_of
from sn46.mechanism.target import EPOCHS_LOOKED_AT
from sn46.zipcodes import MasterTable
from sn46.zipcodes.publishing import table_document


@dataclass(frozen=True)
class DrawInputs:
    """All that a draw follows from, besides the settings."""

    epoch: Epoch
    table: MasterTable
    table_kept: bool
    history: DrawHistory
    newest: datetime | None
    basis: TargetBasis
    validators: tuple[Hotkey, ...]


class Drawer:
    """Makes draws. Nothing is kept here: the caller stores what is made."""

    def __init__(
        self,
        records: Records,
        past: DrawRecords,
        table: TableFile,
        settings: ApiSettings,
        signer: Signer,
        clock: Clock,
    ) -> None:
        self._records = records
        self._past = past
        self._table = table
        self._settings = settings
        self._signer = signer
        self._clock = clock

    async def inputs(self, epoch: Epoch, view: ChainView) -> DrawInputs:
        """Gather what the draw of an epoch follows from.

        Raises:
            ZipTableError: where the master table cannot be read.
        """
        history, newest = await self._records.draw_history()
        table = await self._table.load()
        return DrawInputs(
            epoch=epoch,
            table=table,
            table_kept=await self._past.has_table(table.version),
            history=history,
            newest=newest,
            basis=await self._basis(epoch),
            validators=await self._validators(epoch, view),
        )

    def draw(self, inputs: DrawInputs) -> tuple[StoredEpoch, tuple[AssignedZip, ...], bytes | None]:
        """Draw and sign. Takes some 100 ms over the whole country: call it in a thread.

        Returns:
            The epoch, its ZIPs, and the table's packed document where it is not on record yet.

        Raises:
            DrawError: where no draw within the tolerance exists.
        """
        settings, epoch = self._settings, inputs.epoch
        rules = settings.draw_rules(self._target_of(inputs.basis))
        seed = selection_seed(settings.secret, epoch.id)
        draw = draw_zipcodes(inputs.table.rows, inputs.history, rules, epoch, seed)
        following = selection_seed(settings.secret, epoch.next().id)
        assignment = Assignment(
            epoch=epoch,
            nonce=assignment_nonce(settings.secret, epoch, draw.zipcodes),
            rules=settings.rules(),
            validators=inputs.validators,
            zipcodes=draw.zipcodes,
            selection=Selection(
                algorithm=ALGORITHM,
                commitment=seed_commitment(seed),
                next_commitment=seed_commitment(following),
                seed=None,
                table_version=inputs.table.version,
                draw_rules=rules,
                target_basis=inputs.basis,
                relaxed=draw.relaxed,
            ),
            api_hotkey=address_of(self._signer),
        )
        stored = StoredEpoch(
            epoch=epoch,
            seed=seed,
            nonce=assignment.nonce,
            assignment_hash=assignment.hash,
            table_version=inputs.table.version,
            target_listings=rules.target_listings,
            total_listings=draw.total,
            eligible=draw.eligible,
            relaxed=draw.relaxed,
            draw_rules=_rules_json(rules),
            document=canonical_json(assignment.sign(self._signer)),
            revealed_document=None,
            drawn_at=self._clock.now(),
        )
        table = None if inputs.table_kept else packed(table_document(inputs.table))
        return stored, draw.zipcodes, table

    def _target_of(self, basis: TargetBasis) -> int:
        fixed = self._settings.target_listings
        return fixed if isinstance(basis, FixedTarget) else basis.target

    async def _basis(self, epoch: Epoch) -> TargetBasis:
        settings = self._settings
        if settings.target_mode == "fixed":
            return FixedTarget()
        newest = await self._records.newest_target()
        until = counted_until(epoch)
        starts = await self._past.newest_counted(epoch.start, until, EPOCHS_LOOKED_AT)
        first = starts[0] if starts else epoch.start
        reports = await self._announced(first, epoch.start)
        targets = await self._past.targets_between(first, epoch.start)
        return AdaptiveTarget(
            previous=settings.target_listings if newest is None else newest,
            least=settings.target_min,
            most=settings.target_max,
            epochs=reported_epochs(epoch, reports, targets),
        )

    async def _validators(self, epoch: Epoch, view: ChainView) -> tuple[Hotkey, ...]:
        """The permit holders that announced a report for any of the 6 epochs before, or all
        permit holders where none did (mechanism 3)."""
        holders = view.permit_holders()
        first = epoch.start - VALIDATOR_EPOCHS * epoch.length
        active = active_validators(epoch, await self._announced(first, epoch.start))
        return tuple(hotkey for hotkey in holders if hotkey in active) or holders

    async def _announced(self, first: datetime, before: datetime) -> Sequence[AnnouncedReport]:
        reports = await self._records.reports_between(first, before)
        return [announced(report) for report in reports]


def announced(report: Report) -> AnnouncedReport:
    """A report on record as the rules see it."""
    return AnnouncedReport(
        report.epoch_id,
        report.start,
        report.validator_hotkey,
        report.participants,
        report.reached_95,
        report.announced_at,
    )


def _rules_json(rules: DrawRules) -> dict[str, object]:
    values = asdict(rules)
    if rules.eligible_states is not None:
        values["eligible_states"] = sorted(rules.eligible_states)
    return values
