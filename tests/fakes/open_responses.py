"""Response objects and stream events, held against the specification's own types."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import openresponses_types.types as spec
import orjson
from pydantic import BaseModel

from workers.ingress.http.completion import DONE


def _events() -> dict[str, type[BaseModel]]:
    """The types of stream events, by the one value of their field ``type``."""
    found: dict[str, type[BaseModel]] = {}
    for name, kind in vars(spec).items():
        if name.endswith("StreamingEvent") and isinstance(kind, type) and issubclass(kind, BaseModel):
            (value,) = kind.model_fields["type"].annotation  # type: ignore[misc]  # an enumeration of one
            found[value.value] = kind
    return found


EVENTS = _events()
LAST = {"response.completed", "response.incomplete", "response.failed"}


def check_response(response: dict[str, Any]) -> dict[str, Any]:
    """A response object that the specification allows."""
    spec.ResponseResource.model_validate(response)
    return response


def check_stream(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events of one stream, each of which the specification allows where it stands."""
    events = list(events)
    for event in events:
        EVENTS[event["type"]].model_validate(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1]["type"] in LAST
    assert not any(event["type"] in LAST for event in events[:-1])
    assert len({event["response"]["id"] for event in events if "response" in event}) == 1
    output = _played(events[2:-1])
    assert events[-1]["response"]["output"] == output
    assert len({item["id"] for item in output}) == len(output)
    return events


def _played(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items that a client puts together; each is whole before the next begins."""
    output: list[dict[str, Any]] = []
    open_id, text, part_is_open, parts = None, "", False, 0
    for event in events:
        kind = event["type"].removeprefix("response.")
        assert event["output_index"] == len(output)
        if kind == "output_item.added":
            assert open_id is None
            open_id, text, parts = event["item"]["id"], "", 0
            continue
        if kind == "output_item.done":
            item = event["item"]
            assert item["id"] == open_id
            assert not part_is_open
            assert text == text_of(item)
            assert parts == (0 if item["type"] == "function_call" else 1)
            output.append(item)
            open_id = None
            continue
        assert event["item_id"] == open_id
        if kind.endswith("part.added"):
            part_is_open, parts = True, parts + 1
        elif kind.endswith("part.done"):
            part_is_open = False
            assert event["part"]["text"] == text
        elif kind.endswith(".delta"):
            assert part_is_open or kind.startswith("function_call")
            text += event["delta"]
        else:
            assert kind.endswith(".done")
            assert event.get("text", event.get("arguments")) == text
    assert open_id is None
    return output


def text_of(item: dict[str, Any]) -> str:
    """What an item says: its text, or the arguments of its call."""
    text: str
    match item["type"]:
        case "message":
            text = item["content"][0]["text"]
        case "reasoning":
            text = item["summary"][0]["text"]
        case _:
            text = item["arguments"]
    return text


def stream_events(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream as it came over the wire, checked: named after their type, and closed by ``[DONE]``."""
    assert body.endswith(DONE)
    events = []
    for block in body.removesuffix(DONE).decode().split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            name, data = lines
            event: dict[str, Any] = orjson.loads(data.removeprefix("data: "))
            assert name == f"event: {event['type']}"
            events.append(event)
    return check_stream(events)
