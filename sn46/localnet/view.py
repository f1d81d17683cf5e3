"""What the user of a local network sees: a live picture on a terminal, lines elsewhere."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sn46.localnet.service import Event, State
from sn46.localnet.status import Status
from sn46.mechanism.epochs import Epoch

_PLAIN_EVERY = timedelta(seconds=15)
_NOTE_LENGTH = 60
_BAR = 12


@dataclass(frozen=True)
class Seen:
    """One miner or validator at one moment."""

    name: str
    state: State
    status: Status


@dataclass(frozen=True)
class Picture:
    """The network at one moment. ``headline`` is its phase in a sentence."""

    now: datetime
    headline: str
    services: Sequence[tuple[str, State]]
    miners: Sequence[Seen]
    validators: Sequence[Seen]


class View(ABC):
    """Where everything is shown. Use it as a context manager."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    @abstractmethod
    def say(self, text: str, style: str = "") -> None:
        """A line that stays."""

    @abstractmethod
    def show(self, what: RenderableType) -> None:
        """Something larger that stays."""

    @abstractmethod
    def update(self, picture: Picture) -> None:
        """The network has moved on."""

    def event(self, event: Event) -> None:
        self.say(f"{event.service}: {event.text}", style="yellow")
        for line in event.tail:
            self.say(f"    {line}", style="dim")


def open_view(console: Console) -> View:
    """The live view on a terminal, the plain one elsewhere."""
    return LiveView(console) if console.is_terminal else PlainView(console)


class LiveView(View):
    """A picture at the bottom of a terminal, with what stays scrolling above it."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, text: str, style: str = "") -> None:
        self._live.console.print(Text(text, style=style))

    def show(self, what: RenderableType) -> None:
        self._live.console.print(what)

    def update(self, picture: Picture) -> None:
        services = "  ".join(
            f"{name} [{'green' if state is State.RUNNING else 'yellow'}]{state.value}[/]"
            for name, state in picture.services
        )
        self._live.update(
            Group(
                Text(picture.headline, style="bold"),
                Text.from_markup(services),
                _rows("miner", picture.miners),
                _rows("validator", picture.validators),
            )
        )


def _rows(kind: str, seen: Sequence[Seen]) -> Table:
    """Where room is short, the notes are cut and nothing else: rich takes it from a column whose
    width is free first."""
    table = Table(box=None, padding=(0, 1), show_header=True, header_style="dim")
    table.add_column(kind, width=16, no_wrap=True)
    table.add_column("phase", width=20, no_wrap=True)
    table.add_column("progress", width=_BAR)
    table.add_column("")
    for one in seen:
        status = one.status
        phase = status.phase if one.state is State.RUNNING else one.state.value
        bar: RenderableType = ""
        if status.of:
            bar = ProgressBar(total=status.of, completed=status.done, width=_BAR)
        count = f"{status.done} of {status.of}  " if status.of else ""
        note = Text(f"{count}{_shortened(status.note)}", no_wrap=True, overflow="ellipsis")
        table.add_row(one.name, phase, bar, note)
    return table


def _shortened(note: str) -> str:
    line = " ".join(note.split())
    return line if len(line) <= _NOTE_LENGTH else f"{line[: _NOTE_LENGTH - 1]}…"


class PlainView(View):
    """Lines for files and pipes: each change of phase, and progress now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._headline = ""
        self._phases: dict[str, str] = {}
        self._progress_at: datetime | None = None

    def say(self, text: str, style: str = "") -> None:
        self._console.print(Text(text), soft_wrap=True)

    def show(self, what: RenderableType) -> None:
        self._console.print(what)

    def update(self, picture: Picture) -> None:
        phase = picture.headline.partition(";")[0]
        if phase != self._headline:
            self._headline, self._progress_at = phase, picture.now
            self.say(f"{picture.now:%H:%M:%S}  {picture.headline}")
        for one in picture.validators:
            if self._phases.get(one.name) != one.status.phase:
                self._phases[one.name] = one.status.phase
                self.say(f"{picture.now:%H:%M:%S}  {one.name}: {one.status.phase}")
        if self._progress_at is None or picture.now - self._progress_at >= _PLAIN_EVERY:
            self._progress_at = picture.now
            self.say(f"{picture.now:%H:%M:%S}  {_progress(picture)}")


def _progress(picture: Picture) -> str:
    counts: dict[str, int] = {}
    for one in picture.miners:
        counts[one.status.phase] = counts.get(one.status.phase, 0) + 1
    done = sum(one.status.done for one in picture.miners)
    of = sum(one.status.of for one in picture.miners)
    phases = ", ".join(f"{count} {phase}" for phase, count in sorted(counts.items()))
    validating = "".join(
        f"; {one.name} {one.status.phase} {one.status.done} of {one.status.of}"
        for one in picture.validators
        if one.status.of
    )
    return f"miners: {phases}; {done} of {of} ZIPs{validating}"


def headline(now: datetime, first: Epoch, epoch: Epoch) -> str:
    """The phase of the network: the epoch that runs, and what is validated beside it."""
    if now < first.start:
        return f"Waiting for epoch {first.id}; it begins in {_seconds(first.start - now)}"
    left = _seconds(epoch.end - now)
    before = epoch.previous()
    if before.start < first.start:
        return f"Epoch {epoch.id}: miners at work; uploads end in {left}"
    if now < before.candidates_by:
        step = "quick validation"
    elif now < before.evidence_deadline:
        step = "spot checks"
    elif now < before.weights_by:
        step = "scores, reports and weights"
    else:
        step = "done unless a validator is late"
    return (
        f"Epoch {before.id} is validated: {step} (epoch {epoch.id} runs beside it); "
        f"uploads end in {left}"
    )


def _seconds(duration: timedelta) -> str:
    return f"{max(0, int(duration.total_seconds()))} s"
