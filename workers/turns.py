"""The vocabulary of a turn: what goes in, what is heard while it runs, how it ends, why it may be refused.

Ingress makes a :class:`Submission`; the owner of the session answers with :class:`Delta`, :class:`Reasoning`,
:class:`ToolProgress`, :class:`GatewayDraining` and one :class:`Ended`; or with a :class:`Refusal`, and then nothing of
the turn is kept; or with :class:`Parked`. Where it does not answer, the caller gets :class:`TurnUnknown`. The same
objects travel from worker to worker.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from hermes_actors.wire.refusals import RefusalCode
from hermes_actors.wire.tags import message

TurnState: TypeAlias = Literal["queued", "running", "completed", "failed", "interrupted", "cancelled"]


@message("address")
class Address:
    """Where a reply goes, on a platform that delivers it."""

    channel: str  # the account on the platform, by its name in the configuration
    chat: str  # as the platform names it
    thread: str | None


@message("origin")
class Origin:
    """Where a message came from."""

    ingress: str  # http
    request_id: str  # of the caller's choosing, or the turn's id; "" where a program of ours made the message
    user: str = ""  # whom the request names as its user: not authenticated
    reply_to: Address | None = None  # None: only the caller who waits gets the reply


@message("submission")
class Submission:
    """One inbound message, authenticated, bounded and parsed."""

    turn_id: str
    key: str  # session key
    principal: str
    stateless: bool  # the request's own messages are the conversation
    messages: list[bytes]  # chat messages as JSON; stateful: the new ones, of the user, of tools, of the system
    parameters: dict[str, Any]  # of the request, named as in chat completions: for sampling, and tools of the client
    idempotency_key: str | None
    fingerprint: bytes  # hash of what the request asks for: same key and fingerprint, same turn
    origin: Origin
    park: bool = False  # during a drain: keep the message for later, and let its caller go; not kept on disk
    response: dict[str, Any] | None = None  # what was asked, where the turn is kept as a response; plain data
    deadline: float = math.inf  # by this process's time.monotonic(): its caller gives up; do not begin it later


@message("delta")
class Delta:
    """The next piece of the assistant's text."""

    text: str


@message("reasoning")
class Reasoning:
    """The next piece of what the model thinks aloud; no part of its text."""

    text: str


@message("tool")
class ToolProgress:
    """A tool call began or ended."""

    call_id: str
    tool: str  # as the model knows it: mcp__<server>__<tool>
    status: str  # running | completed | failed


@message("gateway_draining")
class GatewayDraining:
    """The gateway is about to stop or to restart; the turn may still end by itself."""

    reason: str  # restart_timeout | shutdown_timeout: what the turn is cut by if it does not
    deadline: float  # seconds since the epoch
    text: str  # what that means, for people


@message("ended")
class Ended:
    """The turn is over, and on disk."""

    turn_id: str
    session_id: str
    state: str  # a final TurnState
    text: str  # the assistant's final text
    finish_reason: str  # stop | length | content_filter | …, as the provider said
    usage: dict[str, int]  # prompt_tokens, completion_tokens, total_tokens; summed over the turn's model calls
    model: str  # the model that answered
    error: dict[str, Any] | None  # a TurnError as plain data
    replayed: bool  # this is the stored outcome of an earlier request with the same Idempotency-Key
    reasoning: str = ""  # what the model thought aloud in the turn; not kept with the outcome
    tool_calls: list[dict[str, Any]] = field(default_factory=list)  # that the client makes, as chat completions say


TurnEvent: TypeAlias = Delta | Reasoning | ToolProgress | GatewayDraining | Ended


@message("numbered_event")
class NumberedEvent:
    """An event and the number of the message in the turn that it is part of.

    The messages of a turn are its answers (text, thoughts and calls of tools), the result of each call, and its end.
    Their numbers begin at 1, and are the same where the events are made again from the transcript. A reader who heard
    all of message n asks for what comes after n; one who heard some of it asks after n - 1, and gets it whole.
    """

    seq: int
    event: TurnEvent


