"""``sn46 audit``: past draws made again from public data alone, without any key."""

import asyncio
import json as jsonlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sn46.commands.outcome import EXIT_FAILED, AskedWrongly, Errors, saying

if TYPE_CHECKING:
    from sn46.mechanism.auditing import DrawAudit


def _failed() -> Errors:
    from sn46.client.api import ApiError, ApiUnavailable

    return (ApiError, ApiUnavailable)


@saying("audit", failed=_failed)
def audit(
    epoch: Annotated[
        str | None,
        typer.Argument(help="The epoch's id, such as 2024-03-15-16:00; the last ended one."),
    ] = None,
    last: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Audit the last so many ended epochs.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Audit every ended epoch.")] = False,
    api: Annotated[
        str | None, typer.Option(help="The API's address; the setting API_URL by default.")
    ] = None,
    api_hotkey: Annotated[
        str | None,
        typer.Option(
            help="Trust only assignments that this hotkey signed; the setting API_HOTKEY, or else "
            "the hotkey that an assignment names."
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write what was found to this file.")] = None,
) -> int:
    """Make past draws again from what the API publishes, and name every difference. Needs no key.
    Exits with 1 where something differs."""
    url, hotkey = _settings(api, api_hotkey)
    chosen = _epoch(epoch, last, every)
    audits = asyncio.run(_asked(url, hotkey, chosen, None if every else last))
    if json is not None:
        from sn46.client.auditing import summary

        json.write_text(jsonlib.dumps({"api": url, **summary(audits)}, indent=1) + "\n")
    return _conclude(audits)


async def _asked(
    url: str, hotkey: str | None, epoch: str | None, count: int | None
) -> "list[DrawAudit]":
    """The audits.

    Raises:
        AskedWrongly: where the API knows no such epoch, or none that has ended.
    """
    from sn46.client.api import ApiError

    try:
        return await _audits(url, hotkey, epoch, count)
    except ApiError as error:
        if error.status in (404, 409):
            raise AskedWrongly(str(error)) from error
        raise


def _settings(api: str | None, api_hotkey: str | None) -> tuple[str, str | None]:
    """The API's address, and the hotkey to trust: options first, then the environment and .env."""
    from pydantic_settings import BaseSettings, SettingsConfigDict

    from sn46.mechanism.signing import is_hotkey

    class Settings(BaseSettings):
        model_config = SettingsConfigDict(env_file=".env", extra="ignore")

        api_url: str | None = None
        api_hotkey: str | None = None

    found = Settings()
    url, hotkey = api or found.api_url, api_hotkey or found.api_hotkey
    if not url:
        raise AskedWrongly("No API to ask. Give --api URL, or set API_URL.")
    if hotkey and not is_hotkey(hotkey):
        raise AskedWrongly(f"{hotkey!r} is not a hotkey (ss58).")
    return url, hotkey or None


def _epoch(epoch: str | None, last: int | None, every: bool) -> str | None:
    """The epoch to audit; None for several."""
    from sn46.mechanism.epochs import parse_epoch_id
    from sn46.mechanism.errors import EpochError

    if sum((epoch is not None, last is not None, every)) > 1:
        raise AskedWrongly("Give an epoch, --epochs or --all, one of them.")
    if last is not None or every:
        return None
    if epoch is None or epoch == "previous":
        return "previous"
    try:
        # An epoch may start in any minute; which do, only the API knows.
        return parse_epoch_id(epoch, 60).id
    except EpochError:
        raise AskedWrongly(
            f"{epoch[:40]!r} is not an ended epoch. Write its id, as 2024-03-15-16:00, or "
            "`previous`."
        ) from None


async def _audits(
    url: str, hotkey: str | None, epoch: str | None, count: int | None
) -> "list[DrawAudit]":
    from sn46.client.auditing import Auditor
    from sn46.client.public import PublicClient

    try:
        client = PublicClient(url)
    except ValueError as error:
        raise AskedWrongly(str(error)) from error
    audits: list[DrawAudit] = []
    async with client:
        auditor = Auditor(client, hotkey)
        if epoch is not None:
            audits.append(await auditor.audit(epoch))
            _show(audits[0])
        else:
            async for found in auditor.audit_last(count, _progress):
                audits.append(found)
                _show(found)
    return audits


def _show(audit: "DrawAudit") -> None:
    """What was found of one epoch: a line where all agrees, else one for each difference."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    if audit.agrees and audit.drawn is not None and audit.assignment is not None:
        table = audit.assignment.selection.table_version[:12]
        print(
            f"{audit.epoch_id}: agrees. Drawn again from table {table}…: "
            f"{len(audit.drawn.zipcodes)} ZIPs with {audit.drawn.total} expected listings."
        )
    for difference in audit.differences:
        print(f"{audit.epoch_id}: DIFFERS. {difference}")
    for note in audit.notes:
        print(f"{audit.epoch_id}: note. {note}")


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == of else ""
        print(f"\rAudited {done} of {of} epochs", end=end, file=sys.stderr, flush=True)


def _conclude(audits: "list[DrawAudit]") -> int:
    if not audits:
        raise AskedWrongly("No epoch has ended yet; there is nothing to audit.")
    hotkeys: Any = sorted({a.assignment.api_hotkey for a in audits if a.assignment})
    if hotkeys:
        print(f"Signed by {', '.join(hotkeys)}.")
    differing = sum(not audit.agrees for audit in audits)
    if len(audits) > 1:
        print(f"{len(audits)} epochs audited; {differing} differ.")
    return EXIT_FAILED if differing else 0
