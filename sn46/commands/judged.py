"""Commands about epochs that are judged: ``sn46 export`` writes one down, ``sn46 replay`` judges it
again, ``sn46 explain`` says why a miner scored what it did, ``sn46 compare`` holds the validators'
reports side by side."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sn46.commands.outcome import EXIT_FAILED, AskedWrongly, Errors, saying
from sn46.printing import printable

if TYPE_CHECKING:
    from sn46.validator.examiner import Examiner
    from sn46.validator.replay import Replay
    from sn46.validator.settings import ValidatorSettings

_From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="The folder of an export; without it, a validator's settings say where to fetch it.",
    ),
]
_Epoch = Annotated[
    str | None,
    typer.Option(help="The epoch's id, such as 2024-03-15-16:00; the newest by default."),
]
_ApiHotkey = Annotated[
    str | None, typer.Option(help="Trust only an assignment that this hotkey signed.")
]


def _failed() -> Errors:
    from sn46.chain.base import ChainError
    from sn46.client.api import ApiError, ApiUnavailable
    from sn46.mechanism.errors import MechanismError
    from sn46.store.base import StoreError
    from sn46.validator.examiner import ExaminerError

    return (ApiError, ApiUnavailable, ChainError, ExaminerError, MechanismError, StoreError)


@saying("export", failed=_failed)
def export(
    to: Annotated[Path, typer.Option("--to", help="The folder; an export there is added to.")],
    epoch: Annotated[
        list[str] | None, typer.Option(help="An epoch's id, more than once for several.")
    ] = None,
) -> int:
    """Write all that anyone needs to replay an epoch, the last ended one by default. Uses a
    validator's settings."""
    from sn46.configuration import read_settings
    from sn46.validator.settings import ValidatorSettings

    settings = read_settings(ValidatorSettings)
    asyncio.run(_export(settings, to, epoch or ["previous"]))
    return 0


async def _export(
    settings: "ValidatorSettings", to: Path, epochs: Sequence[str], say: Any = print
) -> list[str]:
    """Add epochs to a folder; their ids."""
    import httpx

    from sn46.certificates import trusted
    from sn46.chain.connect import open_chain
    from sn46.chain.wallets import load_hotkey
    from sn46.client.api import ApiClient
    from sn46.validator.export import export_epoch

    signer = load_hotkey(settings.wallet_name, settings.wallet_hotkey, settings.wallet_path)
    chain = open_chain(settings.chain_endpoint, netuid=settings.netuid)
    done: list[str] = []
    try:
        async with (
            httpx.AsyncClient(verify=trusted()) as http,
            ApiClient(settings.api_url, api_hotkey=settings.api_hotkey, signer=signer) as api,
        ):
            for text in epochs:
                epoch = (await api.epoch(text)).assignment.epoch
                say(f"Exporting epoch {epoch.id} …", flush=True)
                count = await export_epoch(to, epoch, api=api, chain=chain, http=http)
                say(f"Epoch {epoch.id}: {count} objects in {to}")
                done.append(epoch.id)
    finally:
        await chain.close()
    return done


@saying("replay", failed=_failed)
def replay(
    source: Annotated[Path, typer.Option("--from", help="The folder of an export.")],
    epoch: Annotated[str, typer.Option(help="The epoch's id, such as 2024-03-15-16:00.")],
    json: Annotated[
        Path | None, typer.Option(help="Write the replayed report to this file.")
    ] = None,
    api_hotkey: _ApiHotkey = None,
) -> int:
    """Judge an epoch again from an export, and compare with what the validators published.
    Needs no network and no key. Exits with 1 where a published report differs."""
    from sn46.validator.replay import replay_epoch

    examiner = _examiner()
    try:
        found = asyncio.run(
            replay_epoch(source, epoch, examiner=examiner, api_hotkey=api_hotkey, report=_progress)
        )
        if json is not None:
            _write_report(json, found.report)
    finally:
        examiner.close()
    return _show_replay(found)


