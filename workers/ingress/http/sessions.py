"""``/api/sessions``: a principal's sessions, their transcripts, and how to drop one."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from hermes_actors.wire.refusals import RefusalCode
from workers.gateway import Gateway, SessionView, TranscriptPage
from workers.ingress.http.body import read_json
from workers.ingress.http.connection import ClientLimits
from workers.ingress.http.cors import CORS
from workers.ingress.http.errors import SERVER, ApiError, ClientGone, invalid
from workers.ingress.http.names import MAX_CHARS, SESSION_ID_HEADER, is_name, is_session_id
from workers.ingress.http.replies import listing, reply
from workers.ingress.http.request import json_object
from workers.ingress.http.routes import ApiCall, query_of, route
from workers.ingress.http.shapes import (
    OF_A_THING,
    TEXT,
    Schema,
    Shape,
    gives,
    page_of,
    record,
    schema_of_type,
)
from workers.ingress.http.submitting import refusals_told
from workers.session_keys import api_session, api_session_id
from workers.turns import Refusal

DEFAULT_PAGE = 50
MAX_PAGE = 200
MAX_CURSOR_CHARS = 1024
MAX_BODY_BYTES = 10_000  # of a request that makes or changes a session
MAX_TITLE_CHARS = 256
MAX_SEARCHED_CHARS = 256  # of the text to look for
JSON_LINES = "application/jsonl"
MAX_DIGITS = 18  # of a number in a query: it fits 64 bits

_NAMED = record(["id", "object", "key"], id=TEXT, object=TEXT, key=TEXT)
_SESSION: Schema = {"allOf": [_NAMED, schema_of_type(SessionView)]}
_MESSAGE = record(["seq", "turn_id", "message"], seq={"type": "integer"}, turn_id=TEXT, message=record())
_PAGE = {"limit": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}, "after": TEXT}
_NEW_ID: Schema = {"type": ["string", "null"], "minLength": 1, "maxLength": MAX_CHARS[SESSION_ID_HEADER]}
_TITLE: Schema = {"type": ["string", "null"], "minLength": 1, "maxLength": MAX_TITLE_CHARS}
_SEARCHED: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_SEARCHED_CHARS}
_MAKING = OF_A_THING | {RefusalCode.SESSION_EXISTS.http_status}
_DELETED = record(["id", "object", "deleted"], id=TEXT, object=TEXT, deleted={"type": "boolean"})


class SessionRoutes:
    """The routes. A session of another principal does not exist.

    Args:
        gateway: has the sessions.
        limits: for slow clients.
    """

    def __init__(self, gateway: Gateway, *, limits: ClientLimits) -> None:
        self._gateway = gateway
        self._limits = limits

    @route(
        "GET",
        "/api/sessions",
        endpoint="sessions",
        features=("session_resources",),
        shape=Shape(answers=gives(page_of(_NAMED)), query={**_PAGE, "q": _SEARCHED}, errors=OF_A_THING),
    )
    async def index(self, call: ApiCall) -> web.Response:
        """A page of the caller's sessions, newest activity first."""
        query = query_of(call)
        after = query.get("after") or None
        if after is not None and len(after) > MAX_CURSOR_CHARS:
            raise invalid("after", "`after` must be the `next` of the page before.")
        if "q" in query:
            return await self._search(call.principal, query["q"], after, _limit(query))
        with refusals_told():
            sessions, cursor = await self._gateway.list_sessions(call.principal, after, _limit(query))
        return listing([_session(call.principal, session) for session in sessions], cursor)

    async def _search(self, principal: str, text: str, after: str | None, limit: int) -> web.Response:
        """A page of those of the caller's sessions whose title or messages have a text."""
        if not text.strip() or len(text) > MAX_SEARCHED_CHARS:
            raise invalid("q", f"`q` must be a text of 1 to {MAX_SEARCHED_CHARS} characters, not blanks alone.")
        with refusals_told():
            page = await self._gateway.search_sessions(principal, text, after, limit)
        found = [_session(principal, session) for session in page["sessions"]]
        return listing(found, page["next"], incomplete=not page["whole"])

    @route("GET", "/api/sessions/{id}", endpoint="session", shape=Shape(answers=gives(_SESSION), errors=OF_A_THING))
    async def show(self, call: ApiCall) -> web.Response:
        """One session."""
        with refusals_told():
            session = await self._gateway.describe_session(_key(call))
        return reply(_session(call.principal, session))

    @route(
        "GET",
        "/api/sessions/{id}/messages",
        endpoint="session_messages",
        shape=Shape(answers=gives(page_of(_MESSAGE)), query=_PAGE, errors=OF_A_THING),
    )
    async def messages(self, call: ApiCall) -> web.Response:
        """A page of a transcript, oldest first."""
        key, query = _key(call), query_of(call)
        with refusals_told():
            page = await self._gateway.session_messages(key, _number(query, "after", 0), _limit(query))
        return listing(page["messages"], page["next"])

    @route(
        "POST",
        "/api/sessions",
        endpoint="session_create",
        shape=Shape(
            answers=gives(_SESSION, 201), body=record(id=_NEW_ID, title=_TITLE), body_needed=False, errors=_MAKING
        ),
    )
    async def create(self, call: ApiCall) -> web.Response:
        """Make a session. The first message in a session of a new name makes it as well."""
        body = await self._body(call)
        into, title = _new_key(call, body), _title(body.get("title"))
        with refusals_told():
            session = await self._gateway.create_session(into, call.principal, title)
        return reply(_session(call.principal, session), 201)

    @route(
        "PATCH",
        "/api/sessions/{id}",
        endpoint="session_rename",
        features=("session_titles",),
        shape=Shape(answers=gives(_SESSION), body=record(["title"], title=_TITLE), errors=OF_A_THING),
    )
    async def rename(self, call: ApiCall) -> web.Response:
        """Give a session a title, or take it away."""
        key, body = _key(call), await self._body(call)
        if "title" not in body:
            raise invalid("title", "The body needs `title`: a text, or null to take the title away.")
        title = _title(body["title"])
        with refusals_told():
            session = await self._gateway.rename_session(key, title)
        return reply(_session(call.principal, session))

    @route(
        "POST",
        "/api/sessions/{id}/fork",
        endpoint="session_fork",
        features=("session_fork",),
        shape=Shape(
            answers=gives(_SESSION, 201),
            body=record(id=_NEW_ID, turn_id={"type": ["string", "null"]}),
            body_needed=False,
            errors=_MAKING,
        ),
    )
    async def fork(self, call: ApiCall) -> web.Response:
        """Make a session that begins as this one did, up to a turn."""
        key, body = _key(call), await self._body(call)
        through = body.get("turn_id")
        if through is not None and not isinstance(through, str):
            raise invalid("turn_id", "`turn_id` must be the id of a turn in the session's transcript.")
        into = _new_key(call, body)
        with refusals_told():
            session = await self._gateway.fork_session(key, into, call.principal, through)
        return reply(_session(call.principal, session), 201)

    @route(
        "GET",
        "/api/sessions/{id}/export",
        endpoint="session_export",
        shape=Shape(answers={200: {JSON_LINES: TEXT}}, errors=OF_A_THING),
    )
    async def export(self, call: ApiCall) -> web.StreamResponse:
        """The whole transcript, a message a line (https://jsonlines.org).

        Raises:
            ApiError: there is no such session; 503, its owner does not answer.
            ClientGone: the client left.
        """
        key = _key(call)
        with refusals_told():
            page = await self._gateway.session_messages(key, 0, MAX_PAGE)
        response = web.StreamResponse(
            headers={"Content-Type": JSON_LINES, "Server": SERVER} | call.request.get(CORS, {})
        )
        try:
            await response.prepare(call.request)
            await response.write(_lines(page))
            while page["next"] is not None:
                page = await self._gateway.session_messages(key, page["next"], MAX_PAGE)
                await response.write(_lines(page))
        except (ConnectionError, Refusal):  # with the rest missing the body must not look whole
            if call.request.transport is not None:
                call.request.transport.abort()
            raise ClientGone from None
        return response

    async def _body(self, call: ApiCall) -> dict[str, Any]:
        """The object that a request may bring."""
        if not call.request.can_read_body:
            return {}
        return json_object(await read_json(call.request, max_bytes=MAX_BODY_BYTES, timeout_s=self._limits.body_s))

    @route(
        "DELETE",
        "/api/sessions/{id}",
        endpoint="session_delete",
        shape=Shape(answers=gives(_DELETED), errors=OF_A_THING),
    )
    async def delete(self, call: ApiCall) -> web.Response:
        """Cancel what runs in a session, and drop it."""
        with refusals_told():
            await self._gateway.delete_session(_key(call))
        return reply({"id": call.parameters["id"], "object": "session.deleted", "deleted": True})


