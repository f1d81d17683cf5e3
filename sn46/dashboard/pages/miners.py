"""The miners: who leads, and one miner's epochs with every reason."""

from collections.abc import Mapping, Sequence

from sn46.dashboard.markup import Child, Html, h
from sn46.dashboard.pages.charts import Line, line_chart
from sn46.dashboard.pages.parts import (
    NOTHING,
    Moment,
    Row,
    cards,
    code,
    hotkey,
    note,
    number,
    page,
    plural,
    score,
    section,
    share,
    table,
    time,
)
from sn46.dashboard.snapshot import Leader, MinerRow, PublishedEpoch, Snapshot
from sn46.mechanism.names import PPM, Hotkey
from sn46.mechanism.scoring import QUALITY_WEIGHT, SPEED_WEIGHT, VOLUME_WEIGHT
from sn46.mechanism.wording import part_words, reason_words, result_words, short, verdict_words

MOST_SHOWN = 300
"""Miners in one table; a search finds the others."""


def epochs_of(snapshot: Snapshot) -> list[PublishedEpoch]:
    """The epochs whose report was read, newest first."""
    return [snapshot.published[e] for e in sorted(snapshot.published, reverse=True)]


def known_miners(snapshot: Snapshot) -> dict[Hotkey, Leader]:
    """Every miner that is on the leaderboard or in a report, with its first three places."""
    found = {leader.hotkey: leader for leader in snapshot.leaders}
    for published in snapshot.published.values():
        for key in published.miners:
            found.setdefault(key, Leader(key, 0, 0, 0))
    return found


def words_of(miner: MinerRow) -> str:
    """Whether a miner's part of a report counts, and why not."""
    codes = [reason.code for reason in miner.reasons]
    return verdict_words(codes, valid=miner.valid, disqualified=miner.disqualified)


# The leaderboard ---------------------------------------------------------------------------------


def miners_page(at: Moment, wanted: str) -> bytes:
    """``wanted`` is how the hotkeys begin that are asked for."""
    snapshot = at.snapshot
    published = epochs_of(snapshot)
    miners = known_miners(snapshot)
    earned = {key: _earned(key, published) for key in miners if key.startswith(wanted)}
    order = sorted(
        earned,
        key=lambda k: (-earned[k], -miners[k].first, -miners[k].second, -miners[k].third, k),
    )
    head = ["Miner", "1st", "2nd", "3rd"]
    if published:
        head += ["Epochs", "Earned", "Final", "Credibility", "Last epoch"]
    rows = [Row(_leader(at, miners[key], published, earned[key])) for key in order[:MOST_SHOWN]]
    left = len(order) - MOST_SHOWN
    return page(
        at,
        "Miners",
        "miners",
        h("h1", "Miners"),
        _search(at, wanted),
        table(
            head,
            rows,
            label="Leaderboard",
            last=1 if published else 0,
            empty=f"No miner's hotkey begins with {wanted!r}." if wanted else "Nobody won yet.",
        ),
        note(f"And {number(left)} more; search for one by its hotkey.") if left > 0 else None,
        _legend(at, published),
    )


def _search(at: Moment, wanted: str) -> Html:
    return h(
        "form",
        h("label", "Hotkey ", h("input", name="hotkey", value=wanted, maxlength="64",
          autocomplete="off", spellcheck="false", placeholder="5…")),
        h("button", "Find"),
        action=at.to("miners"), method="get", class_="search",
    )  # fmt: skip


def _earned(key: Hotkey, published: Sequence[PublishedEpoch]) -> int:
    """The mean share of the rewards over the epochs that were read."""
    return sum(epoch.weights.get(key, 0) for epoch in published) // max(1, len(published))


