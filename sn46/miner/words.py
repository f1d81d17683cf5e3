"""The miner's state and its expected scores in words, a line each."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from sn46.mechanism.names import PPM, Ppm
from sn46.mechanism.scoring import QUALITY_WEIGHT, SPEED_STEP, VOLUME_WEIGHT
from sn46.mechanism.times import format_time, parse_time, time_left
from sn46.miner.checkup import Checkup
from sn46.miner.faults import RowFault
from sn46.miner.progress import MinerStatus, Phase
from sn46.miner.spool import Outcome
from sn46.miner.ways import route_lines

MOST_ZIPS: Final = 20
"""So many ZIPs that lost volume are listed; the JSON has all."""


def checkup_lines(found: Checkup) -> Iterator[str]:
    """What to expect of a submission."""
    made = "as it was signed" if found.signed else "as it would be made of what is scraped by now"
    yield f"Epoch {found.epoch_id}, hotkey {found.hotkey}: the submission {made}."
    yield f"{found.rows} rows in {found.files} files, {found.rows_kept} of them count."
    yield from _verdict(found)
    yield from _fault_lines("Rows in the files that do not count:", found.faults)
    yield from _fault_lines("Rows that the miner left out itself:", found.left_out)
    yield from _scores(found)
    yield from _lost_fields(found)
    yield from _lost_volume(found)


def summary_of(found: Checkup) -> str:
    """The same in one line."""
    if not found.valid:
        return "invalid: " + ", ".join(reason.code.value for reason in found.reasons)
    expect = f"preliminary {found.preliminary or 0:,} at the first place"
    return (
        f"{found.rows_kept} rows of {sum(1 for z in found.zips if z.rows)} of {len(found.zips)} "
        f"ZIPs count; completeness {_percent(found.completeness)}, volume "
        f"{_percent(found.volume)}, {expect if found.participant else 'it does not take part'}"
    )


def _verdict(found: Checkup) -> Iterator[str]:
    if found.valid:
        yield "VALID" if found.participant else "VALID, but it does not take part:"
    else:
        yield "INVALID, so its score is 0:"
    for reason in found.reasons:
        yield f"  {reason.code.value} ({reason.count}): {reason.detail}"


def _fault_lines(title: str, faults: tuple[RowFault, ...]) -> Iterator[str]:
    if not faults:
        return
    yield title
    for fault in faults:
        yield f"  {fault.count} x {fault.what}"
        for example in fault.examples:
            yield f"      {_example(example)}"


def _example(example: Mapping[str, Any]) -> str:
    values = {name: value for name, value in example.items() if name not in ("file", "row")}
    told = ", ".join(f"{name}={value!r}" for name, value in values.items())
    return f"{example['file']}, row {example['row']}: {told}"


def _scores(found: Checkup) -> Iterator[str]:
    yield "Scores to expect, in millionths, before spot checks:"
    yield (
        f"  speed         {_ppm(Ppm(PPM))} if nobody is faster; each place costs {SPEED_STEP:,}. "
        f"{_speed(found)}"
    )
    yield f"  completeness  {_ppm(found.completeness)}"
    yield f"  volume        {_ppm(found.volume)}"
    if found.preliminary is None:
        why = "does not take part" if found.valid else "is invalid"
        yield f"  preliminary   {0:>9}, as it {why}"
        return
    yield (
        f"  preliminary   {_ppm(found.preliminary)} if nobody is faster; each place costs "
        f"{found.place_costs:,}"
    )


def _speed(found: Checkup) -> str:
    outcome, moment = found.outcome, format_time(found.moment.replace(microsecond=0))
    until = format_time(found.grace_end)
    if outcome is not None and outcome.result == "failed":
        return f"It was not submitted: {outcome.detail}"
    if outcome is None and found.moment >= found.deadline:
        return "It was not submitted, and the deadline has passed."
    when = f"submitted {moment}" if outcome is not None else f"if it is submitted now ({moment})"
    if found.in_grace:
        return f"All until {until} share the first place; {when}."
    return f"The first place was shared until {until}; {when}."


def _lost_fields(found: Checkup) -> Iterator[str]:
    lost = [fill for fill in found.fields if fill.lost]
    if not lost:
        return
    yield f"Completeness lost ({QUALITY_WEIGHT} % of it are lost of the preliminary score):"
    yield f"  {'field':20} {'filled':>7} {'lost':>8}  a row without it"
    for fill in lost:
        share = f"{fill.filled * 100 // fill.rows} %"
        yield f"  {fill.name:20} {share:>7} {fill.lost:>8,}  {fill.example}"


def _lost_volume(found: Checkup) -> Iterator[str]:
    lost = [volume for volume in found.zips if volume.lost]
    if not lost:
        return
    yield f"Volume lost ({VOLUME_WEIGHT} % of it are lost of the preliminary score):"
    yield f"  {'ZIP':5} {'rows':>6} {'expected':>8} {'enough':>6} {'lost':>8}  why"
    for zip_ in lost[:MOST_ZIPS]:
        yield (
            f"  {zip_.zipcode:5} {zip_.rows:>6} {zip_.expected:>8} {zip_.cap:>6} "
            f"{zip_.lost:>8,}  {zip_.why}"
        )
    if len(lost) > MOST_ZIPS:
        yield f"  and {len(lost) - MOST_ZIPS} more (--json has all)"


def status_lines(status: MinerStatus, now: datetime) -> Iterator[str]:
    """What the miner is doing; ``now`` is what its machine's clock shows."""
    now = status.true_time(now)
    yield f"{status.phase.value}, hotkey {status.hotkey}, process {status.pid} on {status.host}"
    if status.trouble is not None:
        yield f"WAITING: {status.trouble}"
    if status.clock_ahead_seconds:
        direction = "ahead of" if status.clock_ahead_seconds > 0 else "behind"
        seconds = f"{abs(status.clock_ahead_seconds):.0f} s"
        yield (
            f"this machine's clock is {seconds} {direction} the API's: set it right (the miner "
            "keeps to the API's time)"
        )
    if status.epoch_id is not None and status.deadline is not None:
        yield f"epoch {status.epoch_id}: {left_of(status.deadline, now)} left until the deadline"
        yield progress_line(status, now)
    for zip_ in status.under_way:
        yield f"  {zip_.zipcode}  {zip_.found} of {zip_.expected}"
    yield from route_lines(status.routes)
    if status.phase is Phase.UPLOADING:
        yield f"{status.files_uploaded} files uploaded"
    if status.last_epoch_id is not None:
        yield f"last epoch {status.last_epoch_id}: {status.last_result}. {status.detail}"
    if status.last_summary is not None:
        yield f"  {status.last_summary}"


