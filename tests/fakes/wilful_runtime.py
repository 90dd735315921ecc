"""A runtime that does whatever a test wants, in any order, and notes what it was promised."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from fakes.rows import assistant, calls, result, user

from workers.models.provider import ToolCall
from workers.runtimes.runtime import Context, Host, Outcome
from workers.turn_errors import local_error

IDS = ("a", "b", "c")
MAX_STRAYS = 3
STRAY_S = 3.0  # how long what a runtime leaves behind goes on

Word = Literal["ask", "say", "keep user", "keep answer", "keep calls", "keep result", "call"]
ANYTIME: tuple[Word, ...] = ("ask", "say", "keep user", "keep answer")
OF_CALLS: tuple[Word, ...] = ("keep calls", "keep result", "call")  # they name ids


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that a runtime does with its host; ``ids`` of tool calls, where it is about some."""

    word: Word
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What a runtime does in one turn."""

    acts: Sequence[Sequence[Act]]  # those of one list at the same time
    tolerant: bool  # goes on after an act that failed
    end: Literal["outcome", "error", "raise", "hang", "hang through a cut", "nothing"]
    stays: Sequence[Act] = ()  # done by a task that it leaves behind


@dataclass(slots=True)
class WilfulRuntime:
    """Does what its will says."""

    will: Will
    kept: list[bytes] = field(default_factory=list)  # by the turn so far
    promised: dict[str, int] = field(default_factory=dict)  # by text that it said: how many messages it had kept
    hangs: bool = False  # and only a cut ends it
    left: list[asyncio.Task[None]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def run(self, host: Host, context: Context) -> Outcome:
        if self.will.stays:
            self.left.append(asyncio.create_task(self._stray(host, context)))
        for together in self.will.acts:
            outcomes = await asyncio.gather(
                *(self._do(act, host, context) for act in together), return_exceptions=self.will.tolerant
            )
            if any(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes):
                raise asyncio.CancelledError
        self.hangs = self.will.end.startswith("hang")
        match self.will.end:
            case "error":
                return Outcome(reason="error", error=local_error("of_its_own", "It gave up.", http_status=400))
            case "raise":
                raise RuntimeError("a bug of the runtime")
            case "hang":
                await asyncio.Event().wait()
            case "hang through a cut":
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    return Outcome(text="it went on through the cut")
            case "nothing":
                return None  # type: ignore[return-value]  # a runtime may do that too
        return Outcome(text="done")

    async def _stray(self, host: Host, context: Context) -> None:
        for act in self.will.stays:
            await asyncio.sleep(STRAY_S / MAX_STRAYS)
            with suppress(Exception):  # whatever it is, it was refused
                await self._do(act, host, context)

    async def _do(self, act: Act, host: Host, context: Context) -> Any:
        match act.word:
            case "ask":
                await host.ask([*context.messages, *self.kept], system=context.system)
            case "say":
                text = f"said {next(self._numbers)}"
                self.promised[text] = len(self.kept)
                await host.say(text)
            case "call":
                await host.call([ToolCall(call_id=one, name="mcp__files__read", arguments="{}") for one in act.ids])
            case "keep user":
                self._keep(host, [user("more")])
            case "keep answer":
                self._keep(host, [assistant("hm")])
            case "keep calls":
                self._keep(host, [calls(*act.ids)])
            case "keep result":
                self._keep(host, [result(one) for one in act.ids])

    def _keep(self, host: Host, rows: list[bytes]) -> None:
        for row in rows:
            host.keep([row])
            self.kept.append(row)
