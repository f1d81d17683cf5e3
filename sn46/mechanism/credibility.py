"""How far a miner's past speaks for it (mechanism 8): a factor on its score, from reports.

For epoch T, the 42 epochs before it are looked at (7 days of 4-hour epochs). What an epoch says of
a miner is what the validators' published reports on it say, frozen at its results deadline. For
the newest of them that is the end of T, so everybody who judges T, then or later, finds the same.

A report's voice has the stake that its owner has, with a permit, at T's validation block. A miner
was good, or failed, in an epoch where more than half of the stake says so, and more than one
validator; else the epoch does not count for it. Half of whose: of the validators that reported on
that epoch or on one at most six away. So what a few published alone while the others were down
decides nothing, what one says decides nothing whatever its stake, unless it is the only one at
all, and permit holders that never report are not waited for.

The credibility is an exponential average over the epochs that count, oldest first, from 1,000,000::

    c = (41 * c + 2 * x) // 43      x = 1,000,000 where it was good, 0 where it failed

which is the usual 2 / (N + 1) for a span of N = 42. One failure takes 4.7 %.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, cast

from sn46.mechanism.agreement import MAX_REPORT_BYTES
from sn46.mechanism.chainview import ChainView
from sn46.mechanism.epochs import Epoch
from sn46.mechanism.errors import SubmissionError
from sn46.mechanism.names import PPM, EpochId, Hotkey, Ppm
from sn46.mechanism.reasons import Code
from sn46.mechanism.signing import is_hotkey
from sn46.mechanism.submission import load_document

_WHOLE: Final = Ppm(PPM)

WINDOW: Final = 42
"""How many epochs before an epoch are looked at; also the span of the average."""

NEAR: Final = 6
"""Who reported on an epoch at most so far away is expected to have reported on this one."""

MOST_MINERS: Final = 4_096

Record = Mapping[Hotkey, bool]
"""One report's word on an epoch: who was good (true) and who failed (false)."""

Published = Mapping[EpochId, Mapping[Hotkey, Record]]
"""Records by epoch and by the validator that published them."""


@dataclass(frozen=True)
class Credibility:
    """A miner's credibility in ppm, how many epochs it rests on, and in which of them it failed,
    oldest first."""

    value: Ppm = _WHOLE
    epochs: int = 0
    failed: tuple[EpochId, ...] = ()

    def after(self, epoch_id: EpochId, *, good: bool) -> "Credibility":
        """With one more epoch that counts."""
        value = ((WINDOW - 1) * self.value + 2 * (PPM if good else 0)) // (WINDOW + 1)
        failed = self.failed if good else (*self.failed, epoch_id)
        return Credibility(Ppm(value), self.epochs + 1, failed)

    def applied_to(self, score: Ppm, exponent: int) -> Ppm:
        """score × credibility^exponent, in whole ppm after each multiplication."""
        for _ in range(exponent):
            score = Ppm(score * self.value // PPM)
        return score


UNKNOWN: Final = Credibility()
"""A hotkey of which no epoch says anything starts at 1."""

NO_RECORD: Final[Mapping[Hotkey, Credibility]] = MappingProxyType({})


def history_of(epoch: Epoch) -> tuple[Epoch, ...]:
    """The epochs before this one that its credibilities rest on, oldest first."""
    return tuple(
        Epoch(epoch.start - ago * epoch.length, epoch.seconds) for ago in range(WINDOW, 0, -1)
    )


def read_record(body: bytes, epoch: Epoch) -> Record | None:
    """What a published report says of the miners of an epoch; None where it is no report on an
    epoch of that start and length. The bytes are a stranger's: nothing in them raises.

    Good is a participant that was not disqualified. Failed is whoever submitted a manifest and was
    invalid or disqualified. Absent, and not in the record, is who submitted none, was not
    registered, or had a valid submission of less than the least volume.
    """
    try:
        report = load_document(body, "validation_report.json", MAX_REPORT_BYTES)
    except SubmissionError:
        return None
    if report.get("epoch_id") != epoch.id or report.get("epoch_seconds") != epoch.seconds:
        return None
    miners = report.get("miners")
    if not isinstance(miners, dict) or len(cast(dict[str, Any], miners)) > MOST_MINERS:
        return None
    record: dict[Hotkey, bool] = {}
    try:
        for hotkey, entry in cast(dict[str, Any], miners).items():
            good = _was_good(entry)
            if good is not None and is_hotkey(hotkey):
                record[Hotkey(hotkey)] = good
    except (TypeError, KeyError):
        return None
    return record


def _was_good(entry: Any) -> bool | None:
    """Whether a miner was good; None where it was absent.

    Raises:
        TypeError, KeyError: where this is no miner's entry.
    """
    valid, participant, out = (_flag(entry[n]) for n in ("valid", "participant", "disqualified"))
    codes = [str(reason["code"]) for reason in entry["reasons"]]
    if entry["submission_time"] is None or Code.HOTKEY_NOT_REGISTERED.value in codes:
        return None
    if valid and not participant:
        return None
    return valid and not out


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def agreed_records(
    published: Published, epoch: Epoch, view: ChainView
) -> tuple[tuple[EpochId, Record], ...]:
    """What each epoch before ``epoch`` says of the miners in the end, oldest first.

    Args:
        published: records of those epochs; others are not looked at.
        epoch: the epoch that is judged.
        view: the chain at its validation block, for permits and stakes.
    """
    stakes = {n.hotkey: n.stake for n in view.neurons if n.validator_permit}
    epochs = history_of(epoch)
    voices = [
        {v: record for v, record in published.get(past.id, {}).items() if v in stakes}
        for past in epochs
    ]
    agreed: list[tuple[EpochId, Record]] = []
    for place, past in enumerate(epochs):
        near = voices[max(0, place - NEAR) : place + NEAR + 1]
        active = {v: stakes[v] for reports in near for v in reports}
        agreed.append((past.id, _majority(voices[place], active)))
    return tuple(agreed)


def _majority(voices: Mapping[Hotkey, Record], active: Mapping[Hotkey, int]) -> Record:
    """What more than half of the active validators' stake says of each miner, and not one alone."""
    behind: dict[tuple[Hotkey, bool], list[int]] = {}
    for validator, record in voices.items():
        for said in record.items():
            behind.setdefault(said, []).append(active[validator])
    least, total = min(2, len(active)), sum(active.values())
    return {
        hotkey: good
        for (hotkey, good), stakes in behind.items()
        if len(stakes) >= least and 2 * sum(stakes) > total
    }


def credibilities(records: Iterable[tuple[EpochId, Record]]) -> dict[Hotkey, Credibility]:
    """The credibility of every miner that some epoch speaks of.

    ``records`` are what :func:`agreed_records` gives, oldest first.
    """
    found: dict[Hotkey, Credibility] = {}
    for epoch_id, record in records:
        for hotkey, good in record.items():
            found[hotkey] = found.get(hotkey, UNKNOWN).after(epoch_id, good=good)
    return found
