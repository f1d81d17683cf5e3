"""``sn46 validator``: validate, and look at what a validator needs."""

from typing import Annotated

import typer

from sn46.commands.outcome import Errors, fail, saying, told_by_doctor

app = typer.Typer(name="validator", help="Run a validator, or look after it.")


def _failed() -> Errors:
    from sn46.chain.base import ChainError
    from sn46.sources.registry import SourceSettingError
    from sn46.validator.health import HealthError

    return (ChainError, SourceSettingError, HealthError)


@app.callback(invoke_without_command=True)
def validate(context: typer.Context) -> int:
    """Run a validator, with the settings of the environment and .env; or look after it."""
    return 0 if context.invoked_subcommand is not None else run()


@app.command()
@saying("validator", failed=_failed)
def run() -> int:
    """Validate epoch after epoch; sn46 validator alone does so too."""
    from sn46.configuration import read_settings
    from sn46.validator.service import run_validator
    from sn46.validator.settings import ValidatorSettings

    run_validator(read_settings(ValidatorSettings))
    return 0


def _wrongly() -> Errors:
    from sn46.validator.watching import NoSuchValidator

    return (NoSuchValidator,)


@app.command()
@saying("validator status", wrongly=_wrongly)
def status(
    epochs: Annotated[int, typer.Option(min=0, help="So many of the last epochs.")] = 5,
) -> int:
    """Show what the validator is doing, how fit its parts are, and how its last epochs ended.
    Reads what the running one wrote. Exits with 1 where it is not at work."""
    from sn46.clock import SystemClock
    from sn46.configuration import read_settings
    from sn46.validator.settings import ValidatorSettings
    from sn46.validator.watching import (
        epoch_lines,
        read_status,
        status_lines,
        why_not_running,
    )

    settings, now = read_settings(ValidatorSettings), SystemClock().now()
    seen = read_status(settings.status_path())
    fault = why_not_running(seen, now)
    for line in status_lines(seen, now) if fault is None else ():
        print(line)
    for line in epoch_lines(settings.data_dir, epochs):
        print(line)
    return 0 if fault is None else fail("validator status", fault)


@app.command()
def doctor() -> int:
    """Look at everything a validator needs, a line each with what to do. Changes nothing. Exits
    with 1 where something is not well."""
    from sn46.clock import SystemClock
    from sn46.configuration import read_settings
    from sn46.validator.doctor import Doctor
    from sn46.validator.settings import ValidatorSettings

    return told_by_doctor(
        lambda: read_settings(ValidatorSettings), lambda s: Doctor(s, SystemClock()).look()
    )
