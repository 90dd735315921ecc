"""What this API is and how it is: models, capabilities, health, readiness."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from workers.ingress.http.completion import BARE_MODEL, MODEL
from workers.ingress.http.openapi import document
from workers.ingress.http.replies import listing, reply
from workers.ingress.http.routes import ApiCall, Route, route
from workers.ingress.http.shapes import JSON, TEXT, Shape, gives, page_of, record, schema_of

_OBJECT = record()
_STATUS = record(["status"], status=TEXT)


def _model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "hermes-actors"}


_MODEL = schema_of(_model(MODEL, 0))


class ServiceRoutes:
    """The routes about the service itself.

    Args:
        created: of the models, seconds since the epoch.
        ready: whether new requests are welcome.
        draining: whether they are not because the gateway drains.
        storable: whether a message could be stored.
        routes: all routes of the API.
    """

    def __init__(
        self,
        *,
        created: int,
        ready: Callable[[], bool],
        draining: Callable[[], bool],
        storable: Callable[[], Awaitable[bool]],
        routes: Callable[[], Sequence[Route]],
    ) -> None:
        self._models = {name: _model(name, created) for name in (MODEL, BARE_MODEL)}
        self._ready = ready
        self._draining = draining
        self._storable = storable
        self._routes = routes

    @route("GET", "/v1/models", endpoint="models", shape=Shape(answers=gives(page_of(_MODEL))))
    async def models(self, _call: ApiCall) -> web.Response:
        """The models of the API: the agent, and the model alone."""
        return listing(list(self._models.values()), None)

    @route("GET", f"/v1/models/{MODEL}", shape=Shape(answers=gives(_MODEL)))
    async def model(self, _call: ApiCall) -> web.Response:
        """The agent."""
        return reply(self._models[MODEL])

    @route("GET", f"/v1/models/{BARE_MODEL}", shape=Shape(answers=gives(_MODEL)))
    async def bare_model(self, _call: ApiCall) -> web.Response:
        """The model alone."""
        return reply(self._models[BARE_MODEL])

    @route("GET", "/v1/capabilities", shape=Shape(answers=gives(_OBJECT)))
    async def capabilities(self, _call: ApiCall) -> web.Response:
        """What a client may count on."""
        return reply(capabilities(self._routes()))

    @route("GET", "/openapi.json", endpoint="openapi", shape=Shape(answers=gives(_OBJECT)))
    async def openapi(self, _call: ApiCall) -> web.Response:
        """This API as an OpenAPI document."""
        return reply(document(self._routes()))

    @route("GET", "/health", endpoint="health", needs_key=False, shape=Shape(answers=gives(_STATUS)))
    async def health(self, _call: ApiCall) -> web.Response:
        """The process answers."""
        return reply({"status": "ok", "draining": True} if self._draining() else {"status": "ok"})

    @route(
        "GET",
        "/readyz",
        endpoint="ready",
        needs_key=False,
        shape=Shape(answers={status: {JSON: _STATUS} for status in (200, 503)}),
    )
    async def readyz(self, _call: ApiCall) -> web.Response:
        """Whether it takes new work: it has a supervisor and its shards, can store, and neither drains nor stops."""
        if self._ready():
            if await self._storable():
                return reply({"status": "ready"})
            return reply({"status": "not_ready", "reason": "store_failed"}, 503)
        return reply({"status": "draining" if self._draining() else "not_ready"}, 503)


def capabilities(routes: Sequence[Route]) -> dict[str, Any]:
    """What the routes declare, as clients read it."""
    features = {feature: True for declared in routes for feature in declared.features}
    return {
        "object": "hermes.api_server.capabilities",
        "platform": "hermes-actors",
        "model": MODEL,
        "auth": {"type": "bearer", "required": True},
        "features": features,
        "endpoints": {
            declared.endpoint: {"method": declared.method, "path": declared.path}
            for declared in routes
            if declared.endpoint is not None
        },
    }
