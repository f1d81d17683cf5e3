"""Whether validators hold the same assignment, and which one to use where they do not.

Each uses the one that carries the API's signature and that most validators hold, by stake; under
90 % agreement is an alert (mechanism 11).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from sn46.client.api import ReceivedAssignment
from sn46.client.relay import RELAY_QUORUM, Peer, RelayClient, RelayError, ask_all
from sn46.clock import Clock
from sn46.mechanism.agreement import ALERT_BELOW
from sn46.mechanism.names import PPM, Coldkey, EpochId, Hotkey, Ppm
from sn46.validator.relay_assignments import Assignments, Held

_log = structlog.get_logger("sn46.validator")


@dataclass(frozen=True)
class Holder:
    """Who holds an assignment of an epoch, and which one by its hash. ``stake`` is in rao."""

    hotkey: Hotkey
    coldkey: Coldkey
    stake: int
    hash: str


@dataclass(frozen=True)
class Tally:
    """How an epoch's assignment is spread: ``share`` of the stake behind it holds ``hash``, the
    one with most stake (ties: the smaller hash); ``validators`` hold any, ``owners`` that one."""

    epoch_id: EpochId
    hash: str
    share: Ppm
    validators: int
    holders: int
    owners: int

    @property
    def alert(self) -> bool:
        """Whether agreement is below 90 %."""
        return self.share < ALERT_BELOW

    def to_json(self) -> dict[str, Any]:
        return {
            "epoch_id": self.epoch_id,
            "assignment_hash": self.hash,
            "share": self.share,
            "validators": self.validators,
            "holders": self.holders,
            "alert": self.alert,
        }


def tally_of(epoch_id: EpochId, holders: Sequence[Holder]) -> Tally | None:
    """The spread over holders of one epoch's assignments; None without holders. Where nobody has
    stake, each counts the same."""
    if not holders:
        return None
    staked = any(holder.stake for holder in holders)
    by_hash: dict[str, int] = {}
    for holder in holders:
        weight = holder.stake if staked else 1
        by_hash[holder.hash] = by_hash.get(holder.hash, 0) + weight
    best = min(by_hash, key=lambda name: (-by_hash[name], name))
    holding = [holder for holder in holders if holder.hash == best]
    return Tally(
        epoch_id=epoch_id,
        hash=best,
        share=Ppm(by_hash[best] * PPM // sum(by_hash.values())),
        validators=len(holders),
        holders=len(holding),
        owners=len({holder.coldkey for holder in holding}),
    )


class Comparison:
    """Compares with the other validators, and lets ``assignments`` hold what most stake holds."""

    def __init__(
        self,
        assignments: Assignments,
        client: RelayClient,
        *,
        clock: Clock,
    ) -> None:
        self._assignments = assignments
        self._client = client
        self._clock = clock
        self._alerted: tuple[EpochId, str, int] | None = None

    async def compare(self, peers: Sequence[Peer], own: Peer | None) -> Tally | None:
        """Compare once. ``own`` is ourselves as the chain has us, None where it does not.

        Returns:
            The running epoch's tally; None where nobody holds its assignment.
        """
        held = self._assignments.running()
        found = await self._others(peers, held)
        received = {named: document for _, named, document in found if document is not None}
        holders = [Holder(p.hotkey, p.coldkey, p.stake, named) for p, named, _ in found]
        if held is not None:
            received[held.hash] = held.received
            me = own or Peer(self._client.hotkey, Coldkey(self._client.hotkey), 0, "", 0)
            holders.append(Holder(me.hotkey, me.coldkey, me.stake, held.hash))
        epoch_ids = {document.assignment.epoch_id for document in received.values()}
        if len(epoch_ids) != 1:
            return None
        tally = tally_of(epoch_ids.pop(), holders)
        if tally is not None:
            self._use(tally, received, held)
            self._tell(tally)
        return tally

    async def _others(
        self, peers: Sequence[Peer], held: Held | None
    ) -> list[tuple[Peer, str, ReceivedAssignment | None]]:
        """Who else holds which of the running epoch's assignments; the document where it is
        another than ours. Only with the API's signature does another one count."""

        async def look(peer: Peer) -> tuple[str, ReceivedAssignment | None]:
            if held is not None:
                health = await self._client.health(peer)
                if health.epoch_id != held.epoch_id:
                    raise RelayError(f"it holds that of {str(health.epoch_id)[:20]}")
                if health.assignment_hash == held.hash:
                    return held.hash, None
            received = await self._client.assignment(peer)
            assignment = received.assignment
            other = held is not None and held.epoch_id != assignment.epoch_id
            if other or not assignment.epoch.contains(self._clock.now()):
                raise RelayError(f"it holds that of {assignment.epoch_id}")
            return assignment.hash, received

        answers, refused = await ask_all(peers, look)
        for hotkey, reason in refused.items():
            _log.debug("a validator has no assignment to compare", validator=hotkey, reason=reason)
        return [(peer, named, document) for peer, (named, document) in answers]

    def _use(
        self, tally: Tally, received: Mapping[str, ReceivedAssignment], held: Held | None
    ) -> None:
        """Hold what most stake holds. Where we hold none ourselves, only what validators of two
        owners do: passed on, it would make two voices of one."""
        agreed = tally.owners >= RELAY_QUORUM
        if held is None and not agreed:
            return
        if held is not None and held.hash == tally.hash:
            if agreed and not held.agreed:
                self._assignments.hold(Held(held.received, agreed=True))
            return
        _log.warning(
            "the assignment comes from other validators; the API signed it",
            epoch=tally.epoch_id,
            assignment_hash=tally.hash,
            instead_of=None if held is None else held.hash,
            holders=tally.holders,
        )
        self._assignments.hold(Held(received[tally.hash], agreed))

    def _tell(self, tally: Tally) -> None:
        """Alert once for each epoch and state of affairs."""
        state = (tally.epoch_id, tally.hash, tally.share)
        if not tally.alert or state == self._alerted:
            return
        self._alerted = state
        _log.error(
            "validators hold different assignments of one epoch; tell the subnet's owner",
            epoch=tally.epoch_id,
            share_percent=tally.share * 100 // PPM,
            validators=tally.validators,
            used=tally.hash,
        )
