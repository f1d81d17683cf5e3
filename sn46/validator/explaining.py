"""Why a miner scored what it did, in plain words and with rows as examples: what ``sn46 explain``
prints. All of it follows from an epoch judged again, so anyone who has an export sees the same."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from sn46.mechanism.credibility import WINDOW
from sn46.mechanism.evidence import Merged, MergedRow
from sn46.mechanism.judge import MinerOutcome
from sn46.mechanism.lost import field_fills, zip_volumes
from sn46.mechanism.names import Hotkey
from sn46.mechanism.reasons import Code
from sn46.mechanism.sampling import Standing
from sn46.mechanism.scoring import QUALITY_WEIGHT, SPEED_WEIGHT, VOLUME_WEIGHT
from sn46.mechanism.times import format_time
from sn46.mechanism.wording import part_words, percent, points, result_words
from sn46.validator.replay import Judged

MOST_EXAMPLES: Final = 5
MOST_LINES: Final = 8
_SHOWN_FIELDS: Final = ("address", "zipcode", "sale_price", "sale_date")
_VERDICTS: Final = {
    Merged.FAKE: "does not exist as submitted",
    Merged.CONTRADICTED: "contradicted",
    Merged.INCONCLUSIVE: "could not be told",
    Merged.CONFIRMED: "confirmed",
}


@dataclass(frozen=True)
class Explained:
    """One miner of a judged epoch. ``kept`` are its rows that count, with all columns; empty where
    its submission is not valid."""

    judged: Judged
    hotkey: Hotkey
    miner: MinerOutcome
    kept: pl.DataFrame

    @property
    def standing(self) -> Standing | None:
        return self.miner.standing

    @property
    def checks(self) -> Sequence[MergedRow]:
        """Its checked rows, in the order of their ids."""
        rows = [m for m in self.judged.outcome.merged if m.row.miner == self.hotkey]
        return sorted(rows, key=lambda m: m.row.listing_id)


async def explained(judged: Judged, hotkey: Hotkey) -> Explained:
    """Look a miner up and read its rows.

    Raises:
        KeyError: where it submitted nothing in this epoch.
        StoreError, ExaminerError: where its rows cannot be read now.
    """
    miner = judged.outcome.miners[hotkey]
    kept = miner.quick.kept
    if miner.quick.valid and kept.height:
        kept = await judged.judging.kept(hotkey)
    return Explained(judged, hotkey, miner, kept)


def explanation(found: Explained) -> Iterator[str]:
    """A line each: the result, then every part of the score and what it cost, then the reward."""
    assignment = found.judged.assignment
    yield f"Epoch {assignment.epoch_id}, hotkey {found.hotkey}"
    yield _result(found)
    if found.miner.reasons:
        yield ""
        yield "Reasons:"
        for reason in found.miner.reasons:
            yield f"  {reason.code.value} ({reason.count}): {reason.detail}"
    standing = found.standing
    if standing is None:
        yield ""
        yield from _unscored(found)
        return
    yield ""
    yield from _speed(found, standing)
    yield from _quality(found, standing)
    yield from _volume(found, standing)
    yield ""
    yield from _sum(found, standing)
    yield _reward(found)


def _result(found: Explained) -> str:
    miner = found.miner
    told = result_words(
        valid=miner.quick.valid,
        disqualified=miner.disqualified,
        participant=found.standing is not None,
        rank=miner.rank,
        places=sum(1 for m in found.judged.outcome.miners.values() if m.rank is not None),
        final=miner.final,
        weight=miner.weight,
    )
    placed = miner.quick.valid and not miner.disqualified and found.standing is not None
    return f"{told}{_tied(found)}" if placed else told


def _tied(found: Explained) -> str:
    """How many had the same score, with as much to compete for."""
    miners = found.judged.outcome.miners
    equal = [
        hotkey
        for hotkey, other in miners.items()
        if other.rank is not None
        and other.final == found.miner.final
        and _in_line(other) == _in_line(found.miner)
        and _is_told(other) == _is_told(found.miner)
    ]
    if len(equal) < 2:
        return ""
    others = "Another one" if len(equal) == 2 else f"{len(equal) - 1} others"
    return f" {others} had the same score; a lot drawn after the deadline put them in order."


def _in_line(miner: MinerOutcome) -> bool:
    return miner.candidate or miner.reserve


def _is_told(miner: MinerOutcome) -> bool:
    return all(reason.code is not Code.TOO_FEW_CHECKS for reason in miner.reasons)


def _unscored(found: Explained) -> Iterator[str]:
    quick = found.miner.quick
    if quick.submission_time is not None:
        yield f"Submitted {format_time(quick.submission_time)}."
    if quick.rows is not None:
        yield f"{quick.rows} rows in {quick.zipcodes or 0} ZIPs{_kept_of(found)}."
    if quick.volume is not None:
        least = found.judged.assignment.rules.min_volume_percent
        yield f"Volume {percent(quick.volume)}; {least} % are needed to take part."
        if quick.valid:
            yield from _zip_lines(found)


def _kept_of(found: Explained) -> str:
    quick = found.miner.quick
    if quick.rows_kept is None:
        return ""
    return (
        f", {quick.rows_kept} of them count ({quick.duplicates} duplicates, "
        f"{quick.out_of_range} out of range)"
    )


def _speed(found: Explained, standing: Standing) -> Iterator[str]:
    assignment, time = found.judged.assignment, standing.time
    epoch, grace_end = assignment.epoch, assignment.grace_end
    others = found.judged.stage.lined_up.standings.values()
    earlier = sum(1 for s in others if max(s.time, grace_end) < max(time, grace_end))
    yield part_words("Speed", standing.speed, SPEED_WEIGHT)
    minutes, seconds = divmod(int((time - epoch.start).total_seconds()), 60)
    when = f"  submitted {format_time(time)}, {minutes} min {seconds} s after the start"
    if time <= grace_end:
        yield f"{when}: in the grace period, whose submissions all share the first place"
        return
    yield f"{when}; {_people(earlier)} earlier, and each place costs 5 % of speed"
    yield f"  the first place was shared until {format_time(grace_end)}"


def _people(count: int) -> str:
    if not count:
        return "nobody was"
    return "one was" if count == 1 else f"{count} were"


def _quality(found: Explained, standing: Standing) -> Iterator[str]:
    miner = found.miner
    quality = standing.completeness if miner.quality is None else miner.quality
    yield part_words("Quality", quality, QUALITY_WEIGHT)
    yield f"  completeness {percent(standing.completeness)} of the optional fields are filled"
    lost = [fill for fill in field_fills(found.judged.assignment, found.kept) if fill.lost]
    for fill in lost[:MOST_LINES]:
        yield (
            f"    {fill.name}: filled in {fill.filled} of {fill.rows} rows, "
            f"-{percent(fill.lost)} of completeness; one without it is {fill.example}"
        )
    if len(lost) > MOST_LINES:
        yield f"    and {len(lost) - MOST_LINES} more fields"
    if miner.checks is None:
        yield "  accuracy was not checked in this epoch: neither among the best nor drawn"
        return
    counts = miner.checks
    yield (
        f"  accuracy {percent(counts.accuracy)}: {len(found.checks)} rows checked, "
        f"{counts.confirmed} confirmed, {counts.contradicted} contradicted, {counts.fake} do not "
        f"exist, {counts.inconclusive} could not be told and do not count"
    )
    yield from _check_lines(found)


def _check_lines(found: Explained) -> Iterator[str]:
    for verdict in (Merged.FAKE, Merged.CONTRADICTED, Merged.INCONCLUSIVE):
        rows = [m for m in found.checks if m.verdict == verdict]
        most = MOST_EXAMPLES if verdict != Merged.INCONCLUSIVE else 2
        for merged in rows[:most]:
            yield f"    {_VERDICTS[verdict]}: {_row_text(found, merged)}"
        if len(rows) > most:
            yield f"    and {len(rows) - most} more that {_more(verdict)}"


def _more(verdict: Merged) -> str:
    return {
        Merged.FAKE: "do not exist as submitted",
        Merged.CONTRADICTED: "are contradicted",
    }.get(verdict, "could not be told")


def _row_text(found: Explained, merged: MergedRow) -> str:
    text = merged.row.listing_id
    if merged.row.index < found.kept.height:
        row: dict[str, Any] = found.kept.row(merged.row.index, named=True)
        told = ", ".join(f"{name} {_value(row.get(name))}" for name in _SHOWN_FIELDS)
        text = f"{text} ({told})"
    voices = "1 validator" if merged.voices == 1 else f"{merged.voices} validators"
    detail = merged.detail or "no sentence was given."
    return f"{text}. {voices}: {detail}"


def _value(value: Any) -> str:
    return "-" if value is None else str(value)


def _volume(found: Explained, standing: Standing) -> Iterator[str]:
    yield part_words("Volume", standing.volume, VOLUME_WEIGHT)
    yield f"  {found.miner.quick.rows} rows submitted{_kept_of(found)}"
    yield from _zip_lines(found)


def _zip_lines(found: Explained) -> Iterator[str]:
    lost = [zip_ for zip_ in zip_volumes(found.judged.assignment, found.kept) if zip_.lost]
    for zip_ in lost[:MOST_LINES]:
        yield (
            f"    {zip_.zipcode}: {zip_.rows} rows count, {zip_.cap} are enough, "
            f"-{percent(zip_.lost)} of volume"
        )
    if len(lost) > MOST_LINES:
        yield f"    and {len(lost) - MOST_LINES} more ZIPs"


def _sum(found: Explained, standing: Standing) -> Iterator[str]:
    miner = found.miner
    quality = standing.completeness if miner.quality is None else miner.quality
    parts = (
        (standing.speed, SPEED_WEIGHT),
        (quality, QUALITY_WEIGHT),
        (standing.volume, VOLUME_WEIGHT),
    )
    told = " + ".join(points(s * w // 100) for s, w in parts)
    if miner.disqualified:
        yield f"Score: {told} would have been, but it is disqualified: 0."
        return
    kind = "final" if miner.candidate else "preliminary (it was no candidate)"
    yield f"Score, {kind}: {told} = {points(miner.earned)}; in the report {miner.final:,}."
    yield _record(found)


def _record(found: Explained) -> str:
    """What the epochs before make of the score."""
    miner, past = found.miner, found.miner.credibility
    if not past.epochs:
        return "Record: no earlier epoch counts for it yet, so its credibility is 100 %."
    count = "1 of the epochs" if past.epochs == 1 else f"{past.epochs} of the {WINDOW} epochs"
    told = f"Record: {count} before count for it, and it failed in {len(past.failed)}"
    exponent = found.judged.assignment.rules.credibility_exponent
    if miner.final == miner.earned:
        return f"{told}; its credibility of {percent(past.value)} takes nothing."
    power = "" if exponent == 1 else f" to the power of {exponent}"
    return (
        f"{told} ({', '.join(past.failed[-MOST_EXAMPLES:])}); its credibility of "
        f"{percent(past.value)}{power} leaves {points(miner.final)} points."
    )


def _reward(found: Explained) -> str:
    outcome, miner = found.judged.outcome, found.miner
    codes = {reason.code for reason in miner.reasons}
    if miner.disqualified:
        return "Reward: nothing, for it is disqualified."
    if found.hotkey in outcome.winners:
        place = outcome.winners.index(found.hotkey)
        return f"Reward: place {place + 1} of the winners, {percent(miner.weight)}."
    if Code.COLDKEY_LIMIT in codes:
        return "Reward: nothing, for another hotkey of its coldkey is a winner."
    if Code.NOTHING_CONFIRMED in codes:
        return (
            "Reward: nothing, for none of its checked rows was confirmed; the 5 % is for those of "
            "whom something is."
        )
    if miner.weight:
        return (
            f"Reward: no winner; its share of the 5 % for all other honest coldkeys is "
            f"{percent(miner.weight)}."
        )
    return "Reward: nothing."


def matching(hotkeys: Iterable[str], text: str) -> list[Hotkey]:
    """The hotkeys that a person may mean: the very one, else those that begin so."""
    known = sorted(hotkeys)
    exactly = [Hotkey(h) for h in known if h == text]
    return exactly or [Hotkey(h) for h in known if h.startswith(text)]
