"""What a turn asks of its tools, and what comes back. A tool that fails is a result too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from workers.models.offer import NO_TOOLS, Offer
from workers.models.provider import ToolCall

Outcome = Literal["result", "tool_error", "not_sent", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a tool call gave, in what a chat model accepts."""

    text: str
    images: tuple[str, ...] = ()  # data: URLs, or http(s) URLs
    outcome: Outcome = "result"

    @property
    def failed(self) -> bool:
        """Whether the model reads of an error."""
        return self.outcome != "result"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompted:
    """What became of a message that asks for a prompt of a server."""

    messages: tuple[bytes, ...] = ()  # the prompt's, each a chat message object; the last one is of the user
    answer: str = ""  # for the person, where there are none: how to ask for it, or why it failed
    failed: bool = False
    may_pass: bool = False  # the same message may succeed later


@dataclass(frozen=True, slots=True, kw_only=True)
class Aborted:
    """What the stop of a turn meant for the servers whose calls it cancelled, by their names."""

    ended: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


class ToolsUnavailable(Exception):
    """A server with ``required: true`` could not be connected; the text is for people."""


class NoTools:
    """The :class:`Toolbox` of a request to the model alone."""

    notice = None
    instructions = ""
    prompts: tuple[str, ...] = ()

    async def definitions(self) -> Offer:
        return NO_TOOLS

    async def prompt(self, _text: str) -> Prompted | None:
        return None

    async def call(self, call: ToolCall) -> ToolResult:
        raise AssertionError(f"{call.name} was not offered")

    async def abort(self, _grace_s: float) -> Aborted:
        return Aborted()

    async def close(self) -> None:
        """It has nothing open."""


class Toolbox(Protocol):
    """The tools of one session. It outlives failed runs and actor restarts."""

    async def definitions(self) -> Offer:
        """The tools that the session's model may call.

        Connects a server only where its catalogue is not known yet. Servers that cannot be reached are left out, and
        their absence is reported in :meth:`notice`.

        Raises:
            ToolsUnavailable: a required server cannot be connected.
        """

    @property
    def notice(self) -> str | None:
        """One line about servers whose tools are missing now, for the model; or None."""

    @property
    def instructions(self) -> str:
        """What the servers that are known say of the use of their tools, for the system message; or ``""``."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """The commands that ask the servers that are known for a prompt, each with its arguments."""

    async def prompt(self, text: str) -> Prompted | None:
        """What a message that begins with ``/mcp__`` asks for; None where no server has this prompt.

        Connects a server only where it has to be asked. A prompt that fails is a :class:`Prompted` too.
        """

    async def call(self, call: ToolCall) -> ToolResult:
        """Call a tool. Unknown tools, bad arguments, dead servers and time-outs are results, never exceptions."""

    async def abort(self, grace_s: float) -> Aborted:
        """See to it that the calls of a stopped turn end; what they still say is dropped. Without such a call: nothing.

        The calls are cancelled with the turn's task, which tells their servers. Whether a server of the session's own
        is ended besides, with everything it started, says ``on_stop`` of its entry, or what is known of it. It is
        started again when it is wanted; calls made meanwhile wait for that. Servers that sessions share, and remote
        ones, only get their calls cancelled. Bounded, a few seconds above ``grace_s``.
        """

    async def close(self) -> None:
        """End this session's own connections and everything they started; bounded."""
