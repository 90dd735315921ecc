"""The seam between a turn and the agent that runs it.

A :class:`Runtime` is an agent: it decides what the model is asked, which tools are called, and what the answer is. A
:class:`Host` is what a turn offers to it: ``ask`` a model, ``call`` tools, ``say`` something to the caller, ``keep``
messages in the transcript. The host commits before it acts, so these rules hold whatever a runtime does:

* What the runtime kept is on disk before the next model request leaves, a tool runs, or the caller hears a text.
* A tool runs only if a message on disk calls it, and once for each call.
* The transcript is valid at any moment, once the turn's end has closed the calls that have no result.
* A failed commit ends the turn as failed, even where the runtime goes on.
* A turn that is over has no host: what a runtime still tries then is refused.

A turn is cut by cancelling :meth:`Runtime.run`; a runtime lets the cancellation through. What breaks a rule raises
:class:`workers.runtimes.transcript.Misuse`, which fails the turn like any other bug of a runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hermes_actors.config.model import Compaction
from workers.models.offer import NO_TOOLS, Offer
from workers.models.provider import Fit, ModelFailure, ModelReply, ToolCall
from workers.store.shard import Summary
from workers.tools.toolbox import ToolResult
from workers.turns import PastTurn, TurnError

NO_PARAMETERS: Mapping[str, Any] = {}


class Memory(Protocol):
    """A conversation before the present turn, as its session has it in memory.

    Attributes:
        key: the session's.
        stateless: its client sends all of it with each request, so there is nothing to summarise.
        past: the turns behind those that the summary covers, oldest first.
        summary: of the oldest turns; None: there is none.
        no_summary_before: monotonic seconds; the model failed to write a summary just now.
    """

    key: str
    stateless: bool
    past: list[PastTurn]
    summary: Summary | None
    no_summary_before: float

    async def summarise(self, summary: Summary, turns: int) -> None:
        """Store a summary; then it replaces the earlier one and so many of the oldest turns in memory.

        Raises:
            StoreFailed: nothing changed.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a runtime starts from."""

    messages: Sequence[bytes]  # that the turn came with, each a chat message as JSON
    memory: Memory
    system: str  # the text of the system message: the configured prompt, and the gateway's notes on this conversation
    resumed: bool  # the notes speak of tool calls with unknown outcomes, so their results need not
    tools: Offer  # that may be called
    client_tools: frozenset[str]  # of those, by their names: the client runs them, and a call of one ends the turn
    parameters: Mapping[str, Any]  # of the request, for the model
    max_turns: int  # model calls in this turn
    compaction: Compaction | None  # when the conversation is summarised; None: never


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a turn came to, but for what its host knows: tokens, model, fallback and reasoning."""

    text: str = ""  # the answer
    reason: str = "stop"  # why the model stopped: stop | length | tool_calls | …; ``error`` where it failed
    tool_calls: tuple[ToolCall, ...] = ()  # for the client to run; a message that was kept calls them
    error: TurnError | None = None  # the turn failed
    own_fault: bool = False  # because of its own message: later requests leave it out


class Host(Protocol):
    """What a turn offers to its runtime. Each method commits what was kept before it acts.

    Raises:
        StoreFailed: (all but :meth:`keep`) what was kept is not on disk, so nothing was done.
        Misuse: the runtime broke a rule, or the turn is over; nothing was done.
    """

    async def ask(
        self,
        messages: Sequence[bytes],
        *,
        past: Sequence[PastTurn] = (),
        system: str = "",
        tools: Offer = NO_TOOLS,
        parameters: Mapping[str, Any] = NO_PARAMETERS,
        fit: Fit | None = None,
    ) -> ModelReply | ModelFailure:
        """Ask the session's model, one request at a time; the caller hears the answer as it comes.

        Retries, fallbacks, limits and cooldowns are the host's; a failure is the last word of the whole chain.

        Args:
            messages: of this turn so far, each a chat message as JSON.
            past: earlier turns.
            system: the text of the system message.
            tools: that the model may call.
            parameters: of the request to the model.
            fit: makes the request smaller where it is too large for the model that is asked; None: nothing does.
        """

    async def call(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        """Call tools, together; the results in the order of the calls. A tool that fails is a result too."""

    async def say(self, text: str) -> None:
        """Have the caller hear a text of the runtime's own."""

    def keep(self, rows: Sequence[bytes]) -> None:
        """Add messages to the transcript, each a chat message as JSON; the next commit has them."""


class Runtime(Protocol):
    """An agent. One serves all sessions of a worker, so it keeps nothing of a turn or a session."""

    async def run(self, host: Host, context: Context) -> Outcome:
        """Run a turn to its outcome. What it raises fails the turn as a bug; cancellation cuts it."""
