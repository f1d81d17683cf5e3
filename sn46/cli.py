"""The command ``sn46``. Thin: every command hands over to the room that does the work, and loads
that room only when it is called.

Exit codes: 0 done, 1 could not, 2 asked for wrongly (with one line that says how).
"""

import difflib
import os
import re
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import Abort, TyperException

from sn46 import __version__
from sn46.commands import api, data, judged, miner, validator, zipcodes
from sn46.commands.arena import arena
from sn46.commands.audit import audit
from sn46.commands.caddyfile import caddyfile
from sn46.commands.dashboard import dashboard
from sn46.commands.outcome import EXIT_FAILED, EXIT_USAGE, fail
from sn46.commands.plan import plan
from sn46.commands.simulate import simulate_draws
from sn46.localnet import defaults

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

_HIDDEN = "********"
_PASSWORD = re.compile(r"(://[^/:@\s]*:)[^/@\s]+@")

app = typer.Typer(
    name="sn46",
    help="The ZIP-code competition of Bittensor subnet 46.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(api.app)
app.add_typer(data.app)
app.add_typer(miner.app)
app.add_typer(validator.app)
app.add_typer(zipcodes.app)
app.command()(arena)
app.command()(audit)
app.command()(judged.compare)
app.command()(judged.explain)
app.command()(judged.export)
app.command()(judged.replay)
app.command()(caddyfile)
app.command()(dashboard)
app.command()(plan)
app.command("simulate-draws")(simulate_draws)


class Actor(StrEnum):
    """Who has settings."""

    API = "api"
    DASHBOARD = "dashboard"
    MINER = "miner"
    VALIDATOR = "validator"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, ``sys.argv`` by default. Returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command: Any = typer.main.get_command(app)
    _unwrap(command)
    try:
        result = command.main(given or ["--help"], prog_name="sn46", standalone_mode=False)
    except TyperException as error:
        return fail("", _usage_text(error), EXIT_USAGE)
    except Abort:
        return EXIT_FAILED
    return result if isinstance(result, int) else 0


def _unwrap(group: Any) -> None:
    """Let lists of commands break their lines where the terminal ends, and not also where those
    of a docstring do."""
    for command in group.commands.values():
        command.short_help = " ".join((command.help or "").partition("\n\n")[0].split())
        if hasattr(command, "commands"):
            _unwrap(command)


def _usage_text(error: TyperException) -> str:
    """One line, with what may have been meant."""
    context: Any = getattr(error, "ctx", None)
    where = f"{context.command_path} --help" if context else "sn46 --help"
    options: Sequence[str] = getattr(error, "possibilities", None) or ()
    message = " ".join((error.message if options else error.format_message()).split()).rstrip(".")
    message = message.replace("Value error, ", "")  # a word of the parser's, not of the user's
    if options:
        closest = difflib.get_close_matches(str(getattr(error, "option_name", "")), options, 1, 0)
        message = f"{message}. Did you mean {closest[0]}?"
    elif not message.endswith("?"):
        message = f"{message}."
    return f"{message} See {where}."


@app.command()
def localnet(
    epochs: Annotated[
        int | None, typer.Option(help="Stop after so many epochs; without it, run until Ctrl-C.")
    ] = None,
    epoch_seconds: Annotated[
        int, typer.Option(help="Length of an epoch: at least 60, and a divisor of a day.")
    ] = defaults.EPOCH_SECONDS,
    validators: Annotated[int, typer.Option(help="How many validators.")] = defaults.VALIDATORS,
    replicas: Annotated[
        int,
        typer.Option(
            help="How many API servers; more than one stand behind Caddy, on PostgreSQL and Valkey."
        ),
    ] = 1,
    miners: Annotated[
        str, typer.Option(help="Strategies of the miners, separated by commas.", metavar="LIST")
    ] = "all",
    target_listings: Annotated[
        int, typer.Option(help="How many homes the ZIP codes of an epoch hold together.")
    ] = defaults.TARGET_LISTINGS,
    seed: Annotated[
        str | None, typer.Option(help="From which wallets and draws follow; random by default.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Keep everything here and go on from it next time; without it, a temporary "
            "directory that is removed at the end."
        ),
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Export each epoch to this folder, for sn46 replay.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write assignments, reports and weights to this file.")
    ] = None,
    api_port: Annotated[int | None, typer.Option(help="The API's port; a free one.")] = None,
    s3_port: Annotated[int | None, typer.Option(help="The S3 server's; a free one.")] = None,
    portal_port: Annotated[int | None, typer.Option(help="The portal's; a free one.")] = None,
    dashboard_port: Annotated[int | None, typer.Option(help="The dashboard's; a free one.")] = None,
    no_dashboard: Annotated[
        bool, typer.Option("--no-dashboard", help="Leave the dashboard out.")
    ] = False,
    chaos: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
) -> int:
    """Run the whole network on this machine: chain, S3, API, a portal with real sales, miners
    honest and not, and validators that see through them."""
    from sn46.localnet.errors import OptionError
    from sn46.localnet.options import Chaos, LocalnetOptions, parse_miners
    from sn46.localnet.run import run_localnet

    try:
        options = LocalnetOptions(
            epochs=epochs,
            epoch_seconds=epoch_seconds,
            validators=validators,
            replicas=replicas,
            miners=parse_miners(miners),
            target_listings=target_listings,
            seed=seed,
            data_dir=data_dir,
            export=export,
            json_file=json,
            chaos=frozenset(Chaos(name) for name in chaos or ()),
            api_port=api_port,
            s3_port=s3_port,
            portal_port=portal_port,
            dashboard=not no_dashboard,
            dashboard_port=dashboard_port,
        )
    except (OptionError, ValueError) as error:
        return fail("localnet", str(error), EXIT_USAGE)
    return run_localnet(options)


@app.command()
def config(
    actor: Annotated[Actor, typer.Argument(help="Whose settings.")],
) -> int:
    """Show an actor's settings and where each comes from. Exits with 1 where one is wrong."""
    from sn46.configuration import SettingsError, misspelt, read_settings

    kind = _settings_kind(actor)
    for name, value, origin in _settings_rows(kind):
        print(f"{name:28} {value:44} {origin}")
    try:
        read_settings(kind)
        wrong = misspelt(kind)
    except SettingsError as error:
        wrong = error.lines
    for line in wrong:
        fail("config", line)
    return EXIT_FAILED if wrong else 0


def _settings_kind(actor: Actor) -> "type[BaseSettings]":
    match actor:
        case Actor.API:
            from sn46.api.settings import ApiSettings

            return ApiSettings
        case Actor.DASHBOARD:
            from sn46.dashboard.settings import DashboardSettings

            return DashboardSettings
        case Actor.MINER:
            from sn46.miner.settings import MinerSettings

            return MinerSettings
        case Actor.VALIDATOR:
            from sn46.validator.settings import ValidatorSettings

            return ValidatorSettings


def _settings_rows(kind: "type[BaseSettings]") -> list[tuple[str, str, str]]:
    """Name, value as given and origin of each setting. Secrets are hidden."""
    from dotenv import dotenv_values
    from pydantic import SecretStr

    origins = {
        ".env": {name.upper(): value for name, value in dotenv_values(".env").items()},
        "environment": {name.upper(): value for name, value in os.environ.items()},
    }
    rows: list[tuple[str, str, str]] = []
    for field, info in kind.model_fields.items():
        name, value, origin = field.upper(), str(info.default), "default"
        if info.is_required():
            value, origin = "", "not set"
        for place, values in origins.items():
            if values.get(name) is not None:
                value, origin = str(values[name]), place
        if info.annotation is SecretStr and value:
            value = _HIDDEN
        rows.append((name, _PASSWORD.sub(rf"\1{_HIDDEN}@", value), origin))
    return rows


@app.command()
def version() -> int:
    """Show the version."""
    print(__version__)
    return 0
