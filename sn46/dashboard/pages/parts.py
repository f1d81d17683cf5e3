"""What several pages have: the frame around them, and figures, times and tables."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from sn46.dashboard.alerts import Alert, Level, Thresholds, alerts_of, is_stale
from sn46.dashboard.markup import EMPTY, Child, Html, h, join
from sn46.dashboard.snapshot import Part, Snapshot
from sn46.mechanism.names import PPM
from sn46.mechanism.times import format_time
from sn46.mechanism.wording import short

NOTHING: Final = "–"

_PAGES: Final = (
    ("", "Now"),
    ("draws", "Draws"),
    ("miners", "Miners"),
    ("agreement", "Agreement"),
    ("alerts", "Alerts"),
)


@dataclass(frozen=True)
class Moment:
    """A snapshot at a moment of this machine's clock, with what follows from both. ``up`` leads
    from the page to the dashboard's root, so that it may stand below any path."""

    snapshot: Snapshot
    now: datetime
    limits: Thresholds
    up: str = "./"
    every_seconds: int = 20
    alerts: tuple[Alert, ...] = field(init=False)
    stale: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "alerts", alerts_of(self.snapshot, self.now, self.limits))
        object.__setattr__(self, "stale", is_stale(self.snapshot, self.now, self.limits))

    @property
    def api_now(self) -> datetime:
        return self.snapshot.api_now(self.now)

    def ours(self, moment: datetime) -> datetime:
        """A moment of the API's clock as this machine's clock shows it."""
        return moment - self.snapshot.clock_ahead

    def to(self, *path: str) -> str:
        """The address of another page."""
        return self.up + "/".join(path)


# Values ------------------------------------------------------------------------------------------


def score(ppm: int | None) -> str:
    """A score in ppm as a number of 100."""
    return NOTHING if ppm is None else f"{ppm * 100 / PPM:.2f}"


def share(ppm: int | None) -> str:
    """A share in ppm in percent, without digits that say nothing."""
    if ppm is None:
        return NOTHING
    return f"{ppm * 100 / PPM:.2f}".rstrip("0").rstrip(".") + " %"


def number(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,}"


def plural(count: int, one: str, more: str | None = None) -> str:
    """``1 miner``, ``3 miners``."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def clock(left: timedelta) -> str:
    """``1:02:03``; ``0:00:00`` for what is over."""
    return str(timedelta(seconds=max(0, int(left.total_seconds()))))


def span(length: timedelta) -> str:
    """How long something is, in a word or two."""
    seconds = max(0, int(length.total_seconds()))
    for unit, size in (("day", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size or (seconds >= size and unit != "day"):
            many = seconds // size
            return f"{many} {unit}{'s' if unit == 'day' and many > 1 else ''}"
    return f"{seconds} s"


def time(moment: datetime, *, day: bool = True) -> Html:
    """A moment, in UTC."""
    at = moment.astimezone(UTC)
    return h(
        "time",
        f"{at:%Y-%m-%d %H:%M}" if day else f"{at:%H:%M:%S}",
        datetime=format_time(at.replace(microsecond=0)),
        title=f"{at:%Y-%m-%d %H:%M:%S} UTC",
    )


def ago(moment: datetime, at: Moment) -> Html:
    """How long ago a moment of this machine's clock is; the page's script keeps it right."""
    return h(
        "time",
        f"{span(at.now - moment)} ago",
        datetime=format_time(moment.replace(microsecond=0)),
        title=f"{moment:%Y-%m-%d %H:%M:%S} UTC",
        data_age=True,
    )


def hotkey(key: str, at: Moment, *, whole: bool = False) -> Html:
    """A miner's hotkey, leading to its page."""
    return h("a", key if whole else short(key), href=at.to("miners", key), title=key, class_="key")


def validator(key: str) -> Html:
    """A validator's hotkey."""
    return h("span", short(key), title=key, class_="key")


# Blocks ------------------------------------------------------------------------------------------


def cards(entries: Iterable[tuple[Child, str]]) -> Html:
    """Figures with what they are."""
    return h("div", [h("div", h("b", f), h("span", what)) for f, what in entries], class_="cards")


@dataclass(frozen=True)
class Row:
    """A line of a table; ``below`` is a line of its own under it, as wide as the table."""

    cells: Sequence[Child]
    mark: str | None = None
    below: Child = None


def table(
    head: Sequence[Child],
    rows: Sequence[Row],
    *,
    label: str,
    left: int = 1,
    last: int = 0,
    empty: str = "Nothing yet.",
) -> Html:
    """A table that scrolls by itself where it is wider than the page. The first ``left`` columns
    and the ``last`` ones hold texts, the others figures."""
    if not rows:
        return h("p", empty, class_="dim")

    def cell(tag: str, place: int, child: Child) -> Html:
        return h(
            tag,
            child,
            class_=None if place < left or place >= len(head) - last else "num",
            scope="col" if tag == "th" else None,
        )

    lines: list[Html] = []
    for row in rows:
        cells = [cell("td", place, child) for place, child in enumerate(row.cells)]
        lines.append(h("tr", cells, class_=row.mark))
        if row.below is not None:
            below = h("td", row.below, colspan=len(head))
            lines.append(h("tr", below, class_="below"))
    titles = h("tr", [cell("th", place, name) for place, name in enumerate(head)])
    inner = h("table", h("thead", titles), h("tbody", lines))
    # Who has no mouse scrolls by the keyboard, for which it must be reached.
    return h("div", inner, class_="wide", tabindex="0", role="region", aria_label=label)


