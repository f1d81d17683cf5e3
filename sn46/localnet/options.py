"""What a local network is asked to be."""

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sn46.localnet import defaults
from sn46.localnet.errors import OptionError
from sn46.localnet.strategies import STRATEGIES
from sn46.mechanism.epochs import check_epoch_seconds
from sn46.mechanism.errors import EpochError

MAX_VALIDATORS = 16
MAX_REPLICAS = 8
MAX_MINERS = 200
"""A miner has its own address 127.0.1.k, and k ends at 254."""


class Chaos(StrEnum):
    """Misfortune that the network brings upon itself in its first epoch."""

    KILL_VALIDATOR = "kill-validator"
    """The last validator is killed (SIGKILL) while it validates."""

    LATE_VALIDATOR = "late-validator"
    """The second validator (the only one, where there is one) starts an epoch late."""

    KILL_REPLICA = "kill-replica"
    """The last of the API's replicas is killed (SIGKILL) while the miners are at work."""


@dataclass(frozen=True)
class LocalnetOptions:
    """A local network's options; see ``sn46 localnet --help``.

    Args:
        epochs: how many epochs to run; None goes on until Ctrl-C.
        miners: strategy names, each may stand more than once; empty takes every strategy once.
        replicas: how many API servers; one stands alone on SQLite, more stand behind Caddy on
            PostgreSQL and Valkey.
        target_listings: how many homes an epoch's ZIPs should hold together.
        seed: from which wallets and draws follow; None takes the data directory's, or a new one.
        data_dir: what is kept and found again; None takes a fresh one that is removed at the end.

    Raises:
        OptionError: where one cannot be used.
    """

    epochs: int | None = None
    epoch_seconds: int = defaults.EPOCH_SECONDS
    validators: int = defaults.VALIDATORS
    replicas: int = 1
    miners: tuple[str, ...] = ()
    target_listings: int = defaults.TARGET_LISTINGS
    seed: str | None = None
    data_dir: Path | None = None
    export: Path | None = None
    json_file: Path | None = None
    chaos: frozenset[Chaos] = frozenset()
    api_port: int | None = None
    s3_port: int | None = None
    portal_port: int | None = None
    dashboard: bool = True
    dashboard_port: int | None = None

    def __post_init__(self) -> None:
        try:
            check_epoch_seconds(self.epoch_seconds)
        except EpochError as error:
            raise OptionError(str(error)) from error
        if self.epochs is not None and self.epochs < 1:
            raise OptionError("--epochs must be 1 or more; leave it out to run until Ctrl-C.")
        if not 1 <= self.validators <= MAX_VALIDATORS:
            raise OptionError(f"--validators must be between 1 and {MAX_VALIDATORS}.")
        if not 1 <= self.replicas <= MAX_REPLICAS:
            raise OptionError(f"--replicas must be between 1 and {MAX_REPLICAS}.")
        if Chaos.KILL_REPLICA in self.chaos and self.replicas < 2:
            raise OptionError("--chaos kill-replica needs --replicas 2 or more.")
        if self.target_listings < 1:
            raise OptionError("--target-listings must be 1 or more.")
        if self.seed == "":
            raise OptionError("--seed must not be empty.")
        self._check_ports()
        self._check_places()
        if not self.miners:
            object.__setattr__(self, "miners", tuple(STRATEGIES))
        if len(self.miners) > MAX_MINERS:
            raise OptionError(f"--miners can name {MAX_MINERS} miners at most.")
        _check_strategies(self.miners)

    def _check_ports(self) -> None:
        ports = {
            "api": self.api_port,
            "s3": self.s3_port,
            "portal": self.portal_port,
            "dashboard": self.dashboard_port,
        }
        if not self.dashboard and self.dashboard_port is not None:
            raise OptionError("--dashboard-port and --no-dashboard contradict each other.")
        given = {name: port for name, port in ports.items() if port is not None}
        for name, port in given.items():
            if not 1 <= port <= 65_535:
                raise OptionError(f"--{name}-port must be between 1 and 65535.")
        if len(set(given.values())) < len(given):
            raise OptionError(
                f"{' and '.join(f'--{name}-port' for name in given)} must be different ports."
            )

    def _check_places(self) -> None:
        """Whether results can be written: the first ones are there minutes later."""
        if self.json_file is not None:
            folder = self.json_file.absolute().parent
            if not folder.is_dir():
                raise OptionError(f"There is no folder {folder} for --json.")
            if self.json_file.is_dir():
                raise OptionError(f"--json {self.json_file} is a folder; name a file.")
            _check_writable(folder, "--json")
        if self.export is not None:
            # It is made, with all that is above it.
            wanted = self.export.absolute()
            there = next(path for path in (wanted, *wanted.parents) if path.exists())
            if not there.is_dir():
                raise OptionError(f"{there} is a file; --export needs a folder.")
            _check_writable(there, "--export")


def _check_writable(folder: Path, option: str) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OptionError(f"{folder} cannot be written by this user; {option} needs it.")


def parse_miners(text: str) -> tuple[str, ...]:
    """Strategy names from a list separated by commas; ``all`` or nothing is every strategy once.

    Raises:
        OptionError: where a name is no strategy.
    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if names in ((), ("all",)):
        return tuple(STRATEGIES)
    _check_strategies(names)
    return names


def _check_strategies(names: Iterable[str]) -> None:
    for name in names:
        if name not in STRATEGIES:
            close = difflib.get_close_matches(name, STRATEGIES, n=1, cutoff=0.5)
            meant = f" Did you mean {close[0]}?" if close else ""
            raise OptionError(
                f"There is no miner strategy {name!r}.{meant} There are: {', '.join(STRATEGIES)}."
            )
