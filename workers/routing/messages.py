"""What one worker says to another: turns for the owner of their shard, and requests about a shard.

Each message that begins something carries a number of the caller's choosing; the responses repeat it.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from hermes_actors.wire.refusals import RefusalCode
from hermes_actors.wire.tags import message
from workers.gateway import SessionView, TranscriptPage
from workers.store.shard import TranscriptCopy
from workers.turns import (
    KeptResponse,
    NumberedEvent,
    SearchFound,
    Submission,
    TurnEvent,
    TurnHistory,
    TurnView,
)

R = TypeVar("R")


class ShardRequest(Generic[R]):
    """Something to read or to change in a shard; ``R`` is the type of the result."""

    __slots__ = ()


class TurnRequest(ShardRequest[R]):
    """Something to read or to change of one turn, by its id."""

    __slots__ = ()
    turn_id: str


@message("describe_session")
class DescribeSession(ShardRequest[SessionView]):
    """How a session is."""

    key: str


@message("read_transcript")
class ReadTranscript(ShardRequest[TranscriptPage]):
    """A page of a session's transcript."""

    key: str
    after: int  # number of the last message before the page
    limit: int  # messages


@message("delete_session")
class DeleteSession(ShardRequest[None]):
    """Cancel what runs in a session, drop its transcript and its name."""

    key: str


@message("copy_turns")
class CopyTurns(ShardRequest[TranscriptCopy]):
    """The turns of a session that are over, for a new session to begin with."""

    key: str
    through: str | None  # the turn that is the last of them; None: all


@message("begin_session")
class BeginSession(ShardRequest[SessionView]):
    """Make a session, whose transcript begins with a copy."""

    key: str
    principal: str
    copy: TranscriptCopy
    title: str | None  # None: the one that it has, or none


@message("rename_session")
class RenameSession(ShardRequest[SessionView]):
    """Give a session a title, or take it away."""

    key: str
    title: str | None


@message("read_titles")
class ReadTitles(ShardRequest[dict[str, str]]):
    """The titles that sessions have, by session key."""

    keys: list[str]


@message("search_sessions")
class SearchSessions(ShardRequest[SearchFound]):
    """Which sessions have a text in their title or their messages?"""

    transcripts: dict[str, str]  # the transcript's id, by session key
    text: str


@message("claim_conversation")
class ClaimConversation(ShardRequest[str | None]):
    """Which session's agent knows a stateless conversation? The index forgets it with the answer."""

    name: str


@message("offer_conversation")
class OfferConversation(ShardRequest[None]):
    """The agent of a session knows a stateless conversation."""

    name: str
    key: str


@message("cancel_turn")
class CancelTurn(TurnRequest[bool]):
    """Cancel a turn of a principal. The result: whether it was not over."""

    principal: str
    turn_id: str


@message("describe_turn")
class DescribeTurn(TurnRequest[TurnView]):
    """How a turn of a principal is."""

    principal: str
    turn_id: str


@message("read_response")
class ReadResponse(TurnRequest[KeptResponse]):
    """A turn of a principal that is kept as a response."""

    principal: str
    turn_id: str


@message("drop_response")
class DropResponse(TurnRequest[None]):
    """Keep a turn of a principal as a response no longer."""

    principal: str
    turn_id: str


@message("read_history")
class ReadHistory(TurnRequest[TurnHistory]):
    """The conversation up to a turn of a principal, in a session."""

    principal: str
    turn_id: str


# -- frames -------------------------------------------------------------------------------------------------------


@message("hello")
class Hello:
    """First message on a link between workers: who calls."""

    boot: str
    slot: int
    generation: int


@message("read_turn")
class ReadTurn:
    """A turn of a principal that a caller wants to hear again."""

    principal: str
    turn_id: str
    after: int  # the number of the last message that the caller heard


@message("submit")
class Submit:
    """Run this turn for a caller of mine, or read it again."""

    request: int
    shard: int
    submission: Submission | ReadTurn
    stream: bool  # false: the caller wants only the end
    again: bool  # an owner that died may have had it: attach to what is known of the turn
    within_s: float  # how long the caller waits, in seconds; do not begin the turn later


@message("turn_accepted")
class TurnAccepted:
    """The owner has the turn on disk."""

    request: int
    turn_id: str  # of the earlier turn where an Idempotency-Key named one
    parked_s: float | None  # it waits for the end of a drain, and no events follow: ask for its result after so long


@message("turn_event")
class TurnHappened:
    """What happened in a submitted turn."""

    request: int
    event: TurnEvent | NumberedEvent  # numbered for a caller that reads the turn again


@message("abandon")
class Abandon:
    """The caller of a submitted turn went away, or waits no longer for its acceptance."""

    request: int


@message("shard_request")
class PeerRequest:
    """Do this in a shard of yours."""

    request: int
    shard: int
    content: ShardRequest[Any]


@message("shard_response")
class PeerResponse:
    """The response to a :class:`PeerRequest`."""

    request: int
    result: Any


@message("peer_refusal")
class PeerRefusal:
    """The response to a request or a submitted turn that was refused."""

    request: int
    code: RefusalCode
    why: str
    retry_after_s: float | None
    kept: bool  # as of :class:`workers.turns.Refusal`
