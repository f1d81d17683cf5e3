"""What came of an epoch: the published reports, the chain's weights, and whether all agree."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sn46.chain.base import Chain, ChainError
from sn46.client.api import ApiClient, ApiError, ApiUnavailable
from sn46.localnet.people import Person
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.errors import MechanismError
from sn46.mechanism.names import Hotkey, Ppm
from sn46.mechanism.report import report_key
from sn46.store.base import Bucket, StoreError
from sn46.validator.journal import Journal

ASKING_FAILED = (ApiError, ApiUnavailable, ChainError, StoreError, MechanismError, ValueError)


@dataclass(frozen=True)
class EpochResult:
    """One epoch as it stands. ``reports`` and ``weights_on_chain`` are by validator; ``faults``
    says in a sentence each what is missing or wrong."""

    epoch: Epoch
    assignment: Mapping[str, Any] | None
    reports: Mapping[Hotkey, Mapping[str, Any]]
    weights_on_chain: Mapping[Hotkey, Mapping[Hotkey, Ppm]]
    faults: tuple[str, ...]
    strategies: Mapping[Hotkey, str]

    @property
    def hashes(self) -> dict[Hotkey, str]:
        return {v: str(report.get("consensus_hash")) for v, report in self.reports.items()}

    @property
    def consensus(self) -> bool:
        """Whether every validator has published, and all the same consensus_hash."""
        return bool(self.reports) and not self.faults and len(set(self.hashes.values())) == 1

    def to_json(self) -> dict[str, Any]:
        """One entry of ``epochs`` in ``--json``."""
        return {
            "epoch_id": self.epoch.id,
            "assignment": self.assignment,
            "reports": dict(self.reports),
            "weights_on_chain": {v: dict(w) for v, w in self.weights_on_chain.items()},
            "consensus": self.consensus,
            "strategies": dict(self.strategies),
            "faults": list(self.faults),
        }


@dataclass(frozen=True)
class Observer:
    """Reads an epoch's results: what validators announced to the API, published in the bucket and
    set on the chain. ``folders`` are the validators' data folders, by hotkey."""

    validators: Sequence[Person]
    folders: Mapping[Hotkey, Path]
    strategies: Mapping[Hotkey, str]
    api: ApiClient
    results: Bucket
    chain: Chain

    async def is_complete(self, epoch: Epoch) -> bool:
        """Whether every validator has announced its report, and set and read back its weights."""
        return not self._unset(epoch) and not await self._unannounced(epoch)

    async def read(self, epoch: Epoch) -> EpochResult:
        """The epoch as it stands now. What cannot be read is a fault, and never raised."""
        faults: list[str] = []
        assignment: Mapping[str, Any] | None = None
        try:
            assignment = (await self.api.epoch(epoch.id)).document
        except ASKING_FAILED as error:
            faults.append(f"Its assignment cannot be read: {error}")
        faults += [f"{name} announced no report in time." for name in await self._silent(epoch)]
        faults += [f"{p.name} did not set its weights in time." for p in self._unset(epoch)]
        reports: dict[Hotkey, Mapping[str, Any]] = {}
        on_chain: dict[Hotkey, Mapping[Hotkey, Ppm]] = {}
        for person in self.validators:
            try:
                reports[person.hotkey] = await self._report(person.hotkey, epoch)
                on_chain[person.hotkey] = await self.chain.weights_of(person.hotkey)
            except ASKING_FAILED as error:
                faults.append(f"The report or weights of {person.name} cannot be read: {error}")
        faults += self._compared(reports, on_chain)
        return EpochResult(epoch, assignment, reports, on_chain, tuple(faults), self.strategies)

    def _compared(
        self,
        reports: Mapping[Hotkey, Mapping[str, Any]],
        on_chain: Mapping[Hotkey, Mapping[Hotkey, Ppm]],
    ) -> list[str]:
        faults: list[str] = []
        names = {person.hotkey: person.name for person in self.validators}
        hashes = {v: str(report.get("consensus_hash"))[:16] for v, report in reports.items()}
        if len(set(hashes.values())) > 1:
            listed = ", ".join(f"{names[v]} has {value}…" for v, value in hashes.items())
            faults.append(f"The validators do not agree: {listed}.")
        for validator, report in reports.items():
            weights = cast(Mapping[Hotkey, int], report.get("weights") or {})
            if not weights_agree(weights, on_chain.get(validator, {})):
                faults.append(
                    f"{names[validator]} has other weights on the chain than in its report."
                )
        return faults

    async def _report(self, validator: Hotkey, epoch: Epoch) -> Mapping[str, Any]:
        body = await self.results.get(report_key(validator, epoch.id))
        value = json.loads(body)
        if not isinstance(value, dict):
            raise ValueError("the report is no JSON object")
        return cast(dict[str, Any], value)

    async def _silent(self, epoch: Epoch) -> list[str]:
        try:
            return [person.name for person in await self._unannounced(epoch)]
        except ASKING_FAILED as error:
            return [f"It is not known who ({error}), so count every validator as one that"]

    async def _unannounced(self, epoch: Epoch) -> list[Person]:
        answer = await self.api.results(epoch.id)
        announced = {str(report["validator_hotkey"]) for report in answer["reports"]}
        return [person for person in self.validators if person.hotkey not in announced]

    def _unset(self, epoch: Epoch) -> list[Person]:
        """Validators that have not read their weights of this epoch back from the chain: the
        chain alone cannot tell them from equal ones of the epoch before."""
        return [
            person
            for person in self.validators
            if Journal(self.folders[person.hotkey], epoch.id).get("weights") is None
        ]


def weights_agree(report: Mapping[Hotkey, int], on_chain: Mapping[Hotkey, int]) -> bool:
    """Whether weights in ppm say the same, within what the chain's 16 bits leave of them: it
    keeps them in units of a 65,535th of the largest, and their sum is then made a million again."""
    if not report or not on_chain:
        return False
    unit = max(report.values()) / 65_535
    rounding = unit * (1 + len(report)) + 1
    return all(abs(on_chain.get(h, 0) - report.get(h, 0)) <= rounding for h in {*on_chain, *report})
