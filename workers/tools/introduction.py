"""What a server says of itself besides its tools, when a connection to it begins."""

from __future__ import annotations

from dataclasses import dataclass

MAX_PROMPTS = 200  # of one server
MAX_INSTRUCTIONS_CHARS = 2_000  # of one server, in the system message: some 500 tokens of each request


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptArgument:
    """What a prompt can be given."""

    name: str
    description: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt as its server lists it: messages that a person asks for by a command."""

    name: str
    description: str = ""
    arguments: tuple[PromptArgument, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """A server's words on its use."""

    protocol: str = ""  # the version that was agreed on
    version: str = ""  # its own name and version, as it says
    instructions: str = ""
    prompts: tuple[Prompt, ...] = ()
    has_resources: bool = False


UNKNOWN = Introduction()


def instructions_for_model(server: str, text: str) -> str:
    """A server's instructions as a section of the system message, marked as the server's own words; or ``""``."""
    text = text.strip()
    if not text:
        return ""
    if len(text) > MAX_INSTRUCTIONS_CHARS:
        text = text[: MAX_INSTRUCTIONS_CHARS - 1].rstrip() + "…"
    quoted = "\n".join(f"> {line}".rstrip() for line in text.splitlines())
    return f"The MCP server {server!r} says of the use of its tools (mcp__{server}__…):\n{quoted}"
