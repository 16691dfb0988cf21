"""The console blocks of the documents, run in their order on a demo of their own.

Output is compared in form: ids, digests, numbers and instants may be others, and
a document may leave lines out.  A progress bar is drawn on a terminal only.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.postgres import embedded

from ..processes import PATIENCE, Process

ROOT = Path(__file__).parents[2]
SHOWN_AT = "http://127.0.0.1:8080"
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
FORMS = (  # of what differs from one run to the next
    (re.compile(r"[━╸╺]+"), " "),
    (UUID, "<id>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<sha256>"),
    (re.compile(r'psql "[^"]*"'), "psql <conninfo>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ][\d:.]+(?:Z|[+-][\d:]+)?)?"), "<instant>"),
    (re.compile(r"\b(?:pending|processing|completed)\b"), "<status>"),
    (re.compile(r"\d[\d,.]*"), "<n>"),
    (re.compile(r"<n> (?:[kMGT]?B|min|ms|s)\b"), "<n>"),
    (re.compile(r"-{2,}"), "--"),
    (re.compile(r"\s+"), " "),
)


def blocks(document: str, prompt: str, after: str = "") -> list[tuple[str, list[str]]]:
    """Return the inputs at *prompt* in the console blocks, each with its output.

    If *after* is given, those that follow it in the document.
    """
    found: list[tuple[str, list[str]]] = []
    text = (ROOT / document).read_text()
    text = text[text.index(after) :]
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        if not block.startswith(prompt):
            continue
        for line in block.splitlines():
            if line.startswith(prompt):
                found.append((line.removeprefix(prompt), []))
            elif line.startswith("    ") and not found[-1][1] and prompt == "$ ":
                found[-1] = (f"{found[-1][0]}\n{line}", [])
            elif line.strip() not in ("", "…") and "━" not in line:
                found[-1][1].append(line)
    return found


def form(text: str) -> str:
    for pattern, word in FORMS:
        text = pattern.sub(word, text)
    return text.strip()


def missing(expected: list[str], output: str) -> str | None:
    """Return the first of the lines that does not follow those before it."""
    lines = iter([form(line) for line in output.splitlines()])
    for line in expected:
        pattern = ".*".join(map(re.escape, form(line).split("…")))
        if not any(re.fullmatch(pattern, one) for one in lines):
            return line
    return None


@pytest.fixture
def served(database: str, exports_dir: Path) -> Iterator[str]:
    """The URL of a service."""
    settings: dict[str, Any] = {"min_free_disk": 0, "drain_timeout": 0}
    with Process(database, exports_dir, "serve", **settings) as process:
        yield process.url()
        process.signal(signal.SIGTERM)
        process.end()


@pytest.mark.newest
def test_shell_blocks(served: str, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "CSV_EXPORT_URL": served,
    }
    ids: dict[str, str] = {}
    commands = blocks("README.md", "$ ")
    assert commands
    for command, expected in commands:
        if command.startswith("make "):
            continue  # see below
        for shown, true in {SHOWN_AT: environment["CSV_EXPORT_URL"], **ids}.items():
            command = command.replace(shown, true)
        deadline = time.monotonic() + PATIENCE
        while True:
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                timeout=60,
            )
            without = missing(expected, done.stdout)
            # What is asked for may take a moment.
            if not without or not command.startswith(
                f"curl {environment['CSV_EXPORT_URL']}"
            ):
                break
            assert time.monotonic() < deadline, (command, without, done.stdout)
            time.sleep(0.05)
        assert not without, (command, without, done.stdout)
        shown_ids = [id for line in expected for id in UUID.findall(line)]
        for shown, true in zip(shown_ids, UUID.findall(done.stdout)):
            ids.setdefault(shown, true)


@pytest.mark.newest
@pytest.mark.parametrize("document", ["README.md", "docs/sql.md"])
def test_psql_blocks(served: str, database: str, document: str) -> None:
    statements = blocks(document, "=> ")
    assert statements
    # A mark after each tells whose output it is.
    script = "".join(
        f"{text}\n\\echo :::{n}:::\n" for n, (text, _) in enumerate(statements)
    )
    psql = max(embedded.find_binaries().items())[1] / "psql"
    done = subprocess.run(
        [psql, "--no-psqlrc", database],
        input=script,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    outputs = re.split(r":::\d+:::\n", done.stdout)
    for (text, expected), output in zip(statements, outputs):
        without = missing(expected, output)
        assert not without, (text, without, output)


@pytest.mark.newest
def test_the_demo(tmp_path: Path) -> None:
    """`make demo`, as the README shows it."""
    ((command, expected),) = [
        one for one in blocks("README.md", "$ ") if one[0].startswith("make demo")
    ]
    done = subprocess.run(
        [*command.split(), "ONCE=1"],
        cwd=ROOT,
        env={
            **os.environ,
            "EMBEDDED_DIR": str(tmp_path / "postgres"),
            "EXPORTS_DIR": str(tmp_path / "exports"),
            "PORT": "0",
            "SEED_ROWS": "1000",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
    )
    output = done.stdout.replace(str(tmp_path / "exports"), "exports")
    address = re.compile(r"http://127\.0\.0\.1:\d+")
    without = missing(
        [address.sub("URL", line) for line in expected], address.sub("URL", output)
    )
    assert done.returncode == 0 and not without, (without, output)
