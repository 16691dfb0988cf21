"""Server-Sent Events, by the examples and the grammar of their standard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.client import sse
from service.client.sse import Event, Parser


def events(*chunks: bytes) -> list[Event]:
    parser = Parser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


@pytest.mark.parametrize(
    "stream, expected",
    [
        (b"data: one\n\n", [("message", "one", "")]),
        (b"data:one\ndata:two\n\n", [("message", "one\ntwo", "")]),
        (b"data\n\ndata\ndata\n\ndata:", [("message", "", ""), ("message", "\n", "")]),
        (b"data:test\n\ndata: test\n\n", 2 * [("message", "test", "")]),
        (b"event: add\ndata: 1\n\ndata: 2\n\n", [("add", "1", ""), ("message", "2", "")]),
        (b": comment\nid: 7\ndata: x\n\n", [("message", "x", "7")]),
        (b"id: 7\ndata: x\n\ndata: y\n\n", [("message", "x", "7"), ("message", "y", "7")]),
        (b"id: 7\n\nid\ndata: x\n\n", [("message", "x", "")]),
        (b"id: 7\n\nid: a\0b\ndata: x\n\n", [("message", "x", "7")]),
        (b"data: x\r\n\r\ndata: y\r\rdata: z\n\n", [("message", v, "") for v in "xyz"]),
        (b"\xef\xbb\xbfdata: x\n\n", [("message", "x", "")]),
        (b"data:  x: y\n\n", [("message", " x: y", "")]),
        (b"datum: x\n\nevent: e\n\n", []),
        (b"data: unfinished\n", []),
        (b"data: \xff\xc3\xa4\n\n", [("message", "\ufffdä", "")]),
    ],
)  # fmt: skip
def test_what_a_stream_says(
    stream: bytes, expected: list[tuple[str, str, str]]
) -> None:
    assert events(stream) == [Event(*one) for one in expected]


def test_the_pause_before_a_reconnect_is_read() -> None:
    parser = Parser()
    for said, expected in [
        (b"retry: 3000\n", 3.0),
        (b"retry: soon\n", 3.0),
        (b"retry:0\n", 0),
    ]:
        list(parser.feed(said))
        assert parser.retry == expected


def test_a_line_without_end_is_not_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LARGEST_LINE", 100)
    with pytest.raises(sse.TooLong):
        events(*[b"data: " + b"x" * 20] * 10)


LINES = st.sampled_from(
    ["data: ä😀", "data", "data:  2", "id: 1", "id: ", "event: e", "retry: 5", ":", "", ""]
)  # fmt: skip
STREAMS = st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r", "\r\n"])))


@given(STREAMS, st.booleans(), st.data())
def test_any_split_of_the_bytes_gives_the_same_events(
    lines: list[tuple[str, str]], marked: bool, data: st.DataObject
) -> None:
    text = "\ufeff" * marked + "".join(line + end for line, end in lines)
    stream = text.encode()
    places = st.lists(st.integers(0, len(stream)), max_size=20)
    cuts = [0, *sorted(data.draw(places)), len(stream)]
    chunks = [stream[a:b] for a, b in zip(cuts, cuts[1:])]
    assert events(*chunks) == events(stream)
    assert events(*[stream[i : i + 1] for i in range(len(stream))]) == events(stream)