@saying("explain", failed=_failed)
def explain(
    hotkey: Annotated[str, typer.Argument(help="The miner's hotkey, or how it begins.")],
    epoch: _Epoch = None,
    source: _From = None,
    api_hotkey: _ApiHotkey = None,
) -> int:
    """Say in plain words why a miner scored what it did in an epoch, with rows as examples."""
    return asyncio.run(_explain(hotkey, epoch, source, api_hotkey))


async def _explain(
    hotkey: str, epoch: str | None, source: Path | None, api_hotkey: str | None
) -> int:
    from sn46.validator.explaining import explained, explanation, matching
    from sn46.validator.replay import judge_again

    examiner = _examiner()
    try:
        async with _folder(source, epoch) as (folder, epoch_id):
            judged = await judge_again(
                folder, epoch_id, examiner=examiner, api_hotkey=api_hotkey, report=_progress
            )
            miners = judged.outcome.miners
            meant = matching(miners, hotkey)
            if len(meant) != 1:
                what = "Several hotkeys begin" if meant else "No hotkey that submitted begins"
                raise AskedWrongly(
                    f"{what} with {hotkey!r} in epoch {judged.assignment.epoch_id}: "
                    f"{', '.join(meant or sorted(miners)) or 'nobody submitted anything'}."
                )
            for line in explanation(await explained(judged, meant[0])):
                print(printable(line))
    finally:
        examiner.close()
    return 0


@saying("compare", failed=_failed)
def compare(
    epoch: _Epoch = None,
    source: _From = None,
) -> int:
    """Hold the reports that all validators published on an epoch side by side. Exits with 1 where
    they differ."""
    return asyncio.run(_compare(epoch, source))


async def _compare(epoch: str | None, source: Path | None) -> int:
    from sn46.validator.comparing import comparison, read_reports

    async with _folder(source, epoch) as (folder, epoch_id):
        found = await read_reports(folder, epoch_id)
    for line in comparison(found):
        print(printable(line))
    return 0 if found.agree else EXIT_FAILED


@asynccontextmanager
async def _folder(source: Path | None, epoch: str | None) -> AsyncGenerator[tuple[Path, str]]:
    """An export that holds the epoch, and its id: the one that is given, or a new one that is
    removed at the end."""
    from sn46.validator.folder import epochs_in

    if source is not None:
        held = epochs_in(source)
        if not held:
            raise AskedWrongly(
                f"{source} holds no epoch. Make an export with sn46 export --to DIR."
            )
        yield source, epoch or held[-1]
        return
    from sn46.configuration import read_settings
    from sn46.validator.settings import ValidatorSettings

    settings = read_settings(ValidatorSettings)
    with tempfile.TemporaryDirectory(prefix="sn46-epoch-") as made:
        folder = Path(made)
        epochs = await _export(settings, folder, [epoch or "previous"], _say_aside)
        yield folder, epochs[-1]


def _say_aside(text: str, flush: bool = False) -> None:
    print(text, file=sys.stderr, flush=flush)


def _examiner() -> "Examiner":
    from sn46.validator.examiner import Examiner

    return Examiner(seconds=120, memory_mb=3_000, workers=2)


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == of else ""
        print(f"\rExamined {done} of {of} submissions", end=end, file=sys.stderr, flush=True)


def _write_report(path: Path, report: Mapping[str, Any]) -> None:
    import json as jsonlib

    path.write_text(jsonlib.dumps(report, indent=1) + "\n")


def _show_replay(found: "Replay") -> int:
    from rich.console import Console

    from sn46.localnet.words import report_lines, report_table

    console = Console() if sys.stdout.isatty() else Console(width=160, highlight=False)
    console.print(report_table(found.report, names={}))
    for line in report_lines(found.report, names={}):
        console.print(line)
    print(f"consensus_hash {found.report['consensus_hash']}")
    for published, differences in sorted(found.published.items()):
        print(f"{published}: its published report {'differs' if differences else 'agrees'}")
        for difference in differences:
            print(f"  {printable(difference)}")
    if not found.published:
        print("No validator published a report on this epoch.")
    return 0 if found.agrees else EXIT_FAILED
