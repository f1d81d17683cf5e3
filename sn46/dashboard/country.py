"""The picture of the country that maps of draws lie over: ``static/country.svg``, a faint dot
wherever the bundled table has a ZIP.

``python -m sn46.dashboard.country`` writes it anew, which a change of the table or of the map's
projection makes necessary.
"""

from importlib.resources import files
from pathlib import Path
from typing import Final

from sn46.zipcodes import MasterTable, load_bundled_table
from sn46.zipmap import HEIGHT, WIDTH, placed

_GRID: Final = 5
"""One dot for all ZIPs of a square of so many units: the country has about 1,000 by 600."""


def country_svg(table: MasterTable) -> str:
    """The picture."""
    squares = {
        (round(at[0] / _GRID), round(at[1] / _GRID))
        for row in table.rows
        if (at := placed(row.latitude, row.longitude)) is not None
    }
    dots = "".join(f"M{x} {y}h0" for x, y in sorted(squares))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}"><style>path{{stroke:#c9ced3;stroke-width:.6;'
        "stroke-linecap:round}@media(prefers-color-scheme:dark){path{stroke:#3b444e}}</style>"
        f'<path transform="scale({_GRID})" d="{dots}"/></svg>\n'
    )


if __name__ == "__main__":
    target = Path(str(files("sn46.dashboard") / "static" / "country.svg"))
    target.write_text(country_svg(load_bundled_table()))
