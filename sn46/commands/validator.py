"""``sn46 validator``: validate, and look at what a validator needs."""

import typer

from sn46.commands.outcome import Errors, saying, told_by_doctor

app = typer.Typer(name="validator", help="Run a validator, or look after it.")


def _failed() -> Errors:
    from sn46.chain.base import ChainError
    from sn46.sources.registry import SourceSettingError

    return (ChainError, SourceSettingError)


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
