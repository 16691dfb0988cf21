"""Run the service in processes, as an operator does; tests can kill them."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

COMMAND = str(Path(sys.executable).with_name("csv-export"))
PATIENCE = 30.0  # seconds


class Process:
    """A process of `csv-export …`; its log goes to a file, which never blocks it.

    The end of the `with` block kills it.  *module* may name another entry point for
    `python -m`.
    """

    def __init__(
        self,
        database: str,
        exports_dir: Path,
        *arguments: str,
        module: str | None = None,
        preexec: Any = None,
        **settings: Any,
    ) -> None:
        self._log = tempfile.TemporaryFile("w+")
        self._seen = 0
        environment = {name.upper(): str(value) for name, value in settings.items()}
        self._process = subprocess.Popen(
            [*([sys.executable, "-m", module] if module else [COMMAND]), *arguments],
            env={
                **os.environ,
                "DATABASE_URL": database,
                "EXPORTS_DIR": str(exports_dir),
                "PORT": "0",
                **environment,
            },
            stderr=self._log,
            preexec_fn=preexec,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        """Return everything that it has logged so far."""
        with os.fdopen(os.dup(self._log.fileno()), "rb") as log:
            return os.pread(log.fileno(), 1 << 30, 0).decode()

    def until(self, words: str) -> str:
        """Wait for a line with *words*, after the line found last; return it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            running = self.running()
            text = self.log
            found = text.find(words, self._seen)
            if found >= 0 and (end := text.find("\n", found)) >= 0:
                self._seen = end
                return text[text.rfind("\n", 0, found) + 1 : end]
            assert running, f"it ended without saying {words!r}:\n{text}"
            assert time.monotonic() < deadline, f"it never said {words!r}:\n{text}"
            time.sleep(0.005)

    def url(self) -> str:
        """Wait until `serve` listens; return its URL."""
        return self.until("serving on ").split()[-1]

    def running(self) -> bool:
        return self._process.poll() is None

    def signal(self, which: signal.Signals) -> None:
        self._process.send_signal(which)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.end()

    def end(self) -> int:
        """Wait until it has ended; return its exit code."""
        return self._process.wait(PATIENCE)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._log.close()
