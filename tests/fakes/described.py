"""Answers held against the OpenAPI document of the gateway that gave them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import orjson
from jsonschema import Draft202012Validator

from workers.ingress.http.openapi import document
from workers.ingress.http.routes import PathTable, Route
from workers.ingress.http.shapes import JSON


class Described:
    """What the document says of answers.

    Args:
        routes: of the gateway.
    """

    def __init__(self, routes: tuple[Route, ...]) -> None:
        made = document(routes)
        self._components = {"components": made["components"]}
        self._paths: PathTable[dict[str, Any]] = PathTable()
        self._validators: dict[int, Draft202012Validator] = {}
        for path, operations in made["paths"].items():
            self._paths.at(path, dict).update(operations)

    def check(self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Fail where the document has the operation, and does not describe this answer to it."""
        found = self._paths.find(path.partition("?")[0])
        operation = found and found[0].get(method.lower())
        if not operation:
            return
        answer = operation["responses"].get(str(status))
        assert answer is not None, f"{method} {path} answers {status}, which the document does not have"
        media = headers["Content-Type"].partition(";")[0]
        assert media in answer["content"], f"{method} {path} answers {media}, which the document does not have"
        if media == JSON:
            self._validator(answer["content"][media]["schema"]).validate(orjson.loads(body))

    def _validator(self, schema: dict[str, Any]) -> Draft202012Validator:
        if id(schema) not in self._validators:
            self._validators[id(schema)] = Draft202012Validator({**schema, **self._components})
        return self._validators[id(schema)]


@cache
def described(routes: tuple[Route, ...]) -> Described:
    """What the document for these routes says; the same for all gateways with the same routes."""
    return Described(routes)
