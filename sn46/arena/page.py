"""What the arena found, in words: the page of the documentation, and tables for a terminal."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from shlex import quote
from statistics import fmean
from typing import Final

from sn46.arena.rounds import EXPECTED, HOMES, PAGE_ROWS, VALIDATORS, ZIPS_AN_EPOCH
from sn46.arena.running import (
    CERTAIN,
    Results,
    Standing,
    Tally,
    changed_rules,
    standing_beside,
)
from sn46.arena.strategies import OTHERS
from sn46.mechanism.names import PPM
from sn46.mechanism.rules import Rules
from sn46.mechanism.sampling import sample_size

HONEST_COLUMNS = ("strategy", "requests", "hotkeys", "earned")
CHEAT_COLUMNS = (
    "strategy", "requests", "hotkeys", "earned", "honest work", "earns", "gain", "verdict",
)  # fmt: skip

_WHY: Final[Mapping[str, str]] = {
    "archive": "Speed is measured from the start of the epoch to the upload, so work that was done "
    "before it does not count as time. Nobody knows the ZIPs beforehand, but who scrapes the whole "
    "country once in 45 days takes no more requests than honest work, and has most of any ZIP at "
    "hand. What it lacks, the sales of the last 45 days, is 4 % of a ZIP.",
    "archive-fresh": "As archive. Portals sort by the newest sale, so what is missing stands on "
    "the first pages of a ZIP: it is whole within the grace, and true.",
    "share-2": "A coldkey is free, and each can win a place with the same rows. Rows of one scrape "
    "and of several are the same rows, so no check tells them apart; a registration each is what "
    "it costs.",
}
_SAME_AS: Final[Mapping[str, str]] = {"share-3": "share-2", "share-5": "share-2"}
_FOR_COMPARISON: Final[Mapping[str, str]] = {
    "archive": "honest-fast",
    "archive-fresh": "honest-fast",
    "share-5": "honest-5",
}
_SUPPOSED: Final[Mapping[str, str]] = {
    "copier": "No miner can read another's folder, and validators read it only once the epoch has "
    "ended; `test_no_key_leads_out_of_the_folder` and "
    "`test_submissions_are_read_frozen_once_the_epoch_has_ended` hold that. Were it otherwise, "
    "rows that are copied are true, and no check of rows can tell who scraped them.",
}


def honest_rows(results: Results) -> list[tuple[str, ...]]:
    """One line of HONEST_COLUMNS for each honest strategy."""
    return [(t.name, _effort(t), _hotkeys(t), _ppm(fmean(t.earned))) for t in results.honest()]


def cheat_rows(standings: Sequence[Standing]) -> list[tuple[str, ...]]:
    """One line of CHEAT_COLUMNS for each."""
    return [_cheat_row(found) for found in standings]


def _cheat_row(found: Standing) -> tuple[str, ...]:
    tally, beside = found.tally, found.beside
    return (
        tally.name,
        _effort(tally),
        _hotkeys(tally),
        _ppm(fmean(tally.earned)),
        beside.name if beside else "none",
        _ppm(fmean(beside.earned)) if beside else "0",
        _gain(found),
        found.verdict,
    )


def _gain(found: Standing) -> str:
    return f"{round(found.gain):+,} ± {round(found.error):,}"


def _effort(tally: Tally) -> str:
    return f"{100 * fmean(tally.requests) / PPM:,.0f} %"


def _hotkeys(tally: Tally) -> str:
    most = f"{max(tally.hotkeys)}"
    return f"{most}, new each epoch" if tally.registrations else most


def _ppm(amount: float) -> str:
    return f"{amount:,.0f}"


def claim(results: Results) -> str:
    """The result in a sentence."""
    more = [standing.tally.name for standing in results.cheats() if standing.earns_more]
    count = len(results.cheats())
    if not more:
        return f"None of {count} cheats earned more than honest work of the same effort."
    return (
        f"{len(more)} of {count} cheats earned more than honest work of the same effort: "
        f"{', '.join(more)}."
    )


def write_page(results: Results) -> str:
    """docs/arena.md."""
    parts = (_head, _tables, _gains, _supposed, _honest_loss, _about)
    return "\n".join(line for part in parts for line in part(results))


def _head(results: Results) -> Iterator[str]:
    rules = "".join(f" --rule {rule}" for rule in changed_rules(results.rules, Rules()))
    yield "# What cheating earns"
    yield ""
    yield (
        f"Written by `sn46 arena --epochs {results.epochs} --seed {quote(results.seed)}{rules} "
        "--json docs/arena.json --page docs/arena.md` from what it played; not by hand."
    )
    yield ""
    yield f"**{claim(results)}**"
    yield ""
    yield (
        "Each strategy plays in a field of its own, against the same independent honest miners and "
        "validators, and with the same luck as the honest work that it is compared with. "
        "Submissions are signed manifests and Parquet, evidence and reports are written and read "
        "back, and every score and weight comes from the code that validators run. Made up are the "
        "homes, time, the store, the network and the portal's answers."
    )
    yield ""


def _tables(results: Results) -> Iterator[str]:
    yield "## Honest work"
    yield ""
    yield (
        "Effort is the requests that an operator makes to the portal in an epoch, all its hotkeys "
        "together: one for a page of "
        f"{PAGE_ROWS} search results, one for a home's own page. 100 % is a complete scrape of the "
        "assignment. Earned is the mean of an epoch in ppm of its emission."
    )
    yield ""
    yield from _table(
        (*HONEST_COLUMNS, "what it does"),
        [
            (*row, tally.strategy.does)
            for row, tally in zip(honest_rows(results), results.honest(), strict=True)
        ],
    )
    yield ""
    yield "## Cheats"
    yield ""
    yield (
        "Beside each stands honest work of the same effort, within a tenth, and the better one "
        "where there are two. Where nothing is fetched, honest work of the same effort is none, "
        f"and earns nothing. A gain counts where it is over {CERTAIN:g} of its standard errors."
    )
    yield ""
    yield from _table(CHEAT_COLUMNS, cheat_rows(results.cheats()))
    yield ""
    yield "What they do, and in how many epochs one of their hotkeys was invalid or disqualified:"
    yield ""
    yield from _doings(results.cheats(), results.epochs)
    yield ""


def _doings(standings: Sequence[Standing], epochs: int) -> Iterator[str]:
    rows = [(s.tally.name, s.tally.strategy.does, _told(s.tally, epochs)) for s in standings]
    yield from _table(("strategy", "what it does", "out, and why"), rows)


def _told(tally: Tally, epochs: int) -> str:
    reasons = ", ".join(f"`{code}` {count}" for code, count in sorted(tally.reasons.items()))
    return f"{reasons} of {epochs}" if reasons else "none"


def _gains(results: Results) -> Iterator[str]:
    more = [standing.tally.name for standing in results.cheats() if standing.earns_more]
    if not more:
        return
    yield "## Where a cheat earns more"
    yield ""
    told: dict[str, list[str]] = {}
    for name in more:
        told.setdefault(_SAME_AS.get(name, name), []).append(name)
    for name, names in told.items():
        why = _WHY.get(name, "Not looked into yet.")
        compared = "".join(_compared(results, one) for one in names)
        yield f"- **{', '.join(names)}.** {why}{compared}"
    yield ""
    yield "Decisions 44, 49 and 62 say what was weighed against each."
    yield ""


def _compared(results: Results, name: str) -> str:
    """What honest work earned that is no rival by its means, and one by its requests."""
    other = results.tallies.get(_FOR_COMPARISON.get(name, ""))
    if other is None:
        return ""
    found = standing_beside(results.tallies[name], other)
    return (
        f" For comparison, {other.name} ({other.strategy.does}) took {_effort(other)} of the "
        f"requests and earned {_ppm(fmean(other.earned))}; {name} took {_effort(found.tally)} and "
        f"earned {_ppm(fmean(found.tally.earned))}: a difference of {_gain(found)}."
    )


def _supposed(results: Results) -> Iterator[str]:
    for supposed, standings in results.supposed().items():
        yield f"## If {supposed}"
        yield ""
        names = ", ".join(standing.tally.name for standing in standings)
        yield (
            f"This is no cheat of the system as it is: {names} takes something that nobody has "
            "unless a part fails first. It is played to show what that part is worth, and is "
            "counted neither in the sentence at the head of this page nor in the exit code."
        )
        yield ""
        yield from _table(CHEAT_COLUMNS, cheat_rows(standings))
        yield ""
        yield from _doings(standings, results.epochs)
        yield ""
        for standing in standings:
            yield f"- **{standing.tally.name}.** {_SUPPOSED[standing.tally.name]}"
        yield ""


def _honest_loss(results: Results) -> Iterator[str]:
    checked = sum((tally.checked for tally in results.honest()), Counter[str]())
    if not checked:
        return
    yield "## What honest miners lose"
    yield ""
    yield (
        "Who has no place has a part of the shared 5 % only where at least one checked row is "
        "confirmed (decision 48). So often did that leave independent honest miners without, in "
        "the fields of the honest strategies above:"
    )
    yield ""
    yield from _table(
        ("miners without a place", "times checked and not disqualified", "nothing confirmed"),
        [
            _lost("drawn by lot", checked["drawn"], checked["drawn_unconfirmed"]),
            _lost("candidates and reserves", checked["line"], checked["line_unconfirmed"]),
        ],
    )
    yield ""
    yield (
        "Of the least that takes part here, a tenth, two rows are checked; of 10,000 homes it "
        "would be 50 rows, and only a source that is away leaves nothing confirmed of so many."
    )
    yield ""


def _lost(who: str, times: int, unconfirmed: int) -> tuple[str, ...]:
    share = f" ({100 * unconfirmed / times:.1f} %)" if times else ""
    return who, f"{times:,}", f"{unconfirmed:,}{share}"


def _about(results: Results) -> Iterator[str]:
    rows = ZIPS_AN_EPOCH * HOMES
    lying = sum(v.lies for v in VALIDATORS)
    yield "## The field"
    yield ""
    yield (
        f"- {ZIPS_AN_EPOCH} ZIPs an epoch with about {HOMES} sold homes each, so that about "
        f"{sample_size(rows, 5)} rows of a miner are checked; a real epoch has 10,000 and checks "
        f"50. Of a ZIP {EXPECTED[0]:.0%} to {EXPECTED[1]:.0%} of what there is are expected."
    )
    yield (
        f"- {len(OTHERS)} independent honest miners: "
        f"{sum(share == 1 for _, share in OTHERS)} scrape everything, in 45 to 180 minutes on a "
        "usual day, the others a half, a fifth or a tenth. The operator takes an hour. In fields "
        "with few others there are four."
    )
    yield (
        f"- {len(VALIDATORS)} validators, {lying} of which contradicts every row and reports that "
        "everybody failed, and one that is away half of the time. The portal leaves 8 % of their "
        "questions unanswered."
    )
    yield (
        "- 0.4 % of the homes are gone from the portal by the time that validators ask, and 0.6 % "
        "show another sale; a miner misses 1 % of what it asks for."
    )
    yield "- Each strategy carries its record from epoch to epoch, as validators publish it."


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
