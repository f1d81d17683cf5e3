"""``sn46 zipcodes``: the ZIP master table and the figures behind it (docs/zipcodes.md)."""

import sys
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sn46.commands.outcome import EXIT_FAILED, AskedWrongly, Errors, fail, saying

if TYPE_CHECKING:
    from sn46.api.settings import ApiSettings
    from sn46.mechanism.draw import DrawRules, ZipRow
    from sn46.mechanism.epochs import Epoch
    from sn46.mechanism.names import ZipCode
    from sn46.zipcodes import Library, MasterTable, Source
    from sn46.zipcodes.figures import FileFigures
    from sn46.zipcodes.library import ImportResult, VersionRecord

_SHORT = 12
_AGES = (7, 30, 90)
_ENOUGH_TO_MEASURE = 50
_FORMATS = "owner, redfin, zillow, realtor, zillow-values or census"

app = typer.Typer(
    name="zipcodes",
    help="The ZIP master table: import figures, look at them, know how long they last.",
)

TableOption = Annotated[
    Path | None,
    typer.Option(help="The table's file; ZIPCODE_TABLE by default, or else zipcodes.parquet."),
]


def _errors() -> Errors:
    from sn46.zipcodes import ZipTableError

    return (ZipTableError,)


@app.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:  # pyright: ignore[reportUnusedFunction]
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("import")
@saying("zipcodes import", failed=_errors)
def import_file(
    file: Annotated[Path, typer.Argument(help="CSV or TSV, gzipped or not.")],
    format: Annotated[
        str | None,
        typer.Option(metavar="FORMAT", help=f"By default the columns show it: {_FORMATS}."),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="DAY", help="Of figures that the file gives no day for, as 2026-10-31; today."
        ),
    ] = None,
    rejects: Annotated[
        Path | None, typer.Option(help="Write every row that gave no figure to this CSV file.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    table: TableOption = None,
) -> int:
    """Take figures from a file and publish the table that follows from them.

    A file is imported whole or not at all. The API uses the new table for its next draw.
    """
    path = _table_path(table)
    result = _library(path).import_file(
        file,
        source=_source(format),
        as_of=_day(as_of),
        rejects=rejects,
        progress=_Progress(file.name) if sys.stderr.isatty() else None,
        dry_run=dry_run,
    )
    _say_file(file.name, result.file, rejects)
    _say_result(path, result, dry_run)
    return 0


@app.command()
@saying("zipcodes init", failed=_errors)
def init(
    lookback_days: Annotated[
        int | None,
        typer.Option(help="LOOKBACK_DAYS of the API, which sales of three years are scaled to."),
    ] = None,
    draw_estimates: Annotated[
        bool | None,
        typer.Option(
            "--draw-estimates/--no-draw-estimates",
            help="Whether draws may take ZIPs that have an estimate and no figure; at first not.",
        ),
    ] = None,
    table: TableOption = None,
) -> int:
    """Make the table and its library where there are none, or change how it is composed."""
    path = _table_path(table)
    library = _library(path)
    record = library.initialise(lookback_days=lookback_days, draw_estimates=draw_estimates)
    choices = library.choices()
    print(
        f"Sales are scaled to {choices.lookback_days} days; estimates are "
        f"{'drawn' if choices.draw_estimates else 'not drawn'}."
    )
    _say_version(path, record)
    return 0


@app.command()
@saying("zipcodes confirm", failed=_errors)
def confirm(table: TableOption = None) -> int:
    """Say that the monthly figures are still the newest there are: they count as updated today.

    At most 31 days after the end of their month; by then the next month is out.
    """
    path = _table_path(table)
    _say_version(path, _library(path).confirm())
    return 0


@app.command()
@saying("zipcodes undo", failed=_errors)
def undo(table: TableOption = None) -> int:
    """Take the last import back and publish the table without it."""
    path = _table_path(table)
    _say_version(path, _library(path).undo())
    return 0


@app.command()
@saying("zipcodes show", failed=_errors)
def show(
    zipcode: Annotated[str, typer.Argument(help="The ZIP, five digits.")],
    table: TableOption = None,
) -> int:
    """Show all that is known of a ZIP, from which source, and whether it can be drawn."""
    from sn46.zipcodes.freshness import why_not
    from sn46.zipcodes.values import read_zip

    read = read_zip(zipcode)
    if read is None:
        raise AskedWrongly(f"{zipcode!r} is not a ZIP code; five digits are needed, such as 08701.")
    path = _table_path(table)
    library, master = _library(path), _load(path)
    row = master.by_zipcode.get(read.zipcode)
    if row is None:
        return fail("zipcodes show", f"ZIP {read.zipcode} is not in {path}.")
    print(f"{row.zipcode} {_where(row)}")
    print(f"coordinates        {row.latitude:.4f}, {row.longitude:.4f}")
    print(f"population         {row.population:,}")
    print(f"housing units      {row.property_count:,}")
    print(f"home value         {'unknown' if row.home_value is None else f'${row.home_value:,}'}")
    origin = library.origins(master.version).get(row.zipcode, "unknown")
    if row.expected_listings is None:
        print("expected listings  unknown")
    else:
        updated = f", updated {row.updated_on}" if row.updated_on else ""
        print(f"expected listings  {row.expected_listings:,} (source: {origin}{updated})")
    settings = _api_settings()
    reason = why_not(row, _rules(settings), _epoch(settings))
    print(f"eligible           {'yes' if reason is None else f'no: {reason}'}")
    for source, figure in sorted(library.figures_of(row.zipcode)):
        print(
            f"  {source}: {figure.quantity} {figure.value:,} "
            f"as of {figure.as_of}, updated {figure.updated_on}"
        )
    print(f"table version      {master.version}")
    return 0


@app.command("list")
@saying("zipcodes list", failed=_errors)
def list_(
    state: Annotated[str | None, typer.Option(help="Only this state, as NJ.")] = None,
    source: Annotated[
        str | None,
        typer.Option(help="Only ZIPs whose expected listings come from there; estimate is one."),
    ] = None,
    eligible: Annotated[
        bool, typer.Option("--eligible", help="Only ZIPs that can be drawn now.")
    ] = False,
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0 for all.")] = 50,
    table: TableOption = None,
) -> int:
    """List ZIPs with their expected listings, the largest first."""
    from sn46.zipcodes.freshness import why_not

    path = _table_path(table)
    master = _load(path)
    origins = _library(path).origins(master.version)
    rows = [
        row
        for row in master.rows
        if (state is None or row.state == state.upper())
        and (source is None or origins.get(row.zipcode) == source.lower())
    ]
    if eligible:
        settings = _api_settings()
        rules, epoch = _rules(settings), _epoch(settings)
        rows = [row for row in rows if why_not(row, rules, epoch) is None]
    rows.sort(key=lambda row: (-(row.expected_listings or -1), row.zipcode))
    shown = rows[:limit] if limit else rows
    print(f"{'zip':5}  {'expected':>8}  {'source':8}  {'updated':10}  place")
    for row in shown:
        expected = "" if row.expected_listings is None else f"{row.expected_listings:,}"
        origin = origins.get(row.zipcode, "")
        updated = row.updated_on or ""
        print(f"{row.zipcode}  {expected:>8}  {origin:8}  {updated!s:10}  {_where(row)}")
    total = sum(row.expected_listings or 0 for row in rows)
    print(f"{len(shown):,} of {len(rows):,} ZIPs; {total:,} listings in all of them")
    return 0


@app.command()
@saying("zipcodes export", failed=_errors)
def export(
    file: Annotated[Path, typer.Argument(help="A name that ends in .csv or .parquet.")],
    version: Annotated[
        str | None, typer.Option(help="An earlier version, by the beginning of its name.")
    ] = None,
    table: TableOption = None,
) -> int:
    """Write the whole table to a file, with where each figure came from."""
    path = _table_path(table)
    library = _library(path)
    suffix = file.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise AskedWrongly(f"{file} ends in neither .csv nor .parquet, which say how to write it.")
    if file.resolve() == path.resolve():
        raise AskedWrongly(f"{file} is the table itself; an export needs another name.")
    master = _load(path) if version is None else library.load_version(version)
    _write(file, master, library.origins(master.version))
    print(f"Wrote {len(master):,} ZIPs of version {master.version} to {file}.")
    return 0


@app.command()
@saying("zipcodes freshness", failed=_errors)
def freshness(table: TableOption = None) -> int:
    """Say how old the figures are, and how long draws can go on with them.

    Exits with 1 where today's draws lack listings.
    """
    from sn46.zipcodes.freshness import outlook

    path = _table_path(table)
    library, master, settings = _library(path), _load(path), _api_settings()
    epoch = _epoch(settings)
    _say_ages(library, epoch.start)
    _say_error(master, library.origins(master.version))
    lookback = library.choices().lookback_days
    if library.exists and lookback != settings.lookback_days:
        print(
            f"LOOKBACK_DAYS is {settings.lookback_days}, but sales were scaled to {lookback} days: "
            f"run sn46 zipcodes init --lookback-days {settings.lookback_days}."
        )
    ahead = outlook(master, _rules(settings), epoch)
    print(
        f"Draws of {epoch.start.date()} can choose among {ahead.today.zipcodes:,} ZIPs with "
        f"{ahead.today.listings:,} listings, cooldown aside. They need {ahead.needed:,} to go on "
        "without repeating a ZIP within the cooldown."
    )
    short = ahead.short
    if short.day <= ahead.today.day and ahead.today.listings < ahead.needed:
        print("That is too few. Import fresh figures, or lower MIN_ZIPCODE_LISTINGS.")
        return EXIT_FAILED
    print(
        f"With nothing imported that lasts until {short.day}, when {short.zipcodes:,} ZIPs with "
        f"{short.listings:,} listings are left."
    )
    return 0


@app.command()
@saying("zipcodes history", failed=_errors)
def history(
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0 for all.")] = 20,
    table: TableOption = None,
) -> int:
    """List the versions of the table, the newest first: when, from what, and what changed."""
    records = _library(_table_path(table)).history()
    print(
        f"{'version':{_SHORT}}  {'made':16}  {'figures':>7}  {'new':>6}  {'changed':>7}  "
        f"{'dropped':>7}  {'estimates':>9}  from"
    )
    for record in records[:limit] if limit else records:
        made, file = record.changes, f" ({record.file_sha256})" if record.file_sha256 else ""
        print(
            f"{record.version[:_SHORT]}  {record.made_at:%Y-%m-%d %H:%M}  {made.figures:7,}  "
            f"{made.new:6,}  {made.changed:7,}  {made.dropped:7,}  {made.estimates:9,}  "
            f"{record.what}{file}"
        )
    return 0


def _table_path(given: Path | None) -> Path:
    """``--table``, or else ZIPCODE_TABLE of the environment or ``.env``."""
    if given is not None:
        return given
    from pydantic_settings import BaseSettings, SettingsConfigDict

    from sn46.configuration import read_settings

    class TableSetting(BaseSettings):
        model_config = SettingsConfigDict(env_file=".env", extra="ignore")
        zipcode_table: Path = Path("zipcodes.parquet")

    return read_settings(TableSetting).zipcode_table.expanduser()


def _library(path: Path) -> "Library":
    from sn46.clock import SystemClock
    from sn46.zipcodes import Library

    return Library(path, SystemClock())


def _load(path: Path) -> "MasterTable":
    from sn46.zipcodes import ZipTableError, load_table

    if not path.exists():
        raise ZipTableError(
            f"There is no ZIP table at {path}. sn46 zipcodes init makes one, and so does the "
            "first import."
        )
    return load_table(path)


def _api_settings() -> "ApiSettings":
    """The owner's rules of the draw, from the environment and ``.env`` as the API reads them. Its
    secrets are not needed here, and need not be set."""
    from sn46.api.settings import load_settings

    unused = "-" * 32
    return load_settings(secret_key=unused, s3_access_key=unused, s3_secret_key=unused)


def _rules(settings: "ApiSettings") -> "DrawRules":
    target = settings.target_max if settings.target_mode == "adaptive" else settings.target_listings
    return settings.draw_rules(target)


def _epoch(settings: "ApiSettings") -> "Epoch":
    from sn46.clock import SystemClock
    from sn46.mechanism.epochs import epoch_at

    return epoch_at(SystemClock().now(), settings.epoch_seconds)


def _source(text: str | None) -> "Source | None":
    from sn46.zipcodes import Source

    if text is None:
        return None
    try:
        return Source(text.lower())
    except ValueError as error:
        raise AskedWrongly(f"{text!r} is no format; --format takes {_FORMATS}.") from error


def _day(text: str | None) -> date | None:
    from sn46.zipcodes.values import read_day

    day = None if text is None else read_day(text)
    if text is not None and day is None:
        raise AskedWrongly(f"{text!r} is not a day; write it as 2026-10-31.")
    return day


class _Progress:
    """Says on the terminal how far a file has been read, at most once a percent."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._percent = -1

    def __call__(self, done: int, of: int) -> None:
        percent = done * 100 // of if of else 100
        if percent == self._percent:
            return
        self._percent = percent
        print(
            f"\rReading {self._name}: {done / 1e6:,.0f} of {of / 1e6:,.0f} MB ({percent} %)",
            end="\n" if done >= of else "",
            file=sys.stderr,
            flush=True,
        )


def _say_file(name: str, file: "FileFigures", rejects: Path | None) -> None:
    zips = len({figure.zipcode for figure in file.figures})
    print(f"Read {name} as {file.source}: {file.rows:,} rows, figures for {zips:,} ZIPs.")
    if file.repaired:
        print(f"  repaired: {file.repaired:,} ZIPs had lost leading zeros")
    for what, count in file.unused.items():
        print(f"  not used: {count:,} {what}")
    for reason, count in file.rejected.items():
        print(f"  rejected: {count:,} {reason.words}")
    for reject in file.first_rejects:
        value = f": {reject.value!r}" if reject.value else ""
        print(f"    line {reject.line}, {reject.zipcode or 'no ZIP'}, {reject.reason}{value}")
    more = sum(file.rejected.values()) - len(file.first_rejects)
    if more > 0:
        print(f"    and {more:,} more{'' if rejects else '; --rejects FILE writes them all'}")


def _say_result(path: Path, result: "ImportResult", dry_run: bool) -> None:
    if result.imported_before is not None:
        print(
            f"This very file was imported on {result.imported_before:%Y-%m-%d %H:%M} UTC: nothing "
            "to do. Where its figures have no day of their own and still hold, --as-of says so."
        )
        return
    print(
        f"News to {result.file.source}: {result.taken:,} figures; there already: {result.same:,}; "
        f"older than its own: {result.older:,}."
    )
    made = result.changes
    print(
        f"ZIPs with figures: {made.figures:,} ({made.new:,} new, {made.changed:,} changed, "
        f"{made.dropped:,} dropped); estimated: {made.estimates:,}."
    )
    if dry_run:
        print("Nothing was changed (--dry-run).")
    else:
        _say_version(path, result.record)


def _say_version(path: Path, record: "VersionRecord | None") -> None:
    if record is None:
        print(f"{path} stays as it was.")
    else:
        print(f"{path} is now version {record.version}.")


def _say_ages(library: "Library", now: datetime) -> None:
    """How many figures of each kind are how old."""
    counts: dict[tuple[str, str], list[int]] = {}
    newest: dict[tuple[str, str], str] = {}
    for ages in library.ages():
        key = (ages.source, ages.quantity)
        age = (now.date() - ages.updated_on).days
        column = sum(age > limit for limit in _AGES)
        counts.setdefault(key, [0] * (len(_AGES) + 1))[column] += ages.count
        newest.setdefault(key, str(ages.updated_on))
    titles = [f"≤ {limit} days" for limit in _AGES] + ["older"]
    print(f"{'source':14}{'figure':16}" + "".join(f"{title:>11}" for title in titles) + "  newest")
    for (source, quantity), columns in sorted(counts.items()):
        numbers = "".join(f"{count:>11,}" for count in columns)
        print(f"{source:14}{quantity:16}{numbers}  {newest[source, quantity]}")


def _say_error(master: "MasterTable", origins: "Mapping[ZipCode, str]") -> None:
    """How far off the estimates are, measured on the ZIPs that have figures."""
    from sn46.zipcodes.composing import ESTIMATE
    from sn46.zipcodes.estimating import hold_out

    known = [row for row in master.rows if origins.get(row.zipcode, ESTIMATE) != ESTIMATE]
    estimates = sum(origin == ESTIMATE for origin in origins.values())
    if not estimates or len(known) < _ENOUGH_TO_MEASURE:
        return
    found = hold_out(known)
    print(
        f"{estimates:,} ZIPs have an estimate. Measured on {found.zipcodes:,} ZIPs with figures, "
        f"estimates are off by {found.median_error:.0%} in the median and {found.total_error:+.1%} "
        f"in total; {found.within_half:.0%} are off by less than half."
    )


def _write(file: Path, master: "MasterTable", origins: "Mapping[ZipCode, str]") -> None:
    import polars as pl

    from sn46.zipcodes.files import write_whole

    sources: Iterable[str] = (origins.get(row.zipcode, "") for row in master.rows)
    frame = master.to_frame().with_columns(pl.Series("source", list(sources), dtype=pl.String()))
    write = frame.write_csv if file.suffix.lower() == ".csv" else frame.write_parquet
    write_whole(file, lambda target: write(target))


def _where(row: "ZipRow") -> str:
    return ", ".join(part for part in (row.city, row.county, row.state) if part)
