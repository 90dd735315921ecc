"""``/v1/runs``: a turn that a program starts and leaves; it looks at it, listens to it and stops it when it likes.

A run is a turn, and its id is the turn's. It waits, runs and survives a restart like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from workers.gateway import Gateway, TurnReading
from workers.ingress.http.body import read_json
from workers.ingress.http.connection import ClientLimits
from workers.ingress.http.errors import SERVER, ApiError, invalid, retry_after
from workers.ingress.http.events import EventStream
from workers.ingress.http.names import (
    SESSION_ID_HEADER,
    TURN_HEADERS,
    TURN_ID_HEADER,
    is_session_id,
    named,
    wants_to_park,
)
from workers.ingress.http.replies import reply
from workers.ingress.http.request import json_object
from workers.ingress.http.routes import ApiCall, route
from workers.ingress.http.shapes import ANY, EVENTS, OF_A_THING, OF_A_TURN, TEXT, Shape, gives, record
from workers.ingress.http.submitting import Heard, Submitter, outliving_its_caller, refusals_told
from workers.ingress.runs.objects import RUN, STATUS, run_object, sse
from workers.ingress.runs.request import RUN_BODY, parse_run
from workers.turns import Parked

MAX_EVENT_ID_DIGITS = 18  # it fits 64 bits

_STARTED = record(["object", "run_id", "status", "session_id"], object=TEXT, run_id=TEXT, status=TEXT)
_STOPPED = record(["run_id", "status"], run_id=TEXT, status=TEXT)


class RunRoutes:
    """The routes. A run of another principal does not exist.

    Args:
        gateway: knows the turns.
        submitter: hands messages to it.
        max_body_bytes: of a request.
        limits: for slow clients.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        gateway: Gateway,
        submitter: Submitter,
        *,
        max_body_bytes: int,
        limits: ClientLimits,
        clock: Callable[[], float],
    ) -> None:
        self._gateway = gateway
        self._submitter = submitter
        self.max_body_bytes = max_body_bytes
        self._limits = limits
        self._clock = clock

    @route(
        "POST",
        "/v1/runs",
        endpoint="runs",
        features=("run_submission",),
        shape=Shape(body=RUN_BODY, headers=TURN_HEADERS, answers=gives(_STARTED, 202), errors=OF_A_TURN),
    )
    async def start(self, call: ApiCall) -> web.Response:
        """Start a run; it is on disk when this answers.

        Raises:
            ApiError: it is not accepted.
        """
        park = wants_to_park(call.request)
        body = json_object(await read_json(call.request, max_bytes=self.max_body_bytes, timeout_s=self._limits.body_s))
        session_id = _session_of(call.request, body)
        chat = parse_run(body)
        submission = await self._submitter.submission(call, session_id, chat, park=park)
        submission = outliving_its_caller(submission, chat)
        try:
            turn_id = (await self._submitter.submit(submission, session_id, stream=False)).turn_id
            later: dict[str, str] = {}
        except Parked as parked:
            turn_id, later = parked.turn_id, retry_after(parked.retry_after_s)
        answer = reply({"object": "hermes.run", "run_id": turn_id, "status": "started", "session_id": session_id}, 202)
        answer.headers.update(self._submitter.headers(turn_id, submission, session_id) | later)
        answer.headers["Location"] = f"/v1/runs/{turn_id}"
        return answer

    @route(
        "GET",
        "/v1/runs/{id}",
        endpoint="run_status",
        features=("run_status",),
        shape=Shape(answers=gives(RUN), errors=OF_A_THING),
    )
    async def show(self, call: ApiCall) -> web.Response:
        """How a run is."""
        with refusals_told():
            view = await self._gateway.describe_turn(call.principal, call.parameters["id"])
        return reply(run_object(call.principal, view))

    @route(
        "GET",
        "/v1/runs/{id}/events",
        endpoint="run_events",
        features=("run_events_sse",),
        shape=Shape(headers=("Last-Event-ID",), answers={200: {EVENTS: ANY}}, errors=OF_A_THING),
    )
    async def events(self, call: ApiCall) -> web.StreamResponse:
        """What a run said and says, up to its end.

        Raises:
            ApiError: there is no such run.
            ClientGone: the reader left.
        """
        after = _last_event_id(call.request)
        with refusals_told():
            reading = await self._gateway.attach(call.principal, call.parameters["id"], after)
        with Heard(call.request, reading):
            return await self._stream(call.request, reading)

    async def _stream(self, request: web.BaseRequest, reading: TurnReading) -> web.StreamResponse:
        headers = {"Server": SERVER, TURN_ID_HEADER: reading.turn_id}
        async with EventStream(request, headers, keep_alive_s=self._limits.keep_alive_s) as stream:
            async for numbered in reading:
                await stream.send(sse(reading.turn_id, numbered, self._clock()))
        return stream.response

    @route(
        "POST",
        "/v1/runs/{id}/stop",
        endpoint="run_stop",
        features=("run_stop",),
        shape=Shape(answers=gives(_STOPPED), errors=OF_A_THING),
    )
    async def stop(self, call: ApiCall) -> web.Response:
        """Cancel a run, for good; one that is over stays as it is."""
        run_id = call.parameters["id"]
        with refusals_told():
            stopped = await self._gateway.stop(call.principal, run_id)
            if not stopped:
                view = await self._gateway.describe_turn(call.principal, run_id)
        return reply({"run_id": run_id, "status": "stopping" if stopped else STATUS[view.state]})


def _session_of(request: web.BaseRequest, body: dict[str, Any]) -> str | None:
    """The session of a run, which its header or its body may name.

    Raises:
        ApiError: 400; they name two, or none can be called so.
    """
    session_id = named(request, SESSION_ID_HEADER)
    given = body.get("session_id")
    if given is None:
        return session_id
    if not isinstance(given, str) or not is_session_id(given):
        raise invalid("session_id", "`session_id` must have 1 to 256 printable characters.")
    if session_id not in (None, given):
        raise invalid("session_id", f"`session_id` and the header {SESSION_ID_HEADER} name two sessions: send one.")
    return given


def _last_event_id(request: web.BaseRequest) -> int:
    """The number of the last message that the reader has whole."""
    given = request.headers.get("Last-Event-ID", "0")
    if not (given.isascii() and given.isdigit() and len(given) <= MAX_EVENT_ID_DIGITS):
        raise ApiError(
            400, "invalid_header", "Last-Event-ID must be the id of an event of this run.", param="Last-Event-ID"
        )
    return int(given)
