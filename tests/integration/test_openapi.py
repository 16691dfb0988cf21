"""The description is true: what is served does what it says, whatever is sent."""

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..processes import Process

CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.newest
@pytest.mark.timeout(300)
def test_schemathesis_finds_no_failure(
    database: str, exports_dir: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"min_free_disk": 0, "drain_timeout": 0}
    with Process(database, exports_dir, "serve", **settings) as process:
        done = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                f"--config-file={CONFIG}",
                "run",
                f"{process.url()}/openapi.json",
                "--checks=all",
                "--max-examples=10",
                "--generation-deterministic",
                "--no-color",
                # How fast this machine makes up requests says nothing of the service.
                "--suppress-health-check=too_slow",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        process.signal(signal.SIGTERM)
        assert process.end() == 0
        assert "ERROR service" not in process.log
    shown = "\n".join(line[:500] for line in done.stdout.splitlines())
    assert done.returncode == 0, shown
    assert re.search(r"Tested: (\d+)\n", done.stdout), shown
