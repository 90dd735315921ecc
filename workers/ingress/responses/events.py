"""The events of a response's stream, purely: those of a turn in the order and the shapes of Open Responses.

One item is open at a time. Its text goes on until the model turns to something else: to thinking, to speaking, or to a
tool of the agent's own, which is no item.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, assert_never

import orjson

from workers.ingress.responses.objects import (
    begun,
    call_item,
    finished,
    message_item,
    reasoning_item,
    status_of,
    summary_part,
    text_part,
)
from workers.turns import Delta, Ended, GatewayDraining, Reasoning, ToolProgress, TurnEvent

Event: TypeAlias = dict[str, Any]


class ResponseEvents:
    """The events of one response.

    Args:
        turn_id: the turn's.
        created_at: seconds since the epoch.
        echoed: the fields of the response object that say what was asked.
    """

    def __init__(self, turn_id: str, created_at: int, echoed: Mapping[str, Any]) -> None:
        self._turn_id = turn_id
        self._created_at = created_at
        self._echoed = echoed
        self._number = 0
        self._output: list[dict[str, Any]] = []  # items that are whole
        self._open: dict[str, Any] | None = None  # the item whose text goes on
        self._pieces: list[str] = []  # of that text
        self._said = self._thought = False

    @property
    def output(self) -> list[dict[str, Any]]:
        """The items that are whole."""
        return self._output

    def begin(self) -> list[Event]:
        """The first events."""
        response = begun(self._turn_id, self._created_at, self._echoed)
        return [self._event(f"response.{name}", response=response) for name in ("created", "in_progress")]

    def hear(self, event: TurnEvent, now: int) -> list[Event]:
        """The events of the response that an event of the turn makes.

        Args:
            event: the turn's.
            now: seconds since the epoch.
        """
        match event:
            case Delta():
                self._said = True
                return self._piece("message", event.text)
            case Reasoning():
                self._thought = True
                return self._piece("reasoning", event.text)
            case ToolProgress():
                return self._close("completed")
            case GatewayDraining():
                return []
            case Ended():
                return self._end(event, now)
            case _:
                assert_never(event)

    # -- texts ----------------------------------------------------------------------------------------------------
    def _piece(self, kind: str, text: str) -> list[Event]:
        events: list[Event] = []
        if self._open is None or self._open["type"] != kind:
            events += self._close("completed")
            events += self._begin_item(kind)
        self._pieces.append(text)
        if kind == "message":
            return [*events, self._part_event("response.output_text.delta", "content_index", delta=text, logprobs=[])]
        return [*events, self._part_event("response.reasoning_summary_text.delta", "summary_index", delta=text)]

    def _begin_item(self, kind: str) -> list[Event]:
        at = len(self._output)
        if kind == "message":
            item, name, index, part = (
                message_item(self._turn_id, self._made("message"), None, "in_progress"),
                "content_part",
                "content_index",
                text_part(""),
            )
        else:
            item, name, index, part = (
                reasoning_item(self._turn_id, self._made("reasoning"), None),
                "reasoning_summary_part",
                "summary_index",
                summary_part(""),
            )
        self._open = item
        added = self._event("response.output_item.added", output_index=at, item=item)
        return [added, self._part_event(f"response.{name}.added", index, part=part)]

    def _close(self, status: str) -> list[Event]:
        """End the open item, if there is one."""
        if self._open is None:
            return []
        at, text = len(self._output), "".join(self._pieces)
        if self._open["type"] == "message":
            item = message_item(self._turn_id, self._made("message"), text, status)
            events = [
                self._part_event("response.output_text.done", "content_index", text=text, logprobs=[]),
                self._part_event("response.content_part.done", "content_index", part=text_part(text)),
            ]
        else:
            item = reasoning_item(self._turn_id, self._made("reasoning"), text)
            events = [
                self._part_event("response.reasoning_summary_text.done", "summary_index", text=text),
                self._part_event("response.reasoning_summary_part.done", "summary_index", part=summary_part(text)),
            ]
        self._open = None
        self._pieces.clear()
        self._output.append(item)
        return [*events, self._event("response.output_item.done", output_index=at, item=item)]

    # -- the end --------------------------------------------------------------------------------------------------
    def _end(self, ended: Ended, now: int) -> list[Event]:
        events: list[Event] = []
        status = status_of(ended)
        if ended.state == "completed":
            if ended.reasoning and not (self._said or self._thought):  # the turn was over when we came
                events += self._piece("reasoning", ended.reasoning)
            if ended.text and not self._said:
                events += self._piece("message", ended.text)
        events += self._close("completed" if status == "completed" else "incomplete")
        for call in ended.tool_calls:
            events += self._call(call)
        response = finished(self._turn_id, self._created_at, self._echoed, ended, completed_at=now, output=self._output)
        name = "failed" if status == "cancelled" else status  # a stream has no event of that name
        return [*events, self._event(f"response.{name}", response=response)]

    def _call(self, call: Mapping[str, Any]) -> list[Event]:
        """A call that the client is to make: it is known as a whole."""
        at, number = len(self._output), self._made("function_call")
        item = call_item(self._turn_id, number, call)
        about = {"item_id": item["id"], "output_index": at}
        arguments = item["arguments"]
        self._output.append(item)
        return [
            self._event(
                "response.output_item.added", output_index=at, item=call_item(self._turn_id, number, call, begun=True)
            ),
            self._event("response.function_call_arguments.delta", **about, delta=arguments),
            self._event("response.function_call_arguments.done", **about, name=item["name"], arguments=arguments),
            self._event("response.output_item.done", output_index=at, item=item),
        ]

    # -- events ---------------------------------------------------------------------------------------------------
    def _made(self, kind: str) -> int:
        """How many items of a kind are whole."""
        return sum(item["type"] == kind for item in self._output)

    def _part_event(self, kind: str, index: str, /, **fields: Any) -> Event:
        """An event about the one part of the open item."""
        assert self._open is not None
        about = {"item_id": self._open["id"], "output_index": len(self._output), index: 0}
        return self._event(kind, **about, **fields)

    def _event(self, kind: str, /, **fields: Any) -> Event:
        event = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return event


def sse(event: Event) -> bytes:
    """An event as it is written to a stream."""
    name: str = event["type"]
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(event) + b"\n\n"
