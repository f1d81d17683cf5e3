"""Charts and pages: SVG and HTML in one file, which needs no network and no library to be seen."""

import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

_WIDTH: Final = 720
_HEIGHT: Final = 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 94, 18, 12, 46
_TICKS: Final = 5

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1d2733;--dim:#5d6b7a;--page:#fbfbf9;--card:#fff;--rule:#dfe3e6;
--main:#27688e;--other:#d9822b;--band:#27688e22;--good:#2b8a5c;--bad:#c92f3d}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--dim:#9aa7b4;--page:#14181c;--card:#1c2127;
--rule:#333b44;--main:#5aa9d6;--other:#e9a04f;--band:#5aa9d633;--good:#58c08c;--bad:#ef6a74}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1180px;padding:24px;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:32px 0 10px}
p{max-width:80ch}p.lead{color:var(--dim);margin-top:0}
figure{margin:0 0 16px;background:var(--card);border:1px solid var(--rule);
border-radius:8px;padding:14px}
figcaption{font-weight:600;margin-bottom:6px}
figure p{color:var(--dim);font-size:13px;margin:6px 0 0}
.grid figure{margin:0}
.grid{display:grid;gap:16px;margin-bottom:16px;align-items:start;
grid-template-columns:repeat(auto-fill,minmax(min(100%,480px),1fr))}
.cards{display:grid;gap:12px;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));margin:16px 0}
.cards div{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:10px 14px}
.cards b{display:block;font-size:22px;font-variant-numeric:tabular-nums}
.cards span{color:var(--dim);font-size:13px}
svg{display:block;width:100%;height:auto}
svg text{fill:var(--dim);font-size:12px}
.axis{stroke:var(--rule)}.main{stroke:var(--main);fill:none;stroke-width:1.6}
.faint{stroke-width:.8}.fill{fill:var(--main)}.band{fill:var(--band)}
.mark{stroke:var(--other);stroke-width:1.6;stroke-dasharray:5 4}.limit{stroke:var(--other);
stroke-width:2}.box{fill:none;stroke:var(--rule)}
.ring{fill:none;stroke:var(--ink);stroke-width:1.6}
svg text.mark-text{fill:var(--other);stroke:none}
.legend{display:flex;flex-wrap:wrap;gap:4px 14px;font-size:13px;color:var(--dim)}
.legend i{display:inline-block;width:10px;height:10px;border-radius:50%;margin-right:5px}
output{display:block;min-height:1.5em;font-size:13px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
.wide{overflow-x:auto}
th,td{text-align:right;padding:4px 10px;border-bottom:1px solid var(--rule)}
th:first-child,td:first-child{text-align:left}
li.good::marker{content:"✓  ";color:var(--good)}li.bad::marker{content:"✗  ";color:var(--bad)}
footer{color:var(--dim);font-size:13px;margin-top:32px}
"""

_SCRIPT: Final = """
const points = JSON.parse(document.getElementById('zips').textContent);
for (const figure of document.querySelectorAll('figure.map')) {
  const svg = figure.querySelector('svg'), ring = figure.querySelector('.ring');
  const said = figure.querySelector('output');
  svg.addEventListener('pointermove', event => {
    const at = new DOMPoint(event.clientX, event.clientY)
      .matrixTransform(svg.getScreenCTM().inverse());
    let best = null, near = 100;
    for (const point of points) {
      const far = (point[0] - at.x) ** 2 + (point[1] - at.y) ** 2;
      if (far < near) { near = far; best = point; }
    }
    ring.setAttribute('visibility', best ? 'visible' : 'hidden');
    if (best) { ring.setAttribute('cx', best[0]); ring.setAttribute('cy', best[1]); }
    said.textContent = best ? best[2] : '';
  });
}
"""


@dataclass(frozen=True)
class Mark:
    """A line across a chart at a value, with its name."""

    at: float
    name: str


@dataclass(frozen=True)
class Bar:
    """One bar: a value, the range it had (None for none), and its quota from and to."""

    name: str
    value: float
    span: tuple[float, float] | None
    quota: tuple[float, float]


def number(value: float) -> str:
    """A value as text: thousands parted, small ones with a digit behind the point."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.1f}"


class _Plane:
    """Where values are in a chart: ``x`` and ``y`` hold the least and the most of each."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.x = x if x[1] > x[0] else (x[0], x[0] + 1)
        self.y = y if y[1] > y[0] else (y[0], y[0] + 1)

    def across(self, value: float) -> float:
        part = (value - self.x[0]) / (self.x[1] - self.x[0])
        return _LEFT + part * (_WIDTH - _LEFT - _RIGHT)

    def up(self, value: float) -> float:
        part = (value - self.y[0]) / (self.y[1] - self.y[0])
        return _HEIGHT - _BOTTOM - part * (_HEIGHT - _TOP - _BOTTOM)

    def axes(self, x_name: str, y_name: str) -> str:
        parts: list[str] = []
        for value in _ticks(self.y):
            y = self.up(value)
            parts.append(
                f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
                f'class="axis"/><text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
                f"{number(value)}</text>"
            )
        for value in _ticks(self.x):
            parts.append(
                f'<text x="{self.across(value):.1f}" y="{_HEIGHT - _BOTTOM + 18}" '
                f'text-anchor="middle">{number(value)}</text>'
            )
        middle = _TOP + (_HEIGHT - _TOP - _BOTTOM) / 2
        parts.append(
            f'<text x="{_LEFT + (_WIDTH - _LEFT - _RIGHT) / 2}" y="{_HEIGHT - 8}" '
            f'text-anchor="middle">{escape(x_name)}</text>'
            f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">'
            f"{escape(y_name)}</text>"
        )
        return "".join(parts)


def _ticks(span: tuple[float, float]) -> list[float]:
    """Round values that part a span into about five."""
    rough = (span[1] - span[0]) / _TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first = math.ceil(span[0] / step - 1e-9)
    last = math.floor(span[1] / step + 1e-9)
    return [step * k for k in range(first, last + 1)]


def _figure(title: str, body: str, note: str) -> str:
    said = f"<p>{escape(note)}</p>" if note else ""
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{body}</svg>{said}</figure>"
    )


def line_chart(
    title: str,
    values: Sequence[tuple[float, float]],
    *,
    x_name: str,
    y_name: str,
    band: Sequence[tuple[float, float, float]] = (),
    marks: Sequence[Mark] = (),
    from_zero: bool = True,
    note: str = "",
) -> str:
    """A line through (x, y). ``band`` has (x, from, to) of an area behind it, ``marks`` are lines
    across at a height."""
    heights = [y for _, y in values] + [y for _, *two in band for y in two]
    heights += [mark.at for mark in marks]
    bottom = 0.0 if from_zero else min(heights) - 0.1 * (max(heights) - min(heights))
    xs = [x for x, _ in values]
    plane = _Plane((min(xs), max(xs)), (bottom, max(heights) * (1.04 if from_zero else 1.01)))
    parts = [plane.axes(x_name, y_name)]
    if band:
        upper = [f"{plane.across(x):.1f},{plane.up(top):.1f}" for x, _, top in band]
        lower = [f"{plane.across(x):.1f},{plane.up(low):.1f}" for x, low, _ in reversed(band)]
        parts.append(f'<polygon points="{" ".join(upper + lower)}" class="band"/>')
    faint = " faint" if len(values) > 400 else ""
    points = " ".join(f"{plane.across(x):.1f},{plane.up(y):.1f}" for x, y in values)
    parts.append(f'<polyline points="{points}" class="main{faint}"/>')
    for mark in marks:
        y = plane.up(mark.at)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="mark"/>'
            f'<text class="mark-text" x="{_WIDTH - _RIGHT - 4}" y="{y - 5:.1f}" text-anchor="end">'
            f"{escape(mark.name)}</text>"
        )
    return _figure(title, "".join(parts), note)


def histogram(
    title: str,
    values: Sequence[float],
    *,
    bins: int,
    x_name: str,
    y_name: str,
    marks: Sequence[Mark] = (),
    note: str = "",
) -> str:
    """How many values lie where; ``marks`` are lines upwards at a value."""
    top = max([*values, *(mark.at for mark in marks)], default=1.0) * 1.02 or 1.0
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int(value / top * bins))] += 1
    plane = _Plane((0.0, top), (0.0, max(counts) * 1.08 or 1.0))
    parts = [plane.axes(x_name, y_name)]
    for place, count in enumerate(counts):
        left, right = plane.across(place * top / bins), plane.across((place + 1) * top / bins)
        y = plane.up(count)
        parts.append(
            f'<rect x="{left:.1f}" y="{y:.1f}" width="{max(0.5, right - left - 1):.1f}" '
            f'height="{plane.up(0) - y:.1f}" class="fill"/>'
        )
    for mark in marks:
        x = plane.across(mark.at)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" class="mark"/>'
            f'<text class="mark-text" x="{x - 5:.1f}" y="{_TOP + 12}" text-anchor="end">'
            f"{escape(mark.name)}</text>"
        )
    return _figure(title, "".join(parts), note)


def bar_chart(title: str, bars: Sequence[Bar], *, unit: str, note: str = "") -> str:
    """Bars across, each with the range it had as a thin line and its quota as two ticks."""
    row, top = 24, 8
    height = top + row * len(bars) + 34
    left, right = 96, 56
    most = max([b.quota[1] for b in bars] + [b.span[1] if b.span else b.value for b in bars])

    def across(value: float) -> float:
        return left + value / most * (_WIDTH - left - right)

    parts: list[str] = []
    for place, bar in enumerate(bars):
        y = top + place * row
        parts.append(
            f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(bar.name)}</text>'
            f'<rect x="{left}" y="{y + 4}" width="{across(bar.value) - left:.1f}" height="13" '
            f'class="fill"/><text x="{_WIDTH - 4}" y="{y + 15}" text-anchor="end">'
            f"{number(round(bar.value, 1))} {escape(unit)}</text>"
        )
        if bar.span:
            low, high = across(bar.span[0]), across(bar.span[1])
            parts.append(
                f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 19}" y2="{y + 19}" class="main"/>'
            )
        for limit in bar.quota:
            if limit:
                x = across(limit)
                parts.append(
                    f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y + 2}" y2="{y + 21}" class="limit"/>'
                )
    said = f"<p>{escape(note)}</p>" if note else ""
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>{said}</figure>"
    )


def cards(entries: Sequence[tuple[str, str]]) -> str:
    """Figures with what they are, (figure, what)."""
    made = [f"<div><b>{escape(f)}</b><span>{escape(what)}</span></div>" for f, what in entries]
    return f'<div class="cards">{"".join(made)}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f'<div class="wide"><table><tr>{titles}</tr>{lines}</table></div>'


def verdicts(entries: Sequence[tuple[bool, str]]) -> str:
    """Sentences, each with a sign that says whether it is well."""
    made = [f'<li class="{"good" if ok else "bad"}">{escape(text)}</li>' for ok, text in entries]
    return f"<ul>{''.join(made)}</ul>"


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def section(title: str, *figures: str) -> str:
    return f'<h2>{escape(title)}</h2><div class="grid">{"".join(figures)}</div>'


def write_page(path: Path, *, title: str, lead: str, parts: Sequence[str], zips: str) -> None:
    """Write the page, whole or not at all.

    Args:
        path: the file.
        title: its heading.
        lead: a line below it.
        parts: HTML, one after the other.
        zips: ``zipmap.map_data`` of the dots on its maps, ``[]`` for none.

    Raises:
        OSError: where it cannot be written.
    """
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>{"".join(parts)}'
        f'<script type="application/json" id="zips">{zips}</script><script>{_SCRIPT}</script>'
        "</body></html>\n"
    )
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
