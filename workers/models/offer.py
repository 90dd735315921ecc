"""The tools that a model is offered: all of them as a request carries them, and each by itself.

A provider may refuse a single tool, by its place in the request or for its size. So it stays known which server each
one is of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

CLIENT = ""  # in the place of a server's name, which is never empty


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedTool:
    """One tool on offer."""

    name: str  # as the model knows it
    server: str  # the MCP server that has it, by its name in the configuration; :data:`CLIENT`: the client runs it
    tool: str  # the server's own name for it
    definition: bytes  # in chat-completions form, as JSON
    description_chars: int  # of the description in the definition

    @property
    def of_client(self) -> bool:
        """Whether a client brought it with its request, and runs it."""
        return self.server == CLIENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """All tools on offer, in the order of the request; see :func:`offer`."""

    tools: tuple[OfferedTool, ...] = ()
    joined: bytes = b""  # their definitions as one JSON array; b"" for none


NO_TOOLS = Offer()


def offer(tools: Iterable[OfferedTool]) -> Offer:
    """These tools, joined once for all requests that carry them."""
    all_of_them = tuple(tools)
    if not all_of_them:
        return NO_TOOLS
    return Offer(tools=all_of_them, joined=b"[" + b",".join(tool.definition for tool in all_of_them) + b"]")
