"""`python -m tests.bench --help`"""

import click

from . import backlog, pump


@click.group()
def bench() -> None:
    """Measure; each command makes its own server and says what it did."""


bench.add_command(backlog.main, "backlog")
bench.add_command(pump.main, "pump")

if __name__ == "__main__":
    bench()
