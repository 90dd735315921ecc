"""Items that a request names by their ids instead of sending them: read again from the turns that made them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from hermes_actors.wire.refusals import RefusalCode
from workers.gateway import Gateway
from workers.ingress.http.errors import refused
from workers.ingress.responses.events import ResponseEvents
from workers.ingress.responses.objects import item_named, reasoning_item
from workers.turns import Refusal

READING_S = 5.0  # for all turns of a request; one that still runs has given no item that a client could name


async def referred_items(gateway: Gateway, principal: str, ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """The items of a principal's turns by their ids; without those that are not kept.

    Raises:
        ApiError: 503; the owner of a turn does not answer.
    """
    named = {name: parts for name in ids if (parts := item_named(name)) is not None}
    found: dict[str, dict[str, Any]] = {}
    try:
        async with asyncio.timeout(READING_S):
            outputs = {
                turn: await _output(gateway, principal, turn) for turn in {turn for _, turn, _ in named.values()}
            }
    except TimeoutError:
        return found
    except Refusal as refusal:
        raise refused(refusal) from None
    for name, (kind, turn_id, number) in named.items():
        output = outputs[turn_id]
        if output is None:
            continue
        # A stateless turn keeps its last answer, neither the earlier ones nor thoughts: these say nothing then.
        item = next((item for item in output if item["id"] == name), None)
        if item is not None or kind != "fc":
            found[name] = item or reasoning_item(turn_id, number, None)
    return found


async def _output(gateway: Gateway, principal: str, turn_id: str) -> list[dict[str, Any]] | None:
    try:
        reading = await gateway.attach(principal, turn_id, 0)
    except Refusal as refusal:
        if refusal.code is RefusalCode.TURN_NOT_FOUND:
            return None
        raise
    events = ResponseEvents(turn_id, 0, {})
    try:
        async for numbered in reading:
            events.hear(numbered.event, 0)
    finally:
        reading.abandon()
    return events.output
