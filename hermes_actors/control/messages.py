"""What ``hermes-ctl`` and the supervisor say over ``run/supervisor.sock``: one request, one reply, in msgpack frames.

Operations and what they answer (``data``):

``status``
    ``{"version", "pid", "boot", "home", "phase", "started_at", "http": {"host", "port"}, "workers": [worker…],
    "shards": {"total", "broken": [{"shard", "why", "set_aside", "serving"}…]}, "sessions": <registered>}``; a worker is
    ``{"slot", "generation", "pid", "state", "shards": [int…], "resident", "running", "queued", "turns", "mcp",
    "heartbeat_age_s", "restarts", "last_exit"}``.
``sessions.list``
    with ``{"limit", "after"}``:
    ``{"sessions": [{"key", "session_id", "worker", "state", "last_active_at"}…], "next"}``.
``sessions.show``
    with ``{"session": <key, or a unique last part of one>}``: one session as above, and what its worker knows:
    ``actor`` (``{"generation", "restarts", "last_restart_reason", "last_restart_at"}``), ``mcp``, ``turns``.
``mcp``
    ``{"connections": [{"worker", "server", "scope", "session", "state", "since", "starts", "calls", "last_error",
    "pid"}…], "missing"}``: every connection to an MCP server; ``session`` is None where a worker's sessions share it.
    ``missing``, here and below: the slots ``[int…]`` of the workers that gave no answer in time.
``mcp.restart``
    with ``{"server": <its name>}``: ``{"restarted": <connections>, "missing"}``; ``not_found`` where none is configured
    so.
``reload``
    ``{"changes": [{"key", "when", "what"}…], "missing"}``, as :class:`hermes_actors.config.reload.Change`: what the
    configuration as it is on disk now makes different. ``configuration``, with everything that is wrong in ``why``,
    where it cannot be used; then nothing changes.
``stop``
    with ``{"now": bool}``: ``{}`` at once; the connection ends when the supervisor is gone.
"""

from __future__ import annotations

from typing import Any

from hermes_actors.wire.codec import message


@message("control")
class ControlRequest:
    """What an operator wants."""

    request: int
    operation: str
    arguments: dict[str, Any]


@message("control_reply")
class ControlReply:
    """What the supervisor answers.

    ``error`` is None or ``not_found``, ``ambiguous``, ``bad_request``, ``busy``, ``configuration``.
    """

    request: int
    error: str | None
    why: str
    data: dict[str, Any]
