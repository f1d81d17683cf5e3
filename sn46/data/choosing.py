"""Which of an epoch's published reports counts.

A reader has no stakes and no uploads, so what counts is what most validators say: of the reports
whose ``consensus_hash`` is the hash of what they hold, the most common one, and of its validators'
rows the most common ones; ties go to the smaller hash. Who says otherwise is named. A reader that
trusts some validators alone counts only those.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from sn46.mechanism.agreement import MAX_REPORT_BYTES, consensus_hash, most_common
from sn46.mechanism.errors import MechanismError, SubmissionError
from sn46.mechanism.names import EpochId, Hotkey
from sn46.mechanism.signing import is_hotkey
from sn46.mechanism.submission import load_document

MAX_ROWS: Final = 500_000
"""More rows than this are of no epoch: three winners' of 15,000 homes each are 45,000."""


class ReportFault(MechanismError):
    """A report that cannot be one; the message says why."""


@dataclass(frozen=True)
class Report:
    """What a report says that its rows can be held against: the winners in order of rank, and how
    many rows there are."""

    validator: Hotkey
    consensus_hash: str
    winners: tuple[Hotkey, ...]
    rows: int


def read_report(body: bytes, validator: Hotkey, epoch_id: EpochId) -> Report:
    """A report out of untrusted bytes.

    Raises:
        ReportFault: where it is none, of another epoch or validator, or where its consensus_hash
            is not the hash of its own scores and weights (mechanism 10).
    """
    try:
        document = load_document(body, "the report", MAX_REPORT_BYTES)
        if document.get("epoch_id") != epoch_id or document.get("validator_hotkey") != validator:
            raise ReportFault("the report is of another epoch or validator than its place")
        miners = cast(Mapping[Hotkey, Mapping[str, Any]], document["miners"])
        scores = {hotkey: miner["final"] for hotkey, miner in miners.items()}
        computed = consensus_hash(epoch_id, scores, document["weights"])
        if document.get("consensus_hash") != computed:
            raise ReportFault("its consensus_hash is not the hash of its scores and weights")
        winners = cast(Sequence[Mapping[str, Any]], document["top_3_winners"])
        rows = document["validation_summary"]["total_listings_validated"]
        if type(rows) is not int or not 0 <= rows <= MAX_ROWS or len(winners) > 3:
            raise ReportFault("its winners or its number of rows cannot be")
        hotkeys = tuple(Hotkey(winner["miner_hotkey"]) for winner in winners)
        if not all(map(is_hotkey, hotkeys)):
            raise ReportFault("a winner of its is no hotkey")
        return Report(validator, computed, hotkeys, rows)
    except SubmissionError as error:
        raise ReportFault(str(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ReportFault(f"the report lacks what a report has ({type(error).__name__})") from error


def counting(reports: Sequence[Report]) -> tuple[str | None, list[Report]]:
    """The consensus_hash that most reports carry, ties by the smaller one, and those reports;
    None where there are none."""
    common = most_common({r.validator: r.consensus_hash for r in reports})[0] or None
    return common, [r for r in reports if r.consensus_hash == common]


def common_winners(reports: Sequence[Report]) -> tuple[Hotkey, ...]:
    """The winners that most of these reports name, of as many the first in order; none without
    reports. They are not under the hash, so who copies it may name others."""
    counted = Counter(report.winners for report in reports)
    return min(counted, key=lambda winners: (-counted[winners], winners), default=())
