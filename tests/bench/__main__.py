"""`python -m tests.bench --help`"""

import click

from . import api, backlog, compression, export, looplag, memory, tiny, wakeup


@click.group()
def bench() -> None:
    """Measure; each command makes its own server and says what it did."""


for topic in (
    export,
    tiny,
    wakeup,
    backlog,
    memory,
    looplag,
    api,
    compression,
):
    bench.add_command(topic.main, topic.__name__.rpartition(".")[2])

if __name__ == "__main__":
    bench()