def _leader(
    at: Moment, leader: Leader, published: Sequence[PublishedEpoch], earned: int
) -> list[Child]:
    cells: list[Child] = [hotkey(leader.hotkey, at), leader.first, leader.second, leader.third]
    if not published:
        return cells
    seen = [epoch.miners[leader.hotkey] for epoch in published if leader.hotkey in epoch.miners]
    newest = published[0].miners.get(leader.hotkey)
    last = seen[0] if seen else None
    return [
        *cells,
        len(seen),
        share(earned),
        score(newest.final) if newest else NOTHING,
        share(last.credibility) if last else NOTHING,
        words_of(newest) if newest else "submitted nothing",
    ]


def _legend(at: Moment, published: Sequence[PublishedEpoch]) -> Html:
    places = (
        f"Places are those of the agreed first three of the last {at.snapshot.leader_epochs} "
        "epochs with reports. "
    )
    if not published:
        return note(places, _no_reports(at))
    return note(
        places,
        f"Earned is the mean share of the rewards over the {plural(len(published), 'epoch')} whose "
        f"report was read; Final and the last column are of {published[0].epoch_id}.",
    )


def _no_reports(at: Moment) -> Child:
    if at.snapshot.reads_reports:
        return "No published report was read yet."
    return (
        "Scores and reasons stand in the validators' reports, which this dashboard does not read "
        "(VALIDATED_BUCKET is not set)."
    )


# One miner ---------------------------------------------------------------------------------------


def miner_page(at: Moment, key: Hotkey) -> bytes | None:
    """One miner's page; None where nothing is known of it."""
    snapshot = at.snapshot
    leader = known_miners(snapshot).get(key)
    if leader is None:
        return None
    published = epochs_of(snapshot)
    seen = [epoch for epoch in published if key in epoch.miners]
    title = h("h1", "Miner ", h("span", key, class_="id"))
    places = cards(
        [
            (number(leader.first), "times first"),
            (number(leader.second), "times second"),
            (number(leader.third), "times third"),
            *(_cards(key, published, seen) if seen else ()),
        ]
    )
    if not seen:
        return page(at, f"Miner {short(key)}", "miners", title, places, _without_reports(at, key))
    return page(
        at,
        f"Miner {short(key)}",
        "miners",
        title,
        places,
        _why(key, seen[0]),
        _chart(key, published),
        _history(at, key, published),
    )


def _cards(
    key: Hotkey, published: Sequence[PublishedEpoch], seen: Sequence[PublishedEpoch]
) -> list[tuple[Child, str]]:
    newest = seen[0].miners[key]
    past = plural(newest.credibility_epochs or 0, "epoch")
    return [
        (share(_earned(key, published)), f"of the rewards, over {plural(len(published), 'epoch')}"),
        (
            share(newest.credibility),
            f"credibility, from {past}",
        ),
        (f"{len(seen)} of {len(published)}", "epochs with a submission"),
    ]


def _without_reports(at: Moment, key: Hotkey) -> Html:
    rows = [
        Row([h("a", row.id, href=at.to("agreement", row.id)), row.agreed.top.index(key) + 1])
        for row in at.snapshot.reported()
        if key in row.agreed.top
    ]
    return section(
        "Epochs among the first three",
        table(["Epoch", "Place"], rows, label="Places", empty="None of those that are kept."),
        note(
            _no_reports(at), " An epoch's score is explained by ",
            code(f"sn46 explain {key} --from DIR --epoch ID"), " from an export.",
        ),
    )  # fmt: skip


