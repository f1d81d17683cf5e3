"""``sn46 localnet``: a network from its options to an exit code."""

import asyncio
import signal
import sys

from rich.console import Console

from sn46.chain.base import ChainError
from sn46.clock import Clock, SystemClock
from sn46.localnet.datadir import DataDir
from sn46.localnet.errors import LocalnetError
from sn46.localnet.network import Network
from sn46.localnet.options import LocalnetOptions
from sn46.localnet.portal import PortalDataError
from sn46.localnet.view import open_view
from sn46.store.base import StoreError
from sn46.zipcodes import ZipTableError

_CANNOT_RUN = (LocalnetError, ChainError, StoreError, ZipTableError, PortalDataError, OSError)
_PLAIN_WIDTH = 160


def run_localnet(options: LocalnetOptions, clock: Clock | None = None) -> int:
    """Run a local network until its epochs are done, or SIGINT or SIGTERM comes.

    Returns:
        0 where it did what was asked, 1 where not; the reason stands on standard error.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PLAIN_WIDTH, highlight=False)
    try:
        with DataDir(options.data_dir) as data:
            problems = asyncio.run(_run(options, data, console, clock or SystemClock()))
            if problems and not data.is_kept:
                data.keep()
                problems.append(f"Data and logs are kept in {data.path}.")
    except (LocalnetError, OSError) as error:
        problems = [str(error)]
    for problem in problems:
        print(f"sn46 localnet: {problem}", file=sys.stderr)
    return 1 if problems else 0


async def _run(
    options: LocalnetOptions, data: DataDir, console: Console, clock: Clock
) -> list[str]:
    """Run, and say what was wrong, a sentence each."""
    stop = asyncio.Event()
    with open_view(console) as view:
        network = Network(options, data, view, clock, stop)

        def end() -> None:
            if stop.is_set():
                network.kill()
            stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, end)
        try:
            await network.run()
        except _CANNOT_RUN as error:
            return [str(error) or type(error).__name__]
    return _problems(network)


def _problems(network: Network) -> list[str]:
    if network.is_success:
        return []
    found = list(network.faults)
    for result in network.results:
        if not result.consensus:
            reasons = " ".join(result.faults) or "No validator published a report."
            found.append(f"Epoch {result.epoch.id} failed. {reasons}")
    wanted = network.options.epochs
    if wanted is not None and len(network.results) < wanted:
        found.append(f"Interrupted after {len(network.results)} of {wanted} epochs.")
    return found
