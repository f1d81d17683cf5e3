"""``sn46 miner``: mine, check a submission before validators do, look at a miner and its needs."""

import asyncio
import json as jsonlib
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sn46.commands.outcome import EXIT_FAILED, Errors, saying, told_by_doctor

if TYPE_CHECKING:
    from sn46.miner.checkup import Checkup
    from sn46.miner.live import Attach
    from sn46.miner.settings import MinerSettings


app = typer.Typer(name="miner", help="Run a miner, or look after it.")

_JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write all of it to this file.")
]


def _wrongly() -> Errors:
    from sn46.chain.base import ChainError
    from sn46.miner.watching import NoSuchWork
    from sn46.sources.registry import SourceSettingError

    return (NoSuchWork, ChainError, SourceSettingError)


def _failed() -> Errors:
    from sn46.client.api import ApiError, ApiUnavailable
    from sn46.mechanism.errors import MechanismError
    from sn46.miner.checkup import NothingToCheck
    from sn46.miner.spool import SpoolError

    return (ApiError, ApiUnavailable, MechanismError, NothingToCheck, SpoolError)


@app.callback(invoke_without_command=True)
def mine(context: typer.Context) -> int:
    """Run a miner, with the settings of the environment and .env; or look after it."""
    return 0 if context.invoked_subcommand is not None else run()


@app.command()
def run() -> int:
    """Mine epoch after epoch; sn46 miner alone does so too."""
    from sn46.miner.process import main

    return main()


@app.command()
@saying("miner check", wrongly=_wrongly, failed=_failed)
def check(
    epoch: Annotated[
        str | None, typer.Option(help="An epoch's id, such as 2024-03-15-16:00; the newest.")
    ] = None,
    hotkey: Annotated[
        str | None, typer.Option(help="Whose work, where DATA_DIR holds that of several.")
    ] = None,
    trial: Annotated[
        bool, typer.Option("--trial", help="The last trial (sn46 miner once).")
    ] = False,
    json: _JsonFile = None,
) -> int:
    """Run the validators' quick validation on what is in the spool: the scores to expect, and
    every reason for a lost point. Needs no network and no key. Exits with 0 where the submission
    is valid, with 1 where it is not."""
    from sn46.clock import SystemClock
    from sn46.miner.checkup import check_up
    from sn46.miner.settings import load_settings
    from sn46.miner.trial import trial_dir
    from sn46.miner.watching import find_epoch, kept_assignment, whose

    settings = load_settings()
    data_dir = trial_dir(settings) if trial else settings.data_dir
    spool = find_epoch(data_dir, whose(settings, data_dir, hotkey), epoch)
    assignment = kept_assignment(spool, settings.api_hotkey)
    return _show(check_up(assignment, spool, SystemClock().now()), json)


@app.command()
@saying("miner status", wrongly=_wrongly, failed=_failed)
def status(
    hotkey: Annotated[
        str | None, typer.Option(help="Whose miner, where DATA_DIR holds the work of several.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=0, help="So many of the last submissions.")] = 5,
) -> int:
    """Show what the miner is doing and how its last epochs ended. Exits with 1 where it is not
    running."""
    from sn46.clock import SystemClock
    from sn46.miner.settings import load_settings
    from sn46.miner.spool import kept_epochs
    from sn46.miner.watching import NoSuchWork, read_status, whose, why_not_running
    from sn46.miner.words import outcome_line, status_lines

    settings, now = load_settings(), SystemClock().now()
    owner = whose(settings, settings.data_dir, hotkey)
    path = settings.status_path(owner)
    found = read_status(path)
    if found is None:
        raise NoSuchWork(
            f"There is no status at {path}. Start the miner with sn46 miner, or set DATA_DIR or "
            "STATUS_FILE to where it works."
        )
    fault = why_not_running(found, now)
    for line in status_lines(found, now) if fault is None else ():
        print(line)
    kept = kept_epochs(settings.data_dir, owner)
    for spool in kept[len(kept) - min(epochs, len(kept)) :]:
        print(outcome_line(spool.epoch_id, spool.outcome()))
    if fault is not None:
        print(f"sn46 miner status: {fault}", file=sys.stderr)
        return EXIT_FAILED
    return 0


@app.command()
def doctor() -> int:
    """Look at everything a miner needs, a line each with what to do. Uploads nothing. Exits with
    1 where something is not well."""
    from sn46.clock import SystemClock
    from sn46.miner.doctor import Doctor
    from sn46.miner.settings import load_settings

    return told_by_doctor(load_settings, lambda s: Doctor(s, SystemClock()).look())


@app.command()
@saying("miner once", wrongly=_wrongly, failed=_failed)
def once(
    zips: Annotated[int | None, typer.Option(min=1, help="Only so many of the ZIPs.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Scrape only so long; Ctrl-C ends it as well.")
    ] = None,
    json: _JsonFile = None,
) -> int:
    """Scrape the running epoch's ZIPs without uploading, in a spool of its own, and check what
    was found. Exits as check does."""
    from sn46.miner.process import watched
    from sn46.miner.settings import load_settings

    settings = load_settings()
    limit = None if minutes is None else timedelta(minutes=minutes)
    try:
        with watched(settings) as attach:
            found = asyncio.run(_once(settings, zips, limit, attach))
    except asyncio.CancelledError:
        print("sn46 miner once: Interrupted before anything was scraped.", file=sys.stderr)
        return EXIT_FAILED
    return _show(found, json)


async def _once(
    settings: "MinerSettings", zips: int | None, limit: timedelta | None, attach: "Attach"
) -> "Checkup":
    from sn46.clock import SystemClock
    from sn46.miner.trial import try_once

    task = asyncio.ensure_future(
        try_once(settings, SystemClock(), zips=zips, limit=limit, attach=attach)
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def _show(found: "Checkup", json: Path | None) -> int:
    from sn46.miner.words import checkup_lines

    for line in checkup_lines(found):
        print(line)
    if json is not None:
        # Last: where it cannot be written, hours of scraping have been told of all the same.
        json.write_text(jsonlib.dumps(found.to_json(), indent=1) + "\n")
    return 0 if found.valid else EXIT_FAILED
