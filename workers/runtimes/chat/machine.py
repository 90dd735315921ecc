"""One turn as a machine without I/O: events in, the next thing to do out.

::

    start ──▶ CallModel ──ModelReply, no tools──▶ Finish(answer)
                 ▲  │ └────ModelFailure─────────▶ Finish(error)
                 │  └─ModelReply with tools─▶ CallTools
                 └──────────ToolResults───────────┘

Tools of the client are not called here: an answer that calls some ends the turn, once the agent's own tools that it
calls beside them have given their results (``Finish`` with the calls that are left to the client).

An action carries the transcript messages that must be committed before it is done, so that what a tool may have changed
is never unknown to the transcript. The machine does not hear of a cut: its host closes the calls that are open then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from workers.kept_json import kept_json
from workers.models import ends
from workers.models.attached import stored
from workers.models.cause import TREATMENTS
from workers.models.empty import is_empty, line_of_empty
from workers.models.provider import ModelFailure, ModelReply, ToolCall
from workers.runtimes.chat.errors import failure_error, max_turns_error
from workers.runtimes.runtime import Outcome
from workers.runtimes.transcript import tool_message
from workers.tools.toolbox import ToolResult

# Nothing but results may stand between a call and its result, and the client's are still to come.
PICTURES_LEFT_OUT = (
    "[Its pictures are left out, since a tool of the client was called beside it: call it alone to see them.]"
)

# -- events -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResults:
    """What the called tools gave, by call id."""

    results: Mapping[str, ToolResult]


MachineEvent: TypeAlias = ModelReply | ModelFailure | ToolResults

# -- actions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CallModel:
    """Ask the model, with these messages of this turn behind those of earlier ones, once ``commit`` is on disk."""

    messages: Sequence[bytes]
    commit: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTools:
    """Call these tools, together, once ``commit`` is on disk."""

    calls: tuple[ToolCall, ...]
    commit: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The turn is over: commit its end with the last messages."""

    outcome: Outcome
    commit: Sequence[bytes]
    unsaid: bool = False  # the answer is a line of the gateway's, which the caller has not heard


Action: TypeAlias = CallModel | CallTools | Finish


class OutOfStep(Exception):
    """The shell fed an event that the machine does not wait for: a bug of ours."""


class TurnMachine:
    """Drives one turn.

    Args:
        max_model_calls: ``agent.max_turns``.
        client_tools: the names of the tools that the client runs.
        one_call: the client wants one call at a time (``parallel_tool_calls: false``), which not every provider heeds.
    """

    def __init__(self, *, max_model_calls: int, client_tools: Collection[str] = (), one_call: bool = False) -> None:
        self._messages: list[bytes] = []
        self._left = max_model_calls
        self._limit = max_model_calls
        self._uncommitted: list[bytes] = []
        self._client_tools = client_tools
        self._one_call = one_call
        self._handed_over: Outcome | None = None  # how the turn ends once the agent's own tools have answered
        self._waits_for: CallModel | CallTools | Finish | None = None

    def start(self, messages: Sequence[bytes]) -> Action:
        """The first thing to do.

        Args:
            messages: that the turn came with; the model and the tools add theirs.

        Raises:
            OutOfStep: the turn has started already.
        """
        if self._waits_for is not None:
            raise OutOfStep("the turn has started already")
        self._messages += messages
        return self._ask()

    def feed(self, event: MachineEvent) -> Action:
        """The next thing to do.

        Raises:
            OutOfStep: the turn is over, or waits for something else.
        """
        match self._waits_for, event:
            case CallModel(), ModelReply():
                return self._replied(event)
            case CallModel(), ModelFailure():
                own_fault = not TREATMENTS[event.cause].kept
                return self._finish(Outcome(reason="error", error=failure_error(event), own_fault=own_fault))
            case CallTools() as asked, ToolResults():
                return self._called(asked.calls, event.results)
            case waiting, _:
                raise OutOfStep(f"{type(event).__name__} while waiting after {type(waiting).__name__}")

    # -- transitions ----------------------------------------------------------------------------------------------
    def _ask(self) -> Action:
        if self._left == 0:
            return self._finish(Outcome(reason="error", error=max_turns_error(self._limit)))
        self._left -= 1
        self._waits_for = CallModel(messages=tuple(self._messages), commit=self._take())
        return self._waits_for

    def _replied(self, reply: ModelReply) -> Action:
        if self._one_call and len(reply.tool_calls) > 1:
            reply = replace(reply, tool_calls=reply.tool_calls[:1])
        self._add(kept_json(stored(reply)))
        if not reply.tool_calls:
            unsaid = is_empty(reply)
            text = line_of_empty(reply) if unsaid else reply.text
            return self._finish(Outcome(text=text, reason=reply.finish_reason), unsaid=unsaid)
        own = reply.tool_calls
        if self._client_tools and (clients := tuple(call for call in own if call.name in self._client_tools)):
            self._handed_over = Outcome(text=reply.text, reason=ends.TOOL_CALLS, tool_calls=clients)
            own = tuple(call for call in own if call not in clients)
            if not own:
                return self._finish(self._handed_over)
        self._waits_for = CallTools(calls=own, commit=self._take())
        return self._waits_for

    def _called(self, calls: Sequence[ToolCall], results: Mapping[str, ToolResult]) -> Action:
        missing = [call.call_id for call in calls if call.call_id not in results]
        if missing:
            raise OutOfStep(f"no result for {missing}")
        pictures = [(call.name, image) for call in calls for image in results[call.call_id].images]
        for call in calls:
            text = results[call.call_id].text
            if self._handed_over is not None and results[call.call_id].images:
                text = f"{text}\n{PICTURES_LEFT_OUT}"
            self._add(tool_message(call.call_id, text))
        if self._handed_over is not None:
            return self._finish(self._handed_over)
        if pictures:  # a tool message carries text only; pictures follow as a message of their own
            self._add(pictures_message(pictures))
        return self._ask()

    def _finish(self, outcome: Outcome, *, unsaid: bool = False) -> Finish:
        self._waits_for = Finish(outcome=outcome, commit=self._take(), unsaid=unsaid)
        return self._waits_for

    def _add(self, message: bytes) -> None:
        self._messages.append(message)
        self._uncommitted.append(message)

    def _take(self) -> Sequence[bytes]:
        taken, self._uncommitted = self._uncommitted, []
        return taken


# -- messages -----------------------------------------------------------------------------------------------------


def pictures_message(pictures: Sequence[tuple[str, str]]) -> bytes:
    """Pictures that tools returned, as a user message: the only kind that carries any."""
    names = ", ".join(dict.fromkeys(name for name, _ in pictures))
    parts: list[dict[str, object]] = [{"type": "text", "text": f"[pictures returned by {names}]"}]
    parts += [{"type": "image_url", "image_url": {"url": url}} for _, url in pictures]
    return kept_json({"role": "user", "content": parts})
