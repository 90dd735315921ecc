"""What a turn asks of a model provider, and what comes back. A failure is a value."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from workers.models.cause import Cause
from workers.models.gauge import Gauge
from workers.models.offer import NO_TOOLS, Offer
from workers.turns import PastTurn


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """The model wants a tool called."""

    call_id: str
    name: str  # as offered: mcp__<server>__<tool>
    arguments: str  # JSON as the model wrote it; may be invalid
    attached: Mapping[str, Any] = field(default_factory=dict)  # fields of the provider's own, as they came: signatures


def can_restart() -> bool:
    """Of what was said: it is forgotten, and may be said again."""
    return True


def ignore_reasoning(_: str) -> None:
    """Reasoning that no one wants to hear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedModel:
    """The model that a request goes to, for the one that makes the request fit its window."""

    gauge: Callable[[], Gauge]  # as it is known now: answers and refusals change it
    ask: Callable[[ModelRequest], Awaitable[ModelReply | ModelFailure]]  # this model alone, and no person listens


class Fit(Protocol):
    """Makes a request fit the window of the model that it goes to."""

    async def __call__(self, request: ModelRequest, asked: RequestedModel, *, refused: bool) -> ModelRequest:
        """The request as it fits, or as it is where it fits already or cannot be made smaller.

        Args:
            request: as it is.
            asked: the model that it goes to.
            refused: the model refused it as too large, so it is larger than it looks.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One call of a model, in the transcript's own messages; :mod:`workers.models.messages` makes them valid.

    Messages and tools are JSON already: a long transcript is not encoded again each time.
    """

    system: str = ""  # the one system message; empty for none
    past: Sequence[PastTurn] = ()  # the turns before this one that are carried, oldest first
    messages: Sequence[bytes]  # of this turn so far, each a chat message object
    tools: Offer = NO_TOOLS
    parameters: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None  # instead of the configured one
    has_next: bool = False  # another provider stands ready: no long waits for this one
    fit: Fit | None = None  # makes it smaller where it is too large for who is asked; None: nothing does
    take_back: Callable[[], bool] = can_restart  # forgets the text of a broken answer; False: a listener has it
    on_reasoning: Callable[[str], None] = ignore_reasoning  # gets each piece of reasoning as it comes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """A whole answer."""

    text: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str
    usage: Mapping[str, int]  # may be empty: not every provider tells
    model: str  # as the provider names itself in the answer, or as asked
    provider: str = ""  # whose answer it is, for people
    fallback: int = 0  # 0: the primary answered; n: the n-th fallback
    reasoning: str = ""  # what the model thought aloud; shown to the caller, never part of the answer
    attached: Mapping[str, Any] = field(
        default_factory=dict
    )  # other fields of the message, as they came; see .attached
    remark: str = ""  # of the gateway, for the person: told behind the answer, and no part of it
    asked: str = ""  # the model's id as it was asked for: what is attached goes back to it alone


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFailure:
    """No answer, and why."""

    cause: Cause  # recognised from all that the provider said
    kind: str  # how the request ended: status | connect | timeout | malformed | cut
    provider: str
    model: str
    status: int | None  # HTTP status where there was one
    text: str  # the provider's own words, bounded, without secrets
    code: str | None  # the provider's error.code
    retry_after_s: float | None
    attempts: int  # requests that were sent; 0: not asked, because of what it said before about when it is back
    window: int | None = None  # tokens that the model takes, where its words say so
    tokens: int | None = None  # that it was sent, where its words say so
    advice: str = ""  # what to do about it, where more is known than the cause says
    key_env: str | None = None  # the variable that the provider's key is in
    answered: bool = False  # a part of the answer had come
    delivered: bool = False  # text of the broken answer went to the user: no second answer may follow it
    earlier: tuple[ModelFailure, ...] = ()  # of the other providers of a chain, those passed over included


class ModelProvider(Protocol):
    """A source of completions."""

    @property
    def name(self) -> str:
        """The provider's name for people: ``openai``, ``custom (http://…)``, ``demo``."""

    @property
    def model(self) -> str:
        """The configured model id."""

    @property
    def context_length(self) -> int | None:
        """The window of the configured model in tokens, where the configuration states it."""

    async def window(self, model: str) -> int | None:
        """The window of a model in tokens, where the provider states it; bounded, some seconds at most."""

    async def complete(self, request: ModelRequest, on_text: Callable[[str], None]) -> ModelReply | ModelFailure:
        """Ask the model; ``on_text`` gets each piece of text as it comes.

        Retries what failed and can be taken back; once a listener heard a piece of text, a break is a failure.
        Cancellation closes the request at once.
        """

    async def close(self) -> None:
        """Close the connections."""