def _why(key: Hotkey, epoch: PublishedEpoch) -> Html:
    """The newest result in sentences, as ``sn46 explain`` has them."""
    miner = epoch.miners[key]
    lines: list[Child] = [
        result_words(
            valid=miner.valid,
            disqualified=miner.disqualified,
            participant=miner.rank is not None or miner.participant,
            rank=miner.rank,
            places=epoch.places,
            final=miner.final or 0,
            weight=miner.weight or 0,
        )
    ]
    if miner.submitted_at is not None:
        rows = "" if miner.rows is None else f": {number(miner.rows)} rows"
        kept = "" if miner.rows_kept is None else f", {number(miner.rows_kept)} of them count"
        lines.append(["Submitted ", time(miner.submitted_at), f" UTC{rows}{kept}."])
    if miner.speed is not None:
        quality = miner.completeness if miner.quality is None else miner.quality
        lines += [
            part_words("Speed", miner.speed, SPEED_WEIGHT) + ".",
            part_words("Quality", quality or 0, QUALITY_WEIGHT) + f": {_quality(miner)}.",
            part_words("Volume", miner.volume or 0, VOLUME_WEIGHT) + ".",
        ]
    if miner.credibility is not None and miner.credibility < PPM:
        lines.append(
            f"Its record leaves {share(miner.credibility)} of the score: in earlier epochs it "
            "failed."
        )
    return section(
        f"Why: {epoch.epoch_id}",
        h("ul", [h("li", line) for line in lines]),
        _reasons(miner),
        note(
            "With examples of its rows, from an export: ",
            code(f"sn46 explain {key} --from DIR --epoch {epoch.epoch_id}"), ".",
        ),
    )  # fmt: skip


def _quality(miner: MinerRow) -> str:
    filled = f"{share(miner.completeness)} of the optional fields are filled"
    checks = miner.checks
    if checks is None:
        return f"{filled}; its accuracy was not checked in this epoch"
    return (
        f"{filled}, and of its checked rows {checks.confirmed} were confirmed, "
        f"{checks.contradicted} contradicted, {checks.fake} do not exist, {checks.inconclusive} "
        f"could not be told: accuracy {share(miner.accuracy)}"
    )


def _reasons(miner: MinerRow) -> Child:
    """Each in a few words, with its code, and the report's own sentence."""
    if not miner.reasons:
        return None
    return h(
        "ul",
        [
            h(
                "li",
                h("b", reason_words(reason.code)),
                " ",
                code(reason.code),
                f" ({number(reason.count)}): ",
                reason.detail or NOTHING,
            )
            for reason in miner.reasons
        ],
        class_="reasons",
    )


_HEAD = [
    "Epoch", "Rank", "Speed", "Complete", "Volume", "Accuracy", "Final", "Credibility", "Weight",
    "Valid, or why not",
]  # fmt: skip


def _history(at: Moment, key: Hotkey, published: Sequence[PublishedEpoch]) -> Html:
    rows: list[Row] = []
    for epoch in published:
        miner = epoch.miners.get(key)
        link = h("a", epoch.epoch_id, href=at.to("agreement", epoch.epoch_id))
        if miner is None:
            rows.append(Row([link, *[NOTHING] * 8, "submitted nothing"], mark="faint"))
            continue
        cells: list[Child] = [
            link,
            number(miner.rank),
            score(miner.speed),
            score(miner.completeness),
            score(miner.volume),
            score(miner.accuracy),
            score(miner.final),
            share(miner.credibility),
            share(miner.weight),
            words_of(miner),
        ]
        bad = not miner.valid or miner.disqualified
        rows.append(Row(cells, mark="bad" if bad else None, below=_reasons(miner)))
    unread = at.snapshot.unreadable
    return section(
        "Epochs",
        table(_HEAD, rows, label="Epochs of this miner", last=1),
        note("Scores are of 100. Each row is of one report among those that agree."),
        note("No report was read of: ", ", ".join(sorted(unread, reverse=True)), ".")
        if unread
        else None,
    )


def _chart(key: Hotkey, published: Sequence[PublishedEpoch]) -> Child:
    if len(published) < 3:
        return None
    oldest_first: Sequence[Mapping[Hotkey, MinerRow]] = [p.miners for p in reversed(published)]

    def values(name: str) -> list[float | None]:
        found: list[float | None] = []
        for miners in oldest_first:
            value: int | None = getattr(miners[key], name) if key in miners else None
            found.append(None if value is None else value / PPM)
        return found

    return line_chart(
        "Final score and credibility, oldest epoch first",
        [Line("final", values("final")), Line("credibility", values("credibility"))],
        first=published[-1].epoch_id,
        last=published[0].epoch_id,
    )
