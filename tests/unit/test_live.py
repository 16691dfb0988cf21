"""The texts for people, and the names of downloaded files."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.client import live
from service.client.download import safe_name, unused
from service.client.http import Export

NOW = datetime.now(UTC)


def export(**fields: Any) -> Export:
    shown = {
        "jobId": "8d546eed-cb79-4bd7-a0a9-95992361f50d",
        "status": "processing",
        "progress": 42,
        "rows": 420_000,
        "bytes": 50_500_000,
        "estimatedRows": 1_000_000,
        "rowsPerSecond": 1_000_000,
        "etaSeconds": 1,
        "format": "csv",
        "compression": "none",
        "attempt": 1,
        "runAt": NOW,
        "createdAt": NOW,
        "startedAt": NOW,
        **dict.fromkeys(("source", "delimiter", "header", "bom", "sha256")),
        **dict.fromkeys(("resultColumns", "error", "finishedAt")),
        "anything": "new",
    }
    return Export.of(shown | fields)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({}, " 42%    420,000 rows   50.5 MB  120.2 MB/s   ETA 1 s"),
        ({"etaSeconds": None}, "    ETA -"),
        ({"status": "pending", "place": 3}, "pending, 3rd in the queue"),
        ({"status": "pending"}, "pending"),
        ({"status": "pending", "runAt": "2999-01-01T00:00:00Z"}, "not before 2999-01"),
        ({"status": "failed", "error": {"message": "a\nb\x1b[1m"}}, r"failed: a b\x1b[1m"),
        (
            {"status": "completed", "finishedAt": NOW + timedelta(seconds=90)},
            "561.1 kB/s   in 1:30",
        ),
    ],
)  # fmt: skip
def test_how_far_it_is(fields: dict[str, Any], words: str) -> None:
    assert words in live.figures(export(**fields))


def test_ordinals_and_durations() -> None:
    numbers = (1, 2, 3, 4, 11, 12, 13, 21, 100, 112)
    assert " ".join(map(live.ordinal, numbers)) == (
        "1st 2nd 3rd 4th 11th 12th 13th 21st 100th 112th"
    )
    durations = (None, 0.124, 1.26, 42, 90.0, 3_725)
    assert [live.duration(one) for one in durations] == [
        "-", "0.12 s", "1.3 s", "42 s", "1:30", "1:02:05",
    ]  # fmt: skip


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    assert all(c.isprintable() or c in "\n\t" for c in live.clean(text))
    assert "\n" not in live.line(text)


@given(st.text())
def test_a_suggested_name_stays_in_its_folder(name: str) -> None:
    safe = safe_name(name)
    assert safe.isprintable() and "/" not in safe and safe[0] != "."
    assert Path(safe).name == safe


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    for name, expected in [
        ("a.csv", ["a-2.csv", "a-3.csv"]),
        ("a b.1 c.csv.gz", ["a b.1 c-2.csv.gz"]),
        ("a", ["a-2"]),
    ]:
        path = tmp_path / name
        assert unused(path) == path
        path.touch()
        for other in expected:
            assert (found := unused(path)).name == other
            found.touch()