def progress_line(status: MinerStatus, now: datetime) -> str:
    """How far scraping is, how fast, and whether it will be in time."""
    found = status.rows + sum(zip_.found for zip_ in status.under_way)
    parts = [
        f"{status.zips_done} of {status.zips_total} ZIPs done",
        f"{status.zips_failed} incomplete" if status.zips_failed else "",
        f"{found} of {status.rows_expected} rows expected",
        f"{status.rows_per_minute} rows a minute",
        f"{status.answered} requests answered, {status.refused} refused or lost",
    ]
    if status.phase is Phase.SCRAPING and status.scrape_until is not None:
        parts.append(f"{left_of(status.scrape_until, now)} left to scrape")
        if status.again_at is not None:
            again = left_of(status.again_at, now)
            parts.append(f"the incomplete ones are tried again in {again}")
        if status.finish_at is not None:
            late = parse_time(status.finish_at) > parse_time(status.scrape_until)
            needed = left_of(status.finish_at, now)
            parts.append(f"{needed} needed{', which is TOO SLOW' if late else ''}")
    return ", ".join(part for part in parts if part)


def outcome_line(epoch_id: str, outcome: Outcome | None) -> str:
    """How an epoch ended."""
    if outcome is None:
        return f"{epoch_id}  not finished"
    return f"{epoch_id}  {outcome.result} {outcome.at}: {outcome.detail}"


def left_of(moment: str, now: datetime) -> str:
    """``1:02:03`` until a moment; ``0:00:00`` for a past one."""
    return time_left(parse_time(moment), now)


def _ppm(value: Ppm | None) -> str:
    return "not reached" if value is None else f"{value:>9,}"


def _percent(value: Ppm | None) -> str:
    return "not reached" if value is None else f"{value / 10_000:.1f} %"
