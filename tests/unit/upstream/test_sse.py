"""Server-sent events: the same events however the bytes are cut into chunks."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.upstream.sse import EventReader, EventTooLarge
from support.examples import tries

LIMIT = 10_000


def _events(*chunks: bytes, limit: int = LIMIT) -> list[bytes]:
    reader = EventReader(limit)
    return [event for chunk in chunks for event in reader.feed(chunk)]


def _model(stream: bytes) -> list[bytes]:
    """WHATWG HTML §9.2.6, read naively over the whole stream; an event that is not ended is dropped."""
    text = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    *lines, _unfinished = text.split(b"\n")
    events: list[bytes] = []
    data: list[bytes] = []
    for line in lines:
        if not line:
            if data:
                events.append(b"\n".join(data))
            data = []
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value[1:] if value.startswith(b" ") else value)
    return events


lines = st.sampled_from(
    [
        b"",
        b"",
        b"",
        b"data: one",
        b"data:two",
        b"data:  three",
        b"data:",
        b"data",
        b": comment",
        b"event: message",
        b"id: 7",
        b"retry: 5",
        b"database: x",
        b" data: x",
        b"data: \xff\xfe",
        b'data: {"a": 1}',
    ]
)
ends = st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"])
streams = st.lists(st.tuples(lines, ends), max_size=12).map(lambda parts: b"".join(line + end for line, end in parts))


@tries(500)
@given(stream=streams, data=st.data())
def test_events_are_the_same_however_the_stream_is_cut(stream: bytes, data: st.DataObject) -> None:
    stream += b"\n"  # a lone CR at the very end waits for its LF
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    chunks = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert _events(*chunks) == _model(stream)


@tries(100)
@given(stream=streams)
def test_events_are_the_same_byte_by_byte(stream: bytes) -> None:
    stream += b"\n"
    assert _events(*(stream[place : place + 1] for place in range(len(stream)))) == _model(stream)


def test_an_event_is_given_as_soon_as_it_is_whole() -> None:
    reader = EventReader(LIMIT)
    assert reader.feed(b"data: one\n") == []
    assert reader.feed(b"\ndata: two\n\ndata: th") == [b"one", b"two"]
    assert reader.feed(b"ree\n\n") == [b"three"]


def test_data_on_several_lines_is_joined() -> None:
    assert _events(b"data: one\ndata: two\n\n") == [b"one\ntwo"]


def test_an_event_without_data_is_none() -> None:
    assert _events(b"event: ping\nid: 5\n\n: comment\n\n\n\n") == []


def test_an_event_that_the_stream_ends_in_is_dropped() -> None:
    assert _events(b"data: one\n\ndata: two\n") == [b"one"]


def test_a_byte_order_mark_before_the_first_event_is_skipped() -> None:
    assert _events(b"\xef\xbb\xbfdata: one\n\n\xef\xbb\xbfdata: two\n\n") == [b"one"]


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize(
    ("stream", "event"),
    [
        (b"data:" + b"x" * 100 + b"\n\n", b"x" * 100),
        (b"data: " + b"x" * 100 + b"\r\n\r\n", b"x" * 100),
        (b"data:" + b"x" * 50 + b"\ndata:" + b"x" * 49 + b"\n\n", b"x" * 50 + b"\n" + b"x" * 49),
    ],
    ids=["one line", "one line with a space", "two lines, joined by a line feed"],
)
def test_an_event_as_large_as_the_bound_passes(stream: bytes, event: bytes, chunk: int) -> None:
    chunks = (stream[place : place + chunk] for place in range(0, len(stream), chunk))
    assert _events(*chunks, limit=100) == [event]


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize(
    "stream",
    [
        b"data:" + b"x" * 101 + b"\n\n",
        b"data:" + b"x" * 60 + b"\ndata:" + b"x" * 60 + b"\n\n",
        b"x" * 200,
        b"data:" + b"x" * 200,
        b": " + b"x" * 200,
    ],
    ids=["one line", "two lines", "a line without end", "data without end", "a comment without end"],
)
def test_more_than_the_bound_is_refused_and_not_kept(stream: bytes, chunk: int) -> None:
    with pytest.raises(EventTooLarge):
        _events(*(stream[place : place + chunk] for place in range(0, len(stream), chunk)), limit=100)


def test_empty_lines_of_data_are_bounded_too() -> None:
    """They cost memory although they have no bytes."""
    with pytest.raises(EventTooLarge):
        _events(b"data:\n" * 100_000, limit=100)


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"], ids=["CR", "LF", "CRLF"])
def test_a_large_chunk_of_short_lines_costs_no_more_than_its_length(end: bytes) -> None:
    """Quadratic work would be minutes here: an upstream could stop the whole plane with one compressed chunk."""
    started = time.monotonic()
    assert _events(end * 2_000_000 + b"data: one" + end + end + b"\n") == [b"one"]
    assert time.monotonic() - started < 30


def test_a_long_line_byte_by_byte_costs_no_more_than_its_length() -> None:
    started = time.monotonic()
    line = b"data: " + b"x" * 1_000_000 + b"\n\n"
    assert _events(*(line[place : place + 1] for place in range(len(line))), limit=1_000_000) == [b"x" * 1_000_000]
    assert time.monotonic() - started < 30
