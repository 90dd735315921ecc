"""What this API is and how it does: models, capabilities, health, readiness."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from workers.ingress.http.completion import MODEL
from workers.ingress.http.replies import listing, reply
from workers.ingress.http.routes import Call

CAPABILITIES: dict[str, Any] = {
    "object": "hermes.api_server.capabilities",
    "platform": "hermes-actors",
    "model": MODEL,
    "auth": {"type": "bearer", "required": True},
    "features": {
        "chat_completions": True,
        "chat_completions_streaming": True,
        "tool_progress_events": True,
        "session_resources": True,
        "idempotency": True,
        "responses_api": False,
        "run_submission": False,
    },
    "endpoints": {
        "chat_completions": {"method": "POST", "path": "/v1/chat/completions"},
        "models": {"method": "GET", "path": "/v1/models"},
        "sessions": {"method": "GET", "path": "/api/sessions"},
        "session": {"method": "GET", "path": "/api/sessions/{id}"},
        "session_messages": {"method": "GET", "path": "/api/sessions/{id}/messages"},
        "session_delete": {"method": "DELETE", "path": "/api/sessions/{id}"},
        "health": {"method": "GET", "path": "/health"},
        "ready": {"method": "GET", "path": "/readyz"},
    },
}


class Catalogue:
    """The routes.

    Args:
        created: of the one model, seconds since the epoch.
        ready: whether new requests are welcome.
        draining: whether they are not because the gateway drains.
        storable: whether a message could be stored.
    """

    def __init__(
        self,
        *,
        created: int,
        ready: Callable[[], bool],
        draining: Callable[[], bool],
        storable: Callable[[], Awaitable[bool]],
    ) -> None:
        self._model = {"id": MODEL, "object": "model", "created": created, "owned_by": "hermes-actors"}
        self._ready = ready
        self._draining = draining
        self._storable = storable

    async def models(self, _call: Call) -> web.Response:
        """The list with the one model of the API."""
        return listing([self._model], None)

    async def model(self, _call: Call) -> web.Response:
        """That model."""
        return reply(self._model)

    async def capabilities(self, _call: Call) -> web.Response:
        """What a client may count on."""
        return reply(CAPABILITIES)

    async def health(self, _call: Call) -> web.Response:
        """The process answers."""
        return reply({"status": "ok", "draining": True} if self._draining() else {"status": "ok"})

    async def readyz(self, _call: Call) -> web.Response:
        """Whether it takes new work: it has a supervisor and its shards, can store, and neither drains nor stops."""
        if self._ready():
            if await self._storable():
                return reply({"status": "ready"})
            return reply({"status": "not_ready", "reason": "store_failed"}, 503)
        return reply({"status": "draining" if self._draining() else "not_ready"}, 503)
