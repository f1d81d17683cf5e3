"""Pictures as SVG in the page: lines over epochs, and where a draw's ZIPs are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sn46.dashboard.markup import Html, h
from sn46.mechanism.assignment import AssignedZip
from sn46.mechanism.drawinputs import TIERS
from sn46.zipmap import HEIGHT, WIDTH, placed

_WIDE: Final = 720
_HIGH: Final = 170
_LEFT, _BOTTOM, _TOP = 44, 28, 14


@dataclass(frozen=True)
class Line:
    """A line of a chart: its name, and a value from 0 to 1 an epoch, None where there is none."""

    name: str
    values: Sequence[float | None]


def line_chart(title: str, lines: Sequence[Line], *, first: str, last: str) -> Html:
    """Lines from 0 to 100 over epochs, from the ``first`` to the ``last``."""
    count = max(2, max(len(line.values) for line in lines))

    def x(place: int) -> float:
        return _LEFT + place * (_WIDE - _LEFT - 8) / (count - 1)

    def y(value: float) -> float:
        return _HIGH - _BOTTOM - value * (_HIGH - _BOTTOM - _TOP)

    axes = [
        (
            h("line", x1=_LEFT, x2=_WIDE, y1=f"{y(v):.1f}", y2=f"{y(v):.1f}", class_="axis"),
            h("text", f"{v * 100:.0f}", x=_LEFT - 6, y=f"{y(v) + 4:.1f}", text_anchor="end"),
        )
        for v in (0.0, 0.5, 1.0)
    ]
    ends = [
        h("text", first, x=_LEFT, y=_HIGH - 6),
        h("text", last, x=_WIDE, y=_HIGH - 6, text_anchor="end"),
    ]
    drawn: list[Html] = []
    for number, line in enumerate(lines):
        path, marks, open_ = "", [], False
        for place, value in enumerate(line.values):
            if value is None:
                open_ = False
                continue
            path += f"{'L' if open_ else 'M'}{x(place):.1f} {y(value):.1f}"
            marks.append(h("circle", cx=f"{x(place):.1f}", cy=f"{y(value):.1f}", r="2.5"))
            open_ = True
        if path:
            drawn.append(h("g", h("path", d=path), marks, class_=f"line l{number}"))
    legend = [
        h("span", h("i", class_=f"l{number}"), line.name) for number, line in enumerate(lines)
    ]
    return h(
        "figure",
        h("figcaption", title),
        h("svg", axes, ends, drawn, viewBox=f"0 0 {_WIDE} {_HIGH}", role="img", aria_label=title),
        h("div", legend, class_="legend"),
    )


def zip_map(zipcodes: Sequence[AssignedZip], country: str) -> Html:
    """The ZIPs of a draw as dots, larger where more homes are expected, over the picture of all
    ZIPs of the country at the address ``country``."""
    found = [(z, at) for z in zipcodes if (at := placed(z.latitude, z.longitude)) is not None]
    found.sort(key=lambda one: -one[0].expected_listings)  # the smaller ones on top
    dots = [_dot(zip_, at) for zip_, at in found]
    label = f"Where the {len(dots)} ZIPs are"
    return h(
        "figure",
        h("figcaption", label),
        h(
            "svg",
            h("image", href=country, width=WIDTH, height=HEIGHT),
            dots,
            viewBox=f"0 0 {WIDTH} {HEIGHT}",
            role="img",
            aria_label=label,
        ),
        h("output"),
        h("div", [h("span", h("i", class_=t), t) for t in TIERS], class_="legend"),
        class_="map",
    )


def _dot(zip_: AssignedZip, at: tuple[float, float]) -> Html:
    return h(
        "circle",
        cx=f"{at[0]:.1f}",
        cy=f"{at[1]:.1f}",
        r=f"{min(16.0, 7 + zip_.expected_listings**0.5 / 6):.1f}",
        class_=f"dot {zip_.market_tier if zip_.market_tier in TIERS else 'standard'}",
        data_said=f"{zip_.zipcode} {zip_.city}, {zip_.state}: {zip_.expected_listings:,} homes",
    )
