"""``/v1/responses/{id}``: responses that are kept, each its caller's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from aiohttp import web

from hermes_actors.wire.refusals import RefusalCode
from workers.gateway import Gateway, TurnReading
from workers.ingress.http.completion import DONE
from workers.ingress.http.connection import ClientLimits
from workers.ingress.http.errors import SERVER, ApiError, invalid, refused
from workers.ingress.http.events import EventStream
from workers.ingress.http.names import TURN_ID_HEADER
from workers.ingress.http.replies import reply
from workers.ingress.http.routes import ApiCall, query_of, route
from workers.ingress.http.shapes import ANY, EVENTS, JSON, OF_A_THING, TEXT, Shape, gives, record
from workers.ingress.http.submitting import Heard
from workers.ingress.responses.events import ResponseEvents, sse
from workers.ingress.responses.input_items import input_items, page
from workers.ingress.responses.objects import RESPONSE, kept_object, turn_named
from workers.turns import Ended, KeptResponse, Refusal

CANCEL_S = 10.0  # for the end of a response that is cancelled; the grace of its tools, and a commit
MAX_NUMBER_DIGITS = 9
THE_END = 2**53  # after all messages of a turn

_DELETED = record(["id", "object", "deleted"], id=TEXT, object=TEXT, deleted={"type": "boolean"})
_INPUT_ITEMS = record(["object", "data", "first_id", "last_id", "has_more"], object=TEXT, data={"type": "array"})


class KeptResponseRoutes:
    """The routes.

    Args:
        gateway: has the turns.
        limits: for slow clients.
        clock: seconds since the epoch.
    """

    def __init__(self, gateway: Gateway, *, limits: ClientLimits, clock: Callable[[], float]) -> None:
        self._gateway = gateway
        self._limits = limits
        self._clock = clock

    @route(
        "GET",
        "/v1/responses/{id}",
        endpoint="response",
        features=("responses_stored",),
        shape=Shape(
            answers={200: {JSON: RESPONSE, EVENTS: ANY}},
            query={"stream": TEXT, "starting_after": TEXT},
            errors=OF_A_THING,
        ),
    )
    async def show(self, call: ApiCall) -> web.StreamResponse:
        """A response as it is now, or its events again."""
        kept = await self._kept(call)
        query = query_of(call)
        if query.get("stream") != "true":
            return reply(kept_object(kept))
        after = query.get("starting_after", "")
        if after and not (after.isascii() and after.isdigit() and len(after) <= MAX_NUMBER_DIGITS):
            raise invalid("starting_after", "`starting_after` must be the number of an event.")
        with _not_found_told():
            reading = await self._gateway.attach(call.principal, kept.turn.turn_id, 0)
        with Heard(call.request, reading):
            return await self._stream(call.request, kept, reading, int(after or -1))

    @route(
        "DELETE",
        "/v1/responses/{id}",
        endpoint="response_delete",
        shape=Shape(answers=gives(_DELETED), errors=OF_A_THING),
    )
    async def delete(self, call: ApiCall) -> web.Response:
        """Keep it no longer. What is in a session's transcript stays there."""
        with _not_found_told():
            await self._gateway.drop_response(call.principal, _turn_id(call))
        return reply({"id": call.parameters["id"], "object": "response", "deleted": True})

    @route(
        "POST",
        "/v1/responses/{id}/cancel",
        endpoint="response_cancel",
        shape=Shape(answers=gives(RESPONSE), errors=OF_A_THING),
    )
    async def cancel(self, call: ApiCall) -> web.Response:
        """Cancel a response that runs in the background; one that is over stays as it is."""
        kept = await self._kept(call)
        if not kept.asked["background"]:
            raise invalid(None, "Only a response that runs in the background can be cancelled.", "not_in_background")
        turn_id = kept.turn.turn_id
        with _not_found_told():
            if await self._gateway.stop(call.principal, turn_id):
                await self._its_end(call.principal, turn_id)
        return reply(kept_object(await self._kept(call)))

    @route(
        "GET",
        "/v1/responses/{id}/input_items",
        endpoint="response_input_items",
        shape=Shape(
            answers=gives(_INPUT_ITEMS), query=dict.fromkeys(("limit", "order", "after"), TEXT), errors=OF_A_THING
        ),
    )
    async def input_items(self, call: ApiCall) -> web.Response:
        """A page of what it was asked with."""
        kept = await self._kept(call)
        return reply(page(input_items(kept.turn.turn_id, kept.messages), query_of(call)))

    async def _kept(self, call: ApiCall) -> KeptResponse:
        with _not_found_told():
            return await self._gateway.response(call.principal, _turn_id(call))

    async def _its_end(self, principal: str, turn_id: str) -> None:
        reading = await self._gateway.attach(principal, turn_id, THE_END)
        try:
            with suppress(TimeoutError):  # it is shown as it is then
                async with asyncio.timeout(CANCEL_S):
                    async for _ in reading:
                        pass
        finally:
            reading.abandon()

    async def _stream(
        self, request: web.BaseRequest, kept: KeptResponse, reading: TurnReading, after: int
    ) -> web.StreamResponse:
        asked = dict(kept.asked)
        events = ResponseEvents(kept.turn.turn_id, int(asked.pop("created_at")), asked)
        headers = {"Server": SERVER, TURN_ID_HEADER: kept.turn.turn_id}
        async with EventStream(request, headers, keep_alive_s=self._limits.keep_alive_s) as stream:
            for event in events.begin():
                if event["sequence_number"] > after:
                    await stream.send(sse(event))
            async for numbered in reading:
                for event in events.hear(numbered.event, int(self._clock())):
                    if isinstance(numbered.event, Ended) and "response" in event:  # the reader may count otherwise
                        event["sequence_number"] = max(event["sequence_number"], after + 1)
                    if event["sequence_number"] > after:
                        await stream.send(sse(event))
            await stream.send(DONE)
        return stream.response


def _turn_id(call: ApiCall) -> str:
    turn_id = turn_named(call.parameters["id"])
    if turn_id is None:
        raise _no_response()
    return turn_id


def _no_response() -> ApiError:
    return ApiError(404, "response_not_found", "There is no such response: it was not stored, or is kept no longer.")


@contextmanager
def _not_found_told() -> Iterator[None]:
    try:
        yield
    except Refusal as refusal:
        raise (_no_response() if refusal.code is RefusalCode.TURN_NOT_FOUND else refused(refusal)) from None
