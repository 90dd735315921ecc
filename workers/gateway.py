"""What an ingress may ask of the gateway: the one interface between HTTP (later: chat platforms) and sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NotRequired, Protocol, TypedDict

from workers.conversations import StatelessConversation
from workers.turns import KeptResponse, NumberedEvent, Submission, TurnEvent, TurnHistory, TurnView


class Turn(Protocol):
    """An accepted turn, seen by the one who sent it."""

    @property
    def turn_id(self) -> str:
        """The turn's id; of the earlier turn where an Idempotency-Key named one."""

    def __aiter__(self) -> AsyncIterator[TurnEvent]:
        """What happens, in order; the last is the :class:`workers.turns.Ended`."""

    async def peek(self, within_s: float) -> TurnEvent | None:
        """The event that comes next, which stays to be taken; None: none came within so many seconds."""

    def abandon(self) -> None:
        """The caller went away: a stateless turn is cancelled, a stateful one goes on."""


class TurnReading(Protocol):
    """A turn that is heard again, from one message on."""

    @property
    def turn_id(self) -> str:
        """The turn's id."""

    def __aiter__(self) -> AsyncIterator[NumberedEvent]:
        """What the turn said, each message of it as a whole, then what happens; the last event is its end."""

    def abandon(self) -> None:
        """The reader went away."""


class SessionView(TypedDict):
    """How a session is, as plain data."""

    key: str
    state: str  # passivated | idle | busy
    turns: dict[str, int]  # by state of turns: how many
    title: str | None  # that its caller gave it
    running: str | None  # the id of the turn that runs
    summary: dict[str, Any] | None  # turns that its model gets as a summary, and since when in seconds since the epoch
    session_id: NotRequired[str]  # this and the rest: of a session in memory
    model: NotRequired[str | None]
    marks: NotRequired[dict[str, Any]]


class SearchPage(TypedDict):
    """The sessions among some that match a search."""

    sessions: list[dict[str, Any]]  # as in a list of sessions
    next: str | None  # the cursor with which the search goes on; None: there are no more sessions
    whole: bool  # all that the sessions before ``next`` say was searched


class TranscriptPage(TypedDict):
    """A page of a transcript, oldest first."""

    messages: list[dict[str, Any]]  # seq, turn_id, message
    next: int | None  # the number after which the next page begins


class Gateway(Protocol):
    """Sessions and turns, wherever in the gateway their owner is."""

    def new_turn_id(self, key: str) -> str:
        """An id for a turn of a session; it names the session's shard."""

    async def submit(self, submission: Submission, *, stream: bool) -> Turn:
        """Hand a message to its session's owner. It is on disk when this returns.

        Args:
            submission: the message.
            stream: whether deltas and tool progress are wanted, or only the end.

        Raises:
            Refusal: not accepted; nothing is kept.
            Parked: kept, for after the drain that goes on.
            TurnUnknown: the owner did not answer; it may have accepted it.
        """

    async def attach(self, principal: str, turn_id: str, after: int) -> TurnReading:
        """Hear a turn again: one that runs from its owner's memory, one that is over from its transcript.

        A message that was being heard when the turn's owner was replaced does not come again.

        Args:
            principal: whose turn.
            turn_id: which, as :meth:`submit` named it.
            after: the number of the last message that was heard whole; 0 for all. The end comes in any case.

        Raises:
            Refusal: ``turn_not_found``; ``shard_unavailable``.
        """

    async def describe_turn(self, principal: str, turn_id: str) -> TurnView:
        """How a turn is.

        Raises:
            Refusal: ``turn_not_found``; ``shard_unavailable``.
        """

    async def response(self, principal: str, turn_id: str) -> KeptResponse:
        """A turn that is kept as a response.

        Raises:
            Refusal: ``turn_not_found``; ``shard_unavailable``.
        """

    async def drop_response(self, principal: str, turn_id: str) -> None:
        """Keep a turn as a response no longer. Of a session its transcript stays.

        Raises:
            Refusal: ``turn_not_found``; ``shard_unavailable``.
        """

    async def history(self, principal: str, turn_id: str) -> TurnHistory:
        """The conversation up to the end of a turn of a session.

        Raises:
            Refusal: ``turn_not_found``; ``shard_unavailable``.
        """

    async def stop(self, principal: str, turn_id: str) -> bool:
        """Cancel a turn; whether it was not over. All who hear it hear its end.

        Raises:
            Refusal: ``turn_not_found``; ``shard_unavailable``.
        """

    def bare_key(self, principal: str) -> str:
        """A session key for one request to the model alone."""

    async def conversation_key(self, conversation: StatelessConversation) -> str:
        """The session key of a stateless conversation: that of the actor that knows the history, else a new one."""

    async def list_sessions(
        self, principal: str, after: str | None, limit: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of a principal's sessions, newest activity first, and the cursor of the next page.

        The title of a session is None where it has none, or where its owner does not answer.

        Raises:
            Refusal: ``shard_unavailable`` when the supervisor does not answer in time.
        """

    async def search_sessions(self, principal: str, text: str, after: str | None, limit: int) -> SearchPage:
        """A principal's sessions whose title or messages have a text, newest activity first; a bounded search.

        Args:
            principal: whose sessions.
            text: what to look for, in any case of letters.
            after: the cursor of an earlier page, or None for the first page.
            limit: how many sessions at most.

        Raises:
            Refusal: ``shard_unavailable`` when the supervisor does not answer in time.
        """

    async def rename_session(self, key: str, title: str | None) -> SessionView:
        """Give a session a title, or take it away.

        Raises:
            Refusal: ``session_not_found``; ``shard_unavailable``.
        """

    async def describe_session(self, key: str) -> SessionView:
        """How a session is.

        Raises:
            Refusal: ``session_not_found``; ``shard_unavailable``.
        """

    async def session_messages(self, key: str, after: int, limit: int) -> TranscriptPage:
        """A page of a session's transcript.

        Raises:
            Refusal: ``session_not_found``; ``shard_unavailable``.
        """

    async def create_session(self, key: str, principal: str, title: str | None) -> SessionView:
        """Make a session without turns; without a title it keeps the one it has.

        Raises:
            Refusal: ``session_exists``; ``shard_unavailable``.
        """

    async def fork_session(self, key: str, into: str, principal: str, through: str | None) -> SessionView:
        """Make a session whose transcript begins as that of another one, which stays as it is.

        Args:
            key: of the session that is copied.
            into: the key of the new one.
            principal: of both.
            through: the turn that is copied last; None: all that are over.

        Raises:
            Refusal: ``session_not_found``; ``turn_not_found``; ``session_exists``; ``shard_unavailable``.
        """

    async def delete_session(self, key: str) -> None:
        """Cancel what runs in a session, drop its transcript and its name.

        Raises:
            Refusal: ``session_not_found``; ``shard_unavailable``.
        """

    @property
    def ready(self) -> bool:
        """Whether new turns are welcome: the worker has a supervisor and its shards, and neither drains nor stops."""

    async def storable(self) -> bool:
        """Whether a message could be stored now. May take a commit, and a bounded time."""

    @property
    def draining(self) -> bool:
        """Whether the gateway drains: no turn begins, those that run may end."""
