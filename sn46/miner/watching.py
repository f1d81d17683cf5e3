"""Looking at a miner from another process: its status file and its spool."""

import json
import socket
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sn46.chain.base import ChainError
from sn46.chain.wallets import load_hotkey
from sn46.mechanism.assignment import Assignment, read_assignment
from sn46.mechanism.epochs import parse_epoch_id
from sn46.mechanism.errors import AssignmentError, EpochError
from sn46.mechanism.names import Hotkey
from sn46.mechanism.signing import address_of
from sn46.mechanism.times import parse_time
from sn46.miner.progress import MinerStatus, Phase
from sn46.miner.settings import MinerSettings
from sn46.miner.spool import EpochSpool, SpoolError, kept_epochs, spools_in
from sn46.processes import is_alive

STALE_AFTER: Final = timedelta(seconds=15)


class NoSuchWork(Exception):
    """What was asked for is not in the data folder. The message says what is."""


def whose(settings: MinerSettings, data_dir: Path, hotkey: str | None = None) -> Hotkey:
    """Whose work in a data folder is meant: the hotkey named, else the wallet's, else the only
    one. The wallet need not be there.

    Raises:
        NoSuchWork: where that is nobody's, or could be several.
    """
    held = spools_in(data_dir)
    if not held:
        raise NoSuchWork(
            f"{data_dir} holds no miner's work yet. Start the miner first, or set DATA_DIR to "
            "where it works."
        )
    wanted = hotkey or _own_hotkey(settings)
    if wanted in held:
        return Hotkey(str(wanted))
    if hotkey is None and len(held) == 1:
        return held[0]
    raise NoSuchWork(
        f"Say with --hotkey whose work is meant: {data_dir} holds that of {', '.join(held)}."
    )


def _own_hotkey(settings: MinerSettings) -> Hotkey | None:
    try:
        return address_of(
            load_hotkey(settings.wallet_name, settings.wallet_hotkey, settings.wallet_path)
        )
    except ChainError:
        return None


def find_epoch(data_dir: Path, hotkey: Hotkey, text: str | None = None) -> EpochSpool:
    """An epoch of a spool, to read only: the one named in either form of its id, else the newest.

    Raises:
        NoSuchWork: where the spool does not hold it.
    """
    kept = {spool.epoch_id: spool for spool in kept_epochs(data_dir, hotkey)}
    if not kept:
        raise NoSuchWork(f"{data_dir / hotkey} holds no epoch yet. Start the miner first.")
    if text is None:
        return list(kept.values())[-1]
    try:
        # Any length will do here: the id names a minute.
        found = kept.get(parse_epoch_id(text, 60).id)
    except EpochError as error:
        raise NoSuchWork(str(error)) from error
    if found is None:
        raise NoSuchWork(f"The spool does not hold epoch {text}. It holds: {', '.join(kept)}.")
    return found


def kept_assignment(spool: EpochSpool, api_hotkey: Hotkey) -> Assignment:
    """An epoch's assignment, as it was kept when it was received.

    Raises:
        AssignmentError: where it is not signed by the trusted API.
        SpoolError: where it was not kept.
    """
    document = spool.assignment()
    if document is None:
        raise SpoolError(
            f"The assignment of epoch {spool.epoch_id} was not kept: it was received by an "
            "earlier version of this program. Epochs that begin from now on can be checked."
        )
    assignment = read_assignment(document, api_hotkey)
    if assignment.epoch_id != spool.epoch_id:
        raise AssignmentError(f"The assignment kept for epoch {spool.epoch_id} is another's.")
    return assignment


def read_status(path: Path) -> MinerStatus | None:
    """The status that a miner wrote last; None where there is none that can be read."""
    try:
        value: Any = json.loads(path.read_bytes())
        return MinerStatus.from_json(value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def why_not_running(status: MinerStatus, now: datetime) -> str | None:
    """Why a miner is not at work, going by its status; None where it is."""
    if status.phase is Phase.STOPPED:
        return f"The miner was stopped at {status.updated_at}. Start it with sn46 miner."
    if status.host == socket.gethostname() and not is_alive(status.pid):
        return (
            f"The miner's process {status.pid} is gone; its last sign of life is of "
            f"{status.updated_at}. Start it again: it goes on where it was."
        )
    silent = status.true_time(now) - parse_time(status.updated_at)
    if silent > STALE_AFTER:
        return (
            f"The miner has given no sign of life for {silent.total_seconds():.0f} s. Look into "
            "its log, and start it again: it goes on where it was."
        )
    return None
