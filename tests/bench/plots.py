"""Draw bars from the figures that the other commands wrote, as plain SVG."""

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import click

WIDTH, LABELS, VALUES, BAR, GAP, TOP = 720, 190, 150, 18, 8, 44  # pixels

# No background, and greys that both a light and a dark page leave legible.
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #57606a }
.title { font-weight: 600 }
.other { fill: #9aa4af }
.ours { fill: #2f81f7 }
.range { stroke: #57606a; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #adbac7 }
  .other { fill: #636e7b }
  .range { stroke: #adbac7 }
}
"""


@click.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)
@click.option(
    "--folder",
    default=".",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
)
def main(files: tuple[Path, ...], folder: Path) -> None:
    """Draw each table of FILES that has something to plot into FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        figures = json.loads(file.read_text())
        tables = [table for table in figures["tables"] if table["plot"]]
        for n, table in enumerate(tables, 1):
            name = figures["topic"] + (f"-{n}" if len(tables) > 1 else "")
            path = folder / f"{name}.svg"
            path.write_text("\n".join(draw(table)) + "\n")
            click.echo(path)


def draw(table: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of an SVG: a bar for each row, its range as a thin line."""
    heading = table["plot"]
    label = next(iter(table["rows"][0]))
    bars = [(row[label], _spread(row[heading])) for row in table["rows"]]
    scale = (WIDTH - LABELS - VALUES) / max(high for _, (_, _, high) in bars)
    height = TOP + len(bars) * (BAR + GAP)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' role="img" aria-label="{escape(table["title"])}">'
    )
    yield f"<style>{STYLE}</style>"
    title = f"{table['title']}: {heading}"
    yield f'<text class="title" x="0" y="18">{escape(title)}</text>'
    for n, (name, (median, low, high)) in enumerate(bars):
        y = TOP + n * (BAR + GAP)
        middle, end = y + BAR / 2, LABELS + max(median, high) * scale
        kind = "ours" if name in table["ours"] else "other"
        shown = f"{name:,}" if isinstance(name, int) else escape(name)
        yield f'<text x="{LABELS - 8}" y="{y + 14}" text-anchor="end">{shown}</text>'
        yield (
            f'<rect class="{kind}" x="{LABELS}" y="{y}" rx="2"'
            f' width="{median * scale:.1f}" height="{BAR}"/>'
        )
        if low != high:
            yield (
                f'<path class="range" d="M{LABELS + low * scale:.1f} {middle}'
                f'H{LABELS + high * scale:.1f}"/>'
            )
        yield f'<text x="{end + 8:.1f}" y="{y + 14}">{median:,.{_digits(median)}f}</text>'
    yield "</svg>"


def _spread(cell: Any) -> tuple[float, float, float]:
    if isinstance(cell, dict):
        return cell["median"], cell["low"], cell["high"]
    return cell, cell, cell


def _digits(value: float) -> int:
    return 0 if value >= 100 else 1 if value >= 10 else 2
