"""A supervisor's answers as plain data, over its socket."""

from __future__ import annotations

from typing import Any

from hermes_actors.home import Home
from hermes_actors.operations.operation import Operation
from hermes_actors.operations.plain import to_plain
from hermes_actors.operations.requests import read
from hermes_actors.operators import client


def ask(home: Home, operation: str, **arguments: Any) -> dict[str, Any]:
    """What a supervisor answers, as ``--json`` prints it."""
    request: Operation[Any] = read(operation, arguments)
    plain: dict[str, Any] = to_plain(client.ask(home, request))
    return plain
