"""The tools of a client beside those of its agent: what the model is offered, and asked to call, purely.

A request of chat completions brings them in ``tools``, ``tool_choice`` and ``parallel_tool_calls``, checked by the
ingress. What the client allows itself (``none``, ``allowed_tools``) is settled here, since few providers know it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workers.kept_json import kept_json
from workers.models.offer import CLIENT, Offer, OfferedTool, offer

MAX_NAMED = 5  # ids in one error
MAX_ID_CHARS = 100  # of each

_OURS = frozenset({"tools", "tool_choice"})


class SameName(ValueError):
    """A tool of the client has the name of one of the agent's own; the text is for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What a request to the model offers."""

    tools: Offer  # the agent's own, then the client's
    of_client: frozenset[str]  # names of the client's
    parameters: Mapping[str, Any]  # the request's, as the model gets them


def offered(own: Offer, parameters: Mapping[str, Any]) -> Offered:
    """The agent's tools and those of a request that has some.

    Args:
        own: the agent's tools.
        parameters: of the request, with ``tools``.

    Raises:
        SameName: two of them have one name.
    """
    choice = parameters.get("tool_choice", "auto")
    allowed: frozenset[str] | None = None
    if isinstance(choice, dict) and choice["type"] == "allowed_tools":
        named = choice["allowed_tools"]
        choice, allowed = named["mode"], frozenset(tool["function"]["name"] for tool in named["tools"])
    sent = {name: value for name, value in parameters.items() if name not in _OURS}
    if choice == "none":
        return Offered(tools=own, of_client=frozenset(), parameters=sent)
    if choice != "auto":
        sent["tool_choice"] = choice
    clients = [tool for tool in parameters["tools"] if allowed is None or tool["function"]["name"] in allowed]
    names = frozenset(tool["function"]["name"] for tool in clients)
    if same := sorted(names.intersection(tool.name for tool in own.tools)):
        raise SameName(f"`tools`: the agent has a tool of its own by the name of {' and '.join(same)}. Rename yours.")
    return Offered(tools=offer((*own.tools, *map(_of_client, clients))), of_client=names, parameters=sent)


def no_such_call(ids: Sequence[str]) -> str:
    """What a client gets for results that no call waits for."""
    named = ", ".join(call_id[:MAX_ID_CHARS] for call_id in ids[:MAX_NAMED])
    return (
        f"No call of a tool waits for a result under {named}: it has its result, or is of another "
        "conversation. What to do: send a message of the user."
    )


def _of_client(tool: Mapping[str, Any]) -> OfferedTool:
    function = tool["function"]
    return OfferedTool(
        name=function["name"],
        server=CLIENT,
        tool=function["name"],
        definition=kept_json(tool),
        description_chars=len(function.get("description") or ""),
    )
