"""What ``sn46 plan`` and ``sn46 simulate-draws`` share: the table, the rules, the complaints."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sn46.commands.outcome import AskedWrongly, Errors

if TYPE_CHECKING:
    from sn46.api.settings import ApiSettings
    from sn46.mechanism.drawinputs import DrawRules
    from sn46.mechanism.drawtable import DrawTable
    from sn46.mechanism.epochs import Epoch
    from sn46.zipcodes import MasterTable

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""Where simulated time begins. Nothing follows from the date but the epochs' names, of which the
seeds are made."""
MEASURED_ZIP: Final = ("11211", 1_007)
"""Recently sold homes of a ZIP, as a portal shows them; with its 37,180 housing units they give the
turnover that the bundled table's estimates are made with."""

TableOption = Annotated[
    Path | None,
    typer.Option(
        help="A ZIP master table. By default the one of ZIPCODE_TABLE, where that is set, or else "
        "every US ZIP with listings estimated from housing units."
    ),
]
TargetOption = Annotated[int | None, typer.Option(help="TARGET_LISTINGS, in listings.")]
MinimumOption = Annotated[int | None, typer.Option(help="MIN_ZIPCODE_LISTINGS.")]
CooldownOption = Annotated[int | None, typer.Option(help="COOLDOWN_HOURS.")]
StatesOption = Annotated[
    str | None, typer.Option(metavar="LIST", help="ELIGIBLE_STATES, such as PA,NJ; all.")
]
HtmlOption = Annotated[
    Path | None, typer.Option(help="Write a page with a map and charts to this file.")
]
JsonOption = Annotated[Path | None, typer.Option(help="Write the figures to this file.")]


@dataclass(frozen=True)
class Setting:
    """What draws are made from: the table and where it is from, the rules, the first epoch."""

    table: "DrawTable"
    origin: str
    rules: "DrawRules"
    start: "Epoch"
    settings: "ApiSettings"


def table_errors() -> Errors:
    """What goes wrong with a table."""
    from sn46.zipcodes import ZipTableError

    return (ZipTableError,)


def read_setting(table: Path | None, *, days: int, **options: Any) -> Setting:
    """The table and the rules: options given win over the environment and ``.env``.

    Args:
        table: ``--table``.
        days: how long the figures are to stay fresh.
        options: fields of ``ApiSettings``; None is not given.

    Raises:
        SettingsError: where a setting is wrong.
        ZipTableError: where the table cannot be read.
        AskedWrongly: where nothing of it could ever be drawn.
    """
    from sn46.api.settings import load_settings
    from sn46.mechanism.drawtable import DrawTable, LastDrawn
    from sn46.mechanism.epochs import Epoch
    from sn46.mechanism.simulating import kept_fresh

    given = {name: value for name, value in options.items() if value is not None}
    unused = "-" * 32  # No secret decides anything here, and none need be set.
    settings = load_settings(
        **{"secret_key": unused, "s3_access_key": unused, "s3_secret_key": unused, **given}
    )
    if table is None and "zipcode_table" in settings.model_fields_set:
        table = settings.zipcode_table
    master, origin = _read_table(table)
    start = Epoch(START, settings.epoch_seconds)
    drawn_from = DrawTable(kept_fresh(master.rows, (START + timedelta(days=days)).date()))
    rules = settings.draw_rules(settings.target_listings)
    if not len(drawn_from.eligible(LastDrawn.none(drawn_from), rules, start)):
        raise AskedWrongly(
            f"no ZIP of {origin} may be drawn: none has a figure from {rules.min_zipcode_listings} "
            f"to {rules.max_zipcode_listings} listings in the eligible states. Import figures with "
            "sn46 zipcodes import, or lower --min-listings."
        )
    return Setting(drawn_from, origin, rules, start, settings)


def _read_table(path: Path | None) -> tuple["MasterTable", str]:
    from sn46.mechanism.names import ZipCode
    from sn46.zipcodes import load_bundled_table, load_table, with_estimates, with_expected

    if path is not None:
        return load_table(path), f"the table {path}"
    zipcode, listings = MEASURED_ZIP
    measured = with_expected(load_bundled_table(), {ZipCode(zipcode): listings}, START.date())
    return with_estimates(measured, START.date()), "the bundled table (estimated listings)"


def check_folder(path: Path | None, option: str) -> None:
    """Before hours of work: there is a folder for the file that an option names.

    Raises:
        AskedWrongly: where there is none.
    """
    if path is not None and not path.absolute().parent.is_dir():
        raise AskedWrongly(f"{option} {path}: there is no folder {path.parent}. Make it first.")