def _key(call: ApiCall) -> str:
    session_id = call.parameters["id"]
    if not is_session_id(session_id):
        raise ApiError(404, "session_not_found", "No session can have this id.")
    return api_session(call.principal, session_id)


def _new_key(call: ApiCall, body: Mapping[str, Any]) -> str:
    """The key of a session that is to be made, which the body may name.

    Raises:
        ApiError: 400; none can be called so.
    """
    session_id = body.get("id")
    if session_id is None:
        session_id = uuid.uuid4().hex
    if not isinstance(session_id, str) or not is_session_id(session_id):
        raise invalid("id", "`id` must have 1 to 256 printable characters.")
    return api_session(call.principal, session_id)


def _title(given: Any) -> str | None:
    """A title of a session, or None.

    Raises:
        ApiError: 400; no title can be so.
    """
    if given is None or (isinstance(given, str) and is_name(given, MAX_TITLE_CHARS)):
        return given
    raise invalid("title", f"`title` must have 1 to {MAX_TITLE_CHARS} printable characters, or be null.")


def _lines(page: TranscriptPage) -> bytes:
    return b"".join(orjson.dumps(message) + b"\n" for message in page["messages"])


def _session(principal: str, session: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": api_session_id(principal, session["key"]), "object": "session", **session}


def _limit(query: Mapping[str, str]) -> int:
    limit = _number(query, "limit", DEFAULT_PAGE)
    if not 1 <= limit <= MAX_PAGE:
        raise invalid("limit", f"`limit` must be 1 to {MAX_PAGE}.")
    return limit


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    value = query.get(name)
    if not value:
        return default
    if not (value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS):
        raise invalid(name, f"`{name}` must be a whole number.")
    return int(value)
