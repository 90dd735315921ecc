"""The frames of ``run/supervisor.sock``: a request, a response. :mod:`hermes_actors.operations` has what is in them."""

from __future__ import annotations

from typing import Any

from hermes_actors.wire.tags import message


@message("control")
class OperatorRequest:
    """What an operator requests."""

    request: int  # the response repeats it
    operation: str  # a name of hermes_actors.operations.requests
    arguments: dict[str, Any]  # its fields


@message("control_reply")
class OperatorResponse:
    """The result, or why there is none."""

    request: int
    error: str | None  # a hermes_actors.wire.refusals.RefusalCode; None: it was done
    why: str
    data: dict[str, Any]  # the operation's result; empty where it was refused
