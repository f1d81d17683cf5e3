"""A picture of the miner's progress that stays at the foot of the terminal, under its log."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sn46.miner.progress import MinerStatus, Phase, Progress
from sn46.miner.words import left_of, progress_line

Attach = Callable[[Progress], None]
"""Given the progress to show, once there is one."""


@contextmanager
def live_view(console: Console) -> Generator[Attach]:
    """Show a miner's progress on a terminal for as long as this lasts. What is written to
    ``sys.stderr`` and ``sys.stdout`` meanwhile appears above it."""
    shown: list[Progress] = []

    def picture() -> Group:
        return render(shown[-1].status, datetime.now(UTC)) if shown else Group()

    with Live(get_renderable=picture, console=console, refresh_per_second=2, transient=True):
        yield shown.append


def render(status: MinerStatus, now: datetime) -> Group:
    """One picture; ``now`` is what this machine's clock shows."""
    now = status.true_time(now)
    if status.epoch_id is None or status.deadline is None:
        return Group(Text(status.phase.value))
    head = Text(
        f"{status.phase.value}  epoch {status.epoch_id}, "
        f"{left_of(status.deadline, now)} until the deadline"
    )
    if status.phase is not Phase.SCRAPING:
        return Group(head)
    table = Table.grid(padding=(0, 2))
    for zip_ in status.under_way:
        bar = ProgressBar(
            total=max(zip_.expected, 1), completed=min(zip_.found, zip_.expected), width=24
        )
        table.add_row(zip_.zipcode, bar, f"{zip_.found} of {zip_.expected}")
    return Group(head, Text(progress_line(status, now)), table)