@message("turn_view")
class TurnView:
    """How a turn is."""

    turn_id: str
    key: str  # of its session
    stateless: bool
    state: TurnState
    created_at: float  # seconds since the epoch
    ended: Ended | None  # where its state is a final one
    ended_at: float | None  # seconds since the epoch; None where it has no end on disk


@message("kept_response")
class KeptResponse:
    """A turn that is kept as a response."""

    turn: TurnView
    asked: dict[str, Any]  # the fields of a response object that say what was asked
    messages: list[bytes]  # chat messages as JSON that it came with


@message("turn_history")
class TurnHistory:
    """A conversation up to the end of one of its turns."""

    key: str  # of the session
    is_last: bool  # nothing came after it in the session
    rows: list[bytes]  # chat messages as JSON; none where it is the last: the session has them


@message("search_found")
class SearchFound:
    """What a search among sessions of a shard found."""

    keys: list[str]  # of the sessions that match
    whole: bool  # all that the sessions say was searched


@dataclass(slots=True, kw_only=True)
class PastTurn:
    """A turn of a transcript, as a later request to the model carries it.

    Nothing of it ever changes but what is measured of it, and whether a caller heard its end or sent it again.
    """

    turn_id: str  # empty for a summary of earlier turns
    state: TurnState  # of one that failed a provider may refuse the messages again and again; then they are left out
    rows: Sequence[bytes]  # chat messages as JSON, in order
    own_fault: bool = False  # failed because of its own content; must not be sent again
    ended_at: float | None = None  # seconds since the epoch; None where it has no end
    unheard: bool = False  # its callers were gone when it ended, as far as this worker knows
    repeated: bool = False  # it was cut, and its message came again, as far as this worker knows
    size: int = field(default=-1, init=False, repr=False, compare=False)  # see workers.models.context; -1: unknown
    is_plain: bool | None = field(default=None, init=False, repr=False, compare=False)  # see workers.models.messages

    @property
    def failed(self) -> bool:
        """Whether it failed."""
        return self.state == "failed"

    @property
    def is_summary(self) -> bool:
        """Whether it says what many turns said, which are left out."""
        return not self.turn_id


@message("turn_error")
class TurnError:
    """Why a turn failed, in words for the person who sent the message."""

    code: str  # provider_error | provider_timeout | rate_limited | turn_interrupted | max_turns | store_failed | …
    text: str  # which provider, which model, which status, what to do; no secrets
    http_status: int  # what an HTTP caller gets
    provider: str | None
    model: str | None
    upstream_status: int | None
    retry_after_s: float | None


class Parked(Exception):
    """The message is on disk and waits for the end of a drain, as its sender wanted; no caller waits for its turn."""

    def __init__(self, turn_id: str, retry_after_s: float) -> None:
        super().__init__(f"turn {turn_id} waits for the end of the drain")
        self.turn_id = turn_id
        self.retry_after_s = retry_after_s  # when it is worth while to ask for its result


class TurnUnknown(Exception):
    """The message was handed to its session's owner, which did not answer: it may have been accepted, and may run."""

    def __init__(self, turn_id: str, why: str) -> None:
        super().__init__(why)
        self.turn_id = turn_id


class Refusal(Exception):
    """The message was not accepted; nothing of it is kept, but what was accepted under its Idempotency-Key before.

    Args:
        code: for programs, with its HTTP status.
        why: for people.
        retry_after_s: when to send it again, in seconds; None: as the code says.
        kept: it was accepted before, and its turn begins later.
    """

    def __init__(self, code: RefusalCode, why: str, retry_after_s: float | None = None, *, kept: bool = False) -> None:
        super().__init__(why)
        self.code = code
        self.why = why
        self.retry_after_s = retry_after_s
        self.kept = kept
