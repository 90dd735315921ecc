"""A run and its events as plain data; names and fields are those of hermes-agent 0.19 where it has them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, assert_never

import orjson

from workers.ingress.http.completion import MODEL, usage
from workers.ingress.http.errors import ended_without_answer
from workers.ingress.http.shapes import TEXT, record, schema_of
from workers.session_keys import api_session_id
from workers.turns import (
    Delta,
    Ended,
    GatewayDraining,
    NumberedEvent,
    Reasoning,
    ToolProgress,
    TurnEvent,
    TurnView,
)

# A cut run has failed for those who know no other end; its error says `turn_interrupted`.
STATUS: Mapping[str, str] = MappingProxyType(
    {
        "queued": "queued",
        "running": "running",
        "completed": "completed",
        "failed": "failed",
        "interrupted": "failed",
        "cancelled": "cancelled",
    }
)


def run_object(principal: str, view: TurnView) -> dict[str, Any]:
    """How a run is."""
    run: dict[str, Any] = {
        "object": "hermes.run",
        "run_id": view.turn_id,
        "status": STATUS[view.state],
        "created_at": view.created_at,
        "session_id": None if view.stateless else api_session_id(principal, view.key),
        "model": MODEL,
    }
    return run if view.ended is None else run | _outcome(view.ended)


RUN = record(
    ["object", "run_id", "status", "created_at", "session_id", "model"],
    object={"const": "hermes.run"},
    run_id=TEXT,
    status={"enum": sorted(set(STATUS.values()))},
    created_at={"type": "number"},
    session_id={"type": ["string", "null"]},
    model=TEXT,
    output=TEXT,
    usage=schema_of(usage({})),
    tool_calls={"type": "array"},
    error=record(["code", "message"], code=TEXT, message=TEXT),
)


def sse(run_id: str, numbered: NumberedEvent, now: float) -> bytes:
    """An event of a run as a server-sent one.

    Its id is the number of the last message that the reader then has whole, so ``Last-Event-ID`` brings a message again
    of which they have a part.
    """
    event, seq = numbered.event, numbered.seq
    whole = isinstance(event, Ended) or (isinstance(event, ToolProgress) and event.status != "running")
    data = {"event": "", "run_id": run_id, "timestamp": now, "message": seq, **_fields(event)}
    return b"id: %d\ndata: %s\n\n" % (seq if whole else seq - 1, orjson.dumps(data))


def _fields(event: TurnEvent) -> dict[str, Any]:
    match event:
        case Delta():
            return {"event": "message.delta", "delta": event.text}
        case Reasoning():
            return {"event": "reasoning.available", "text": event.text}
        case ToolProgress() if event.status == "running":
            return {"event": "tool.started", "tool": event.tool, "call_id": event.call_id}
        case ToolProgress():
            failed = event.status == "failed"
            return {"event": "tool.completed", "tool": event.tool, "call_id": event.call_id, "error": failed}
        case GatewayDraining():
            named = {"reason": event.reason, "deadline": event.deadline, "text": event.text}
            return {"event": "gateway.draining", **named}
        case Ended():
            return {"event": f"run.{STATUS[event.state]}", **_outcome(event)}
        case _:
            assert_never(event)


def _outcome(ended: Ended) -> dict[str, Any]:
    counted = usage(ended.usage)
    if ended.state == "completed":
        calls = {"tool_calls": ended.tool_calls} if ended.tool_calls else {}
        return {"output": ended.text, "usage": counted, **calls}
    error = ended_without_answer(ended)
    return {"error": {"code": error.code, "message": error.message}, "usage": counted}
