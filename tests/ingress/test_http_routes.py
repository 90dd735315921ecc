"""Routes: what is declared at a handler is found by path and method, and listed in the capabilities."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import pytest
from aiohttp import web
from fakes.served_ingress import serving
from hypothesis import given
from hypothesis import strategies as st

from workers.ingress.http.routes import ApiCall, PathTable, RouteTable, route
from workers.ingress.http.service import capabilities

LITERALS = st.sampled_from(["v1", "api", "sessions", "runs", "stop", "a%20b"])
SHAPES = st.lists(st.one_of(st.none(), LITERALS), min_size=1, max_size=4).map(tuple)  # None: a parameter
VALUES = st.text(alphabet=st.characters(codec="utf-8"), max_size=8)


class Runs:
    """Routes of a thing that does not exist."""

    @route("GET", "/v1/runs/{run}", endpoint="run", features=("run_submission",))
    async def show(self, call: ApiCall) -> web.Response:
        """One of them."""
        raise NotImplementedError(call)

    @route("POST", "/v1/runs/{run}/steps/{step}")
    async def step(self, call: ApiCall) -> web.Response:
        """A step of one."""
        raise NotImplementedError(call)

    @route("DELETE", "/v1/runs/{run}", needs_key=False)
    async def drop(self, call: ApiCall) -> web.Response:
        """None of them."""
        raise NotImplementedError(call)


def pattern(shape: tuple[str | None, ...]) -> str:
    return "".join(f"/{{p{n}}}" if literal is None else f"/{literal}" for n, literal in enumerate(shape))


def fits(shape: tuple[str | None, ...], segments: list[str]) -> bool:
    return len(shape) == len(segments) and all(a in (None, b) for a, b in zip(shape, segments, strict=True))


@given(SHAPES, st.lists(VALUES, min_size=4, max_size=4))
def test_a_path_made_from_a_pattern_gives_its_parameters_back(shape: tuple[str | None, ...], values: list[str]) -> None:
    table: PathTable[str] = PathTable()
    table.at(pattern(shape), lambda: "here")
    filled = [
        quote(value, safe="") if literal is None else literal for literal, value in zip(shape, values, strict=False)
    ]

    found = table.find("/" + "/".join(filled))

    assert found == ("here", {f"p{n}": values[n] for n, literal in enumerate(shape) if literal is None})


@given(st.sets(SHAPES, max_size=8), st.lists(LITERALS, min_size=1, max_size=4))
def test_the_pattern_with_the_first_literal_segment_is_taken(
    shapes: set[tuple[str | None, ...]], segments: list[str]
) -> None:
    table: PathTable[str] = PathTable()
    for shape in sorted(shapes, key=repr):
        table.at(pattern(shape), lambda shape=shape: pattern(shape))  # type: ignore[misc]  # mypy infers no lambda default
    fitting = sorted(
        (shape for shape in shapes if fits(shape, segments)), key=lambda shape: [literal is None for literal in shape]
    )

    found = table.find("/" + "/".join(segments))

    assert (found and found[0]) == (pattern(fitting[0]) if fitting else None)


@pytest.mark.parametrize("wrong", ["v1/runs", "/runs/{a}/{a}", "/runs/{}", "/runs/{a b}"])
def test_what_is_no_pattern_is_not_taken(wrong: str) -> None:
    with pytest.raises(ValueError, match="is no path"):
        PathTable[str]().at(wrong, str)


def test_one_path_has_one_set_of_names() -> None:
    table: PathTable[str] = PathTable()
    table.at("/v1/runs/{run}", str)

    with pytest.raises(ValueError, match="with the parameters run"):
        table.at("/v1/runs/{id}", str)


def test_what_is_declared_is_found_with_its_needs() -> None:
    runs = Runs()
    table = RouteTable(runs)

    assert table.find("/v1/runs/r%201", "GET") == (runs.show, True, {"run": "r 1"})
    assert table.find("/v1/runs/r", "HEAD").handler == runs.show
    assert table.find("/v1/runs/r", "DELETE") == (runs.drop, False, {"run": "r"})
    assert table.find("/v1/runs/r/steps/2", "POST") == (runs.step, True, {"run": "r", "step": "2"})


def test_two_handlers_of_one_route_are_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"GET /v1/runs/\{run\} is declared twice"):
        RouteTable(Runs(), Runs())


def test_capabilities_are_what_the_routes_declare() -> None:
    offered = capabilities(RouteTable(Runs()).routes)

    assert offered["features"] == {"run_submission": True}
    assert offered["endpoints"] == {"run": {"method": "GET", "path": "/v1/runs/{run}"}}


async def test_the_capabilities_of_the_api() -> None:
    async with serving() as served:
        reply = await served.ask("GET", "/v1/capabilities")

    offered: Mapping[str, object] = reply.data
    assert offered["features"] == {
        "chat_completions": True,
        "chat_completions_streaming": True,
        "tool_progress_events": True,
        "client_tools": True,
        "session_resources": True,
        "session_fork": True,
        "session_titles": True,
        "idempotency": True,
        "responses_api": True,
        "responses_streaming": True,
        "responses_stored": True,
        "responses_websocket": True,
        "responses_compact": True,
        "run_submission": True,
        "run_status": True,
        "run_events_sse": True,
        "run_stop": True,
    }
    assert offered["endpoints"] == {
        "chat_completions": {"method": "POST", "path": "/v1/chat/completions"},
        "responses": {"method": "POST", "path": "/v1/responses"},
        "responses_socket": {"method": "GET", "path": "/v1/responses"},
        "responses_compact": {"method": "POST", "path": "/v1/responses/compact"},
        "response": {"method": "GET", "path": "/v1/responses/{id}"},
        "response_delete": {"method": "DELETE", "path": "/v1/responses/{id}"},
        "response_cancel": {"method": "POST", "path": "/v1/responses/{id}/cancel"},
        "response_input_items": {"method": "GET", "path": "/v1/responses/{id}/input_items"},
        "runs": {"method": "POST", "path": "/v1/runs"},
        "run_status": {"method": "GET", "path": "/v1/runs/{id}"},
        "run_events": {"method": "GET", "path": "/v1/runs/{id}/events"},
        "run_stop": {"method": "POST", "path": "/v1/runs/{id}/stop"},
        "models": {"method": "GET", "path": "/v1/models"},
        "sessions": {"method": "GET", "path": "/api/sessions"},
        "session_rename": {"method": "PATCH", "path": "/api/sessions/{id}"},
        "session_create": {"method": "POST", "path": "/api/sessions"},
        "session_fork": {"method": "POST", "path": "/api/sessions/{id}/fork"},
        "session_export": {"method": "GET", "path": "/api/sessions/{id}/export"},
        "session": {"method": "GET", "path": "/api/sessions/{id}"},
        "session_messages": {"method": "GET", "path": "/api/sessions/{id}/messages"},
        "session_delete": {"method": "DELETE", "path": "/api/sessions/{id}"},
        "openapi": {"method": "GET", "path": "/openapi.json"},
        "health": {"method": "GET", "path": "/health"},
        "ready": {"method": "GET", "path": "/readyz"},
    }
