"""Messages survive the wire, and nothing else comes off it."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.wire.codec import ProtocolError, decode, encode
from hermes_actors.wire.messages import Assign, Configure, Heartbeat, NoTurnRuns, QueryResponse, WorkerSettings
from hermes_actors.wire.records import Load

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text() | st.binary()
)


@given(st.dictionaries(st.text(), scalars, max_size=5))
def test_a_message_comes_back_as_it_was_sent(config: dict[str, object]) -> None:
    sent = Configure(
        boot="b",
        slot=1,
        generation=2,
        shards=8,
        auto_resume=True,
        home="/h",
        settings=WorkerSettings(config=config, environment={"A": "b"}, api_keys={}),
    )

    assert decode(encode(sent)) == sent


def test_tables_keyed_by_numbers_come_back_keyed_by_numbers() -> None:
    sent = Assign(owners={3: [0, 7]}, up=[0])

    assert decode(encode(sent)) == sent


def test_a_message_inside_a_message_comes_back_as_what_it_was() -> None:
    sent = QueryResponse(request=1, found=True, data={"drains": [NoTurnRuns(number=1), NoTurnRuns(number=2)]})

    assert decode(encode(sent)) == sent


def test_a_message_that_does_not_travel_does_not_hinder_the_next() -> None:
    for _ in range(2):
        with pytest.raises(TypeError):
            encode(
                QueryResponse(
                    request=1, found=True, data={"a": QueryResponse(request=2, found=True, data={"b": object()})}
                )
            )
        inside = QueryResponse(request=1, found=True, data={"a": NoTurnRuns(number=1)})
        assert decode(encode(inside)) == inside


def test_what_is_neither_plain_nor_a_message_does_not_travel() -> None:
    with pytest.raises(TypeError, match="object does not travel"):
        encode(QueryResponse(request=1, found=True, data={"a": object()}))


@pytest.mark.parametrize("inner", [msgpack.ExtType(2, b""), msgpack.ExtType(1, b"")])
def test_an_inner_message_that_is_none_is_a_protocol_error(inner: msgpack.ExtType) -> None:
    with pytest.raises(ProtocolError):
        decode(msgpack.packb(["drained", inner]))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(body)


@pytest.mark.parametrize("parts", [[], ["no such tag"], ["drained"], ["drained", 1, 2], {"drained": 1}, [1, 2]])
def test_a_list_that_is_no_message_is_a_protocol_error(parts: object) -> None:
    with pytest.raises(ProtocolError):
        decode(msgpack.packb(parts))


def test_messages_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        NoTurnRuns(number=1).number = 2  # type: ignore[misc]


def test_a_heartbeat_is_small() -> None:
    beat = Heartbeat(load=Load(resident=1), active={}, reached={})

    assert len(encode(beat)) < 30
