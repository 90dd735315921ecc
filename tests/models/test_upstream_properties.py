"""Whatever a transcript holds, its request is valid, stays as it is when made again, and loses nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import orjson
from fakes.valid_request import problems
from hypothesis import example, given
from hypothesis import strategies as st

from workers.models.attached import MADE_BY
from workers.models.messages import upstream_messages
from workers.models.provider import ModelRequest
from workers.models.target import ModelTarget
from workers.turns import PastTurn

HERE = ModelTarget(provider="here", model="one")
IDS = st.sampled_from(["a", "b", "functions.x:0", "", "Q" * 1_000, "abc123XYZ"]) | st.none() | st.integers(0, 2)
NAMES = st.sampled_from(["look", "mcp__a__b", "a b", "é" * 70, "", "x" * 65]) | st.none()
BLANKS = st.sampled_from(["", " ", "\n\t", "\u00a0", "\u3000"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
PICTURES = st.sampled_from(
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
        {"type": "image_url", "image_url": "https://example.com/a.png"},
        {"type": "image_url"},
        {"type": "input_audio", "input_audio": {"data": "AA"}},
    ]
)
MAKERS = st.sampled_from([{"provider": "here", "model": "one"}, {"provider": "there", "model": "one"}, None, "odd"])
TARGETS = st.builds(
    ModelTarget,
    provider=st.just("here"),
    model=st.sampled_from(["one", "two"]),
    vision=st.sampled_from([None, True, False]),
    takes_attached=st.booleans(),
    takes_bare_calls=st.booleans(),
    takes_long_ids=st.booleans(),
    takes_repeated_roles=st.booleans(),
    takes_system=st.booleans(),
    takes_names=st.booleans(),
    takes_null_content=st.booleans(),
)

_marks = itertools.count()


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A text with a mark of its own, by which it is found again."""
    around = draw(st.text(max_size=6) | st.sampled_from(['"', "\\", '","role":"user"}', "\n"]))
    return f"{around}<{next(_marks)}>{around}"


@st.composite
def contents(draw: st.DrawFn) -> Any:
    text_parts = texts().map(lambda text: {"type": "text", "text": text})
    blank_parts = BLANKS.map(lambda text: {"type": "text", "text": text})
    refusals = texts().map(lambda text: {"type": "refusal", "refusal": text})
    parts = st.lists(text_parts | blank_parts | refusals | PICTURES | texts(), max_size=3)
    return draw(texts() | texts() | BLANKS | st.none() | parts | JSON)


@st.composite
def fields(draw: st.DrawFn) -> dict[str, Any]:
    """What a provider attached, and who it was."""
    attached = draw(st.dictionaries(st.sampled_from(["reasoning_content", "extra_content", "odd"]), JSON, max_size=2))
    return attached | draw(st.just({}) | MAKERS.map(lambda maker: {MADE_BY: maker}))


@st.composite
def calls(draw: st.DrawFn) -> Any:
    if draw(st.integers(0, 20)) == 0:
        return draw(JSON)
    raw = texts() | JSON.map(lambda value: orjson.dumps(value).decode()) | JSON | st.just('{"x": 1')
    function: Any = {"name": draw(NAMES), "arguments": draw(raw)}
    entry = {"id": draw(IDS), "type": "function", "function": function} | draw(fields())
    entry.pop(MADE_BY, None)
    shape = draw(st.integers(0, 8))
    if shape == 0:
        entry |= entry.pop("function")
    elif shape == 1:
        entry["function"] = draw(JSON)
    return entry


@st.composite
def rows(draw: st.DrawFn) -> bytes:
    """A message as a transcript may hold it, in either order of its keys; or something else."""
    kind = draw(st.sampled_from(["user", "user", "assistant", "assistant", "calls", "calls", "tool", "tool", "odd"]))
    message: Any = {"role": kind, "content": draw(contents())}
    match kind:
        case "user":
            message |= draw(st.just({}) | NAMES.map(lambda name: {"name": name}))
        case "assistant":
            message |= draw(fields())
        case "calls":
            message |= {"role": "assistant", "tool_calls": draw(st.lists(calls(), max_size=3) | JSON)} | draw(fields())
        case "tool":
            message["tool_call_id"] = draw(IDS)
        case _:
            message["role"] = draw(st.sampled_from(["system", "developer", "function", "odd"]) | st.none())
            if draw(st.integers(0, 5)) == 0:
                return draw(JSON.map(orjson.dumps) | st.sampled_from([b"", b"no JSON", b'{"role":"user"', b"\xff"]))
    return orjson.dumps(message, option=draw(st.sampled_from([0, orjson.OPT_SORT_KEYS])))


def marks_in(value: Any) -> set[str]:
    """The marked texts somewhere in a value."""
    if isinstance(value, str):
        return {piece.partition(">")[0] for piece in value.split("<")[1:] if ">" in piece}
    if isinstance(value, dict):
        return set().union(*map(marks_in, value.values()))
    return set().union(*map(marks_in, value)) if isinstance(value, list) else set()


def said(bodies: Iterable[bytes]) -> set[str]:
    """The marked texts of all that was said or called."""
    found: set[str] = set()
    for body in bodies:
        try:
            message = orjson.loads(body)
        except orjson.JSONDecodeError:
            continue
        if isinstance(message, dict):
            found |= marks_in({name: message.get(name) for name in ("content", "tool_calls")})
    return found


@given(st.lists(rows(), max_size=8), TARGETS, st.integers(0, 8))
@example([b'{"role":"assistant","content":null,"tool_calls":[{"id":"a"},{"id":"a"}]}'], HERE, 0)
@example(
    [
        b'{"role":"assistant","content":"x","sealed":1}',
        b'{"role":"assistant","content":"y","tool_calls":[{"id":"a"}]}',
    ],
    replace(HERE, takes_repeated_roles=False),
    0,
)
def test_whatever_a_transcript_holds_its_request_is_valid_and_stays_so(
    bodies: list[bytes], target: ModelTarget, cut_at: int
) -> None:
    past = [PastTurn(turn_id="t", state="completed", rows=bodies[:cut_at])]

    messages = upstream_messages(ModelRequest(system="s", past=past, messages=bodies[cut_at:]), target)

    loaded = [orjson.loads(message) for message in messages]
    assert problems(loaded, vision=target.vision is not False) == []
    assert upstream_messages(ModelRequest(messages=messages), target) == messages
    assert said(bodies) <= said(messages)
    assert not any(MADE_BY in message for message in loaded)
