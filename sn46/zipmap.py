"""A map of the United States with a dot a ZIP, as SVG.

The lower 48 states are drawn in Albers' equal-area conic projection (standard parallels 29.5° and
45.5°, origin 37.5° N 96° W, as the Census Bureau's maps have it; formulas after Snyder, "Map
Projections: A Working Manual", USGS Professional Paper 1395, 1987, pages 98–101, on a sphere).
Alaska, Hawaii and the Caribbean stand in boxes of their own below, each in its own scale. Outlines
of states are not drawn: the dots show the country.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 960
HEIGHT: Final = 640
COLOURS: Final = ("#6a35c9", "#8f2fb8", "#b5379a", "#d65078", "#ea7455", "#f59b3c", "#f5c02a")
NONE_COLOUR: Final = "var(--ink)"
"""For what has no value: never drawn."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Dot:
    """A ZIP on the map: where it is (degrees), and what is said of it when it is pointed at."""

    latitude: float
    longitude: float
    text: str


@dataclass(frozen=True)
class _Frame:
    """A part of the world, its projection, and the box that it is drawn into."""

    holds: Callable[[float, float], bool]
    project: Callable[[float, float], Point]
    corner: Point
    size: Point
    scale: float
    centre: Point

    def place(self, latitude: float, longitude: float) -> Point:
        x, y = self.project(latitude, longitude)
        return (
            self.corner[0] + self.size[0] / 2 + (x - self.centre[0]) * self.scale,
            self.corner[1] + self.size[1] / 2 - (y - self.centre[1]) * self.scale,
        )


def _albers(
    south: float, north: float, latitude: float, longitude: float
) -> Callable[[float, float], Point]:
    """Albers' projection with two standard parallels and an origin, in Earth radii."""
    first, second, origin = map(math.radians, (south, north, latitude))
    n = (math.sin(first) + math.sin(second)) / 2
    c = math.cos(first) ** 2 + 2 * n * math.sin(first)
    rho_0 = math.sqrt(c - 2 * n * math.sin(origin)) / n

    def project(lat: float, lng: float) -> Point:
        rho = math.sqrt(max(0.0, c - 2 * n * math.sin(math.radians(lat)))) / n
        theta = n * math.radians((lng - longitude + 180) % 360 - 180)
        return rho * math.sin(theta), rho_0 - rho * math.cos(theta)

    return project


_FRAMES: Final = (
    _Frame(
        holds=lambda lat, lng: 24 <= lat <= 50 and -126 <= lng <= -66,
        project=_albers(29.5, 45.5, 37.5, -96),
        corner=(0, 0), size=(WIDTH, 580), scale=1230, centre=(0, 0.015),
    ),
    _Frame(
        holds=lambda lat, lng: lat > 50,
        project=_albers(55, 65, 63, -154),
        corner=(10, 470), size=(220, 165), scale=340, centre=(0, 0),
    ),
    _Frame(
        holds=lambda lat, lng: lat < 24 and -162 <= lng <= -150,
        project=_albers(8, 18, 20.6, -157.5),
        corner=(240, 520), size=(150, 115), scale=1100, centre=(0, 0),
    ),
    _Frame(
        holds=lambda lat, lng: lat < 20 and -68 <= lng <= -64,
        project=_albers(8, 18, 18.1, -66),
        corner=(790, 565), size=(160, 70), scale=2100, centre=(0, 0),
    ),
)  # fmt: skip


def placed(latitude: float, longitude: float) -> Point | None:
    """Where a point is on the map, None where the map does not reach (the Pacific's islands)."""
    for frame in _FRAMES:
        if frame.holds(latitude, longitude):
            return frame.place(latitude, longitude)
    return None


def map_data(dots: Sequence[Dot]) -> str:
    """What the page's script needs to say which ZIP is pointed at: one JSON for all its maps."""
    found = [(placed(dot.latitude, dot.longitude), dot.text) for dot in dots]
    points = [[round(at[0], 1), round(at[1], 1), text] for at, text in found if at is not None]
    return json.dumps(points, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def map_svg(
    dots: Sequence[Dot], values: Sequence[float | None], *, label: str, say: Callable[[float], str]
) -> str:
    """One map.

    Args:
        dots: the ZIPs.
        values: one for each; a None is drawn in a colour of its own.
        label: what the values are.
        say: a value as the legend writes it.
    """
    bounds = _bounds([value for value in values if value is not None])
    classes: list[list[Point]] = [[] for _ in range(len(bounds))]
    without: list[Point] = []
    for dot, value in zip(dots, values, strict=True):
        at = placed(dot.latitude, dot.longitude)
        if at is None:
            continue
        if value is None:
            without.append(at)
        else:
            classes[next(i for i, top in enumerate(bounds) if value <= top)].append(at)
    paths = [_dots(points, _colour(i, len(bounds))) for i, points in enumerate(classes)]
    boxes = "".join(
        f'<rect x="{f.corner[0]}" y="{f.corner[1]}" width="{f.size[0]}" height="{f.size[1]}" '
        'class="box"/>'
        for f in _FRAMES[1:]
        if any(f.holds(dot.latitude, dot.longitude) for dot in dots)
    )
    return (
        f'<figure class="map"><figcaption>{escape(label)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{boxes}'
        f"{_dots(without, NONE_COLOUR, 3.4)}{''.join(paths)}"
        '<circle class="ring" r="5" visibility="hidden"/></svg>'
        f"{_legend(bounds, len(without), say)}<output></output></figure>"
    )


def _bounds(values: Sequence[float]) -> list[float]:
    """The upper bounds of classes that hold about as many values each."""
    ordered = sorted(values)
    if not ordered:
        return []
    count = len(COLOURS)
    tops = {ordered[len(ordered) * (i + 1) // count - 1] for i in range(count) if len(ordered) > i}
    return sorted(tops | {ordered[-1]})


def _colour(number: int, count: int) -> str:
    return COLOURS[-1 - (count - 1 - number) * len(COLOURS) // max(count, 1)]


def _dots(points: Sequence[Point], colour: str, size: float = 2.6) -> str:
    if not points:
        return ""
    marks = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)
    return (
        f'<path d="{marks}" stroke="{colour}" stroke-width="{size}" stroke-linecap="round" '
        'fill="none"/>'
    )


def _legend(bounds: Sequence[float], without: int, say: Callable[[float], str]) -> str:
    entries = [
        f'<span><i style="background:{_colour(i, len(bounds))}"></i>up to {escape(say(top))}</span>'
        for i, top in enumerate(bounds)
    ]
    if without:
        entries.append(f'<span><i style="background:{NONE_COLOUR}"></i>never ({without:,})</span>')
    return f'<div class="legend">{"".join(entries)}</div>'
