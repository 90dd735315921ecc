"""A gateway without sessions behind it: it remembers what it was asked, and answers as it was told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import Any, cast

from hermes_actors.wire.refusals import RefusalCode
from workers.conversations import StatelessConversation
from workers.gateway import SearchPage, SessionView, TranscriptPage, TurnReading
from workers.turn_ids import new_turn_id
from workers.turns import (
    Ended,
    KeptResponse,
    NumberedEvent,
    Parked,
    Refusal,
    Submission,
    TurnEvent,
    TurnHistory,
    TurnUnknown,
    TurnView,
)


def completed(text: str = "hello", **fields: Any) -> Ended:
    """The end of a turn that went well."""
    values: dict[str, Any] = {
        "turn_id": "turn_1",
        "session_id": "s_1",
        "state": "completed",
        "text": text,
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        "model": "gpt-5-mini",
        "error": None,
        "replayed": False,
    }
    return Ended(**{**values, **fields})


def failed(http_status: int = 502, **error: Any) -> Ended:
    """The end of a turn that the provider failed."""
    values: dict[str, Any] = {
        "code": "provider_error",
        "text": "openai failed for model gpt-5-mini (HTTP 400): no such model",
        "http_status": http_status,
        "provider": "openai",
        "model": "gpt-5-mini",
        "upstream_status": 400,
        "retry_after_s": None,
    }
    return completed("", state="failed", finish_reason="error", error={**values, **error})


class FakeTurn:
    """A turn that plays its events; with ``held`` it waits for :meth:`go` before the last one."""

    def __init__(self, turn_id: str, events: Iterable[TurnEvent], *, held: bool = False) -> None:
        self._turn_id = turn_id
        self._events = list(events)
        self._go = asyncio.Event()
        if not held:
            self._go.set()
        self.abandoned = asyncio.Event()

    @property
    def turn_id(self) -> str:
        return self._turn_id

    def go(self) -> None:
        """Come to the end."""
        self._go.set()

    def abandon(self) -> None:
        self.abandoned.set()

    async def peek(self, within_s: float) -> TurnEvent | None:
        if len(self._events) > 1:
            return self._events[0]
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._go.wait()
        return self._events[-1] if self._go.is_set() else None

    async def __aiter__(self) -> AsyncIterator[TurnEvent]:
        for event in self._events[:-1]:
            yield event
        await self._go.wait()
        yield self._events[-1]


class FakeReading:
    """A turn that is over, heard again."""

    def __init__(self, turn_id: str, events: Iterable[TurnEvent]) -> None:
        self.turn_id = turn_id
        self._events = events

    def abandon(self) -> None:
        """Nothing is held for a reader."""

    async def __aiter__(self) -> AsyncIterator[NumberedEvent]:
        for seq, event in enumerate(self._events, 1):
            yield NumberedEvent(seq=seq, event=event)


class FakeGateway:
    """Plays the same events to every message; or refuses it with ``refusal``.

    Args:
        events: of each turn; the last is its end.
        held: turns wait for :meth:`FakeTurn.go` before their end.
    """

    def __init__(self, *events: TurnEvent, held: bool = False) -> None:
        self.events: tuple[TurnEvent, ...] = events or (completed(),)
        self.held = held
        self.refusal: Refusal | None = None
        self.silent = False  # hands messages to an owner that does not answer
        self.ready = True
        self.stores = True
        self.draining = False
        self.parks = False  # keeps the messages that want that
        self.earlier_turn: str | None = None  # the turn that an Idempotency-Key names
        self.kept: dict[str, tuple[TurnEvent, ...]] = {}  # by turn: what it said
        self.views: dict[str, TurnView] = {}  # by turn
        self.responses: dict[str, KeptResponse] = {}  # by turn
        self.histories: dict[str, TurnHistory] = {}  # by turn
        self.stopped: list[str] = []
        self.searches: list[str] = []
        self.searches_all = True
        self.read_after: list[int] = []
        self.sessions: dict[str, dict[str, Any]] = {}
        self.forks: list[tuple[str, str, str | None]] = []  # from, into, through which turn
        self.rows: list[dict[str, Any]] = []
        self.submissions: list[Submission] = []
        self.conversations: list[StatelessConversation] = []
        self.turns: list[FakeTurn] = []
        self.before_accept: Callable[[], Any] | None = None
        self.submitted = asyncio.Event()
        self.accepted = asyncio.Event()

    async def storable(self) -> bool:
        return self.stores

    @property
    def submission(self) -> Submission:
        """The last one."""
        return self.submissions[-1]

    def new_turn_id(self, key: str) -> str:
        return new_turn_id(sum(key.encode()) % 8)

    async def submit(self, submission: Submission, *, stream: bool) -> FakeTurn:
        self.submissions.append(submission)
        self.submitted.set()
        if self.before_accept is not None:
            await self.before_accept()
        if self.parks and submission.park:
            raise Parked(self.earlier_turn or submission.turn_id, 7.5)
        if self.refusal is not None:
            raise self.refusal
        if self.silent:
            raise TurnUnknown(submission.turn_id, "The session's worker does not answer.")
        events = self.events if stream else self.events[-1:]
        turn = FakeTurn(self.earlier_turn or submission.turn_id, events, held=self.held)
        self.turns.append(turn)
        self.accepted.set()
        return turn

    async def attach(self, principal: str, turn_id: str, after: int) -> TurnReading:
        if turn_id not in self.kept:
            raise Refusal(RefusalCode.TURN_NOT_FOUND, "There is no such turn.")
        self.read_after.append(after)
        return FakeReading(turn_id, self.kept[turn_id])

    async def stop(self, principal: str, turn_id: str) -> bool:
        view = await self.describe_turn(principal, turn_id)
        self.stopped.append(turn_id)
        return view.ended is None

    async def describe_turn(self, principal: str, turn_id: str) -> TurnView:
        if turn_id not in self.views:
            raise Refusal(RefusalCode.TURN_NOT_FOUND, "There is no such turn.")
        return self.views[turn_id]

    async def response(self, principal: str, turn_id: str) -> KeptResponse:
        if turn_id not in self.responses:
            raise Refusal(RefusalCode.TURN_NOT_FOUND, "There is no such response.")
        return self.responses[turn_id]

    async def drop_response(self, principal: str, turn_id: str) -> None:
        await self.response(principal, turn_id)
        del self.responses[turn_id]

    async def history(self, principal: str, turn_id: str) -> TurnHistory:
        return self.histories[turn_id]

    def bare_key(self, principal: str) -> str:
        return f"bare:{principal}:{len(self.submissions)}"

    async def conversation_key(self, conversation: StatelessConversation) -> str:
        self.conversations.append(conversation)
        return f"conv:{conversation.principal}:{len(self.conversations)}"

    async def list_sessions(
        self, principal: str, after: str | None, limit: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        if self.refusal is not None:
            raise self.refusal
        mine = [session for key, session in self.sessions.items() if key.startswith(f"api:{principal}:")]
        first = int(after or 0)
        rest = first + limit
        return mine[first:rest], str(rest) if rest < len(mine) else None

    async def describe_session(self, key: str) -> SessionView:
        return cast("SessionView", self._session(key))

    async def session_messages(self, key: str, after: int, limit: int) -> TranscriptPage:
        self._session(key)
        rows = [row for row in self.rows if row["seq"] > after]
        return {"messages": rows[:limit], "next": rows[limit - 1]["seq"] if len(rows) > limit else None}

    async def search_sessions(self, principal: str, text: str, after: str | None, limit: int) -> SearchPage:
        self.searches.append(text)
        sessions, cursor = await self.list_sessions(principal, after, limit)
        found = [session for session in sessions if text in (session["title"] or "")]
        return {"sessions": found, "next": cursor, "whole": self.searches_all}

    async def rename_session(self, key: str, title: str | None) -> SessionView:
        self._session(key)["title"] = title
        return await self.describe_session(key)

    async def create_session(self, key: str, principal: str, title: str | None) -> SessionView:
        if key in self.sessions:
            raise Refusal(RefusalCode.SESSION_EXISTS, f"there is {key}")
        made: dict[str, Any] = {
            "key": key,
            "session_id": "s_new",
            "state": "passivated",
            "turns": {},
            "title": title,
            "running": None,
            "summary": None,
        }
        self.sessions[key] = made
        return await self.describe_session(key)

    async def fork_session(self, key: str, into: str, principal: str, through: str | None) -> SessionView:
        self._session(key)
        self.forks.append((key, into, through))
        return await self.create_session(into, principal, None)

    async def delete_session(self, key: str) -> None:
        self._session(key)
        del self.sessions[key]

    def _session(self, key: str) -> dict[str, Any]:
        if key not in self.sessions:
            raise Refusal(RefusalCode.SESSION_NOT_FOUND, f"no session {key}")
        return self.sessions[key]
