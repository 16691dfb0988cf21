"""Full disks, and folders that disappear."""

import json
import os
import resource
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from .world import LARGE, World

pytestmark = pytest.mark.newest

SMALL = "select 1 as n"


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path | None]:
    """A file system of 2 MB, or None if we may not mount one on this machine."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)],
            capture_output=True,
        ).returncode
        == 0
    )
    yield folder if mounted else None
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))


def test_a_full_disk(world: World, tiny: Path | None) -> None:
    """If nothing can be mounted, the kernel limits the size of files instead."""
    message = "No space left on device" if tiny else "File too large"
    world.exports_dir = tiny or world.exports_dir
    world.submit(LARGE, max_attempts=2)
    world.submit(SMALL)
    process = world.start(min_free_disk=0, preexec=None if tiny else limit_files)
    world.settle()
    assert process.running()
    large, small = world.rows("select * from exports order by created_at")
    assert (large["status"], small["status"]) == ("failed", "completed")
    assert large["error"]["message"] == f"the file cannot be written: {message}"
    assert [one["outcome"] for one in large["history"]] == ["failed"] * 2
    world.check()


def test_a_folder_that_vanishes(world: World) -> None:
    process = world.start()
    world.exports_dir.rmdir()
    world.submit(SMALL)
    process.until("nothing is claimed: the exports cannot be written")
    world.exports_dir.mkdir()
    world.settle()
    assert world.statuses() == {"completed": 1}
    world.check()


def test_a_folder_that_vanishes_under_a_copy(world: World) -> None:
    query = "select n, pg_sleep(0.001)::text from generate_series(1, 700) as n"
    (id,) = world.submit(query)
    process = world.start()
    world.until_copying(id)
    shutil.rmtree(world.exports_dir)
    world.until("select from exports where error is not null")
    world.exports_dir.mkdir()
    world.settle()
    (export,) = world.rows("select * from exports")
    assert export["history"][0]["error"]["message"] == (
        "the file cannot be written: No such file or directory"
    )
    assert export["status"] == "completed"
    assert process.running()
    world.check()


def test_too_little_space_is_left_alone(world: World) -> None:
    world.submit(SMALL)
    service = world.start("serve", min_free_disk="1000TB")
    url = service.url()
    service.until("nothing is claimed")
    with urllib.request.urlopen(f"{url}/health") as answer:
        assert answer.status == 200
        assert json.load(answer)["status"] == "degraded"
    assert world.statuses() == {"pending": 1}
    service.kill()
    world.start()
    world.settle()
    world.check()


def test_the_janitor_removes_debris_and_nothing_else(world: World) -> None:
    keep, deleted, expired = world.submit(SMALL, SMALL, SMALL)
    first = world.start()
    world.settle()
    first.kill()
    stranger = "00000000-0000-4000-8000-000000000000"
    for name in (
        f".{keep}-2.csv.partial",
        f"{keep}-7.csv",
        f"{stranger}-1.csv",
        f".{stranger}-2.csv.partial",
        "notes.csv",
    ):
        (world.exports_dir / name).touch()
    old = world.exports_dir / f"{stranger}-3.csv"
    old.touch()
    os.utime(old, (0, 0))
    world.rows("delete from exports where id = %s returning id", deleted)
    world.rows(
        "update exports set expires_at = now() where id = %s returning id", expired
    )
    process = world.start()
    for _ in range(5):
        process.until("removing ")
    assert {path.name for path in world.exports_dir.iterdir()} == {
        f"{keep}-1.csv",
        f"{stranger}-1.csv",  # perhaps of another database
        f".{stranger}-2.csv.partial",
        "notes.csv",
    }
    for name in (f"{stranger}-1.csv", f".{stranger}-2.csv.partial", "notes.csv"):
        (world.exports_dir / name).unlink()
