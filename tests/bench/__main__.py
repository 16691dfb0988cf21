"""`python -m tests.bench --help`"""

import signal
import sys
from pathlib import Path

import click

from . import (
    api,
    backlog,
    compression,
    events,
    export,
    history,
    keys,
    looplag,
    memory,
    plots,
    tiny,
    turns,
    wakeup,
)

TOPICS = (
    export, tiny, wakeup, backlog, turns, history, memory, looplag, events, api, keys, compression
)  # fmt: skip


@click.group()
def bench() -> None:
    """Measure; each command makes its own server and says what it did."""


@bench.command("all")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.pass_context
def run_all(context: click.Context, folder: Path) -> None:
    """Run every benchmark as its defaults have it; figures and plots go to FOLDER."""
    files = [folder / f"{_name(topic)}.json" for topic in TOPICS]
    for topic, file in zip(TOPICS, files):
        click.secho(f"\n{_name(topic)}", bold=True)
        context.invoke(topic.main, to=file)
    context.invoke(plots.main, files=files, folder=folder)


def _name(topic: object) -> str:
    return topic.__name__.rpartition(".")[2]


for topic in (*TOPICS, plots):
    bench.add_command(topic.main, _name(topic))

if __name__ == "__main__":
    # Ended from outside, it still ends its servers and workers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bench()
