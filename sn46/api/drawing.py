"""One epoch's draw, from what the server knows to signed bytes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sn46.api.records import Records, Report, StoredEpoch
from sn46.api.settings import ApiSettings
from sn46.api.tables import TableFile
from sn46.clock import Clock
from sn46.mechanism.assignment import (
    AssignedZip,
    Assignment,
    Selection,
    assignment_nonce,
    seed_commitment,
    selection_seed,
)
from sn46.mechanism.canonical import canonical_json
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.draw import ALGORITHM, DrawHistory, DrawRules, draw_zipcodes
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.names import Hotkey
from sn46.mechanism.signing import Signer, address_of
from sn46.mechanism.target import EPOCHS_LOOKED_AT, EpochVolume, adaptive_target
from sn46.zipcodes import MasterTable

_VALIDATOR_EPOCHS = 6


@dataclass(frozen=True)
class DrawInputs:
    """All that a draw follows from, besides the settings."""

    epoch: Epoch
    table: MasterTable
    history: DrawHistory
    newest: datetime | None
    target: int
    validators: tuple[Hotkey, ...]


class Drawer:
    """Makes draws. Nothing is kept here: the caller stores what is made."""

    def __init__(
        self,
        records: Records,
        table: TableFile,
        settings: ApiSettings,
        signer: Signer,
        clock: Clock,
    ) -> None:
        self._records = records
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
        return DrawInputs(
            epoch=epoch,
            table=await self._table.load(),
            history=history,
            newest=newest,
            target=await self._target(epoch),
            validators=await self._validators(epoch, view),
        )

    def draw(self, inputs: DrawInputs) -> tuple[StoredEpoch, tuple[AssignedZip, ...]]:
        """Draw and sign. Takes some 100 ms over the whole country: call it in a thread.

        Raises:
            DrawError: where no draw within the tolerance exists.
        """
        settings, epoch = self._settings, inputs.epoch
        rules = settings.draw_rules(inputs.target)
        seed = selection_seed(settings.secret, epoch.id)
        draw = draw_zipcodes(inputs.table.rows, inputs.history, rules, epoch, seed)
        following = selection_seed(settings.secret, epoch.next().id)
        assignment = Assignment(
            epoch=epoch,
            nonce=assignment_nonce(settings.secret, epoch, draw.zipcodes),
            target_listings=inputs.target,
            tolerance_percent=settings.tolerance_percent,
            rules=settings.rules(),
            validators=inputs.validators,
            zipcodes=draw.zipcodes,
            selection=Selection(
                algorithm=ALGORITHM,
                commitment=seed_commitment(seed),
                next_commitment=seed_commitment(following),
                seed=None,
                table_version=inputs.table.version,
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
            target_listings=inputs.target,
            total_listings=draw.total,
            eligible=draw.eligible,
            relaxed=draw.relaxed,
            draw_rules=_rules_json(rules),
            document=canonical_json(assignment.sign(self._signer)),
            revealed_document=None,
            drawn_at=self._clock.now(),
        )
        return stored, draw.zipcodes

    async def _target(self, epoch: Epoch) -> int:
        settings = self._settings
        if settings.target_mode == "fixed":
            return settings.target_listings
        newest = await self._records.newest_target()
        current = settings.target_listings if newest is None else newest
        starts = await self._records.newest_reported(epoch.start, EPOCHS_LOOKED_AT)
        reports = await self._records.reports_between(starts[0], epoch.start) if starts else []
        volumes = [agreed_volume([r for r in reports if r.start == start]) for start in starts]
        return adaptive_target(
            current, volumes, least=settings.target_min, most=settings.target_max
        )

    async def _validators(self, epoch: Epoch, view: ChainView) -> tuple[Hotkey, ...]:
        """The permit holders that announced a report for any of the 6 epochs before, or all
        permit holders where none did (mechanism 3)."""
        holders = view.permit_holders()
        first = epoch.start - _VALIDATOR_EPOCHS * epoch.length
        reports = await self._records.reports_between(first, epoch.start)
        active = {report.validator_hotkey for report in reports}
        return tuple(hotkey for hotkey in holders if hotkey in active) or holders


def agreed_volume(reports: Sequence[Report]) -> EpochVolume:
    """The volume figures that most of an epoch's reports give; ties by the smaller figures."""
    counted: dict[tuple[int, int], int] = {}
    for report in reports:
        figures = (report.participants, report.reached_95)
        counted[figures] = counted.get(figures, 0) + 1
    participants, reached = min(counted, key=lambda f: (-counted[f], f))
    return EpochVolume(participants, reached)


def _rules_json(rules: DrawRules) -> dict[str, object]:
    values = asdict(rules)
    if rules.eligible_states is not None:
        values["eligible_states"] = sorted(rules.eligible_states)
    return values
