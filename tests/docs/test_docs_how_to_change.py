"""The page on changes names files that exist, counts them, and says truly what follows from a declaration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hermes_actors.config.model import NextTurn, Now, Section
from hermes_actors.config.reload import rules
from hermes_actors.operations.operation import Operation, operation
from hermes_actors.operations.plain import to_plain
from hermes_actors.operations.results import Done
from workers.ingress.http.routes import ApiCall, RouteTable, route
from workers.ingress.http.service import capabilities

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "how-to-change-it.md").read_text()
FILE = re.compile(r"(new )?`([\w./-]+\.(?:py|md))`")
CHANGES = re.findall(r"^## ([^\n]+): (\d+) files\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_the_page_has_the_five_changes() -> None:
    assert len(CHANGES) == 5


@pytest.mark.parametrize(("is_new", "path"), sorted({(bool(new), path) for new, path in FILE.findall(PAGE)}))
def test_a_named_file_exists_unless_it_is_to_be_made(is_new: bool, path: str) -> None:
    assert (ROOT / path).exists() != is_new


@pytest.mark.parametrize(("change", "count", "body"), CHANGES, ids=[change for change, _, _ in CHANGES])
def test_the_count_of_a_change_is_that_of_its_list(change: str, count: str, body: str) -> None:
    steps = re.findall(r"^(\d+)\. ", body, flags=re.MULTILINE)

    assert steps == [str(number) for number in range(1, int(count) + 1)], change


class Scratch:
    """A class of routes that nothing else knows."""

    @route("GET", "/v1/scratch/{name}", endpoint="scratch", features=("scratch_things",))
    async def show(self, call: ApiCall) -> web.Response:
        """One of them."""
        raise NotImplementedError(call)


def test_a_route_needs_no_more_than_its_declaration_to_be_found_and_listed() -> None:
    table = RouteTable(Scratch())

    found = table.find("/v1/scratch/a", "GET")

    assert (found.needs_key, found.parameters) == (True, {"name": "a"})
    listed = capabilities(table.routes)
    assert listed["endpoints"]["scratch"] == {"method": "GET", "path": "/v1/scratch/{name}"}
    assert listed["features"]["scratch_things"] is True


class ScratchSection(Section):
    """A section that nothing else knows."""

    pace: Now[float] = 1.0
    """How fast."""
    kind: NextTurn[str | None] = None
    """Which one."""


def test_a_configuration_key_needs_no_more_than_its_mark_to_have_a_rule() -> None:
    assert dict(rules(ScratchSection, "scratch.")) == {"scratch.pace": "now", "scratch.kind": "next_turn"}


@operation("scratch")
class ScratchOperation(Operation[Done]):
    """An operation that nothing else knows."""

    depth: int = 1


def test_an_operation_needs_no_more_than_its_class_to_travel() -> None:
    request: Any = ScratchOperation(depth=2)

    assert (request.name, request.result, to_plain(request)) == ("scratch", Done, {"depth": 2})
