"""One turn as a machine without I/O: events in, the next thing to do out.

::

    start ──▶ CallModel ──ModelReply, no tools──▶ Finish(completed)
                 ▲  │ └────ModelFailure─────────▶ Finish(failed)
                 │  └─ModelReply with tools─▶ CallTools
                 └──────────ToolResults───────────┘
    anywhere ──CutOff──▶ Finish(cancelled | interrupted)

An action carries the transcript messages that must be committed before it is done, so that what a tool may have changed
is never unknown to the transcript.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from workers.kept_json import kept_json
from workers.models.attached import stored
from workers.models.cause import TREATMENTS
from workers.models.empty import is_empty, line_of_empty
from workers.models.provider import ModelFailure, ModelReply, ToolCall
from workers.runtimes.chat.errors import failure_error, max_turns_error
from workers.runtimes.chat.transcript import OUTCOME_UNKNOWN, tool_message
from workers.tools.toolbox import ToolResult
from workers.turns import TurnError, TurnState

MAX_REASONING_CHARS = 2**20  # shown with the end of a turn

# -- events -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResults:
    """What the called tools gave, by call id."""

    results: Mapping[str, ToolResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOff:
    """The turn must end now, whatever it waits for."""

    state: TurnState  # cancelled | interrupted
    error: TurnError
    stays: bool = False  # the worker goes on: what the turn's tools still do is to end
    unrecorded: bool = False  # nobody could note the cut: on disk the turn stays as it is, for its next owner to tell


MachineEvent: TypeAlias = ModelReply | ModelFailure | ToolResults | CutOff

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
    """The turn is over: commit this end with the last messages."""

    state: TurnState
    text: str
    finish_reason: str
    error: TurnError | None
    own_fault: bool  # failed because of its own content: later requests leave it out
    commit: Sequence[bytes]


Action: TypeAlias = CallModel | CallTools | Finish


class OutOfStep(Exception):
    """The shell fed an event that the machine does not wait for: a bug of ours."""


class TurnMachine:
    """Drives one turn.

    Args:
        max_model_calls: ``agent.max_turns``.
    """

    def __init__(self, *, max_model_calls: int) -> None:
        self._messages: list[bytes] = []
        self._left = max_model_calls
        self._limit = max_model_calls
        self._uncommitted: list[bytes] = []
        self._waits_for: CallModel | CallTools | Finish | None = None
        self._usage: Counter[str] = Counter()
        self._model = ""
        self._thoughts: list[str] = []  # of each answer that has any

    @property
    def usage(self) -> dict[str, int]:
        """Tokens, summed over the model calls so far; empty where the provider does not tell."""
        return dict(self._usage)

    def count(self, usage: Mapping[str, int]) -> None:
        """Add the tokens of a request that was made for the turn beside its own."""
        self._usage.update(usage)

    @property
    def model(self) -> str:
        """The model that answered last; empty before the first answer."""
        return self._model

    @property
    def reasoning(self) -> str:
        """What the model thought aloud in the turn so far, bounded."""
        return "\n\n".join(self._thoughts)[:MAX_REASONING_CHARS]

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
            case None | CallModel() | CallTools(), CutOff():
                return self._cut(event)
            case CallModel(), ModelReply():
                return self._replied(event)
            case CallModel(), ModelFailure():
                return self._failed(failure_error(event), own_fault=not TREATMENTS[event.cause].kept)
            case CallTools() as asked, ToolResults():
                return self._called(asked.calls, event.results)
            case waiting, _:
                raise OutOfStep(f"{type(event).__name__} while waiting after {type(waiting).__name__}")

    # -- transitions ----------------------------------------------------------------------------------------------
    def _ask(self) -> Action:
        if self._left == 0:
            return self._failed(max_turns_error(self._limit), own_fault=False)
        self._left -= 1
        self._waits_for = CallModel(messages=tuple(self._messages), commit=self._take())
        return self._waits_for

    def _replied(self, reply: ModelReply) -> Action:
        self.count(reply.usage)
        self._model = reply.model
        self._add(kept_json(stored(reply)))
        if reply.reasoning:
            self._thoughts.append(reply.reasoning)
        if not reply.tool_calls:
            text = line_of_empty(reply) if is_empty(reply) else reply.text
            return self._finish("completed", text=text, finish_reason=reply.finish_reason)
        self._waits_for = CallTools(calls=reply.tool_calls, commit=self._take())
        return self._waits_for

    def _called(self, calls: Sequence[ToolCall], results: Mapping[str, ToolResult]) -> Action:
        missing = [call.call_id for call in calls if call.call_id not in results]
        if missing:
            raise OutOfStep(f"no result for {missing}")
        for call in calls:
            self._add(tool_message(call.call_id, results[call.call_id].text))
        pictures = [(call.name, image) for call in calls for image in results[call.call_id].images]
        if pictures:  # a tool message carries text only; pictures follow as a message of their own
            self._add(pictures_message(pictures))
        return self._ask()

    def _failed(self, error: TurnError, *, own_fault: bool) -> Action:
        return self._finish("failed", finish_reason="error", error=error, own_fault=own_fault)

    def _cut(self, event: CutOff) -> Action:
        if isinstance(self._waits_for, CallTools):
            for call in self._waits_for.calls:
                self._add(tool_message(call.call_id, OUTCOME_UNKNOWN))
        return self._finish(event.state, finish_reason=event.state, error=event.error)

    def _finish(
        self,
        state: TurnState,
        *,
        finish_reason: str,
        text: str = "",
        error: TurnError | None = None,
        own_fault: bool = False,
    ) -> Finish:
        self._waits_for = Finish(
            state=state,
            text=text,
            finish_reason=finish_reason,
            error=error,
            own_fault=own_fault,
            commit=self._take(),
        )
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
