"""The OpenAPI document of the API, purely: made from what the routes declare."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import orjson

from workers.ingress.http.errors import ApiError
from workers.ingress.http.routes import Route
from workers.ingress.http.shapes import JSON, TEXT, Schema, Shape, schema_of

_PARAMETER = re.compile(r"\{(\w+)\}")
_OF_ALL = frozenset({400, 431, 500})  # broken HTTP, headers that are too large, a fault of ours
_OF_KEYS = frozenset({401})
_OF_BODIES = frozenset({408, 413, 415, 417})
_ERROR = {"$ref": "#/components/schemas/Error"}


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The document (https://spec.openapis.org/oas/v3.1.1.html).

    Args:
        routes: all of the API; one that declares no shape is left out.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if route.shape is not None:
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, route.shape)
    errors = [orjson.loads(ApiError(400, "code", "message", param=param).body()) for param in (None, "field")]
    return {
        "openapi": "3.1.0",
        "info": {"title": "hermes-actors", "version": version("hermes-actors")},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": {"Error": schema_of(*errors)},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, shape: Shape) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}_{re.sub(r'[^a-z0-9]+', '_', route.path.lower()).strip('_')}",
        "parameters": [
            *(_parameter("path", name, TEXT | {"minLength": 1}) for name in _PARAMETER.findall(route.path)),
            *(_parameter("query", name, schema) for name, schema in shape.query.items()),
            *(_parameter("header", name, TEXT) for name in shape.headers),
        ],
        "responses": _answers(route, shape),
    }
    if shape.body is not None:
        operation["requestBody"] = {"required": shape.body_needed, "content": {JSON: {"schema": shape.body}}}
    if not route.needs_key:
        operation["security"] = []
    return operation


def _parameter(where: str, name: str, schema: Schema) -> dict[str, Any]:
    return {"in": where, "name": name, "required": where == "path", "schema": schema}


def _answers(route: Route, shape: Shape) -> dict[str, Any]:
    statuses = _OF_ALL | shape.errors
    if route.needs_key:
        statuses |= _OF_KEYS
    if shape.body is not None:
        statuses |= _OF_BODIES
    answers: dict[int, Any] = {
        status: {"description": "An error.", "content": {JSON: {"schema": _ERROR}}} for status in statuses
    }
    for status, content in shape.answers.items():
        media = {kind: {"schema": schema} for kind, schema in content.items()}
        answers[status] = {"description": route.summary, "content": media}
    return {str(status): answers[status] for status in sorted(answers)}
