"""The package as users install it: from a wheel, outside the repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with only the package; its dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    # A build writes into its source folder, so it gets a copy.
    source = folder / "source"
    kept = ("service", "sql", "seeds", "setup.cfg", "pyproject.toml")
    for name in (*kept, "README.md", "LICENSE"):
        path = ROOT / name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", folder / "site", source], check=True
    )
    shutil.rmtree(source)
    yield folder / "site"


def run(
    installed: Path, folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(installed), sysconfig.get_path("purelib")])
    return subprocess.run(
        [sys.executable, "-P", installed / "bin" / "csv-export", *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_what_is_installed_is_whole(installed: Path) -> None:
    package = installed / "csv_export"
    for ours, theirs in (("service", "."), ("sql", "sql"), ("seeds", "seeds")):
        for path in (ROOT / ours).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert (package / theirs / path.relative_to(ROOT / ours)).exists(), path


def test_it_takes_no_other_name(installed: Path) -> None:
    taken = {path.name for path in installed.iterdir()} - {"bin"}
    assert "csv_export" in taken
    assert all(name.startswith("csv_export") for name in taken)


def test_it_makes_a_database_and_exports(
    installed: Path, tmp_path: Path, database: str
) -> None:
    done = run(
        *(installed, tmp_path, "up", "--once"),
        DATABASE_URL=f"{database} password=unheard",
        EXPORTS_DIR=str(tmp_path),
        PORT="0",
        SEED_ROWS="1000",
    )
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("*.csv"))) == 1
    assert "unheard" not in done.stdout + done.stderr


@pytest.mark.parametrize("shell, at", [("bash", "1"), ("zsh", "1"), ("fish", "exp")])
def test_completion(installed: Path, tmp_path: Path, shell: str, at: str) -> None:
    script = run(installed, tmp_path, "completion", shell)
    assert script.returncode == 0
    assert "_CSV_EXPORT_COMPLETE" in script.stdout
    words = {"COMP_WORDS": "csv-export exp", "COMP_CWORD": at}
    done = run(installed, tmp_path, _CSV_EXPORT_COMPLETE=f"{shell}_complete", **words)
    assert "export" in done.stdout
