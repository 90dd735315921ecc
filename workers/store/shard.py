"""The shard store: turns and transcripts of one shard, written by its one owner.

A commit survives power loss by default. Every write carries the owner's fence; a write from an older owner is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hermes_actors.wire.records import LatestTurn
from hermes_actors.wire.tags import message
from workers.turns import Ended, PastTurn, Submission, TurnState


class StoreFailed(Exception):
    """The write or read did not happen: disk full, file broken. Nothing of it is kept."""


class StaleFence(StoreFailed):
    """A newer owner has the shard; this one must let go."""


class ShardDamaged(StoreFailed):
    """The shard's file showed damage in use. Opening it again checks it and, if need be, sets it aside."""


class TurnOver(StoreFailed):
    """The turn has its end already, or its session was deleted: what comes late changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRow:
    """A turn as it stands on disk."""

    submission: Submission
    session_id: str
    state: TurnState
    created_at: float  # seconds since the epoch
    ended: Ended | None  # with a final state
    ended_at: float | None = None  # seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptRow:
    """One message of a transcript."""

    seq: int
    turn_id: str
    body: bytes  # a chat message as JSON


@message("summary")
class Summary:
    """What the model is sent instead of the oldest turns of a transcript, which itself keeps them."""

    through: str  # id of the last turn that it covers
    turns: int  # how many it covers
    text: str
    made_at: float  # seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredConversation:
    """What later requests to the model carry of a transcript."""

    summary: Summary | None
    past: list[PastTurn]  # the turns behind those that the summary covers, in order


@message("copied_turn")
class CopiedTurn:
    """A turn that is over, and its messages, on the way to another session. Times are seconds since the epoch."""

    turn_id: str
    state: str  # a final :data:`workers.turns.TurnState`
    own_fault: bool
    submitted: int  # how many of its messages came with it: the first
    parameters: bytes  # this and what follows: as the columns keep it
    origin: bytes
    created_at: float
    started_at: float | None
    ended_at: float
    ended: bytes
    rows: list[bytes]  # chat messages as JSON


@message("transcript_copy")
class TranscriptCopy:
    """The turns of a transcript, on the way to another session."""

    turns: list[CopiedTurn]  # in order
    summary: Summary | None  # where it covers no other turns


class ShardStore(Protocol):
    """Turns and transcripts of one shard. Every method returns after the commit, in the order of the calls.

    Attributes:
        highest: the number of the last turn that is on disk; 0: it never had one.
    """

    highest: int

    async def admit(
        self, submission: Submission, session_id: str, state: TurnState, *, instead_of: str | None = None
    ) -> None:
        """Commit a new turn as ``queued`` or at once as ``running``.

        With ``instead_of``, the turn of that id, which is over, leaves the transcript in the same commit.

        Raises:
            StoreFailed: nothing was kept.
        """

    async def begin(self, turn_id: str, session_id: str) -> None:
        """Commit that a queued turn runs now, and in which transcript: it may be a later one than at its admission.

        Raises:
            TurnOver: the turn has its end already.
        """

    async def append(self, turn_id: str, session_id: str, rows: Sequence[bytes]) -> None:
        """Commit transcript messages of a running turn, before its tools act on them.

        The turn's own messages join the transcript with the first that are written, here or by :meth:`finish`. Of a
        stateless turn nothing is kept: the next request brings it all.

        Raises:
            TurnOver: the turn has its end already.
        """

    async def finish(self, ended: Ended, rows: Sequence[bytes], *, own_fault: bool = False) -> None:
        """Commit a turn's end together with its last transcript messages.

        A stateless turn's submission has no messages any more once it is over, but for one that is kept as a response.

        Raises:
            TurnOver: the turn has its end already; it stays as it is.
        """

    async def find(self, key: str, idempotency_key: str) -> TurnRow | None:
        """The turn of a session that an Idempotency-Key names, if it is not older than 24 h."""

    async def turn(self, turn_id: str) -> TurnRow | None:
        """A turn by its id."""

    async def unfinished(self) -> list[TurnRow]:
        """Turns left ``queued`` or ``running`` by an earlier owner, oldest first."""

    async def transcript(self, session_id: str) -> list[PastTurn]:
        """A session's turns in order, with their messages."""

    async def past_turn(self, turn_id: str) -> PastTurn | None:
        """A turn of a transcript, with its messages."""

    async def conversation(self, session_id: str) -> StoredConversation:
        """The last summary of a transcript, and the turns behind it with their messages."""

    async def summary(self, session_id: str) -> Summary | None:
        """The last summary of a transcript."""

    async def summarise(self, session_id: str, summary: Summary) -> None:
        """Note a summary in place of an earlier one; the transcript stays as it is.

        Raises:
            StoreFailed: nothing was kept, or the transcript has no such turn.
        """

    async def page(self, session_id: str, after: int, limit: int) -> list[TranscriptRow]:
        """Transcript messages with ``seq > after``, oldest first. The numbers grow; they have gaps."""

    async def chosen_model(self, key: str) -> str | None:
        """The model that a session asked for, instead of the configured one."""

    async def choose_model(self, key: str, model: str | None) -> None:
        """Note, or forget, which model a session asked for."""

    async def titles(self, keys: Sequence[str]) -> dict[str, str]:
        """The titles that sessions have, by session key; none of a session without a title."""

    async def entitle(self, key: str, title: str | None) -> None:
        """Note, or forget, the title of a session."""

    async def counts(self, key: str) -> dict[str, Any]:
        """How many turns of a session stand in which state."""

    async def durations(self, keys: Sequence[str], limit: int) -> dict[str, list[float]]:
        """How long the last completed turns of sessions took, in seconds, by session key; at most ``limit`` of each."""

    async def delete(self, key: str) -> bool:
        """Drop all turns and transcripts of a session key, its model and its title; whether there were any turns."""

    async def prune(self, before: float) -> int:
        """Drop stateless turns and Idempotency-Keys from before a time; a bounded number; no transcripts, no responses.

        Args:
            before: seconds since the epoch.

        Returns:
            How many were dropped; 0: there are none left.
        """

    async def copy(self, key: str, session_id: str, through: str | None, max_bytes: int) -> TranscriptCopy | None:
        """The turns of a transcript that are over, in order.

        Args:
            key: of the session.
            session_id: of the transcript.
            through: the id of the last turn to copy; None: all.
            max_bytes: how large the copy may be.

        Returns:
            None where it is larger.
        """

    async def plant(self, key: str, principal: str, session_id: str, copy: TranscriptCopy) -> None:
        """Commit a copied transcript, whole, as that of a session without turns; its turns have ids of this shard.

        Raises:
            StoreFailed: nothing was kept.
        """

    async def response(self, turn_id: str) -> dict[str, Any] | None:
        """What was asked of a turn that is kept as a response; None: it is kept as none."""

    async def drop_response(self, turn_id: str) -> bool:
        """Keep a turn as a response no longer; whether it was one. Of a session its transcript stays."""

    async def prune_responses(self, before: float) -> int:
        """Drop responses from before a time, seconds since the epoch; how many: a bounded number, 0 in the end."""

    async def through(self, turn_id: str) -> tuple[list[PastTurn], bool]:
        """The turns of a transcript up to one of them, and whether that is the last turn of its session."""

    async def latest(self, after: int, limit: int) -> tuple[list[LatestTurn], int | None]:
        """The sessions that had turns with larger numbers, and where to go on: after which number, None at the end.

        Args:
            after: the number of a turn, 0 for all.
            limit: how many turns are looked at.
        """

    async def reported(self) -> None:
        """What was wrong with the file when it was opened is known now, and need not be kept in it any more."""

    async def prove(self) -> None:
        """Write something that is never read, to see whether that is possible.

        Raises:
            StoreFailed: it is not.
        """

    async def close(self) -> None:
        """Flush and close. What is called later raises :class:`StoreFailed`."""
