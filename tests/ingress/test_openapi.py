"""The OpenAPI document: it has each route, it is valid, and a schema says what the code makes."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

import orjson
import pytest
from aiohttp import web
from fakes.described import Described
from fakes.served_ingress import serving
from jsonschema import Draft202012Validator, ValidationError
from openapi_spec_validator import OpenAPIV31SpecValidator

from workers.ingress.http.openapi import document
from workers.ingress.http.routes import ApiCall, RouteTable, route
from workers.ingress.http.shapes import Shape, fields_of, gives, record, schema_of, schema_of_type


class Scratch:
    """Routes that nothing else knows."""

    @route("POST", "/v1/scratch/{name}", shape=Shape(answers=gives(schema_of({"a": 1})), body=record()))
    async def make(self, call: ApiCall) -> web.Response:
        """Make one."""
        raise NotImplementedError(call)

    @route("GET", "/v1/scratch/{name}", needs_key=False)
    async def show(self, call: ApiCall) -> web.Response:
        """One of them."""
        raise NotImplementedError(call)


class Typed(TypedDict):
    needed: dict[str, int]
    maybe: NotRequired[list[str] | None]


async def test_the_document_is_valid_and_has_each_route() -> None:
    async with serving() as served:
        made = (await served.ask("GET", "/openapi.json")).data
        routes = served.ingress._routes.routes

    OpenAPIV31SpecValidator(made).validate()
    assert {(method.upper(), path) for path, methods in made["paths"].items() for method in methods} == {
        (declared.method, declared.path) for declared in routes
    }


def test_a_route_without_a_shape_is_not_in_the_document_so_that_the_test_above_fails() -> None:
    assert list(document(RouteTable(Scratch()).routes)["paths"]["/v1/scratch/{name}"]) == ["post"]


def test_an_operation_is_what_its_route_declares() -> None:
    operation = document(RouteTable(Scratch()).routes)["paths"]["/v1/scratch/{name}"]["post"]

    assert operation["summary"] == "Make one."
    assert [(each["in"], each["name"], each["required"]) for each in operation["parameters"]] == [
        ("path", "name", True)
    ]
    assert list(operation["responses"]) == ["200", "400", "401", "408", "413", "415", "417", "431", "500"]


def test_a_schema_of_examples_takes_what_any_of_them_is() -> None:
    schema = schema_of({"a": 1, "b": None}, {"a": 1.5, "b": "text", "c": [{"d": True}]})

    assert schema == {
        "type": "object",
        "properties": {
            "a": {"type": "number"},
            "b": {"type": ["null", "string"]},
            "c": {
                "type": "array",
                "items": {"type": "object", "properties": {"d": {"type": "boolean"}}, "required": ["d"]},
            },
        },
        "required": ["a", "b"],
    }


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ({"needed": {"a": 1}}, True),
        ({"needed": {}, "maybe": None}, True),
        ({"needed": {}, "maybe": ["a"], "more": 1}, True),
        ({"maybe": None}, False),
        ({"needed": {"a": "1"}}, False),
        ({"needed": {}, "maybe": [1]}, False),
    ],
)
def test_a_schema_of_a_typed_dictionary_takes_its_values(value: Any, fits: bool) -> None:
    assert Draft202012Validator(schema_of_type(Typed)).is_valid(value) == fits


def test_a_field_of_a_parsers_table_is_described_by_the_words_of_its_error() -> None:
    fields = fields_of({"pace": (float, "a number"), "mood": (str, "good or bad"), "rest": (str, "")})

    assert fields == {
        "pace": {"description": "Must be a number.", "anyOf": [{"type": "number"}, {"type": "null"}]},
        "mood": {"description": "Must be good or bad."},
        "rest": {},
    }


@pytest.mark.parametrize(
    ("status", "body", "why"), [(201, {"a": 1}, "answers 201"), (200, {"a": "1"}, "is not of type")]
)
def test_an_answer_that_the_document_does_not_describe_fails_the_tests_of_the_ingress(
    status: int, body: Any, why: str
) -> None:
    table = Described(tuple(RouteTable(Scratch()).routes))

    with pytest.raises((AssertionError, ValidationError), match=why):
        table.check("POST", "/v1/scratch/a", status, {"Content-Type": "application/json"}, orjson.dumps(body))
