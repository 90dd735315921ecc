from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.models.sse import MAX_EVENT_BYTES, EventParser, EventTooLarge

BOM = b"\xef\xbb\xbf"


def parse(*pieces: bytes) -> list[bytes]:
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)] + parser.finish()


def reference(stream: bytes) -> list[bytes]:
    """The specification's algorithm, as slow and plain as it stands there; and a line of JSON is an event."""
    events: list[bytes] = []
    data: list[bytes] = []
    for line in [*stream.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"), b""]:
        if not line and data:
            events.append(b"\n".join(data))
            data = []
        if line.startswith((b"{", b"[")):
            events.append(line)
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
    return events


LINES = st.sampled_from(
    [
        b"",
        b"",
        b"data: {}",
        b"data:x",
        b"data:  two",
        b"data",
        b"data:",
        b": ping",
        b"event: error",
        b"id: 1",
        b"datax: 1",
    ]
) | st.binary(max_size=6).filter(lambda line: not set(line) & set(b"\r\n"))
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def cut_streams(draw: st.DrawFn) -> list[bytes]:
    stream = b"".join(line + end for line, end in draw(st.lists(st.tuples(LINES, ENDS), max_size=30)))
    stream = draw(st.sampled_from([b"", BOM, BOM + BOM])) + stream + draw(LINES)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


@given(cut_streams())
def test_any_stream_cut_anywhere_gives_the_events_of_the_specification(pieces: list[bytes]) -> None:
    stream = b"".join(pieces)

    assert parse(*pieces) == parse(*(stream[at : at + 1] for at in range(len(stream)))) == reference(stream)


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_no_bytes_confuse_the_parser(pieces: list[bytes]) -> None:
    assert parse(*pieces) == reference(b"".join(pieces))


def test_an_event_comes_out_as_soon_as_its_blank_line_is_in() -> None:
    parser = EventParser()

    assert parser.feed(b"data: one\n") == []
    assert parser.feed(b"\ndata: tw") == [b"one"]
    assert parser.feed(b"o\r") == []
    assert parser.feed(b"\n\r") == [b"two"]
    assert parser.feed(b"\n") == []
    assert parser.finish() == []


def test_an_event_that_does_not_end_is_refused_before_it_fills_the_memory() -> None:
    parser = EventParser()
    parser.feed(b"data: " + b"x" * (MAX_EVENT_BYTES - 6))

    with pytest.raises(EventTooLarge):
        parser.feed(b"x")


def test_many_events_may_together_be_larger_than_one_may_be() -> None:
    parser = EventParser()
    event = b"data: " + b"x" * (MAX_EVENT_BYTES // 2) + b"\n\n"

    assert sum(len(parser.feed(event)) for _ in range(4)) == 4


@pytest.mark.parametrize("cut", range(5))
def test_a_byte_order_mark_before_the_first_event_is_no_part_of_it(cut: int) -> None:
    stream = BOM + b"data: one\n\n" + BOM + b"data: two\n\n"

    assert parse(stream[:cut], stream[cut:]) == [b"one"]
