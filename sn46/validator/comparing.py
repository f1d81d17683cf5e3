"""The reports of all validators on one epoch, side by side: what ``sn46 compare`` prints."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from sn46.mechanism.agreement import Agreement, agreement_of, differences
from sn46.mechanism.assignment import read_assignment
from sn46.mechanism.chainview import RAO_PER_ALPHA, ChainView
from sn46.mechanism.errors import ExportError
from sn46.mechanism.names import EpochId, Hotkey
from sn46.mechanism.report import common_part
from sn46.store.base import StoreError
from sn46.store.snapshot import VALIDATED_DATA, FolderSnapshot
from sn46.validator.folder import ASSIGNMENT, CHAIN, epoch_folder, find_epoch, read_document
from sn46.validator.replay import published_reports

_SHORT: Final = 10
_MOST_LINES: Final = 5


@dataclass(frozen=True)
class Reports:
    """An epoch's published reports by validator, in the order of stake; an empty one is no report.
    ``silent`` are permit holders of the assignment that published none."""

    epoch_id: EpochId
    assignment_hash: str
    view: ChainView
    reports: Mapping[Hotkey, Mapping[str, Any]]
    silent: tuple[Hotkey, ...]

    @property
    def agreement(self) -> Agreement:
        """How far they agree; what is no report agrees with nothing."""
        hashes = {v: str(r.get("consensus_hash", f"none of {v}")) for v, r in self.reports.items()}
        return agreement_of(hashes, {v: _top_three(r) for v, r in self.reports.items()})

    @property
    def agree(self) -> bool:
        """Whether all of them are alike but for what is a validator's own."""
        common = [common_part(report) for report in self.reports.values()]
        return bool(common) and all(one == common[0] and one for one in common)


def _top_three(report: Mapping[str, Any]) -> list[str]:
    winners = report.get("top_3_winners")
    if not isinstance(winners, list):
        return []
    return [str(_mapping(w).get("miner_hotkey")) for w in cast(Sequence[Any], winners)]


async def read_reports(directory: Path, epoch_id: str) -> Reports:
    """All published reports on an exported epoch.

    Raises:
        ExportError: where the export is incomplete or damaged.
        AssignmentError: where its assignment's signature does not hold.
    """
    epoch = find_epoch(directory, epoch_id)
    folder = epoch_folder(directory, epoch)
    assignment = read_assignment(read_document(folder / ASSIGNMENT), None)
    view = ChainView.from_json(read_document(folder / CHAIN))
    results = FolderSnapshot(directory, VALIDATED_DATA)
    try:
        found = await published_reports(assignment.epoch_id, view, results)
    except StoreError as error:
        raise ExportError(str(error)) from error
    stakes = {n.hotkey: n.stake for n in view.neurons}
    ordered = sorted(found, key=lambda v: (-stakes.get(v, 0), v))
    silent = [v for v in assignment.validators if v in view.permit_holders() and v not in found]
    return Reports(
        assignment.epoch_id,
        assignment.hash,
        view,
        {v: found[v] for v in ordered},
        tuple(sorted(silent)),
    )


def comparison(found: Reports) -> Iterator[str]:
    """A line each: every validator with its hash and checks, where reports differ, and every miner
    with its score by each validator where those are not the same."""
    yield f"Epoch {found.epoch_id}: {len(found.reports)} reports"
    if not found.reports:
        yield "No validator published a report on this epoch."
        return
    agreement = found.agreement
    yield (
        f"{'validator':{_SHORT}} {'stake':>12} {'consensus_hash':16} {'assignment':10} "
        f"{'checks':>6} {'seconds':>7}  evidence it ignored"
    )
    for validator, report in found.reports.items():
        yield _validator_line(found, validator, report)
    for validator in found.silent:
        yield f"{validator[:_SHORT]} published no report"
    yield ""
    if found.agree:
        yield f"All agree: consensus_hash {agreement.consensus_hash}"
        return
    yield from _dissent(found, agreement)
    yield from _scores(found)


def _validator_line(found: Reports, validator: Hotkey, report: Mapping[str, Any]) -> str:
    stake = next((n.stake for n in found.view.neurons if n.hotkey == validator), 0)
    head = f"{validator[:_SHORT]:{_SHORT}} {stake / RAO_PER_ALPHA:>12,.0f}"
    if not report:
        return f"{head} published what is no report"
    summary = _mapping(report.get("validation_summary"))
    same = report.get("assignment_hash") == found.assignment_hash
    ignored = _mapping(report.get("ignored_evidence"))
    told = ", ".join(f"{v[:_SHORT]} ({why})" for v, why in ignored.items()) or "-"
    return (
        f"{head} {str(report.get('consensus_hash'))[:16]} {'the same' if same else 'ANOTHER':10} "
        f"{summary.get('spot_checks_performed')!s:>6} "
        f"{summary.get('validation_duration_seconds')!s:>7}  {told}"
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], value) if isinstance(value, dict) else {}


def _dissent(found: Reports, agreement: Agreement) -> Iterator[str]:
    share = 0 if agreement.hash_share is None else agreement.hash_share / 10_000
    yield f"THEY DIFFER: {share:.0f} % carry consensus_hash {agreement.consensus_hash}"
    agreeing = [v for v in found.reports if v not in agreement.dissenting]
    base = agreeing[0]
    for validator, report in found.reports.items():
        if validator == base:
            continue
        lines = differences(common_part(found.reports[base]), common_part(report))
        for line in lines[:_MOST_LINES]:
            yield f"  {validator[:_SHORT]} against {base[:_SHORT]}: {line}"
        if len(lines) > _MOST_LINES:
            yield f"  {validator[:_SHORT]}: and {len(lines) - _MOST_LINES} more differences or over"
        others = _other_records(found.reports[base], report)
        if others:
            yield (
                f"  {validator[:_SHORT]} read other reports on the epochs before: it gives another "
                f"credibility to {', '.join(h[:_SHORT] for h in others[:_MOST_LINES])}"
                f"{f' and {len(others) - _MOST_LINES} more' if len(others) > _MOST_LINES else ''}"
            )


def _other_records(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The miners to whom two reports give another credibility."""
    first, second = _mapping(one.get("miners")), _mapping(other.get("miners"))
    return [
        hotkey
        for hotkey in sorted(set(first) & set(second))
        if _mapping(first[hotkey]).get("credibility") != _mapping(second[hotkey]).get("credibility")
    ]


def _scores(found: Reports) -> Iterator[str]:
    """Final score and weight, in ppm, of each miner that validators see differently."""
    by_validator = {v: _mapping(r.get("miners")) for v, r in found.reports.items()}
    miners = sorted({hotkey for miners in by_validator.values() for hotkey in miners})
    rows = {h: [_score(by_validator[v], h) for v in found.reports] for h in miners}
    differing = {hotkey: cells for hotkey, cells in rows.items() if len(set(cells)) > 1}
    if not differing:
        return
    yield ""
    yield "Final score and weight, in millionths, where they differ:"
    yield " ".join([f"{'miner':{_SHORT}}", *(f"{v[:_SHORT]:>17}" for v in found.reports)])
    for hotkey, cells in differing.items():
        yield " ".join([f"{hotkey[:_SHORT]:{_SHORT}}", *(f"{cell:>17}" for cell in cells)])


def _score(miners: Mapping[str, Any], hotkey: str) -> str:
    entry = _mapping(miners.get(hotkey))
    return f"{entry.get('final')} {entry.get('weight')}" if entry else "-"
