"""What a local network shows fits the terminal that it is shown on."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from rich.console import Console, RenderableType

from sn46.localnet.service import State
from sn46.localnet.status import Status
from sn46.localnet.view import LiveView, Picture, Seen
from sn46.localnet.words import report_table
from sn46.mechanism.names import Hotkey

HONEST = Hotkey("5GziRdmNYxQBr2cZWLXq8zfxYxBfQLwNAuUK186RiNeTWp9K")
CHEAT = Hotkey("5GuMUgXFg9pxLABhM8g7MyfFpUfryQUJhouX2vY4ipG3HhUe")
OWNER = Hotkey("5ER8TB6LpSavLY135epTPvfXHh6Lb7JjW2kLA7wYSUj2fqhE")
ABSENT = Hotkey("5DLpyTnN3NUNRQssg5we8DBk5LsBu3urH8Sesb6g1J2fVFy7")
NAMES = {HONEST: "honest", CHEAT: "fabricator", ABSENT: "second-hotkey"}
REPORT: dict[str, Any] = {
    "epoch_id": "2024-03-15-16:00",
    "miners": {
        HONEST: {
            "valid": True,
            "reasons": [],
            "speed": 1_000_000,
            "completeness": 625_000,
            "volume": 500_800,
            "accuracy": 987_600,
            "final": 850_000,
            "weight": 500_000,
        },
        CHEAT: {
            "valid": True,
            "disqualified": True,
            "reasons": [{"code": "low_accuracy", "detail": "…"}],
            "final": 0,
            "weight": 0,
        },
    },
    "weights": {HONEST: 500_000, OWNER: 500_000},
}

Shown = Callable[[RenderableType, int], str]


@pytest.fixture
def shown() -> Shown:
    """What stands on a terminal of so many columns."""

    def show(what: RenderableType, columns: int) -> str:
        console = Console(width=columns, height=24, force_terminal=True, color_system=None)
        with console.capture() as capture:
            console.print(what)
        lines = capture.get().splitlines()
        assert all(len(line.rstrip()) <= columns for line in lines)
        return "\n".join(lines)

    return show


@pytest.mark.parametrize("columns", [80, 100, 120, 160])
@pytest.mark.parametrize("names", [NAMES, {}])
def test_no_number_and_no_reason_is_cut(
    columns: int, names: dict[Hotkey, str], shown: Shown
) -> None:
    table = shown(report_table(REPORT, names=names), columns)
    numbers = ("100.00", "62.50", "50.08", "98.76", "85.00", "50.00 %")
    assert [number for number in numbers if number not in table] == []
    words = "disqualified: does not agree with the portal what nobody earned"
    assert [word for word in words.split() if word not in table] == []
    assert "…" not in re.sub(r"5\w{5}…\w{4}\b", "", table)
    assert all(name in table for name in names.values())


def test_hotkeys_stand_in_a_table_that_has_the_room(shown: Shown) -> None:
    assert HONEST in shown(report_table(REPORT, names={}), 160)
    assert "5GziRd…Wp9K" in shown(report_table(REPORT, names=NAMES), 160)
    assert "5GziRd…Wp9K" in shown(report_table(REPORT, names={}), 80)


def test_a_long_note_takes_no_room_from_names() -> None:
    note = "The store answered 403 AccessDenied [twice] to the upload of a file"
    status = Status("waiting for evidence", 5, 8, note, "2024-03-15-16:00")
    seen = (Seen("second-hotkey-2", State.RUNNING, status),)
    said = StringIO()
    with LiveView(Console(file=said, width=80, force_terminal=True, color_system=None)) as view:
        view.update(Picture(datetime(2024, 3, 15, 17, tzinfo=UTC), "An epoch", (), seen, seen))
    rows = [line for line in said.getvalue().splitlines() if "second-hotkey-2 " in line]
    assert len(rows) >= 2
    assert all("waiting for evidence " in row and "5 of 8  The store" in row for row in rows)
