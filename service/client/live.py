"""Show progress to people: moving bars on a terminal, and figures as text.

Text from a server goes through `clean` before it is shown.
"""

import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import Self
from uuid import UUID

from rich.console import Console, Group, RenderableType
from rich.filesize import decimal
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .http import Export

STYLES = {
    "pending": "",
    "processing": "cyan",
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
}
LONGEST_NAME = 24  # characters

errors = Console(stderr=True, highlight=False)
AWAY = Text("the server cannot be reached; trying again", style="yellow")
IDLE = Text("nothing is running; press Ctrl-C to quit", style="dim")


class Bar:
    """A line on the terminal with the progress of an export; elsewhere nothing."""

    def __init__(self, *, hidden: bool = False) -> None:
        self._live = Live(console=errors, refresh_per_second=10)
        self._seen = moving() and not hidden

    def __enter__(self) -> Self:
        if self._seen:
            self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._seen:
            self._live.stop()

    def show(self, export: Export) -> None:
        self._live.update(_bar(export.name, _progress(export), figures(export)))

    def show_away(self) -> None:
        self._live.update(AWAY)

    def show_download(self, export: Export, done: int) -> None:
        share = done * 100 / max(export.bytes, 1)
        self._live.update(
            Group(
                _bar(export.name, 100, figures(export)),
                _bar("download", share, f"{share:3.0f}%  {size(done):>8}"),
            )
        )


class Screen(Bar):
    """The progress of all running exports, below those that have ended."""

    def __init__(self, *, hidden: bool = False) -> None:
        super().__init__(hidden=hidden)
        self._running: dict[UUID, Export] = {}
        self._draw()

    def show(self, export: Export) -> None:
        self._running.pop(export.id, None)
        if not export.ended:
            self._running[export.id] = export
        elif self._seen:
            errors.print(_heading(export), Text(f"  {figures(export)}"), sep="\n")
        self._draw()

    def forget(self, id: UUID) -> None:
        self._running.pop(id, None)
        self._draw()

    def _draw(self) -> None:
        shown: list[RenderableType] = []
        for export in sorted(self._running.values(), key=_turn):
            shown.append(_heading(export))
            shown.append(_bar(" ", _progress(export), figures(export)))
        self._live.update(Group(*shown) if shown else IDLE)


def moving() -> bool:
    """Return whether progress goes to an interactive terminal."""
    return errors.is_interactive


def say(text: str) -> None:
    errors.print(line(text), markup=False, soft_wrap=True)


def figures(export: Export) -> str:
    """Return the progress of *export* as text, in columns that keep their widths."""
    if export.status == "pending":
        if export.place:
            return f"pending, {ordinal(export.place)} in the queue"
        if export.waits_for == "limit":
            return "pending, as many of its requester run as may"
        later = export.run_at > datetime.now(UTC)
        return f"pending, not before {when(export.run_at)}" if later else "pending"
    if export.status in ("failed", "cancelled"):
        return line(f"{export.status}{reason(export)}")
    width = len(f"{max(export.estimated_rows, export.rows):,}")
    if export.ended:
        time = f"in {duration(seconds(export))}"
    else:
        time = f"ETA {duration(export.eta_seconds)}"
    return (
        f"{export.progress:3}%  {export.rows:>{width},} rows  {size(export.bytes):>8}"
        f"  {size(speed(export)):>8}/s  {time:>8}"
    )


def reason(export: Export) -> str:
    return f": {export.error.message}" if export.error else ""


def seconds(export: Export) -> float | None:
    """Return how long the copy took, or has taken so far."""
    if export.started_at is None:
        return None
    return (
        (export.finished_at or datetime.now(UTC)) - export.started_at
    ).total_seconds()


def speed(export: Export) -> float:
    """Return bytes per second: the mean of an ended export, else the server's figure."""
    if export.ended:
        return export.bytes / max(seconds(export) or 0, 0.001)
    return export.bytes_per_second


def size(bytes: float) -> str:
    return decimal(int(bytes))


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 59.5:
        digits = 0 if isinstance(seconds, int) else 2 if seconds < 1 else 1
        return f"{seconds:.{digits}f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def when(instant: datetime | None) -> str | None:
    """Return *instant* as text, in the local time zone."""
    return f"{instant.astimezone():%F %T %Z}" if instant else None


def age(instant: datetime) -> str:
    """Return how long ago *instant* was, in one unit."""
    passed = max(0, (datetime.now(UTC) - instant).total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if passed >= size:
            return f"{passed // size:.0f}{unit}"
    return f"{passed:.0f}s"


def ordinal(number: int) -> str:
    teens = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def clean(text: object) -> str:
    """Return *text* with the characters escaped that could control a terminal."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in str(text)
    )


def line(text: object) -> str:
    """Return *text* as one line, through `clean`."""
    return " ".join(clean(text).split())


def _turn(export: Export) -> tuple[bool, int, datetime]:
    return export.status == "pending", export.place or sys.maxsize, export.created_at


def _progress(export: Export) -> float | None:
    return None if export.status == "pending" else export.progress


def _heading(export: Export) -> Text:
    text = Text(str(export.id), no_wrap=True, overflow="ellipsis")
    return text.append(f"  {line(export.name)}  ", style="bold").append(
        export.status, style=STYLES[export.status]
    )


def _bar(name: str, progress: float | None, figures: str) -> Table:
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.width = errors.width - len("^C")  # a terminal prints that after the line
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=LONGEST_NAME)
    grid.add_column(ratio=1, min_width=4)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    bar = ProgressBar(completed=progress or 0, pulse=progress is None)
    grid.add_row(Text(line(name)), bar, Text(figures))
    return grid
