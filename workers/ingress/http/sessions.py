"""``/api/sessions``: a principal's sessions, their transcripts, and how to drop one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from workers.gateway import Gateway
from workers.ingress.http.errors import ApiError, invalid
from workers.ingress.http.names import is_session_id
from workers.ingress.http.replies import listing, reply
from workers.ingress.http.routes import ApiCall, query_of, route
from workers.ingress.http.submitting import refusals_told
from workers.session_keys import api_session, api_session_id

DEFAULT_PAGE = 50
MAX_PAGE = 200
MAX_CURSOR_CHARS = 1024
MAX_DIGITS = 18  # of a number in a query: it fits 64 bits


class SessionRoutes:
    """The routes. A session of another principal does not exist."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @route("GET", "/api/sessions", endpoint="sessions", features=("session_resources",))
    async def index(self, call: ApiCall) -> web.Response:
        """A page of the caller's sessions, newest activity first."""
        query = query_of(call)
        after = query.get("after") or None
        if after is not None and len(after) > MAX_CURSOR_CHARS:
            raise invalid("after", "`after` must be the `next` of the page before.")
        with refusals_told():
            sessions, cursor = await self._gateway.list_sessions(call.principal, after, _limit(query))
        return listing([_session(call.principal, session) for session in sessions], cursor)

    @route("GET", "/api/sessions/{id}", endpoint="session")
    async def show(self, call: ApiCall) -> web.Response:
        """One session."""
        with refusals_told():
            session = await self._gateway.describe_session(_key(call))
        return reply(_session(call.principal, session))

    @route("GET", "/api/sessions/{id}/messages", endpoint="session_messages")
    async def messages(self, call: ApiCall) -> web.Response:
        """A page of a transcript, oldest first."""
        key, query = _key(call), query_of(call)
        with refusals_told():
            page = await self._gateway.session_messages(key, _number(query, "after", 0), _limit(query))
        return listing(page["messages"], page["next"])

    @route("DELETE", "/api/sessions/{id}", endpoint="session_delete")
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