def facts(entries: Iterable[tuple[str, Child]]) -> Html:
    """Names with their values, a line each."""
    return h("dl", [(h("dt", name), h("dd", value)) for name, value in entries], class_="facts")


def section(title: str, *children: Child) -> Html:
    return h("section", h("h2", title), children)


def note(*children: Child) -> Html:
    return h("p", children, class_="dim")


def code(text: str) -> Html:
    return h("code", text)


def spoken(text: str) -> Html:
    """A sentence with commands between backquotes, as the alerts have them."""
    pieces = text.split("`")
    return join([code(p) if n % 2 and n < len(pieces) - 1 else p for n, p in enumerate(pieces)])


def alert_cards(at: Moment, *, brief: bool = False) -> Html:
    """All active alerts; ``brief`` shows of notices what happened, and the rest on demand."""
    return h("div", [_alert(alert, at, brief=brief) for alert in at.alerts], class_="alerts")


def _alert(alert: Alert, at: Moment, *, brief: bool) -> Html:
    urgent = alert.level is Level.URGENT
    level = h("span", "Alert" if urgent else "Notice", class_="level")
    since = None
    if alert.since is not None:
        since = h("p", "Since ", time(alert.since), " UTC, ", ago(alert.since, at), class_="dim")
    title = h("h3", level, " ", spoken(alert.happened))
    more = [
        h("p", spoken(alert.means)),
        h("p", h("b", "What to do: "), spoken(alert.todo)),
        since,
    ]
    shown = [title, more] if urgent or not brief else h("details", h("summary", title), more)
    return h("article", shown, class_=f"alert {alert.level.value}")


# The frame ---------------------------------------------------------------------------------------


def page(at: Moment, title: str, active: str, *children: Child) -> bytes:
    """A whole page."""
    urgent = sum(1 for alert in at.alerts if alert.level is Level.URGENT)
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", name="viewport", content="width=device-width,initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("title", f"{f'({urgent}) ' if urgent else ''}{title} · SN46"),
        h("link", rel="stylesheet", href=at.to("static", "style.css")),
        h("link", rel="icon", href=at.to("static", "icon.svg"), type="image/svg+xml"),
        h("script", src=at.to("static", "live.js"), defer=True),
    )
    live = h(
        "div",
        _banner(at),
        h("main", children, id="main", class_="stale" if at.stale else None),
        id="live",
        data_now=format_time(at.now),
        data_every=at.every_seconds,
    )
    body = h(
        "body",
        h("a", "To the content", href="#main", class_="skip"),
        h("header", h("div", h("b", "SN46"), _nav(at, active), _state(at), class_="bar")),
        live,
        h("footer", h("p", _footer(at))),
    )
    return f"<!doctype html>{h('html', head, body, lang='en')}\n".encode()


def _nav(at: Moment, active: str) -> Html:
    return h(
        "nav",
        [
            h(
                "a",
                name,
                _count(at) if path == "alerts" else None,
                href=at.to(path),
                aria_current="page" if path == active else None,
            )
            for path, name in _PAGES
        ],
        aria_label="Pages",
        id="nav",
    )


def _count(at: Moment) -> Html:
    if not at.alerts:
        return EMPTY
    urgent = any(alert.level is Level.URGENT for alert in at.alerts)
    return h("span", len(at.alerts), class_=f"count {'urgent' if urgent else 'notice'}")


def _state(at: Moment) -> Html:
    fetched = at.snapshot.look(Part.STATS).fetched_at
    if fetched is None:
        return h("span", "no figures yet", class_="state old", id="state")
    if at.stale:
        return h("span", "not live: ", ago(fetched, at), class_="state old", id="state")
    return h("span", "live, ", ago(fetched, at), class_="state", id="state")


def _banner(at: Moment) -> Html:
    look = at.snapshot.look(Part.STATS)
    if not at.stale:
        return EMPTY
    if look.fetched_at is None:
        why = f": {look.error}" if look.error else ", it is being asked"
        text: Child = f"The API at {at.snapshot.api_url} has not answered yet{why}."
    else:
        text = [
            "These figures are not live. They are from ", time(look.fetched_at), " UTC, ",
            ago(look.fetched_at, at), ".",
        ]  # fmt: skip
    return h("p", text, class_="banner", role="status")


def _footer(at: Moment) -> Child:
    return [
        "Figures of the API at ", at.snapshot.api_url,
        ". All times are UTC. Read only; nothing is loaded from elsewhere.",
    ]  # fmt: skip
