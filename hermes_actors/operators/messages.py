"""What ``hermes-ctl`` and the supervisor say over ``run/supervisor.sock``: one request, one reply, in msgpack frames.

Operations and what they answer (``data``):

``status``
    ``{"version", "pid", "boot", "home", "phase", "started_at", "http": {"host", "port"}, "workers": [worker…],
    "shards": {"total", "broken": [{"shard", "why", "set_aside", "serving"}…]}, "preparing",
    "drain", "sessions": <registered>}``; ``preparing`` and ``drain`` as in ``drain.status``, without turns, and
    ``drain`` None where there is none; a worker is ``{"slot",
    "generation", "pid", "state", "shards": [int…], "resident", "running", "queued", "turns", "mcp",
    "heartbeat_age_s", "restarts", "last_exit"}``.
``sessions.list``
    with ``{"limit", "after"}``:
    ``{"sessions": [{"key", "session_id", "worker", "state", "last_active_at"}…], "next"}``.
``sessions.show``
    with ``{"session": <key, or a unique last part of one>}``: one session as above, and what its worker knows:
    ``actor`` (``{"generation", "restarts", "last_restart_reason", "last_restart_at"}``), ``mcp``, ``turns``.
``mcp``
    ``{"connections": [{"worker", "server", "scope", "session", "state", "since", "starts", "calls", "last_error",
    "detail", "pid"}…], "missing"}``: every connection to an MCP server; ``session`` is None where a worker's sessions
    share it, ``detail`` what the server itself said when it failed last.
    ``missing``, here and below: the slots ``[int…]`` of the workers that gave no answer in time.
``mcp.restart``
    with ``{"server": <its name>}``: ``{"restarted": <connections>, "missing"}``; ``not_found`` where none is configured
    so.
``reload``
    ``{"changes": [{"key", "when", "what"}…], "missing"}``, as :class:`hermes_actors.config.reload.Change`: what the
    configuration as it is on disk now makes different. ``configuration``, with everything that is wrong in ``why``,
    where it cannot be used; then nothing changes.
``drain``
    with ``{"timeout": <seconds or None>, "then": "stop" | "restart" | "hold", "asker": <session key or None>}``: begins
    a drain, or joins the one that there is: its deadline comes nearer or stays, and of what follows it stop is stronger
    than restart, restart than hold. ``timeout``: None is ``agent.restart_drain_timeout``, 0 cuts at once. ``asker``:
    the session whose turn asks, which is not waited for. Answered when it is over, just before the gateway ends or runs
    anew, or when it holds: ``{"marked": <sessions>, "cut": [<their keys>…], "stateless": <turns of no session that
    were cut>, "waiting": <sessions with messages that wait, and run once the gateway serves>, "silent": [<slots of
    workers that died, or were killed, before they told what they ran: that is cut as by a crash>…], "suspended":
    [<keys>…], "took_s", "then"}``; ``cancelled`` where an operator cancels it, ``overruled`` where a restart was still
    being prepared when somebody wanted the gateway to hold or to stop. A restart is refused, and nothing is drained,
    where the code and configuration on disk were tried and could not serve: ``configuration``, or else
    ``cannot_restart``. With ``store_failed`` the disk cannot be written, so that cuts cannot be marked: a restart or
    hold is refused or called off, and a stop leaves the marks to the next start.
``drain.cancel``
    ``{}``, and the gateway serves again, or goes on to where a restart was being prepared; ``not_draining`` where there
    is no drain, or it has begun to cut what ran.
``drain.status``
    ``{"phase", "preparing", "then", "by", "asker", "began_at", "deadline_at", "left_s", "turns": [{"worker", "key",
    "turn_id", "started_at", "stateless"}…], "count", "queued", "missing"}``: what runs, the oldest first, ``count`` in
    all.
    Without a drain the fields about it are None. ``preparing``: whether a restart is being made ready, which drains
    when it is.
``drain.plan``
    with ``{"timeout"}`` as above: ``{"timeout_s", "turns": [{"worker", "key", "turn_id", "stateless", "age_s",
    "usual_s", "outcome", "strikes", "suspends"}…], "finishes", "cut", "unknown", "queued", "missing"}``: what a drain
    now would come to, its turns and how many of them have which ``outcome``. It changes nothing.
"""

from __future__ import annotations

from typing import Any

from hermes_actors.wire.tags import message


@message("control")
class ControlRequest:
    """What an operator wants."""

    request: int
    operation: str
    arguments: dict[str, Any]


@message("control_reply")
class ControlReply:
    """What the supervisor answers.

    ``error`` is None or ``not_found``, ``ambiguous``, ``bad_request``, ``busy``, ``configuration``,
    ``cancelled``, ``not_draining``, ``cannot_restart``, ``store_failed``.
    """

    request: int
    error: str | None
    why: str
    data: dict[str, Any]
