"""`python -m tests.corpus [SCRIPT…]`: compare every SELECT of PostgreSQL's own tests."""

import asyncio
import logging
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import aiohttp
import click
import psycopg

from . import regress, scripts
from .compare import Kind, Outcome

IN_MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
AT_ONCE = 3  # scripts


@click.command(help=__doc__)
@click.argument("wanted", metavar="[SCRIPT]…", nargs=-1)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    default=scripts.CORPUS / "report.md",
    show_default=True,
)
def main(wanted: tuple[str, ...], report: Path) -> None:
    logging.disable(logging.CRITICAL)  # errors are reported as outcomes
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="csv-corpus-", dir=IN_MEMORY) as name:
        folder = Path(name)
        folder.chmod(0o711)
        with regress.cluster(folder / "server") as pattern:
            outcomes = asyncio.run(run_all(list(wanted), pattern, folder))
    seconds = time.monotonic() - began
    text = described(outcomes, seconds)
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(text)
    click.echo(f"\n{text.split('## ')[0]}\nThe report is in {report}.")
    sys.exit(any(one.fault for one in outcomes))


async def run_all(wanted: list[str], pattern: str, folder: Path) -> list[Outcome]:
    await regress.prepare(pattern)
    todo = iter(wanted or regress.names())
    outcomes: list[Outcome] = []

    async def work() -> None:
        for name in todo:
            began = time.monotonic()
            try:
                found = await regress.run(name, pattern, folder / name)
            except (psycopg.OperationalError, aiohttp.ClientError) as error:
                found = [Outcome(Kind.BROKEN, "-- the whole script", str(error))]
            outcomes.extend(replace(one, name=name) for one in found)
            csv = sum(one.kind in CSV for one in found)
            faults = sum(one.fault for one in found)
            click.echo(
                f"{name:24} {csv:5} statements  {faults or '':4}"
                f" {'faults' if faults else '      '}  {time.monotonic() - began:5.1f} s"
            )

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(work())
    return outcomes


LINES = {
    Kind.LINES,
    Kind.LINES_INHERENT,
    Kind.NOT_JSON,
    Kind.OTHER_ROWS,
    Kind.NO_LINES,
}
CSV = set(Kind) - LINES


def described(outcomes: list[Outcome], seconds: float) -> str:
    """Return the report: counts by kind, the reasons, and every fault."""
    counts = Counter(one.kind for one in outcomes)
    lines = ["# PostgreSQL's regression statements, by psql and by the service", ""]
    csv = sum(counts[kind] for kind in CSV)
    lines += [f"{csv:,} statements in {seconds:.0f} seconds.", ""]
    lines += ["| outcome | statements |", "|---|--:|"]
    lines += [
        f"| {'**fault:** ' if Outcome(kind, '').fault else ''}{kind} | {counts[kind]:,} |"
        for kind in Kind
        if counts[kind]
    ]
    lines += ["", "## Inherent differences", "", "| reason | statements |", "|---|--:|"]
    reasons = Counter(
        one.note for one in outcomes if one.kind in (Kind.INHERENT, Kind.LINES_INHERENT)
    )
    lines += [f"| {reason} | {count:,} |" for reason, count in reasons.most_common()]
    for kind in Kind:
        found = [one for one in outcomes if one.kind is kind and one.fault]
        if not found:
            continue
        lines += ["", f"## Fault: {kind} ({len(found):,})"]
        notes = Counter(one.note for one in found)
        for one in sorted(
            found, key=lambda one: (-notes[one.note], one.note, one.name)
        ):
            lines += ["", f"{one.name}: {one.note}", ""]
            lines += ["```sql", one.statement.strip(), "```"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
